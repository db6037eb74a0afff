"""`llmscope edits`: print the syntax of edits to the pass."""

from __future__ import annotations

from llmscope.cli.options import shared
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put

BEFORE = """\
Edits to the pass, for --edit of `llmscope` and `llmscope snapshot`, and for scope.record(edits=…).
--edit may be repeated: edits are made in the order in which they are given."""

WRONG = """\
What is wrong with the words is told before a model loads, with exit code 2: the word that does not
fit, and what could stand in its place; so is a patch without --versus-prompt, which is prompt B.

What does not fit the model or the prompt is told with exit code 1:
  a layer, head, neuron or token that does not exist
  a token that the tokenizer cuts into several
  a file that cannot be read, holds no such vector, or one of another width than the model's
  a patch of all tokens from a prompt B with more or fewer: name tokens of both, as `@-1` does
  a direction of a learned lens where none comes with the model, or it has no map of that stream
  a feature of a layer with no dictionary, or with several of which none is named, or one that its
    dictionary does not have; a dictionary of another width, or of a tensor that cannot be changed
  a swap of tokens whose directions are parallel
  a part that failed its check on this model (`llmscope doctor MODEL`), or that was not found"""


def edits(debug: shared.Debug = False) -> None:
    """Tell how edits to the pass are written, with examples, and what can be wrong with one."""
    with reported(debug):
        from llmscope.edits import EXAMPLES, GRAMMAR

        examples = "\n".join(f"  --edit '{example}'" for example in EXAMPLES)
        put("\n\n".join((BEFORE, GRAMMAR, f"In a shell:\n{examples}", WRONG)) + "\n")

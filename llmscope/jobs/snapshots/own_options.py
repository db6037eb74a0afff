"""Options that a prompt has for itself: columns of its line that are named like options."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.corpus.records.prompts import PromptLine
from llmscope.edits import Edit, read_prompt_b
from llmscope.edits.parse import parse
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.lenses.base import options

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt
    from llmscope.scope.scope import Scope

PLACES = ("layer", "head", "position")
TOKENS = ("target", "versus")
OWN = (*TOKENS, "versus_prompt", "context", "edits", *PLACES)
"""The columns that count as a prompt's own options; where one is empty, the command's holds."""


@dataclass(frozen=True)
class ReadLine:
    """What is asked of one prompt.

    Attributes:
        text: the prompt, with its context and in the chat template if there are any.
        prompt: its tokens.
        focus: where to point the lenses, not yet resolved.
        edits: of its pass.
    """

    text: str
    prompt: Prompt
    focus: Focus
    edits: tuple[Edit, ...]

    @property
    def alone(self) -> bool:
        """Whether it needs passes of its own, and cannot be run with others."""
        return bool(self.edits) or self.focus.versus_prompt is not None


def options_of_line(scope: Scope, line: PromptLine, looking: PromptJob) -> ReadLine:
    """Return what is asked of a line, with its own options in place of the batch's.

    Raises:
        ScopeError: it has no prompt, or an option of its own is wrong.
    """
    if line.prompt is None:
        raise ScopeError(line.error)
    in_line = {name: line.inputs[name] for name in OWN if _is_given(line.inputs.get(name))}
    focus, edits = looking.focus, looking.edits
    known = options()
    for name in TOKENS:
        if name in in_line:
            focus = known[name].set(focus, scope.token(_token(in_line[name])))
    for name in PLACES:
        if name in in_line:
            focus = known[name].set(focus, _integer(name, in_line[name]))
    if "edits" in in_line:
        edits = tuple(parse(text) for text in _edits(in_line["edits"]))
    if "versus_prompt" in in_line:
        focus = replace(focus, versus_prompt=_prompt_b(scope, in_line["versus_prompt"], looking))
    if read_prompt_b(edits) and focus.versus_prompt is None:
        raise ScopeError("an edit patches from prompt B, and there is no versus_prompt")
    if focus.change and not edits and focus.versus_prompt is None:
        raise ScopeError(
            "change: there is nothing to hold this against, neither edits nor a prompt B"
        )
    text, before = line.prompt, 0
    if isinstance(in_line.get("context"), str):
        context = in_line["context"]
        context += "" if context[-1:].isspace() else "\n"
        text, before = context + text, len(context)
    elif "context" in in_line:
        focus = replace(focus, context=_integer("context", in_line["context"]))
    written = text
    if looking.chat:
        text = scope.chat.prompt(text, looking.system)
    prompt = scope.prompt(text, special_tokens=looking.adds_special)
    if before:
        from llmscope.record.context.split import end_of_context, tokens_before

        spans = scope.encode(text, special_tokens=looking.adds_special).spans
        end = end_of_context(text, written, before)
        focus = replace(focus, context=tokens_before(spans, end))
    return ReadLine(text, prompt, focus, edits)


def _is_given(value: Any) -> bool:
    return value is not None and value != "" and value == value  # NaN: an empty cell


def _token(value: Any) -> str:
    return value if isinstance(value, str) else f"id:{_integer('target', value)}"


def _integer(name: str, value: Any) -> int:
    """Return a whole number, which may be written as a text or a float.

    Raises:
        ScopeError: it is not one.
    """
    try:
        number = float(value)
        if number == int(number) and not isinstance(value, bool):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ScopeError(f"its {name} is no whole number")


def _edits(value: Any) -> list[str]:
    """Return the texts of edits: a list, a JSON list, or a text with one on each line or `;`."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ScopeError("its edits are no list of texts") from None
        else:
            value = [edit.strip() for edit in value.replace("\n", ";").split(";") if edit.strip()]
    if not isinstance(value, list) or not all(isinstance(edit, str) for edit in value):
        raise ScopeError("its edits are no list of texts")
    return value


def _prompt_b(scope: Scope, value: Any, looking: PromptJob) -> tuple[int, ...]:
    if not isinstance(value, str):
        raise ScopeError("its versus_prompt is no text")
    text = scope.chat.prompt(value, looking.system) if looking.chat else value
    try:
        return tuple(scope.prompt(text, special_tokens=looking.adds_special).ids)
    except ScopeError as error:
        raise error.at("prompt B") from None

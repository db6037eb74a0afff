"""The command line that a snapshot says it was made with: foreign text that ends in a shell."""

from __future__ import annotations

import re
import shlex

from llmscope.text import controls, display_text

LONGEST = 1_000_000
"""Characters of a command that is looked at."""

TEXTS = ("--prompt", "--system", "--versus-prompt", "--words-a", "--words-b", "--answer")
"""Options of any text, written as one word with it."""
VALUES = frozenset(
    {
        *("--lens", "--prompt-file", "--ids", "--written", "--context-file", "--context"),
        *("--layer", "--head", "--position", "--neuron", "--step", "--weight", "--cell"),
        *("--target", "--versus", "--translator", "--edit", "--mode", "--workspace", "--keys"),
        *("--span", "--pool", "--top-k", "--temperature", "--sample-top-k", "--top-p", "--min-p"),
        *("--format", "--size", "--scale", "--look", "--theme", "--color", "--adapter"),
        *("--reward", "--device", "--dtype", "--threads"),
    }
)
"""Options with a value in the next word."""
SWITCHES = frozenset(
    {"--chat", "--no-special-tokens", "--change", "--ascii", "--no-ascii", "--unverified"}
)
TRUST = frozenset({"--trust-remote-code", "--allow-pickle"})
"""Left out: whoever runs the command decides that, not the file."""

_MODEL = re.compile(r"[^-\s][^\n\t]*")


def safe_command(command: object) -> str | None:
    """Return a `llmscope snapshot …` line made anew from the parts of a foreign one.

    Every word is quoted again, so no shell finds a second command in it. Options that trust the
    model's code are left out.

    Returns:
        None: it is no such line, or holds text that a terminal would act on or not show.
    """
    if not isinstance(command, str) or len(command) > LONGEST or controls(command):
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:2] != ["llmscope", "snapshot"]:
        return None
    kept, rest = words[:2], words[2:]
    if rest and not rest[0].startswith("-"):
        if not _MODEL.fullmatch(rest[0]) or not _visible(rest[0]):
            return None
        kept.append(rest.pop(0))
    while rest:
        word = rest.pop(0)
        if word in SWITCHES:
            kept.append(word)
        elif word in VALUES and rest and _visible(rest[0]):
            kept += [word, rest.pop(0)]
        elif word.partition("=")[0] in TEXTS and "=" in word:
            kept.append(word)
        elif word not in TRUST:
            return None
    return shlex.join(kept)


def _visible(word: str) -> bool:
    """Whether a word holds nothing but what is seen, in one line."""
    return "\n" not in word and display_text(word) == word

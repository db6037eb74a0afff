"""Sanitize the command line stored in a snapshot: untrusted text that a user may run in a shell."""

from __future__ import annotations

import re
import shlex

from llmscope.lenses import command_options
from llmscope.support.text import controls, display_text

LONGEST_COMMAND = 1_000_000
"""Maximum length of a command in characters."""

TEXTS = ("--prompt", "--system", "--versus-prompt", "--words-a", "--words-b", "--answer")
"""Options with any text as value, written as one word `--option=text`."""
VALUES = frozenset(
    [
        "--lens",
        "--prompt-file",
        "--ids",
        "--written",
        "--context-file",
        "--edit",
        "--mode",
        "--workspace",
        "--keys",
        "--format",
        "--size",
        "--scale",
        "--look",
        "--cmap",
        "--font",
        "--width",
        "--theme",
        "--color",
        "--adapter",
        "--reward",
        "--device",
        "--dtype",
        "--backend",
        "--cache-type",
        "--threads",
        "--memory",
        "--spill",
        "--transcript",
        "--turn",
        "--line",
        "--versus-model",
        "--versus-adapter",
        "--versus-dtype",
        "--versus-device",
        "--versus-backend",
        "--versus-cache-type",
        "--versus-revision",
        "--layer-ids",
    ]
)
"""Options whose value is the next word, besides those that lenses declare."""
SWITCHES = frozenset(
    [
        "--chat",
        "--no-special-tokens",
        "--change",
        "--ascii",
        "--no-ascii",
        "--unverified",
        "--rejected",
    ]
)
TRUST = frozenset({"--trust-remote-code", "--allow-pickle"})
"""Options that are dropped, because the user who runs the command must decide on trust."""

_MODEL = re.compile(r"[^-\s][^\n\t]*")


def safe_command(command: object) -> str | None:
    """Rebuild a `llmscope snapshot …` line from the words of an untrusted one.

    Every word is quoted again, so that a shell cannot find a second command in it. Options that
    trust the model's code are dropped.

    Returns:
        The command line; None if `command` is not such a line, or contains control characters or
        invisible text.
    """
    if not isinstance(command, str) or len(command) > LONGEST_COMMAND or controls(command):
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:2] != ["llmscope", "snapshot"]:
        return None
    declared = {option.flag: option.kind == "switch" for option in command_options()}
    switches = SWITCHES | {flag for flag, switch in declared.items() if switch}
    values = VALUES | {flag for flag, switch in declared.items() if not switch}
    words_kept, rest = words[:2], words[2:]
    if rest and not rest[0].startswith("-"):
        if not _MODEL.fullmatch(rest[0]) or not _visible(rest[0]):
            return None
        words_kept.append(rest.pop(0))
    while rest:
        word = rest.pop(0)
        if word in switches:
            words_kept.append(word)
        elif word in values and rest and _visible(rest[0]):
            words_kept += [word, rest.pop(0)]
        elif word.partition("=")[0] in TEXTS and "=" in word:
            words_kept.append(word)
        elif word not in TRUST:
            return None
    return shlex.join(words_kept)


def _visible(word: str) -> bool:
    """Return whether a word consists of visible characters on one line."""
    return "\n" not in word and display_text(word) == word

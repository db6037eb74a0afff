"""The prompt of a snapshot, from wherever a person keeps it."""

from __future__ import annotations

import sys
from pathlib import Path

from llmscope.cli.options.shared import usage
from llmscope.errors import ScopeError
from llmscope.text import display_text


def read_prompt(
    text: str | None, file: str | None, context: str | None, ids: str | None
) -> tuple[str, str | tuple[int, ...]]:
    """The context, and what follows it as text or token ids. Nothing comes between the two.

    Args:
        text, file, ids: exactly one of the three, or text or file after a context.
        context: a file whose content comes first.

    Raises:
        BadParameter: none or several were given, or ids are no numbers.
        ScopeError: a file cannot be read.
    """
    given = [value for value in (text, file, ids) if value is not None]
    usage(len(given) < 2, "one prompt, please", "--prompt / --prompt-file / --ids")
    usage(bool(given) or context is not None, "no prompt", "--prompt / --prompt-file / --ids")
    if ids is not None:
        usage(context is None, "ids take no context file", "--ids / --context-file")
        return "", read_ids(ids)
    before = "" if context is None else _read(context)
    return before, text if text is not None else "" if file is None else _read(file)


def read_other(text: str | None, ids: str | None) -> str | tuple[int, ...] | None:
    """Prompt B: text, or token ids where the prompt is given so.

    Raises:
        BadParameter: it should be ids, and is not.
    """
    return text if text is None or ids is None else read_ids(text, "--versus-prompt")


def check_chat(chat: bool, system: str | None, ids: str | None = None) -> None:
    """Wrong usage, unless the options about the chat template go together."""
    usage(system is None or chat, "it takes --chat", "--system")
    usage(ids is None or not chat, "ids take no chat template", "--ids / --chat")


DIGITS = 18
"""Of a token's id, at most."""


def read_ids(text: str, option: str = "--ids") -> tuple[int, ...]:
    """Token ids, parted by commas or blanks.

    Raises:
        BadParameter: they are no numbers.
    """
    words = text.replace(",", " ").split()
    # Longer ones are ids of no vocabulary, and of thousands of digits Python makes no number.
    fine = all(word.isdecimal() and len(word) <= DIGITS for word in words)
    usage(fine, "whole numbers such as 464,3139", option)
    return tuple(map(int, words))


def _read(name: str) -> str:
    shown = "stdin" if name == "-" else display_text(name)
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ScopeError(f"cannot read {shown}: {error.strerror}", "another file") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScopeError(
            f"{shown} is not UTF-8 (byte {error.start})", "convert it to UTF-8 first"
        ) from error

"""The exceptions whose message is shown to the user, and how their hints spell an option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self

from llmscope.support.text import one_line

LONGEST = 1000
"""Maximum characters of a message or a hint, which may quote text of any length."""


class Error(Exception):
    """Any error of llmscope: one line that says what is wrong and, where known, what to try.

    Wrong use is a ValueError or a TypeError as well, and a name that does not exist in a mapping a
    KeyError. A traceback shows the hint below the message. Text longer than LONGEST is shortened
    in the middle.

    Attributes:
        message: what is wrong.
        hint: what to try, with options as the reader writes them: see `option`; "" for nothing.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = (
            text if len(text) <= LONGEST else one_line(text, LONGEST) for text in (message, hint)
        )
        super().__init__(self.message)
        if self.hint:
            self.add_note(f"try: {self.hint}")

    @property
    def line(self) -> str:
        """The message, followed by the hint in brackets if there is one."""
        return f"{self.message} (try: {self.hint})" if self.hint else self.message

    def at(self, place: str) -> Self:
        """Return the same error with what it is about before its message."""
        error = type(self).__new__(type(self))
        error.__dict__.update(self.__dict__)
        error.__dict__.pop("__notes__", None)
        Error.__init__(error, f"{place}: {self.message}", self.hint)
        return error


class ScopeError(Error):
    """What was asked for cannot be done: a file, a model or a machine is not as it must be.

    The command line prints it as `error: … (try: …)` and exits with 1; the TUI shows a notice.
    """


class OutOfMemory(ScopeError):  # noqa: N818 - torch has an OutOfMemoryError
    """Memory ran out in a pass or a lens; a shorter prompt may fit."""


class WrongUseError(ScopeError, ValueError):
    """An edit, a token, a name or a format was written in a way that llmscope does not read."""


class WrongValueError(Error, ValueError):
    """An argument has a value that it cannot have."""


class WrongTypeError(Error, TypeError):
    """An argument has a type that it cannot have."""


Language = Literal["python", "shell", "tool"]
_UNNAMED = re.compile(r"(\s*=\s*|\s+)\[?\{\}\]?")
_LITERAL = re.compile(r"[A-Z][A-Z_|/:,]+|-?\d+(\.\d+)?|None|True|False", re.ASCII)
"""What is written without quotes: placeholders and numbers."""
_reader: Language = "python"

PYTHON = {
    "adapter": "adapters=[{}]",
    "allow-pickle": "allow_pickle=True",
    "chat": "chat=True",
    "debug": "its __cause__",
    "every-token": "last=False",
    "features": "scope.features = [{}]",
    "force": "force=True",
    "ids": "a list of token ids",
    "no-special-tokens": "special_tokens=False",
    "out": "path",
    "translator": "scope.translator = {}",
    "trust-remote-code": "trust_remote_code=True",
    "unverified": "unverified=True",
    "versus-backend": "backend={} of the second model",
    "versus-cache-type": "cache_type={} of the second model",
    "versus-device": "device={} of the second model",
    "versus-dtype": "dtype={} of the second model",
    "versus-model": "scope.compare(llmscope.load({}))",
}
"""How Python spells the options that are no keyword of their own name; `{}` is the value."""

TOOL = {
    "adapter": "open with adapters=[{}]",
    "device": "open with device={}",
    "dtype": "open with dtype={}",
    "force": "another name",
    "format": "another suffix of path",
    "ids": "a prompt of text",
    "out": "path",
    "size": "width and height",
    "translator": 'options with "translator": {}',
    "versus-adapter": "compare with versus_adapter={}",
    "versus-model": "compare with versus_model={}",
    **{name: f"llmscope mcp --{name}" for name in ("allow-pickle", "trust-remote-code")},
    **{name: f"llmscope mcp --{name}" for name in ("unverified", "debug")},
    "no-special-tokens": "llmscope snapshot --no-special-tokens",
    **{name: f"llmscope snapshot --{name} {{}}" for name in ("versus-device", "versus-dtype")},
    **{
        name: f"llmscope snapshot --{name} {{}}" for name in ("versus-backend", "versus-cache-type")
    },
    **{name: f"llmscope mcp --{name} {{}}" for name in ("memory", "reward", "spill", "threads")},
    **{name: f"llmscope mcp --{name} {{}}" for name in ("backend", "cache-type")},
}
"""How an agent spells the options that are no argument of a tool of their own name: by the tool, by
how its user starts the server, or by a command, where no tool takes it."""
ARGUMENTS = frozenset(
    (
        *("chat", "change", "edits", "head", "last", "layer", "lens", "min-p", "mode", "model"),
        *("position", "prompt", "prompts", "rows", "sample-top-k", "seed", "target", "temperature"),
        *("theme", "tokens", "top-k", "top-p", "versus", "versus-prompt"),
    )
)
"""Options that an agent spells as the argument of that name; others go into `options`."""


def option(name: str, value: object = None) -> str:
    """Return an option as the reader of a hint writes it: `--force`, or `force=True` in Python.

    Args:
        name: its name on the command line, without the dashes.
        value: the value to write; a word in capitals stands for one. None names no value.
    """
    if _reader == "shell":
        return f"--{name}" if value is None else f"--{name} {value}"
    keyword = name.replace("-", "_")
    if _reader == "python":
        template = PYTHON.get(name, f"{keyword}={{}}")
    else:
        in_options = f'options with "{keyword}": {{}}'
        template = TOOL.get(name, f"{keyword}={{}}" if name in ARGUMENTS else in_options)
    if value is None:
        return _UNNAMED.sub("", template).removesuffix(":")
    import json

    text = str(value)
    literal = _LITERAL.fullmatch(text) is not None
    return template.format(text if literal else json.dumps(text, ensure_ascii=False))


def opening_hint(name: str, value: str, model: str = "MODEL") -> str:
    """Return how the reader of a hint opens a model with an option.

    Args:
        name: the name of the option on the command line, without the dashes.
        value: its value, or a word in capitals for one.
        model: the model, or a word in capitals for it.
    """
    if _reader == "shell":
        return f"llmscope {model} {option(name, value)}"
    spelled = option(name, value)
    if _reader == "tool":
        return spelled.replace("open with", f"open with model={model},")
    return spelled if spelled.startswith("scope.") else f"llmscope.load({model}, {spelled})"


@contextmanager
def read_in(language: Language) -> Iterator[None]:
    """Spell options of hints within for Python, a shell or the tools of an agent."""
    global _reader
    before, _reader = _reader, language
    try:
        yield
    finally:
        _reader = before

"""Render chat templates as transformers does, in the child of `llmscope.support.sandbox`.

transformers' own function is in a module that imports far more than jinja, so its setup is repeated
here; the tests compare both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class TooLongError(Exception):
    """Raised when a rendered text is longer than allowed."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
    tokens: Mapping[str, str],
    longest: int,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Render a template.

    Args:
        template: the source of the template.
        messages: messages with `role` and `content` each, and what else they have.
        add_generation_prompt: end with the start of the assistant's message.
        tokens: the tokenizer's named special tokens, such as `bos_token`.
        longest: the largest length of the text in characters.
        tools: the tools that the model is offered; None without any.

    Raises:
        TooLongError: the text is longer.
        TypeError: the template is not a string.
        Exception: any error of the template.
    """
    if not isinstance(template, str):
        raise TypeError("the chat template is no text")
    stream = _compile_template(template).generate(
        messages=messages,
        tools=tools,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        **tokens,
    )
    parts, length = [], 0
    for part in stream:
        parts.append(part)
        length += len(part)
        if length > longest:
            raise TooLongError(f"it writes more than {longest} characters")
    return "".join(parts)


@lru_cache(maxsize=8)
def _compile_template(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment.from_string(template)


class _Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}`: encloses the assistant's text, and writes it."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own name

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_say"), [], [], body).set_lineno(line)

    def _say(self, caller: Macro) -> str:
        return caller()


class _Dict:
    """A `dict` constructor without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """A `namespace` that rejects names with a leading underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]  # so that `namespace(self=…)` works
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(
            "Chat templates cannot store underscore-prefixed attributes on a namespace, but got "
            f"{name!r}. Please rename the attribute."
        )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002 - templates may name it
    return datetime.now().strftime(format)


def _to_json(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )

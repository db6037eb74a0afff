"""Checks of `--edit`, `--versus-prompt` and `--change` before a model loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from llmscope.cli.options.shared import usage
from llmscope.edits import Edit, parse, read_prompt_b
from llmscope.edits.files import tensor_name
from llmscope.errors import ScopeError
from llmscope.lenses import lens
from llmscope.lenses import names as known
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope


def read_edits(
    texts: Sequence[str] | None, versus_prompt: str | None, *, many: bool = False
) -> tuple[Edit, ...]:
    """Return the parsed edits, in order.

    Args:
        texts: the edits as given; None: no edits.
        versus_prompt: prompt B; None without one.
        many: whether there are many prompts, which may have a prompt B of their own.

    Raises:
        BadParameter: an edit cannot be parsed, or patches from prompt B without `--versus-prompt`.
        ScopeError: the file of a vector cannot be read, or does not hold the vector.
    """
    edits = tuple(map(_read, texts or ()))
    for edit in edits:
        usage(
            edit.action != "patch" or versus_prompt is not None or many,
            f"{display_text(str(edit))}: it takes prompt B, --versus-prompt TEXT",
            "--edit",
        )
        if edit.vector is not None and edit.vector.kind == "file":
            try:
                tensor_name(edit.vector)
            except ScopeError as error:
                raise error.at(str(edit)) from None
    return edits


def _read(text: str) -> Edit:
    try:
        return parse(text)
    except ScopeError as error:
        message = f"{text}: {error.message} (try: {error.hint}; `llmscope edits` tells all)"
        message = display_text(" ".join(message.split("\n")))
        raise typer.BadParameter(message, param_hint="--edit") from None


def check_whatif(
    edits: Sequence[Edit],
    versus_prompt: str | None,
    change: bool,
    lenses: Sequence[str],
    *,
    two_models: bool = False,
    many: bool = False,
) -> None:
    """Raise BadParameter unless the options go together.

    Args:
        edits, versus_prompt, change, lenses: as given.
        two_models: whether there is a second model.
        many: whether there are many prompts, which may have edits and a prompt B of their own.
    """
    there = versus_prompt is not None or many
    usage(
        bool(edits) or there or two_models or not change,
        "there is nothing to hold this against without --edit, --versus-prompt or --versus-model",
        "--change",
    )
    chosen = [lens(name) for name in lenses if name in known()]
    for reader in chosen:
        paired = there or not reader.versus
        usage(paired, "it takes --versus-prompt TEXT", f"--lens {reader.name}")
    usage(versus_prompt != "", "prompt B is empty", "--versus-prompt")
    if change or len(chosen) < len(lenses):  # the screen holds all of it
        return
    reads = read_prompt_b(edits) or any(lens.reads_prompt_b for lens in chosen)
    usage(
        versus_prompt is None or reads or not chosen,
        "no lens here reads it; --change shows A − B",
        "--versus-prompt",
    )
    usage(
        not two_models or not chosen or any(reader.two_models for reader in chosen),
        "no lens here reads a second model; --change shows A − B, and so does --lens model-diff",
        "--versus-model, --versus-dtype, --versus-device, --versus-revision, --versus-backend, "
        "--versus-cache-type",
    )


def other_ids(
    scope: Scope, prompt: str | tuple[int, ...], *, special_tokens: bool
) -> tuple[int, ...]:
    """Return the tokens of prompt B.

    Raises:
        ScopeError: prompt B has no tokens, more than fit, or some that the model lacks.
    """
    try:
        return tuple(scope.prompt(prompt, special_tokens=special_tokens).ids)
    except ScopeError as error:
        raise error.at("prompt B") from None

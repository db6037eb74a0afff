"""`llmscope bake`: write a context as an adapter, so that the query alone gives the same output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import HardwareOptions, VolumeOptions, group_options
from llmscope.cli.options.local_path import local
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.record.context.split import Query
    from llmscope.record.context.to_lora import ExportedLora
    from llmscope.scope.scope import Scope


@group_options
def bake(
    *,
    context_file: Annotated[
        str, typer.Option(metavar="FILE", help="The context: what the adapter stands for.")
    ],
    prompt: Annotated[str, typer.Option(help="The query: what will be asked without it.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Where the adapter goes.", callback=local
        ),
    ],
    model: shared.Model = None,
    continuation: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Teach it to go on with this text.")
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Teach it the N tokens that it would say itself."),
    ] = None,
    no_special_tokens: shared.NoSpecialTokens = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an adapter there.")] = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Write a context as a PEFT adapter (LoRA), with which the query alone says what it said.

    The change of the weights is exact, not trained: rank 1 for the next token, and one rank more
    for each token of a continuation. It is made for this query and fits others the worse the
    higher its rank.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        usage(
            continuation is None or generate is None,
            "give --continuation or --generate, not both",
            "--continuation",
        )
        _check_folder(out, force)
        from llmscope.cli.options.prompt import read_prompt
        from llmscope.cli.output.progress import EVERY, progress_line
        from llmscope.models.spec import parse

        context, _ = read_prompt(prompt, None, context_file, None)
        parse(model)
        load = hardware.loader(model)
        with progress_line(every=EVERY) as progress:
            scope = load(progress)
        if scope.adapter is not None:
            raise ScopeError(f"{scope.loaded_model.name} has an adapter on", "the model without it")
        from llmscope.scope.contexts import tokenize_context, write

        what = tokenize_context(scope, context, prompt, special_tokens=not no_special_tokens)
        taught = _taught(
            scope, what.ids, context + prompt, continuation, generate, no_special_tokens
        )
        query, baked = write(scope, what, out, continuation=taught)
        if as_json:
            from llmscope.export import json_text

            put(json_text(_record(out, query, baked)))
        else:
            put(_summary(out, query, baked))


def _check_folder(folder: Path, force: bool) -> None:
    folder_text = display_text(str(folder))
    if folder.exists() and not folder.is_dir():
        raise ScopeError(f"{folder_text} is a file", "--out with a folder's name")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise ScopeError(f"{folder_text} is not empty", "--force to replace the adapter in it")


def _taught(
    scope: Scope,
    ids: tuple[int, ...],
    text: str,
    continuation: str | None,
    generate: int | None,
    no_special_tokens: bool,
) -> tuple[int, ...]:
    """Return the tokens after the query that the adapter is made for.

    Args:
        scope: the model.
        ids: tokens of context and query.
        text: context and query.
        continuation: text that follows the query; None without one.
        generate: how many tokens the model generates greedily instead; None for none.
        no_special_tokens: leave out the tokenizer's special tokens.

    Raises:
        ScopeError: the continuation would change the query's tokens.
    """
    if continuation is not None:
        whole = scope.encode(text + continuation, special_tokens=not no_special_tokens).ids
        if whole[: len(ids)] != ids:
            raise ScopeError(
                "with the continuation, the query is cut into other tokens",
                "a continuation that begins with a blank",
            )
        return whole[len(ids) :]
    ids_so_far = ids
    for _ in range(generate or 0):
        logits = scope.record(ids_so_far).logits
        assert logits is not None
        ids_so_far = (*ids_so_far, int(logits.argmax()))
        if ids_so_far[-1] == getattr(scope.tokenizer, "eos_token_id", None):
            break
    return ids_so_far[len(ids) :]


def _record(folder: Path, query: Query, baked: ExportedLora) -> dict[str, Any]:
    from dataclasses import asdict

    from llmscope.figure import plain
    from llmscope.version import __version__

    record: dict[str, Any] = plain(
        {
            "schema": 1,
            "llmscope": __version__,
            "folder": str(folder),
            "context_tokens": query.context,
            "positions": len(baked.kl),
            **asdict(baked),
        }
    )
    return record


def _summary(folder: Path, query: Query, baked: ExportedLora) -> str:
    places = len(baked.kl)
    query_tokens = len(query.ids) - query.kept - (places - 1)
    first, alone = baked.kl[0], baked.kl_alone[0]
    lines = [
        f"wrote {display_text(str(folder))}: LoRA of rank {baked.rank} on {baked.matrices} "
        f"matrices, {baked.bytes / 1e6:.1f} MB",
        f"it stands for {query.context} tokens of context, before {query_tokens} of the query"
        + (f" and {places - 1} of what follows" if places > 1 else ""),
        "loaded again by peft and run without the context, against the prompted run:",
        f"  KL at the next token {first:.1e} nats; without the adapter {alone:.2f}",
    ]
    if places > 1:
        lines.append(
            f"  largest KL of the {places} places {max(baked.kl):.1e} nats; without the adapter "
            f"{max(baked.kl_alone):.2f}"
        )
    lines += [
        f"  likeliest token the same at {baked.same} of {places}; largest difference of a logit "
        f"{baked.difference:.1e}",
        "it is exact for this query alone: expect little of it on others",
    ]
    return "\n".join(lines) + "\n"

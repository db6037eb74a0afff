"""Contexts before a query: split a prompt into both, and turn a context into an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.models.files.cache import cache_folder, scratch
from llmscope.models.loaded_model import ContextAdapter
from llmscope.models.loading.load import with_adapter
from llmscope.record.context.split import query_of, tokens_before
from llmscope.record.context.to_lora import export_lora

if TYPE_CHECKING:
    from pathlib import Path

    from llmscope.record.context.split import Query
    from llmscope.record.context.to_lora import ExportedLora
    from llmscope.scope.scope import Scope

NAME = "context"
"""Name of the adapter made from a context."""


@dataclass(frozen=True)
class SplitPrompt:
    """A context and its query as one prompt.

    Attributes:
        ids: the token ids of both.
        before: the number of tokens before the query.
        kept: how many of those stay in front of the query when it runs alone, such as BOS.
    """

    ids: tuple[int, ...]
    before: int
    kept: int


def tokenize_context(
    scope: Scope, context: str, query: str, *, special_tokens: bool = True
) -> SplitPrompt:
    """Tokenize a context and its query.

    Raises:
        ScopeError: one of them is empty, or the query is tokenized differently on its own than
            after the context.
    """
    whole = scope.encode(context + query, special_tokens=special_tokens)
    alone = scope.encode(query, special_tokens=special_tokens)
    before = tokens_before(whole.spans, len(context))
    start = len(alone) - (len(whole) - before)  # added by the tokenizer in front of both
    if before <= max(start, 0) or not query:
        raise ScopeError("there is no context before the query", "a text that comes before it")
    if start < 0 or (*whole.ids[:start], *whole.ids[before:]) != alone.ids:
        raise ScopeError(
            "alone, the query is cut into other tokens than after the context",
            "a context that ends with a line end, or without the blank before the query",
        )
    return SplitPrompt(whole.ids, before, start)


def write(
    scope: Scope, what: SplitPrompt, folder: Path, *, continuation: tuple[int, ...] = ()
) -> tuple[Query, ExportedLora]:
    """Write a context as an adapter for its query.

    Args:
        scope: the model; its adapters are switched off.
        what: the context and its query.
        folder: where the adapter is written.
        continuation: tokens after the query for which the update is exact too, one rank each.

    Raises:
        ScopeError: the model cannot be changed that way, or the folder cannot be written.
    """
    scope.use(None)
    recording = scope.record((*what.ids, *continuation), fresh=True)
    query = query_of(
        recording.prompt,
        what.before,
        rows=1 + len(continuation),
        keep_positions=False,
        kept_tokens=what.kept,
    )
    return query, export_lora(recording, query, folder)


def teach(scope: Scope, context: str, query: str, *, special_tokens: bool = True) -> str:
    """Add a context to the model as an adapter of rank 1, exact for the token after the query.

    It is loaded alongside the base model, like any other adapter, and nothing is kept in a file.

    Returns:
        The adapter's name, for `Scope.use`.

    Raises:
        ScopeError: see `tokenize_context` and `write`.
    """
    what = tokenize_context(scope, context, query, special_tokens=special_tokens)
    scope.use(None)
    recording = scope.record(what.ids, fresh=True)
    figure = scope.look("context", recording=recording, context=what.before)
    if figure.verdict.status == "refused":
        raise ScopeError(f"this context cannot be taught: {figure.verdict.reason}", "another model")
    name, number = NAME, 2
    while name in scope.adapters:
        name, number = f"{NAME}-{number}", number + 1
    with scratch(cache_folder()) as folder:
        write(scope, what, folder / name)
        model = with_adapter(scope.base, folder / name, name)
    model.lesson = ContextAdapter(scope.base, what.ids[what.kept : what.before], figure)
    scope.add(model)
    return name

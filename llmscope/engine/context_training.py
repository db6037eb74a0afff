"""Turn the context of the prompt on screen into an adapter, a change of the model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.engine.events import ContextAdded, ContextRequest
from llmscope.engine.model_switch import facts_of
from llmscope.errors import ScopeError
from llmscope.support.text import typed_error_line

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope


def add_context(scope: Scope, request: ContextRequest) -> ContextAdded:
    """Apply the context's adapter to the model, or write it to the requested folder."""
    try:
        return _taught(scope, request)
    except ScopeError as error:
        return ContextAdded(request, error=f"{error.message} · try: {error.hint}")
    except Exception as error:  # libraries raise anything on models they do not support
        return ContextAdded(request, error=typed_error_line(error))


def _taught(scope: Scope, request: ContextRequest) -> ContextAdded:
    from llmscope.record.context.split import inside_line
    from llmscope.scope.contexts import teach, tokenize_context, write

    text = request.text
    # A line end at the very end belongs to the last line.
    end = text.rfind("\n", 0, len(text) - 1) + 1 if request.context is None else request.context
    if request.context is None and not end:  # one line: the query is its last clause or word
        _, cuts = inside_line(text)
        end = cuts[-1] if cuts else 0
    context, query = text[:end], text[end:]
    special = request.special_tokens
    if request.folder is None:
        name = teach(scope, context, query, special_tokens=special)
        rank = "taught by a change of rank 1"
        return ContextAdded(
            request, facts_of(scope), name, query, f"{rank}: exact for this query alone"
        )
    what = tokenize_context(scope, context, query, special_tokens=special)
    _, baked = write(scope, what, Path(request.folder))
    message = (
        f"wrote {request.folder}: LoRA of rank {baked.rank} on {baked.matrices} matrices; "
        f"by peft KL {baked.kl[0]:.1e} nats, without it {baked.kl_alone[0]:.2f}"
    )
    return ContextAdded(request, query=query, said=message)

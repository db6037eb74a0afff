"""Load the second model of a comparison beside the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError, option
from llmscope.models.loading.memory import beside
from llmscope.models.loading.share_weights import share_weights

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope

NAME = "model B"
"""What a second model is called in notices and errors."""
MEGABYTE = 1_000_000
WORTH_TELLING = MEGABYTE
"""The bytes of shared weights from which on a notice tells of them."""


def compare_with(
    scope: Scope, load: Callable[[Progress], Scope], progress: Progress | None
) -> None:
    """Load model B and compare a scope's model, A, with it; weights equal in both are held once.

    Args:
        scope: the scope of A.
        load: returns the scope of B; called with a progress callback.
        progress: called with the progress; None for no report.

    Raises:
        ScopeError: B cannot be loaded, does not fit beside A, or does not read the same tokens.
    """

    def report(stage: str, done: float, total: float | None) -> None:
        if progress is not None:
            progress(f"{NAME}: {stage}" if stage else stage, done, total)

    try:
        with beside():
            other = load(report)
    except ScopeError as error:
        hint = error.hint
        for name in ("dtype", "device"):
            hint = hint.replace(option(name), option(f"versus-{name}"))
        raise ScopeError(error.at(NAME).message, hint) from error
    scope.compare(other)
    shared = share_weights(scope.base.module, other.base.module)
    notices = [f"{NAME}: {notice}" for notice in other.loaded_model.notices]
    if shared.bytes >= WORTH_TELLING:
        shared_part = f"{shared.bytes / MEGABYTE:,.0f} of {shared.total / MEGABYTE:,.0f} MB"
        notices.append(
            f"{NAME} shares {shared_part} of its weights with A, which are in memory once"
        )
    for model in {scope.base, scope.loaded_model}:
        own_notices = [notice for notice in model.notices if not notice.startswith(NAME)]
        model.notices = (*own_notices, *notices)

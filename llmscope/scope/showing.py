"""The seam between `Scope.show` and the screen, which is imported when it is opened.

The package sets `screen`, so that a scope imports no screen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmscope.edits import Edit
    from llmscope.scope.scope import Scope


class Screen(Protocol):
    """What `llmscope.cli.in_process` does for a scope."""

    def show(
        self,
        scope: Scope,
        *,
        prompt: str,
        special_tokens: bool,
        edits: tuple[Edit, ...],
        versus_prompt: str | None,
    ) -> None:
        """Open the screen on the model of a scope, and return when it is left."""


screen: Callable[[], Screen]
"""Import `llmscope.cli.in_process` and return it."""

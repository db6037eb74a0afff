"""Parse each stylesheet once a worker: Textual parses all of them anew for each app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual.css.stylesheet import Stylesheet


@contextmanager
def shared_styles() -> Iterator[None]:
    """Let all apps in the context share the rules parsed from a source and its variables.

    Rules are not changed once they are parsed: Textual itself shares them among the nodes of an
    app.
    """
    parsed: dict[Any, Any] = {}
    parse = Stylesheet._parse_rules

    def shared(
        self: Stylesheet,
        css: str,
        read_from: Any,
        is_default_rules: bool = False,
        tie_breaker: int = 0,
        scope: str = "",
    ) -> Any:
        variables = tuple(self._variables.items())
        key = css, read_from, is_default_rules, tie_breaker, scope, variables
        if key not in parsed:
            parsed[key] = parse(self, css, read_from, is_default_rules, tie_breaker, scope)
        return parsed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", shared)
        yield

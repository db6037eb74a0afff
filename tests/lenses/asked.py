"""Options for tests that ask every lens the same: each gets those that it has."""

from typing import Any

from llmscope.lenses import lens


def options_for(name: str, **options: Any) -> dict[str, Any]:
    """Return the options that a lens has, out of those that all are asked with."""
    return {option: value for option, value in options.items() if option in lens(name).uses}

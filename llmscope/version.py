"""The versions of llmscope and of other packages."""

from __future__ import annotations

__version__ = "0.2.0"


def installed(package: str) -> str | None:
    """Return the version of a package without importing it; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None

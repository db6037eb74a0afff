"""Put the checkout's package into the light wheel, without the weights that only torch can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = "run.json"
"""The file of a run, which the light distribution can show."""


def included(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Return the files of the package by their path, each with its place in the wheel.

    What ships of models is left out: it takes 15 MB, and nothing here can load it.
    """
    package = checkout / "llmscope"
    models = {
        folder
        for folder in (package / "builtin").iterdir()
        if folder.is_dir() and not (folder / RUN).exists()
    }
    return {
        str(path): path.relative_to(checkout).as_posix()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not models & {*path.parents}
    }


class LightBuildHook(BuildHookInterface):
    """The build hook that hatchling calls before it writes the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files."""
        build_data["force_include"].update(included())

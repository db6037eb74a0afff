"""`llmscope models`: list the models that open without a download."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli.options import shared
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.text import NOTE, display_text, one_line

if TYPE_CHECKING:
    from llmscope.models.local_models import LocalModels, Stored

_MEGABYTE = 1e6


def models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: shared.Debug = False,
) -> None:
    """List the models on this machine: what to type for each, and its size."""
    with reported(debug):
        from llmscope.models.local_models import local_models

        found = local_models()
        for warning in found.warnings:
            typer.echo(f"note: {one_line(warning, NOTE)}", err=True)
        if json:
            from llmscope.export import json_text

            put(json_text(_record(found)))
            return
        put(_listed(found))
        for name, folder in (("the hub's cache", found.hub_cache), ("llmscope's", found.cache)):
            typer.echo(f"{name}: {display_text(str(folder))}", err=True)


def _record(found: LocalModels) -> dict[str, object]:
    from llmscope.version import __version__

    return {
        "schema": 1,
        "llmscope": __version__,
        "folders": {"hub": str(found.hub_cache), "llmscope": str(found.cache)},
        "models": [
            {
                "spec": model.spec,
                "source": model.source,
                "path": str(model.path),
                "bytes": model.bytes,
                "converted": model.converted,
                "architecture": model.architecture or None,
                "notes": list(model.notes),
            }
            for model in found.models
        ],
    }


def _listed(found: LocalModels) -> str:
    from llmscope.cli.output.table import table

    rows = [("model", "MB", "architecture", "")]
    for model in found.models:
        size = f"{(model.bytes + model.converted) / _MEGABYTE:.1f}"
        rows.append((shlex.quote(model.spec), size, model.architecture, "; ".join(_notes(model))))
    return table(rows, right=frozenset({1}))


def _notes(model: Stored) -> tuple[str, ...]:
    if not model.converted:
        return model.notes
    return (*model.notes, f"{model.converted / _MEGABYTE:.1f} MB of it converted")

"""`llmscope models`: list the models that open without a download."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from llmscope.cli.options import report_format, shared
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell, tell_plainly
from llmscope.cli.output.streams import put
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.models.local_models import LocalModels, Stored

_MEGABYTE = 1e6


def models(
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """List the models on this machine: what to type for each, and its size."""
    with reported(debug):
        as_json = wants_json(json, format)
        from llmscope.models.local_models import local_models

        local = local_models()
        for warning in local.warnings:
            tell(warning)
        if as_json:
            from llmscope.export import json_text

            put(json_text(_record(local)))
            return
        put(_model_table(local))
        for name, folder in (("the hub's cache", local.hub_cache), ("llmscope's", local.cache)):
            tell_plainly(f"{name}: {display_text(str(folder))}")


def _record(local: LocalModels) -> dict[str, object]:
    from llmscope.plugins import package_of
    from llmscope.version import __version__

    packages = {model.source: package_of("sources", model.source) for model in local.models}
    return {
        "schema": 1,
        "llmscope": __version__,
        "folders": {"hub": str(local.hub_cache), "llmscope": str(local.cache)},
        "models": [
            {
                "spec": model.spec,
                "source": model.source,
                "path": str(model.path),
                "bytes": model.bytes,
                "converted": model.converted,
                "architecture": model.architecture or None,
                "notes": list(model.notes),
                "package": None if (of := packages[model.source]) is None else of.to_dict(),
            }
            for model in local.models
        ],
    }


def _model_table(local: LocalModels) -> str:
    from llmscope.cli.output.table import table

    rows = [("model", "MB", "architecture", "")]
    for model in local.models:
        size = f"{(model.bytes + model.converted) / _MEGABYTE:.1f}"
        rows.append((shlex.quote(model.spec), size, model.architecture, "; ".join(_notes(model))))
    return table(rows, right=frozenset({1}))


def _notes(model: Stored) -> tuple[str, ...]:
    from llmscope.plugins import package_of

    notes = model.notes
    if (package := package_of("sources", model.source)) is not None:
        notes = (*notes, f"from {package}")
    if model.converted:
        notes = (*notes, f"{model.converted / _MEGABYTE:.1f} MB of it converted")
    return notes

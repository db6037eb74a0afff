"""`llmscope doctor`: report on this machine, and on how far a model can be verified."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import HardwareOptions, VolumeOptions, group_options
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put
from llmscope.support.distributions import need_torch

if TYPE_CHECKING:
    from llmscope.cli.options.loading import Loader
    from llmscope.figure import Verdict
    from llmscope.models.loaded_model import Progress
    from llmscope.record.compare.float64_check import Float64Check
    from llmscope.scope.scope import Scope


@group_options
def doctor(
    *,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Load this model too, and check it.")
    ] = None,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    adapter: shared.Adapter = None,
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Check versions, devices, terminal and folders; with MODEL its memory and verdicts."""
    with reported(debug):
        if model is not None:
            need_torch("checking a model")
        as_json = wants_json(json, format)
        from llmscope.cli.output.doctor_checks import checkup
        from llmscope.cli.output.hardware_report import memory_report
        from llmscope.cli.output.progress import progress_line

        checks = checkup()
        if not as_json:
            put(_report_text(checks))
        if model is not None:
            load = hardware.loader(model, adapters=tuple(adapter or ()))
            with progress_line() as progress:
                memory = _memory(load, progress)
            if not as_json:
                put("\n" + memory_report(memory))
            begun = time.perf_counter()
            with progress_line() as progress:
                scope = load(progress)
            loaded = time.perf_counter() - begun
            seconds = {"seconds": round(loaded, 2)}
            checks["model"] = _examine_model(scope) | seconds | {"memory": memory}
            if not as_json:
                put("\n" + _diagnosis(checks["model"]))
        if as_json:
            from llmscope.export import json_text
            from llmscope.figure import plain

            put(json_text(plain({"schema": 1, **checks})))


def _memory(load: Loader, progress: Progress | None) -> dict[str, Any]:
    """Return the memory that the model will take, by its config, before it is loaded."""
    from dataclasses import asdict

    from llmscope.models.loading.arguments import row_memory
    from llmscope.models.loading.token_memory import model_memory
    from llmscope.models.sources import Options

    return asdict(
        model_memory(
            str(load.model),
            device=load.device,
            dtype=load.dtype,
            backend=load.backend,
            cache_type=load.cache_type,
            adapters=load.adapters,
            memory=row_memory(load.memory, load.spill),
            options=Options(load.trust_remote_code, load.allow_pickle, progress),
        )
    )


def _examine_model(scope: Scope) -> dict[str, Any]:
    """Return facts about the model and its verdicts, measured on the model itself."""
    begun = time.perf_counter()
    from llmscope.record.compare.float64_check import check_in_float64

    info, verdicts = scope.info(), scope.verdicts
    seconds = round(time.perf_counter() - begun, 2)
    exact = check_in_float64(scope.loaded_model, verdicts)

    def plain_verdicts(layers: Sequence[int] | None) -> dict[str, Any]:
        return {
            name: _plain(verdicts.over(name, layers), exact.over(name, layers))
            for name in verdicts.capabilities
        }

    return {
        "spec": info.spec,
        "architecture": info.architecture,
        "layers": info.layers,
        "heads": info.heads,
        "parameters": info.parameters,
        "dtype": info.dtype,
        "device": info.device,
        "adapter": info.adapter,
        "revision": info.revision,
        "verdict_seconds": seconds,
        "notices": list(info.notices),
        "generation": {"applied": list(info.rules.applied), "ignored": list(info.rules.ignored)},
        "verdicts": plain_verdicts(None),
        "sorts": [
            {"layers": layers, "sort": sort, "verdicts": plain_verdicts(layers)}
            for sort, layers in _sorts(scope).items()
        ],
    }


def _plain(verdict: Verdict, exact: Float64Check | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "status": verdict.status,
        "discrepancy": verdict.discrepancy,
        "reason": verdict.reason,
    }
    if exact is not None:
        row["float64"] = {
            "discrepancy": exact.discrepancy,
            "cause": exact.cause,
            "words": exact.words,
        }
    return row


def _sorts(scope: Scope) -> dict[str, list[int]]:
    """Return the indices of the layers by their sort."""
    sorts: dict[str, list[int]] = {}
    for index, layer in enumerate(scope.loaded_model.anatomy.layers):
        sorts.setdefault(layer.sort, []).append(index)
    return sorts


def _report_text(checks: Mapping[str, Any]) -> str:
    """Return the report as text for the user."""
    from llmscope.cli.output.hardware_report import hardware_report, machine_rows
    from llmscope.support.text import display_text

    sections = [
        _section("versions", checks["versions"]),
        _section("machine", machine_rows(checks["machine"])),
        *hardware_report(checks),
        _section("terminal", checks["terminal"]),
    ]
    sections[-1] += f"  ramp      {_sample(checks['terminal'])}\n"
    places = {
        name: folder["path"] + ("  (cannot be written)" if folder["writable"] is False else "")
        for name, folder in checks["folders"].items()
    }
    sections += [_section("folders", places), _section("hub", checks["hub"])]
    lines = [
        f"  {display_text(line)}\n"
        for entry in checks["missing"]
        for line in (entry["what"], f"  (try: {entry['try']})")
    ]
    sections.append("missing\n" + ("".join(lines) or "  nothing\n"))
    return "\n".join(sections)


def _section(title: str, entries: Mapping[str, object]) -> str:
    from llmscope.cli.output.table import table

    return f"{title}\n" + table([(f"  {name}", _word(value)) for name, value in entries.items()])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _sample(terminal: Mapping[str, Any]) -> str:
    """Return both ramps as this terminal shows them, smallest value first; no colour in a file."""
    from rich.segment import Segment

    from llmscope.draw import RenderOptions, styles_for
    from llmscope.export import render_rows

    look = RenderOptions(
        tier=terminal["colours"] if terminal["stdout"] else "none",
        ascii=terminal["characters"] == "ascii",
    )
    row: list[Segment] = []
    for ramp in (styles_for(look).sequential, styles_for(look).diverging):
        row += [
            Segment(glyph, style) for glyph, style in zip(ramp.glyphs, ramp.styles, strict=True)
        ]
    text = render_rows([tuple(row)], "ansi" if terminal["stdout"] else "txt", look)
    return str(text).rstrip("\n")


def _diagnosis(model: Mapping[str, Any]) -> str:
    """Return tables of verdict and discrepancy by capability, one for each sort of layer."""
    from llmscope.cli.output.table import table

    count = f"{model['parameters'] / 1e6:.1f}M parameters"
    about = {
        "spec": model["spec"],
        "model": f"{model['architecture']} · {model['layers']} layers · {count}",
        "runs": f"{model['dtype']} on {model['device']} · loaded in {model['seconds']:.1f} s, "
        f"examined in {model['verdict_seconds']:.2f} s",
        "revision": model["revision"],
    }
    if model["adapter"]:
        about["adapter"] = model["adapter"]
    text = _section("model", about)
    rules = model["generation"]
    if rules["applied"]:
        text += table([("  writes by", ", ".join(rules["applied"]))])
    for rule in rules["ignored"]:
        text += table([("  not applied", rule)])
    for notice in model["notices"]:
        text += table([("  note", notice)])
    sorts = model["sorts"]
    for entry in sorts:
        where = ", ".join(map(str, entry["layers"]))
        plain = len(sorts) == 1 and entry["sort"] == "attention"
        text += "\n" if plain else f"\nlayers of {entry['sort']}: {where}\n"
        rows = [("  capability", "verdict", "discrepancy", "")]
        rows += [_row(f"  {name}", verdict) for name, verdict in entry["verdicts"].items()]
        text += table(rows)
    return text


def _row(name: str, verdict: Mapping[str, Any]) -> tuple[str, str, str, str]:
    exact = verdict.get("float64")
    reason = verdict["reason"] + (f"; {exact['words']}" if exact else "")
    return (name, verdict["status"], _discrepancy(verdict), reason)


def _discrepancy(verdict: Mapping[str, Any]) -> str:
    """Format the discrepancy, a relative error; if None, 0 if verified, else a dash."""
    measured = verdict["discrepancy"]
    if measured is None:
        return "0" if verdict["status"] == "verified" else "–"
    return f"{measured:.1e}"

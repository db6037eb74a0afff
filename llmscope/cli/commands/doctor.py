"""`llmscope doctor`: report on this machine, and on how far a model can be verified."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli.options import shared
from llmscope.cli.options.groups import HardwareOptions, grouped
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put

if TYPE_CHECKING:
    from llmscope.figure import Verdict
    from llmscope.scope import Scope

_GIGABYTE = 1e9


@grouped
def doctor(
    *,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Load this model too, and check it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    adapter: shared.Adapter = None,
    hardware: HardwareOptions,
    debug: shared.Debug = False,
) -> None:
    """Check versions, devices, terminal and folders; with MODEL also what can be shown of it."""
    with reported(debug):
        from llmscope.cli.output.doctor_checks import checkup
        from llmscope.cli.output.progress import progress_line

        found = checkup()
        if not json:
            put(_told(found))
        if model is not None:
            load = hardware.loader(model, adapters=tuple(adapter or ()))
            begun = time.perf_counter()
            with progress_line() as progress:
                scope = load(progress)
            loaded = time.perf_counter() - begun
            found["model"] = _examined(scope) | {"seconds": round(loaded, 2)}
            if not json:
                put("\n" + _diagnosis(found["model"]))
        if json:
            from llmscope.export import json_text
            from llmscope.figure import plain

            put(json_text(plain({"schema": 1, **found})))


def _examined(scope: Scope) -> dict[str, Any]:
    """Return facts about the model and its verdicts, measured on the model itself."""
    begun = time.perf_counter()
    from llmscope.record.derive.verify import CAPABILITIES

    info, verdicts = scope.info(), scope.verdicts
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
        "verdict_seconds": round(time.perf_counter() - begun, 2),
        "notices": list(info.notices),
        "generation": {"applied": list(info.rules.applied), "ignored": list(info.rules.ignored)},
        "verdicts": {name: _plain(verdicts(name)) for name in CAPABILITIES},
        "sorts": [
            {
                "layers": layers,
                "sort": sort,
                "verdicts": {name: _plain(verdicts.over(name, layers)) for name in CAPABILITIES},
            }
            for sort, layers in _sorts(scope).items()
        ],
    }


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "status": verdict.status,
        "discrepancy": verdict.discrepancy,
        "reason": verdict.reason,
    }


def _sorts(scope: Scope) -> dict[str, list[int]]:
    """Return the indices of the layers by their sort."""
    sorts: dict[str, list[int]] = {}
    for index, layer in enumerate(scope.subject.anatomy.layers):
        sorts.setdefault(layer.sort, []).append(index)
    return sorts


def _told(found: Mapping[str, Any]) -> str:
    """Return the report as text for the user."""
    from llmscope.cli.output.table import table

    sections = [
        _section("versions", found["versions"]),
        _section("machine", _machine(found["machine"])),
        _section("terminal", found["terminal"]),
    ]
    sections[-1] += f"  ramp      {_sample(found['terminal'])}\n"
    places = {
        name: folder["path"] + ("  (cannot be written)" if folder["writable"] is False else "")
        for name, folder in found["folders"].items()
    }
    sections += [_section("folders", places), _section("hub", found["hub"])]
    rows = [("  " + entry["what"], f"(try: {entry['try']})") for entry in found["missing"]]
    sections.append("missing\n" + (table(rows) if rows else "  nothing\n"))
    return "\n".join(sections)


def _section(title: str, entries: Mapping[str, object]) -> str:
    from llmscope.cli.output.table import table

    return f"{title}\n" + table([(f"  {name}", _word(value)) for name, value in entries.items()])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _machine(machine: Mapping[str, Any] | None) -> dict[str, str]:
    if machine is None:
        return {"torch": "cannot be imported"}
    rows = {
        device["name"]: device["kind"] + _memory(device["total"], device["free"]) + device["note"]
        for device in machine["devices"]
    }
    return {
        **rows,
        "auto": machine["auto"],
        "cores": str(machine["cores"]),
        "threads": str(machine["threads"]),
    }


def _memory(total: int | None, free: int | None) -> str:
    if total is None:
        return " · "
    left = "" if free is None else f", {free / _GIGABYTE:.1f} GB free"
    return f" · {total / _GIGABYTE:.1f} GB{left}"


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
    return (name, verdict["status"], _discrepancy(verdict), verdict["reason"])


def _discrepancy(verdict: Mapping[str, Any]) -> str:
    """Format the discrepancy, a relative error; if None, 0 if verified, else a dash."""
    measured = verdict["discrepancy"]
    if measured is None:
        return "0" if verdict["status"] == "verified" else "–"
    return f"{measured:.1e}"

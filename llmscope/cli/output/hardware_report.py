"""The text of `llmscope doctor` about devices: GPUs, memory, dtypes and quantised weights."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmscope.cli.output.table import table

GIGABYTE = 1e9
MOST_PROCESSES = 8
"""Processes of a GPU that are listed; the largest come first."""
HINT = 46
"""Characters of a line of hints, so that the table of quantised weights has 80 columns."""
NO_GPU = "torch finds none here: models run on the CPU"
Rows = list[tuple[str, ...]]


def machine_rows(machine: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the devices with their memory, cores and threads, by name."""
    if machine is None:
        return {"torch": "cannot be imported"}
    devices = machine["devices"]
    rows = {
        device["name"]: device["kind"] + _memory(device["total"], device["free"]) + device["note"]
        for device in devices
    }
    return {
        **rows,
        **({"gpu": NO_GPU} if len(devices) == 1 else {}),
        "auto": machine["auto"],
        "cores": str(machine["cores"]),
        "threads": str(machine["threads"]),
    }


def hardware_report(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sections about GPUs, dtypes, model sizes and quantised weights."""
    machine, driver = checks["machine"], checks["driver"]
    devices = [] if machine is None else machine["devices"]
    rows = [*_driver_rows(machine, driver), *_gpu_rows(devices, driver)]
    if rows:
        yield "gpus\n" + table(rows)
    if not devices:
        return
    yield "dtypes\n" + table(list(_dtype_rows(devices)))
    title = "largest model, in parameters: its weights in nine tenths of what is free\n"
    yield title + table(list(_size_rows(devices)), right=frozenset(range(1, 5)))
    checked = checks["quantised"]
    yield f"quantised weights, on {checked['device']}\n" + table(list(_method_rows(checked)))


def memory_report(memory: Mapping[str, Any]) -> str:
    """Return the memory that a model will take, before it is loaded."""
    weights, free, token = memory["weights"], memory["free"], memory["token"]
    rows: Rows = [("  weights", f"{_bytes(weights)}, of {_bytes(free)} that are free")]
    as_it_is = memory["backend"] != "transformers"
    if as_it_is:
        full = _bytes(memory["dequantised"])
        rows.append(("", f"the file as {memory['backend']} runs it; dequantised they take {full}"))
    elif memory["file"] is not None:
        rows.append(("", f"dequantised; the file has {_bytes(memory['file'])}"))
    if token is None:
        rows.append(("  a token", "its config does not tell"))
    else:
        rows.append(("  a token", f"{_bytes(token['cache'])} of keys and values"))
        limit = f"{_bytes(memory['limit'])} (--memory)"
        rows.append(("", f"{_bytes(token['rows'])} of rows, of all tokens at most {limit}"))
        rows.append(("  fits", _tokens(memory["tokens"], memory["context"])))
    source = "header" if as_it_is else "config"
    return f"memory on {memory['device']}, by its {source}\n" + table(rows)


def _tokens(fitting: int, context: int | None) -> str:
    """Return how many tokens fit, beside the most that the model takes."""
    if not fitting:
        return "no token: the weights leave no room to compute (try: --device spread)"
    if context is None:
        return f"{fitting:,} tokens"
    if fitting < context:
        return f"{fitting:,} tokens, of {context:,} that the model takes"
    return f"all {context:,} tokens that the model takes; memory has room for {fitting:,}"


def gigabytes(size: float) -> str:
    """Return bytes in gigabytes."""
    return f"{size / GIGABYTE:.1f} GB"


def _bytes(size: int) -> str:
    if size < 1e6:
        return f"{size / 1e3:.3g} kB"
    return f"{size / 1e6:.3g} MB" if size < 1e9 else gigabytes(size)


def _memory(total: int | None, free: int | None) -> str:
    if total is None:
        return " · "
    left = "" if free is None else f", {gigabytes(free)} free"
    return f" · {gigabytes(total)}{left}"


def _driver_rows(machine: Mapping[str, Any] | None, driver: Mapping[str, Any] | None) -> Rows:
    rows: Rows = []
    if driver is not None:
        line = "does not answer; see what is missing" if driver["error"] else driver["version"]
        line = line or "of an unknown version"
        if driver["cuda"]:
            line += f", for CUDA up to {driver['cuda']}"
        rows.append(("  driver", line))
    if machine is not None and machine["cuda"]:
        rows.append(("  torch", f"built for CUDA {machine['cuda']}"))
    elif machine is not None and machine["rocm"]:
        rows.append(("  torch", f"built for ROCm {machine['rocm']}"))
    if machine is not None and machine["visible"] is not None:
        rows.append(("  visible", f"CUDA_VISIBLE_DEVICES={machine['visible']}"))
    return rows


def _gpu_rows(devices: Sequence[Mapping[str, Any]], driver: Mapping[str, Any] | None) -> Rows:
    """Return what the driver tells of the GPUs, under torch's names for those that it uses."""
    rows: Rows = []
    gpus = [] if driver is None else driver["gpus"]
    for gpu in gpus:
        names = [device["name"] for device in devices if device["gpu"] == gpu["index"]]
        capability = gpu["capability"] and f"compute capability {gpu['capability']}"
        mig = {True: "MIG on", False: "MIG off", None: ""}[gpu["mig"]]
        about = [f"{gpu['index']} in nvidia-smi" if names else gpu["name"], capability, mig]
        name = ", ".join(names) or f"gpu {gpu['index']}"
        rows.append((f"  {name}", " · ".join(filter(None, about))))
        profiles = [device["profile"] for device in gpu["mig_devices"]]
        if gpu["mig"]:
            counted = ", ".join(
                f"{profiles.count(profile)} × {profile}" for profile in dict.fromkeys(profiles)
            )
            rows.append(("", f"MIG devices: {counted or 'none that can be seen'}"))
        rows += [("", text) for text in _memory_holders(gpu)]
    known = {gpu["index"] for gpu in gpus}
    for device in devices:
        if device["capability"] and device["gpu"] not in known:
            rows.append((f"  {device['name']}", f"compute capability {device['capability']}"))
    return rows


def _memory_holders(gpu: Mapping[str, Any]) -> Iterator[str]:
    """Yield who takes the memory of a GPU, as far as it can be seen."""
    used, processes = gpu["used"], gpu["processes"]
    total = "untold bytes" if used is None else gigabytes(used)
    if processes is None:
        yield f"taken: {total}; by which processes cannot be seen from here"
        return
    yield f"taken: {total}" + ("" if processes else ", by no process")
    ordered = sorted(processes, key=lambda process: -(process["bytes"] or 0))
    for taker in ordered[:MOST_PROCESSES]:
        size = "unknown bytes" if taker["bytes"] is None else gigabytes(taker["bytes"])
        yield f"  {size} by {taker['name']} (process {taker['pid']})"
    if len(ordered) > MOST_PROCESSES:
        yield f"  and {len(ordered) - MOST_PROCESSES} processes more"
    known_bytes = sum(process["bytes"] or 0 for process in processes)
    known = processes and all(process["bytes"] is not None for process in processes)
    if known and used is not None and used - known_bytes > GIGABYTE:
        yield f"  {gigabytes(used - known_bytes)} by processes that cannot be seen from here"


def _dtype_rows(devices: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    names = ("float32", "bfloat16", "float16")
    yield "  device", *names, "TF32"
    for device in devices:
        if not device["note"]:
            runs = [device["dtypes"].get(name, "–") for name in names]
            yield (
                f"  {device['name']}",
                *runs,
                {True: "on", False: "off", None: "–"}[device["tf32"]],
            )


def _size_rows(devices: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    fitting = [device for device in devices if device["fits"]]
    yield "  device", *fitting[0]["fits"]
    for device in fitting:
        yield f"  {device['name']}", *map(_billions, device["fits"].values())
    gpus = [device for device in fitting if device["name"].startswith("cuda")]
    if len(gpus) > 1:
        sums = [sum(device["fits"][name] for device in gpus) for name in gpus[0]["fits"]]
        yield "  all GPUs", *map(_billions, sums)


def _billions(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count < 1e10 else f"{count / 1e9:.0f} B"


def _method_rows(checked: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for method in checked["methods"]:
        versions = [f"{name} {version}" for name, version in method["packages"].items() if version]
        note = method["hint"] or method["why"] or ", ".join(versions)
        lines = textwrap.wrap(note, HINT, break_long_words=False, break_on_hyphens=False)
        yield f"  {method['name']}", method["runs"], lines[0] if lines else ""
        yield from (("", "", line) for line in lines[1:])

"""How many workers a batch on a cluster has, and the resources of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmscope.errors import ScopeError, option


@dataclass(frozen=True)
class Workers:
    """How many workers, and the resources of each. None: chosen by `workers_on`.

    Attributes:
        count: the number of workers.
        cpus: the CPUs of each, which are its torch threads.
        gpus: the GPUs of each; a fraction lets several share one.
        device: the value of `--device`.
        errors: how many shards may fail before the others are given up; −1: any number.
    """

    count: int | None = None
    cpus: int | None = None
    gpus: float | None = None
    device: str = "auto"
    errors: int = 0


def workers_on(machines: Sequence[dict[str, float]], workers: Workers, threads: int) -> Workers:
    """Return the workers for some machines: unless asked otherwise, one a GPU, or one a machine.

    Args:
        machines: the resources of each by their names in Ray, such as `CPU`.
        workers: the workers asked for.
        threads: CPUs of a worker without a GPU, unless asked otherwise.

    Raises:
        ScopeError: no machine has room for a worker.
    """
    gpus = workers.gpus
    if gpus is None:
        has_gpus = any(machine.get("GPU", 0) >= 1 for machine in machines)
        gpus = 1 if has_gpus and workers.device not in ("cpu", "mps") else 0
    cpus = workers.cpus or (1 if gpus else threads)
    fits = [
        int(min(machine.get("CPU", 0) // cpus, machine.get("GPU", 0) / gpus if gpus else 1e9))
        for machine in machines
    ]
    if not any(fits):
        what = f"CPUs: {cpus}" + (f", GPUs: {gpus:g}" if gpus else "")
        raise ScopeError(
            f"no machine of the Ray cluster has room for a worker ({what})",
            f"other {option('threads')} or {option('gpus-per-worker')}",
        )
    usual = sum(fits) if gpus else sum(map(bool, fits))
    return replace(workers, count=workers.count or usual, cpus=cpus, gpus=gpus)

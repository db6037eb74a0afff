"""The Ray cluster of a batch: the one that RAY_ADDRESS names, or a new one on this machine."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.jobs.snapshots.workers import Workers, workers_on
from llmscope.support.text import display_text

_WAIT = 10  # seconds for a cluster to answer


def needed() -> None:
    """Raise ScopeError unless Ray Data is installed; not imported, it reads settings on import."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ScopeError(f"{option('engine')} ray needs Ray Data", "pip install 'ray[data]'")


@contextmanager
def cluster(workers: Workers, threads: int) -> Iterator[Workers]:
    """Connect to Ray, or start it here for the time of the block; yield what `workers_on` does.

    Raises:
        ScopeError: no cluster can be reached, or no machine has room for a worker.
    """
    address, options = os.environ.get("RAY_ADDRESS", ""), dict[str, Any]()
    if address.startswith("ray://"):
        raise ScopeError("RAY_ADDRESS is of a Ray client", "HOST:PORT, on a machine of the cluster")
    starts_here = address in ("", "local")
    if starts_here:
        count = (workers.count or 1) * (workers.cpus or threads)
        options = {"address": "local", "num_cpus": max(os.cpu_count() or 1, count)}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if "RAY_AUTH_MODE" not in os.environ:  # whoever reaches Ray's ports can run code
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=_WAIT).close()
        ray.init(**options)
    except (RuntimeError, ValueError, OSError) as error:
        what = "start Ray" if starts_here else f"reach Ray at {display_text(address)[:100]}"
        reason = display_text(str(error).strip().partition("\n")[0])[:200]
        hint = option("engine", "local") if starts_here else "another RAY_ADDRESS"
        raise ScopeError(f"cannot {what}: {reason}", hint) from error
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield workers_on(machines, workers, threads)
    finally:
        ray.shutdown()

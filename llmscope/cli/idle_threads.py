"""How long the idle threads of OpenMP wait for work. Imports nothing."""

import os


def sleep_soon() -> None:
    """Have idle threads sleep after about 30 µs, unless the environment says otherwise.

    Threads that spin make the same step up to a hundred times slower on a busy machine, but waking
    a sleeping one takes a third of a short pass. So they spin for the gap between two operations
    of a pass. The runtime reads both variables once, when torch is imported: call this before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")

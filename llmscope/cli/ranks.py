"""Commands under torchrun: rank 0 runs them, and the other ranks hold shards of its models."""

from __future__ import annotations

from llmscope.models.tensor_parallel.processes import lead, rank


def begin() -> None:
    """Take this process's part among those of torchrun.

    Returns in rank 0, and where there are no others. The other ranks end here.
    """
    number = rank()
    if number == 0:
        lead()
    elif number is not None:
        from llmscope.models.tensor_parallel.follower import follow

        follow()
        raise SystemExit(0)

"""What PyTorch reads from the environment when it is imported, about the CPU. Imports nothing."""

import os


def set_up_cpu() -> None:
    """Let idle threads sleep and large tensors use huge pages, unless the environment says else.

    Call it before torch is imported: torch and its OpenMP runtime read these variables once.

    Idle threads sleep after a tenth of a millisecond or a few. Threads that spin on make the same
    step up to a hundred times slower on a busy machine, but waking a sleeping one takes a third of
    a short pass. So they spin for the gap between two operations of a pass. On a virtual machine of
    two cores, a letter of SmolLM2 took 141 to 172 ms with a third of this count, and 120 to 133 ms
    with it; beside one busy program 274 and 194, beside two 244 and 250. Three times the count was
    no faster alone (114 to 149 ms), and slower beside two (451 ms).

    Tensors of 2 MB and more ask Linux for huge pages. Each operation of a long pass allocates its
    output anew, and the kernel clears it page by page: with huge pages a chunk of 1,024 tokens of
    SmolLM2 takes 70,000 page faults instead of 178,000, and about 7 % less time.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")

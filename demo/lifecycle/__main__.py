"""Train the family: `python -m demo.lifecycle [--out FOLDER] [--fast] [--only STAGE …]`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Read when torch is imported: threads that spin while they wait slow everything beside them down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

SHIPPED = Path(__file__).resolve().parents[2] / "llmscope" / "builtin"


def main() -> None:
    """Read the arguments, then load torch and train."""
    from .family import STAGES

    parser = argparse.ArgumentParser(prog="python -m demo.lifecycle", description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the folder of the family")
    parser.add_argument("--fast", action="store_true", help="a few steps of each stage, as a test")
    parser.add_argument("--seed", type=int, default=1848)
    parser.add_argument("--threads", type=int, default=2, help="of all stages after the base")
    names = [stage.name for stage in STAGES]
    parser.add_argument(
        "--only", nargs="+", choices=names, help="stages; those before must be there already"
    )
    given = parser.parse_args()
    from .train import train

    train(given.out, given.only or names, given.fast, given.seed, given.threads)


if __name__ == "__main__":
    main()

"""Train sparse dictionaries: `python -m demo.features town` or `smollm2 --out FOLDER`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Read when torch is imported: threads that spin while they wait slow everything beside them down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Read the arguments, then load torch and train."""
    parser = argparse.ArgumentParser(prog="python -m demo.features", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    town = commands.add_parser("town", help="those that ship with the built-in base")
    town.add_argument("--out", type=Path, help="the folder of the folders; where they ship")
    town.add_argument("--tokens", type=int, default=2_000_000)
    town.add_argument("--seed", type=int, default=11)
    commands.add_parser("controls", help="what the lens says of dictionaries that do not fit")
    smollm2 = commands.add_parser("smollm2", help="one for a layer of SmolLM2-135M")
    smollm2.add_argument("--out", type=Path, required=True, help="the folder to write")
    smollm2.add_argument("--tokens", type=int, default=300_000)
    smollm2.add_argument("--layer", type=int, default=15)
    smollm2.add_argument("--features", type=int, default=4608)
    smollm2.add_argument("--active", type=int, default=48, help="mean active features of a token")
    smollm2.add_argument("--seed", type=int, default=11)
    for one in (town, smollm2):
        one.add_argument("--threads", type=int, default=1, help="last digits depend on it")
    given = parser.parse_args()
    if given.command == "controls":
        from .controls import main as controls

        controls()
        return
    import torch

    torch.set_num_threads(given.threads)
    if given.command == "town":
        from .town import SHIPPED, fit

        fit(given.out or SHIPPED, given.tokens, given.seed)
    else:
        from .smollm2 import fit_layer

        fit_layer(given.out, given.tokens, given.layer, given.features, given.active, given.seed)


if __name__ == "__main__":
    main()

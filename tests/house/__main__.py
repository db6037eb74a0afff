"""Print what the package weighs beside its limits and its aims: `python -m tests.house`.

    python -m tests.house --lower    # write what was measured as limits, where it is lower

Exits 1 where a limit is exceeded.
"""

from __future__ import annotations

import argparse
import sys

from tests.house.figures import AIMS, exceeded, figures, limits, lower


def main() -> int:
    """Print a row for each figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.house")
    parser.add_argument("--lower", action="store_true", help="lower the limits to what is so")
    options = parser.parse_args()
    measured = figures()
    if options.lower:
        lower(measured)
    bounds = limits()
    print(f"{'':44}{'measured':>10}{'limit':>10}{'aim':>10}")
    for name, value in measured.items():
        limit = f"{bounds[name]:,}" if name in bounds else ""
        print(f"{name:44}{value:>10,}{limit:>10}{AIMS[name]:>10,}")
    return 1 if exceeded(measured, bounds) else 0


if __name__ == "__main__":
    sys.exit(main())

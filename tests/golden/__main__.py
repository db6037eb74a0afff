"""Make the golden screens again, and say which have changed.

python -m tests.golden             all of them
python -m tests.golden NAME …      those whose name begins so
python -m tests.golden --png DIR   pictures to look at as well
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tests.golden.files import FOLDER, content, path_of
from tests.golden.scenes import scenes, shoot


def main() -> None:
    """Write what has changed."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--png", type=Path, metavar="DIR")
    asked = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    made = scenes()
    for name, scene in made.items():
        if asked.names and not name.startswith(tuple(asked.names)):
            continue
        rows = asyncio.run(shoot(scene))
        path = path_of(name)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = content(rows, scene, old)
        if new != old:
            before, after = old.splitlines(), new.splitlines()
            count = sum(one != other for one, other in zip(before, after, strict=False))
            count += abs(len(before) - len(after))
            print(f"{path.name}: {count} lines changed")
            path.write_text(new, encoding="utf-8")
        if asked.png:
            from llmscope.export import render_rows

            asked.png.mkdir(exist_ok=True)
            picture = render_rows([tuple(row) for row in rows], "png", scene.look)
            (asked.png / f"{name}.png").write_bytes(picture)
    for path in FOLDER.glob("*.txt"):
        if path.stem not in made:
            print(f"{path.name}: no such screen any more")
            path.unlink()


if __name__ == "__main__":
    main()

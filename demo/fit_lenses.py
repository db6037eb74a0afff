"""Fit the learned lenses that ship with the built-in base: `python -m demo.fit_lenses`.

The prompts are new documents of the kind that the base was trained on, from a seed of their own.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import llmscope
from demo.lifecycle.base import documents
from llmscope.jobs.fit_lens.corpus import CorpusRules
from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit, fit_jacobian
from llmscope.jobs.fit_lens.fit_tuned import TunedFit, fit_tuned
from llmscope.learned.lenses.writer import write_lens

SEED, PROMPTS, DOCUMENTS, SKIP = 20, 1000, 3, 4
"""The prompts: how many, of how many documents each, and the first tokens that do not count. The
base is used to short texts, and its attention sinks are the first tokens alone."""
FOLDER = Path(llmscope.__file__).parent / "builtin" / "town-lenses"


def prompts(seed: int, count: int) -> list[str]:
    """Return prompts of several documents of the base's corpus."""
    source = documents(Random(seed))  # noqa: S311 - text, not secrets
    return [" ".join(next(source) for _ in range(DOCUMENTS)) for _ in range(count)]


def main() -> None:
    """Fit both lenses, and write them beside the model."""
    scope = llmscope.load("builtin:town")
    texts, rules, name = prompts(SEED, PROMPTS), CorpusRules(skip=SKIP), "the corpus of town"
    jacobian = fit_jacobian(scope, texts, JacobianFit(rules=rules, name=name))
    write_lens(jacobian, FOLDER / "jacobian.safetensors")
    tuned = fit_tuned(scope, texts, TunedFit(rules=rules, steps=2000, rate=2e-3, name=name))
    write_lens(tuned, FOLDER / "tuned.safetensors")
    for lens in (jacobian, tuned):
        held = lens.held_out
        assert held is not None
        print(lens.title, held.tokens, "held-out tokens")
        for stream in sorted(lens.maps):
            figures = [way.top1[stream] for way in (held.lens, held.logit, held.baseline)]
            figures += [way.kl[stream] for way in (held.lens, held.logit, held.baseline)]
            print(stream - 1, *(f"{one:.3f}" for one in figures), held.no_better(stream))


if __name__ == "__main__":
    main()

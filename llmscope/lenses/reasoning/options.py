"""The options of the lens `reasoning`, some of which `passages` has too."""

from __future__ import annotations

from llmscope.lenses.options import LensOption

SUFFIX = LensOption(
    *("suffix", "text", "\nThe answer is"),
    "What is put after each sentence to force the answer; a blank follows it.",
    "TEXT",
    shown="a new line, The answer is",
)
QUANTILE = LensOption(
    *("fork_quantile", "share", 0.8),
    "A fork has an entropy at or above this quantile of the trace's.",
)
SENTENCES = LensOption(
    *("sentences", "integer", 128),
    "The most sentences to measure; of more, those at even distances.",
    least=1,
)
SAMPLES = LensOption(*("samples", "integer", 4), "Number of branches to sample.", least=1)
TOKENS = LensOption(*("tokens", "integer", 48), "The most tokens of a branch.", least=1)
SEED = LensOption(*("seed", "integer", 0), "Seed of the branches.", least=0)

"""The names under which learned lenses are published on the hub.

Jacobian lenses: the repository neuronpedia/jacobian-lens, one file a model; its list is of July
2026. Tuned lenses: the space AlignmentResearch/tuned-lens, a folder a model. What is not in these
lists is read by its full name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_JACOBIAN = "neuronpedia/jacobian-lens"
_CORPUS = "Salesforce-wikitext"
_FOLDERS = {
    "google/gemma-2-2b": "gemma-2-2b/gemma-2-2b",
    "google/gemma-2-2b-it": "gemma-2-2b-it/gemma-2-2b-it",
    "google/gemma-2-9b": "gemma-2-9b/gemma-2-9b",
    "google/gemma-2-9b-it": "gemma-2-9b-it/gemma-2-9b-it",
    "google/gemma-2-27b": "gemma-2-27b/gemma-2-27b",
    "google/gemma-3-270m": "gemma-3-270m/gemma-3-270m",
    "google/gemma-3-270m-it": "gemma-3-270m-it/gemma-3-270m-it",
    "google/gemma-3-1b-pt": "gemma-3-1b/gemma-3-1b-pt",
    "google/gemma-3-1b-it": "gemma-3-1b-it/gemma-3-1b-it",
    "google/gemma-3-4b-pt": "gemma-3-4b/gemma-3-4b-pt",
    "google/gemma-3-4b-it": "gemma-3-4b-it/gemma-3-4b-it",
    "google/gemma-3-12b-pt": "gemma-3-12b/gemma-3-12b-pt",
    "google/gemma-3-12b-it": "gemma-3-12b-it/gemma-3-12b-it",
    "google/gemma-3-27b-pt": "gemma-3-27b/gemma-3-27b-pt",
    "google/gemma-3-27b-it": "gemma-3-27b-it/gemma-3-27b-it",
    "google/gemma-4-31b": "gemma-4-31b/gemma-4-31B",
    "google/gemma-4-e2b": "gemma-4-e2b/gemma-4-E2B",
    "google/gemma-4-e4b": "gemma-4-e4b/gemma-4-E4B",
    "gpt2": "gpt2-small/gpt2",
    "openai-community/gpt2": "gpt2-small/gpt2",
    "openai/gpt-oss-20b": "gpt-oss-20b/gpt-oss-20b",
    "meta-llama/llama-3.1-8b": "llama3.1-8b/Llama-3.1-8B",
    "meta-llama/llama-3.1-8b-instruct": "llama3.1-8b-it/Llama-3.1-8B-Instruct",
    "meta-llama/llama-3.3-70b-instruct": "llama3.3-70b-it/Llama-3.3-70B-Instruct",
    "allenai/olmo-3-1025-7b": "olmo-3-1025-7b/Olmo-3-1025-7B",
    "allenai/olmo-3-1125-32b": "olmo-3-1125-32b/Olmo-3-1125-32B",
    "eleutherai/pythia-70m-deduped": "pythia-70m-deduped/pythia-70m-deduped",
    "qwen/qwen2.5-7b-instruct": "qwen2.5-7b-it/Qwen2.5-7B-Instruct",
    "qwen/qwen3-1.7b": "qwen3-1.7b/Qwen3-1.7B",
    "qwen/qwen3-4b": "qwen3-4b/Qwen3-4B",
    "qwen/qwen3-8b": "qwen3-8b/Qwen3-8B",
    "qwen/qwen3-14b": "qwen3-14b/Qwen3-14B",
    "qwen/qwen3-32b": "qwen3-32b/Qwen3-32B",
    "qwen/qwen3.5-0.8b": "qwen3.5-0.8b/Qwen3.5-0.8B",
    "qwen/qwen3.5-4b": "qwen3.5-4b/Qwen3.5-4B",
    "qwen/qwen3.5-27b": "qwen3.5-27b/Qwen3.5-27B",
}
_TUNED = "spaces/AlignmentResearch/tuned-lens"
_WITH_TUNED = {
    name.casefold(): name
    for name in (
        *("gpt2", "gpt2-large", "gpt2-xl", "openai-community/gpt2", "openai-community/gpt2-large"),
        *("openai-community/gpt2-xl", "EleutherAI/gpt-neox-20b"),
        *(f"EleutherAI/pythia-{size}-deduped" for size in ("70m", "160m", "410m", "1.4b")),
        *(f"EleutherAI/pythia-{size}-deduped" for size in ("2.8b", "6.9b", "12b")),
        *(f"facebook/opt-{size}" for size in ("125m", "1.3b", "6.7b")),
        *("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf", "lmsys/vicuna-13b-v1.1"),
    )
}
"""By the name in small letters: the name that the folder of its lens has."""


@dataclass(frozen=True)
class Known:
    """A lens that is known for a model.

    Attributes:
        name: what `--translator` takes.
        kind: jacobian or tuned.
    """

    name: str
    kind: str


def published_lenses(names: Sequence[str]) -> list[Known]:
    """Return the lenses that are published for a model that goes by these names."""
    lenses = []
    for name in names:
        entry = _FOLDERS.get(name.casefold())
        if entry is not None:
            folder, _, model = entry.partition("/")
            path = f"{folder}/jlens/{_CORPUS}/{model}_jacobian_lens.pt"
            lenses.append(Known(f"{_JACOBIAN}:{path}", "jacobian"))
        spelled = _WITH_TUNED.get(name.casefold())
        if spelled is not None:
            owned = spelled.removeprefix("openai-community/")
            lenses.append(Known(f"{_TUNED}:lens/{owned}", "tuned"))
    return list({lens.kind: lens for lens in reversed(lenses)}.values())

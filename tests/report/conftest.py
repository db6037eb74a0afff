import numpy as np
import pytest

from tests.report.folders import write_folder

LAYERS, HEADS = 3, 4
STRONG = (1, 2)
"""The head whose ablation has an effect."""


def prompts_of(count, random):
    """Prompts of 3 to 8 tokens with a label, a number and a pair; line 6 failed."""
    found = [
        {
            "line": at + 1,
            "prompt": f"prompt {at}",
            "n_tokens": int(random.integers(3, 9)),
            "error": None,
            "label": "ab"[at % 2],
            "pair": at // 2,
            "size": int(random.integers(1000)),
        }
        for at in range(count)
    ]
    found[5] |= {"n_tokens": None, "error": "too long"}
    return found


def rows_of(prompts, random):
    """Rows of three lenses; the surprisal depends on the prompt as a whole, and on its label."""
    tokens, maps, ablation = [], [], []
    for one in prompts:
        if one["n_tokens"] is None:
            continue
        own = random.normal() + 2 * (one["label"] == "b")
        settled = int(random.integers(-1, LAYERS + 1))
        for position in range(one["n_tokens"]):
            tokens.append(
                {
                    "line": one["line"],
                    "position": position,
                    "from_end": position - one["n_tokens"],
                    "token": " x",
                    "class": ("word", "number")[position % 2],
                    "surprisal": 3 + own + random.normal() if position else None,
                    "rank": int(random.integers(1, 9)) if position else None,
                }
            )
            last = position == one["n_tokens"] - 1
            for layer in range(-1, LAYERS):
                maps.append(
                    {
                        "line": one["line"],
                        "layer": layer,
                        "position": position,
                        "from_end": position - one["n_tokens"],
                        "token": " y",
                        "p_target": float(random.random()),
                        "rank_target": 1 if last and layer >= settled else 2,
                    }
                )
        for layer in range(LAYERS):
            for head in range(HEADS):
                effect = random.normal() - 2 * ((layer, head) == STRONG)
                ablation.append(
                    {"line": one["line"], "layer": layer, "head": head, "effect": effect}
                )
    return {"tokens": tokens, "logit-lens": maps, "ablation": ablation}


@pytest.fixture(scope="session")
def batch(tmp_path_factory):
    """The folder of 60 prompts in three shards, its prompts, and its rows by lens."""
    random = np.random.default_rng(11)
    prompts = prompts_of(60, random)
    lenses = rows_of(prompts, random)
    lenses["ablation"] = [row for row in lenses["ablation"] if row["line"] != 9]
    folder = tmp_path_factory.mktemp("batch") / "out"
    write_folder(folder, prompts, lenses, refused=[("ablation", 9)], shard=25)
    return folder, prompts, lenses

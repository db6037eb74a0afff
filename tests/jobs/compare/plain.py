"""The figures of a comparison from plain transformers and numpy, without llmscope's code."""

import math

import numpy as np
import torch


def copy_of(model):
    """Return the same weights, with a LoRA merged, in a model that llmscope never touched."""
    from transformers import AutoConfig, AutoModelForCausalLM

    weights = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" in name:
            continue
        if ".base_layer." in name:
            layer = model.get_submodule(name.partition(".base_layer.")[0])
            (adapter,) = layer.active_adapters
            a, b = (getattr(layer, part)[adapter].weight for part in ("lora_A", "lora_B"))
            tensor = tensor + layer.scaling[adapter] * (b @ a)
        weights[name.replace(".base_layer.", ".")] = tensor
    config = AutoConfig.for_model(**model.config.to_dict())
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        made.to(model.dtype).load_state_dict(weights)
    return made.eval()


def log_probabilities(model, ids):
    """Return the log-probabilities after each token but the last, in float64. [row, token]"""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    scores = logits.float().numpy().astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def compared(a, b, texts, skip=0):
    """Return the columns of all tokens, and the number of tokens of each text."""
    columns = {name: [] for name in ("kl", "log_p_a", "log_p_b", "same_top", "top_a", "top_b")}
    counts = []
    for ids in texts:
        p, q = (log_probabilities(one, ids)[skip:] for one in (a, b))
        following = np.array(ids[skip + 1 :])
        at = np.arange(len(following))
        found = {
            "kl": (np.exp(p) * (p - q)).sum(1),
            "log_p_a": p[at, following],
            "log_p_b": q[at, following],
            "same_top": (p.argmax(1) == q.argmax(1)).astype(float),
            "top_a": p.argmax(1),
            "top_b": q.argmax(1),
        }
        for name, values in found.items():
            columns[name] += values.tolist()
        counts.append(len(following))
    return {name: np.array(values) for name, values in columns.items()}, counts


def intervals(values, counts, resamples, level=0.95, seed=0):
    """Return the bootstrap interval of the mean of values, drawing whole texts."""
    ends = np.cumsum(counts)
    texts = [values[end - count : end] for end, count in zip(ends, counts, strict=True)]
    draws = np.random.default_rng(seed).integers(len(texts), size=(resamples, len(texts)))
    means = sorted(
        math.fsum(sum(texts[at]) for at in draw) / sum(len(texts[at]) for at in draw)
        for draw in draws
    )

    def quantile(share):
        place = share * (len(means) - 1)
        low = math.floor(place)
        high = min(low + 1, len(means) - 1)
        return means[low] + (place - low) * (means[high] - means[low])

    return [quantile((1 - level) / 2), quantile((1 + level) / 2)]


def check_summary(summary, columns, counts, *, resamples, within=1e-6):
    """Check the statistics of a summary against columns that were computed here."""
    kl, gain = columns["kl"], columns["log_p_b"] - columns["log_p_a"]

    def near(found, expected):
        assert np.allclose(found, expected, rtol=1e-3, atol=within), (found, expected)

    assert summary["tokens"] == sum(counts)
    assert summary["texts"]["count"] == len(counts)
    ranked = np.sort(kl)
    near(summary["kl"]["mean"], math.fsum(kl) / len(kl))
    near(summary["kl"]["max"], ranked[-1])
    for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
        place = share * (len(kl) - 1)
        low = math.floor(place)
        high = min(low + 1, len(kl) - 1)
        near(summary["kl"][name], ranked[low] + (place - low) * (ranked[high] - ranked[low]))
    assert summary["same_top"]["share"] == columns["same_top"].mean()
    near(summary["log_likelihood"]["b_minus_a"], math.fsum(gain) / len(gain))
    for side in "ab":
        mean = math.fsum(columns[f"log_p_{side}"]) / len(kl)
        near(summary["log_likelihood"][side], mean)
        near(math.log(summary["perplexity"][side]), -mean)
    for found, values in (
        (summary["kl"]["interval"], kl),
        (summary["same_top"]["interval"], columns["same_top"]),
        (summary["log_likelihood"]["interval"], gain),
    ):
        near(found, intervals(values, counts, resamples))

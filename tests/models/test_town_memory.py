"""`builtin:town-memory`: a head of memory does what a head of attention does in `builtin:town`."""

from functools import cache
from random import Random

import numpy as np
import pytest
import torch

import llmscope
from llmscope.models.sources import builtin
from tests.models.town import SEED, in_context, part

HEAD = (0, 0)
"""The layer and the head that carry the answer of a lexicon; docs/tour.md names them."""
OTHERS = [(layer, head) for layer in range(3) for head in range(2) if (layer, head) != HEAD]


@cache
def scope():
    return llmscope.load("builtin:town-memory")


@cache
def asked(count=40):
    """(prompt, answer) of invented languages of eight words, of which all are in the prompt."""
    random = Random(SEED)
    return tuple(part("tasks").prompt(random, "lexicon", 8) for _ in range(count))


def answered(edits=()):
    """The share of prompts whose answer is the likeliest next token."""
    hits = 0
    for prompt, answer in asked():
        logits = scope().record(prompt, edits=edits).logits
        hits += scope().tokenizer.decode([int(logits.argmax())]).strip() == answer
    return hits / len(asked())


@pytest.mark.parametrize(
    ("task", "accuracy"), [("lexicon", 0.95), ("relation", 0.95), ("kind", 0.75)]
)
def test_it_learns_a_task_from_examples(task, accuracy):
    eight = in_context(task, 8, name="town-memory")
    assert eight >= accuracy
    assert eight >= in_context(task, 0, name="town-memory") + 0.3


def test_most_of_its_layers_have_no_attention():
    kinds = [layer.kind for layer in scope().loaded_model.anatomy.layers]
    assert kinds == ["recurrent", "recurrent", "attention"]
    assert [scope().verdicts("maps", layer).status for layer in (0, 1)] == ["verified"] * 2


def test_the_head_reads_the_answer_where_it_stands():
    hits = 0
    for prompt, answer in asked():
        recording = scope().record(prompt)
        figure = scope().look("attention", recording=recording, layer=HEAD[0], head=HEAD[1])
        assert figure.verdict.status == "verified"
        strongest = int(np.nanargmax(np.abs(figure.values[-1])))
        hits += recording.prompt.labels[strongest].strip() == answer
    assert hits >= 0.9 * len(asked())


def test_without_the_head_the_answer_is_gone():
    assert answered() >= 0.95
    assert answered((f"zero head {HEAD[0]}.{HEAD[1]}",)) <= 0.2


@pytest.mark.parametrize("head", OTHERS)
def test_without_another_head_it_is_not(head):
    assert answered((f"zero head {head[0]}.{head[1]}",)) >= 0.8


def test_the_lens_that_ablates_finds_the_head():
    scope().record("cat dax, sun wug, hat fep, cat")
    figure = scope().look("ablation", target=" dax")
    assert figure.verdict.status == "verified"
    assert np.unravel_index(np.nanargmin(figure.values), figure.values.shape) == HEAD


def test_a_letter_costs_a_letter():
    ids = scope().record("sun wug, cat dax, hat fep,").prompt.ids
    recording = scope().record("sun wug, cat dax, hat fep, cat")
    assert recording.reused == len(ids)
    assert recording.ran == 1


def test_it_is_small():
    folder = builtin.home() / "town-memory"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000


def test_the_rule_that_trains_is_that_of_the_library():
    from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule as library

    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 70, 2, 32, generator=generator) for _ in range(3))
    g = -torch.rand(2, 70, 2, generator=generator)
    beta = torch.rand(2, 70, 2, generator=generator)
    shared = {"g": g, "beta": beta, "use_qk_l2norm_in_kernel": True}
    given, _ = part("memory").delta_rule(query, key, value, **shared)
    own, _ = library(query, key, value, initial_state=None, output_final_state=False, **shared)
    assert float((given - own).abs().max()) <= 1e-5 * float(own.abs().max())

"""Induction heads form in a small model when its loss on repeated tokens falls.

Two layers learn to continue a random sequence that is repeated after 10 to 25 tokens, so that no
head can know the distance: a head must find the same token and look at what followed it (Olsson et
al. 2022).
"""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

import llmscope
from llmscope.draw import RenderOptions, paint
from llmscope.figure import Focus
from llmscope.runs.over_time import Series, map_over_time
from llmscope.runs.reader import RunReader
from llmscope.runs.training import Run

STEPS, EVERY = 600, 25
VOCABULARY, LONGEST = 64, 25
HEADS = 4


def small():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def repeated(generator, half, count=32):
    rows = [torch.randperm(VOCABULARY - 1, generator=generator)[:half] + 1 for _ in range(count)]
    once = torch.stack(rows)
    return torch.cat([torch.zeros(count, 1, dtype=torch.long), once, once], 1)


def loss_of(model, ids, half):
    """The loss on what the sequence before tells."""
    logits = model(ids).logits[:, half + 1 : -1]
    return cross_entropy(logits.flatten(0, 1), ids[:, half + 2 :].flatten())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("induction") / "run"
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, (0.9, 0.98), weight_decay=0.01)
    prompt = [0, *range(1, 26), *range(1, 26)]
    record = Run(
        folder,
        llmscope.wrap(model),
        [prompt],
        lenses=["tokens", "heads:induction", "heads:previous-token"],
    )
    held_out = repeated(torch.Generator().manual_seed(99), LONGEST, 64)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                record.record(step, loss=float(loss_of(model, held_out, LONGEST)))
        half = int(torch.randint(10, LONGEST + 1, (), generator=generator))
        loss = loss_of(model, repeated(generator, half), half)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert not record.stopped
    return RunReader(folder)


def over_time(run, mode):
    which = next(one for one in run.info.figures if one.mode == mode)
    return map_over_time(Series(run), which, Focus())


@pytest.mark.slow
def test_the_head_forms_when_the_loss_falls(run):
    steps, loss = run.logged("loss")
    scores = over_time(run, "induction").values  # [head, step]
    assert loss[0] > 4
    assert loss[-1] < 0.1
    best = scores[:, -1].argmax()
    assert scores[best, -1] > 0.8
    fell = steps[np.argmax(loss < loss[0] / 2)]
    rose = steps[np.argmax(scores[best] > scores[best, -1] / 2)]
    assert abs(rose - fell) <= 4 * EVERY
    assert scores[:, loss > 0.95 * loss[0]].max() < 0.1
    assert over_time(run, "induction").axes[0].labels[best].startswith("1.")  # the second layer
    before = over_time(run, "previous-token").values[:HEADS].max(0)  # heads of the first layer
    assert before[-1] > 0.3
    assert before[0] < 0.1


@pytest.mark.slow
def test_the_map_shows_it(run):
    figure = over_time(run, "induction")
    row = int(figure.values[:, -1].argmax())
    picture = paint(figure, 60, 12, RenderOptions(tier="none"), Focus())
    lines = ["".join(part.text for part in line) for line in picture.rows]
    line = next(one for one in lines if one.strip(" ▸").startswith(figure.axes[0].labels[row]))
    cells = line.partition(figure.axes[0].labels[row])[2]
    weight = [" ░▒▓█".find(one) for one in cells if one in " ░▒▓█"]
    first, last = weight[: len(weight) // 4], weight[len(weight) // 2 :]
    assert max(first) == 0
    assert max(last) >= 3


@pytest.mark.slow
def test_the_surprisal_of_the_second_copy_falls_with_it(run):
    which = next(one for one in run.info.figures if one.lens == "tokens")
    values = map_over_time(Series(run), which, Focus()).values  # [token, step]
    assert values[LONGEST + 2 :, 0].mean() > 5
    assert values[LONGEST + 2 :, -1].mean() < 0.5
    assert values[1 : LONGEST + 1, -1].mean() > 4  # nothing tells the first copy

"""The logit lens against plain transformers: norm and unembedding of the hooked streams."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import llmscope
from llmscope.figure import Focus
from llmscope.lenses import lens
from llmscope.record.analysis import logit_lens
from tests.families import small_model

IDS = [3, 41, 5, 9, 41, 5, 77, 12, 60]
# Where each family keeps its final norm, and what it does to the logits after the unembedding.
NORMS = {
    "falcon_h1": lambda model: model.model.final_layernorm,
    "gpt2": lambda model: model.transformer.ln_f,
    "llama": lambda model: model.model.norm,
    "gpt_neox": lambda model: model.gpt_neox.final_layer_norm,
    "gemma2": lambda model: model.model.norm,
    "cohere": lambda model: model.model.norm,
    "granite": lambda model: model.model.norm,
    "opt": lambda model: model.model.decoder.final_layer_norm,
    "mamba": lambda model: model.backbone.norm_f,
}
AFTER = {
    "gemma2": lambda model, logits: torch.tanh(logits / 30) * 30,
    "cohere": lambda model, logits: logits * model.config.logit_scale,
    "granite": lambda model, logits: logits / model.config.logits_scaling,
    "falcon_h1": lambda model, logits: logits * model.config.lm_head_multiplier,
}


def scope_of(family, folder):
    small_model(family).save_pretrained(folder)
    return llmscope.load(str(folder))


def reference(family):
    """Logits of the stream before and after each layer. [layer + 1, position, token]"""
    model = small_model(family)
    layers = max(
        (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3), key=len
    )
    streams = []
    for layer in layers:
        layer.register_forward_pre_hook(
            lambda _, args, named: streams.append((args or (named["hidden_states"],))[0].clone()),
            with_kwargs=True,
        )
    layers[-1].register_forward_hook(
        lambda _, args, out: streams.append((out[0] if isinstance(out, tuple) else out).clone())
    )
    with torch.no_grad():
        own = model(torch.tensor([IDS])).logits[0]
        hidden = NORMS[family](model)(torch.stack([stream.reshape(9, -1) for stream in streams]))
        logits = model.get_output_embeddings()(hidden)
        logits = AFTER.get(family, lambda _, same: same)(model, logits)
    torch.testing.assert_close(logits[-1], own, atol=1e-5, rtol=1e-4)
    return logits


@pytest.mark.parametrize("family", NORMS)
def test_each_cell_is_the_readout_of_its_stream(family, tmp_path):
    scope = scope_of(family, tmp_path)
    recording = scope.record(IDS)
    own = reference(family).softmax(-1)
    figure = scope.look("logit-lens")
    assert figure.verdict.status == "verified"
    assert figure.axes[0].labels == ("embed", "0", "1", "2")
    np.testing.assert_allclose(figure.values, own.max(-1).values, atol=1e-5)
    picked = torch.tensor(figure.extra["ids"])
    np.testing.assert_allclose(
        own.gather(2, picked[..., None])[..., 0], own.max(-1).values, atol=1e-6
    )
    aimed = scope.look("logit-lens", mode="target", target=17, recording=recording)
    np.testing.assert_allclose(aimed.values, own[..., 17], atol=1e-5)
    for sign in (1, -1):  # equal but for rounding may stand either way
        ranks = (own > own[..., 17:18] + sign * 1e-5).sum(-1) + 1
        assert (sign * (aimed.extra["ranks"] - ranks.numpy()) >= 0).all()


@pytest.mark.parametrize("family", NORMS)
def test_the_candidates_of_a_layer_are_the_readout_of_its_stream(family, tmp_path):
    scope = scope_of(family, tmp_path)
    scope.record(IDS)
    own = reference(family).double().softmax(-1)
    for layer, position in ((0, 0), (1, 4), (2, -1)):
        figure = scope.look(
            "logit-lens", mode="layer", layer=layer, position=position, target=17, top_k=6
        )
        assert figure.verdict.status == "verified"
        chances = own[layer + 1, position]
        assert figure.values == pytest.approx(chances.topk(6).values.numpy(), abs=1e-5)
        assert chances[figure.extra["ids"]].numpy() == pytest.approx(figure.values, abs=1e-5)
        assert figure.extra["target_probability"] == pytest.approx(float(chances[17]), abs=1e-5)
        bits = -(chances * chances.log2()).sum()
        assert figure.extra["entropy"] == pytest.approx(float(bits), abs=1e-3)


def test_the_candidates_of_the_last_layer_are_those_of_the_model(tmp_path):
    scope = scope_of("llama", tmp_path)
    scope.record(IDS)
    answer = scope.look("next-token")
    figure = scope.look("logit-lens", mode="layer")
    assert figure.axes[0].labels == answer.axes[0].labels
    assert figure.values == pytest.approx(answer.values, abs=1e-6)
    assert figure.extra["entropy"] == pytest.approx(answer.extra["entropy"], abs=1e-4)


def test_the_last_row_is_the_models_answer(tmp_path):
    scope = scope_of("llama", tmp_path)
    scope.record(IDS)
    answer = scope.look("next-token")
    figure = scope.look("logit-lens", mode="target")
    assert figure.extra["target_id"] == answer.extra["ids"][0]
    assert figure.values[-1, -1] == pytest.approx(answer.values[0], abs=1e-6)
    assert figure.extra["ranks"][-1, -1] == 1


def test_only_what_is_looked_at_is_read_and_only_once(tmp_path, monkeypatch):
    scope = scope_of("llama", tmp_path)
    scope.record(IDS)
    cells = []
    real = logit_lens._read

    def spy(some, *how):
        cells.extend((cell.layer, cell.column) for cell in some)
        return real(some, *how)

    monkeypatch.setattr(logit_lens, "_read", spy)
    figure = scope.look("logit-lens", span=(2, 5), position=4)
    assert sorted(cells) == [(layer, column) for layer in range(4) for column in (2, 3, 4)]
    assert cells[0][1] == 4  # what is asked for comes first
    assert np.isnan(figure.values[:, [0, 1, 5, 6, 7, 8]]).all()
    assert not np.isnan(figure.values[:, 2:5]).any()
    cells.clear()
    scope.look("logit-lens", span=(2, 6), position=5)
    assert {column for _, column in cells} == {5}
    cells.clear()
    scope.record([*IDS, 8])
    scope.look("logit-lens", span=(-4, 0))
    assert {column for _, column in cells} == {6, 7, 8, 9}
    whole = scope.look("logit-lens")
    again = scope.record([*IDS, 8], fresh=True)
    cells.clear()
    lens("logit-lens").ahead([(again, Focus(position=9, mode="top", span=(-3, 0)))])
    assert {column for _, column in cells} == {7, 8, 9}
    cells.clear()
    scope.look("logit-lens", span=(-3, 0))
    assert not cells
    np.testing.assert_allclose(whole.values, scope.look("logit-lens").values, atol=1e-5)


def test_another_target_changes_no_top_token(tmp_path):
    scope = scope_of("gpt2", tmp_path)
    scope.record(IDS)
    first = scope.look("logit-lens", mode="target", target=3)
    scope.look("logit-lens", mode="target", target=4)
    again = scope.look("logit-lens", mode="target", target=3)
    np.testing.assert_allclose(first.values, again.values, atol=1e-7)
    np.testing.assert_array_equal(first.extra["ids"], scope.look("logit-lens").extra["ids"])


def test_a_model_made_by_hand_shows_its_answer_at_the_layer_that_writes_it(tmp_path):
    """Every token is a direction of its own; layers write nothing, but for the MLP of one."""
    writer, answer, vocabulary = 2, 7, 12
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=16, n_embd=vocabulary, n_layer=4, n_head=2
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        model.transformer.wte.weight.copy_(torch.eye(vocabulary) * 10)
        model.transformer.h[writer].mlp.c_proj.bias[answer] = 100.0
    model.save_pretrained(tmp_path)
    scope = llmscope.load(str(tmp_path))
    ids = [3, 1, 4, 1, 5]
    scope.record(ids)
    figure = scope.look("logit-lens")
    before, after = writer + 1, 4 - writer  # rows: the embedding, then the layers
    assert (figure.extra["ids"][:before] == ids).all()
    assert (figure.extra["ids"][before:] == answer).all()
    assert len(figure.extra["ids"][before:]) == after
    assert (figure.values > 0.99).all()
    aimed = scope.look("logit-lens", mode="target", target=answer)
    assert (aimed.values[:before] < 0.01).all()
    assert (aimed.values[before:] > 0.99).all()

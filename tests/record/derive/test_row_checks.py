"""Verdicts at the rows and the length that a figure shows."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import llmscope
from llmscope.record.capture import attention_hook
from llmscope.record.capture.masks import first_visible
from llmscope.record.derive import row_checks
from llmscope.record.derive.row_checks import readout_verdict, rows_verdict, writes_verdict
from llmscope.record.derive.verify import verify
from tests.families import small_model
from tests.lenses.asked import figure_at
from tests.record.capture.test_lengths import chunked_model
from tests.record.conftest import prompt_of, recorder_for

IDS = [(7 * index + index * index) % 96 for index in range(40)]


def saved(model, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
        return llmscope.load(str(folder))


CHUNK = 16
"""Longer than the probe, so that nothing is seen of it before a prompt is recorded."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Llama 4 with chunks of 16, two of its layers; the one between them sees all."""
    folder = tmp_path_factory.mktemp("chunked")
    saved(chunked_model(CHUNK), folder)
    return str(folder)


@pytest.fixture
def misread(folder, monkeypatch):
    """The same, whose mask is taken to hide nothing but the future."""
    monkeypatch.setattr(attention_hook, "first_visible", lambda mask: None)
    scope = llmscope.load(folder)
    scope.record(IDS)
    return scope


@pytest.mark.parametrize("position", [-1, 3])
@pytest.mark.parametrize("mode", ["raw", "mean", "max", "all", "rollout"])
def test_a_pattern_that_is_wrong_in_any_row_is_refused_wherever_the_cursor_is(
    misread, mode, position
):
    assert misread.verdicts("patterns").status == "verified"
    recording = misread.latest
    focus = {"layer": 0, "mode": mode, "position": position}
    verdict = figure_at(misread, "attention", recording, **focus).verdict
    assert verdict.status == "refused"
    assert "at token" in verdict.reason
    focus = {"layer": 1, "position": position}
    assert figure_at(misread, "attention", recording, **focus).verdict.status == "verified"


def test_scores_means_and_patches_stand_on_no_row_that_is_wrong(misread):
    empty = [True, False, True]
    for name, options in (
        ("heads", {"mode": "entropy"}),
        ("ablation", {"mode": "heads-mean", "position": 3}),
    ):
        figure = misread.look(name, **options)
        assert np.isnan(figure.values).all(1).tolist() == empty
        assert figure.verdict.status == "partial"
    for edit in ("mean head 0.1", "patch head 0.1 from B"):
        with pytest.raises(llmscope.ScopeError, match="cannot be trusted"):
            misread.record(IDS, edits=[edit], versus_prompt=IDS[::-1])
    misread.record(IDS, edits=["mean head 1.1"])


def test_tensors_are_refused_by_name_where_the_lens_is(misread):
    cache = misread.latest.cache()
    for kind in ("pattern", "z", "q", "k", "v"):
        with pytest.raises(llmscope.ScopeError, match=rf"layers\.0\.{kind}: at token"):
            cache[f"layers.0.{kind}"]
        assert cache[f"layers.1.{kind}"].numel()
    assert cache["layers.0.resid_post"].numel()


def test_a_span_is_checked_where_it_is(misread):
    def status(*span):
        focus = {"layer": 0, "span": span, "position": 3}
        return figure_at(misread, "attention", misread.latest, **focus).verdict.status

    assert (status(0, CHUNK), status(CHUNK, CHUNK + 1)) == ("verified", "refused")


@torch.no_grad()
def test_chunks_are_read_from_the_mask(folder):
    model = chunked_model(CHUNK)
    model.set_attn_implementation("eager")
    own = model(torch.tensor([IDS]), output_attentions=True, use_cache=False).attentions
    scope = llmscope.load(folder)
    for length in (9, 15, 17, 18, 33, 40):  # typed: each pass has a mask of its own
        scope.record(IDS[:length])
    for layer in range(3):
        figure = scope.look("attention", layer=layer, mode="all")
        assert figure.verdict.status == "verified"
        cells = np.nan_to_num(figure.values)
        np.testing.assert_allclose(cells, own[layer][0].numpy(), atol=2e-6)


def test_masks_that_hide_something_in_between_are_not_read():
    whole = torch.ones(4, 6, dtype=torch.bool).tril(2)[None, None]
    assert first_visible(whole).tolist() == [0, 0, 0, 0]
    added = torch.zeros(1, 1, 4, 6).masked_fill(~whole, torch.finfo(torch.float32).min)
    assert first_visible(added).tolist() == [0, 0, 0, 0]
    chunks = whole & (torch.arange(6) >= torch.tensor([[2], [2], [4], [4]]))
    assert first_visible(chunks).tolist() == [2, 2, 4, 4]
    for hole in (whole & (torch.arange(6) != 1), added - 0.5, whole.expand(1, 2, 4, 6), None):
        assert first_visible(hole) is None


@pytest.mark.parametrize("lens", ["tokens", "logit-lens", "next-token", "residual"])
def test_a_forward_that_misbehaves_beyond_the_probe_is_found(tmp_path, lens):
    scope = saved(small_model("llama"), tmp_path)
    scope.record(IDS[:12])
    assert scope.look(lens).verdict.status == "verified"
    model, wide = scope.model, []
    if lens == "residual":  # more reaches the stream than attention and MLP write
        layer = model.model.layers[1]
        forward = layer.forward

        def longer(stream, **options):
            out = forward(stream, **options)
            return 1.2 * out if out.shape[1] > 12 else out

        layer.forward = longer
    else:

        def enter(module, args, options):
            wide[:] = [True] * (options["input_ids"].shape[1] > 12)

        def leave(module, args, output):
            output.logits *= 1.2 if wide else 1.0
            return output

        model.register_forward_pre_hook(enter, with_kwargs=True)
        model.register_forward_hook(leave)
    scope.record(IDS, fresh=True)
    figure = scope.look(lens)
    if lens in ("tokens", "next-token"):  # which the model's own logits are enough for
        assert figure.verdict.status == "verified"
        with torch.no_grad():
            own = torch.log_softmax(model(input_ids=torch.tensor([IDS])).logits[0], dim=-1)
        if lens == "tokens":
            surprisal = -own[range(len(IDS) - 1), IDS[1:]].numpy() / np.log(2)
            np.testing.assert_allclose(figure.values[1:], surprisal, rtol=1e-4)
        else:
            likeliest = own[-1].sort(descending=True).values[: len(figure.values)].exp()
            np.testing.assert_allclose(figure.values, likeliest.numpy(), rtol=1e-4)
        return
    assert figure.verdict.status == ("partial" if lens == "residual" else "refused")
    assert "differs from the model's own" in figure.verdict.reason


def test_a_letter_checks_its_own_row_and_no_other(monkeypatch):
    recorder = recorder_for(small_model("llama"))
    verdicts = verify(recorder)
    seen = []
    for name, check in list(row_checks.CHECKS.items()):
        monkeypatch.setitem(
            row_checks.CHECKS,
            name,
            lambda r, layer, rows, check=check, name=name: (
                seen.append((name, rows)) or check(r, layer, rows)
            ),
        )
    for length, rows in ((20, range(20)), (21, range(20, 21))):
        seen.clear()
        recording = recorder.record(prompt_of(IDS[:length]))
        for capability in ("patterns", "activations"):
            assert rows_verdict(recording, capability, 1).status == "verified"
            assert rows_verdict(recording, capability, 1).status == "verified"
        assert writes_verdict(recording, verdicts).status == "verified"
        assert readout_verdict(recording).status == "verified"
        assert seen == [("patterns", rows), ("activations", rows)]


def test_writes_that_do_not_sum_are_named_by_layer_and_token():
    recorder = recorder_for(small_model("llama"))
    verdicts = verify(recorder)
    recording = recorder.record(prompt_of(IDS))
    (segment, count), *_ = recording.parts
    layers = list(segment.layers)
    wrong = layers[1].mlp_write.clone()
    wrong[17] *= 1.01
    layers[1] = replace(layers[1], mlp_write=wrong)
    recording = replace(
        recording, parts=((replace(segment, layers=tuple(layers), memo={}), count),)
    )
    verdict = writes_verdict(recording, verdicts)
    assert verdict.status == "partial"
    assert verdict.reason.startswith("not in layers 1: at token 17 it differs")


def test_long_prompts_are_checked_at_some_of_their_tokens_and_say_so(monkeypatch):
    recorder = recorder_for(small_model("llama", max_position_embeddings=600))
    recording = recorder.record(prompt_of([(7 * index) % 96 for index in range(500)]))
    monkeypatch.setattr(row_checks, "MOST", 4 * 500 * 160)
    verdict = rows_verdict(recording, "patterns", 1)
    assert verdict.status == "verified"
    assert verdict.within.endswith("of 500 tokens")
    assert int(verdict.within.split()[1]) <= 160
    assert rows_verdict(recording, "patterns", 1, range(490, 500)).within == ""


@pytest.mark.parametrize(("dtype", "factor"), [(torch.bfloat16, 1.02), (torch.float16, 1.003)])
def test_a_hidden_factor_in_half_precision_is_found(dtype, factor):
    """A model whose attention writes a little more than its projection gives."""
    model = copy.deepcopy(small_model("llama")).to(dtype)
    right = verify(recorder_for(model))("patterns", 1)
    assert right.status == "verified"
    assert str(dtype).removeprefix("torch.") in right.within
    attention_hook = model.model.layers[1].self_attn
    forward = attention_hook.forward
    attention_hook.forward = lambda *args, **options: (
        (out := forward(*args, **options))[0] * factor,
        *out[1:],
    )
    verdict = verify(recorder_for(model))("patterns", 1)
    assert verdict.status == "refused"
    assert "scale" in verdict.reason


def test_the_bound_of_half_precision_is_on_the_figure(tmp_path):
    from llmscope.draw import RenderOptions
    from llmscope.export import render

    small_model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    scope = llmscope.load(str(tmp_path), dtype="bfloat16")
    scope.record(IDS)
    figure = scope.look("attention", layer=1)
    assert "bfloat16" in figure.to_dict()["verdict"]["within"]
    assert "verified within 0.031, scale within 0.002, in bfloat16" in render(
        [figure], "txt", size=(140, 20), look=RenderOptions()
    )

"""Models with several residual streams: what their own head reads after each layer, by hand."""

import pytest
import torch

from llmscope.errors import ScopeError
from tests.all_families import small_model
from tests.family_matrix import BEFORE, IDS, scope_of

FAMILIES = ("deepseek_v4", "qwen4_exp_text")


def streams_by_hand(plain):
    """Return what each layer of a plain model passes on, the embedding first. [row, stream, width]

    The output of the last layer comes last.
    """
    streams = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append(
                (args[0] if args else kwargs["hidden_states"])[0].clone()
            ),
            with_kwargs=True,
        )
        for layer in plain.model.layers
    ]
    last = plain.model.layers[-1].register_forward_hook(
        lambda _, args, output: streams.append(output[0].clone())
    )
    with torch.no_grad():
        plain(input_ids=torch.tensor([IDS]), use_cache=False)
    for hook in (*hooks, last):
        hook.remove()
    return [
        stream.unflatten(-1, (-1, plain.config.hidden_size)) if stream.dim() == 2 else stream
        for stream in streams
    ]


def logits_by_hand(plain, streams):
    """Return what the model's own head reads of its streams. [row, token]"""
    with torch.no_grad():
        if hasattr(plain.model, "hc_head"):
            hidden = plain.model.norm(plain.model.hc_head(streams[None]))
        else:
            hidden = plain.model.hyper_connection_mixer(streams[None].flatten(2))
        return plain.lm_head(hidden)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logit_lens_reads_the_streams_as_the_models_head_mixes_them(family):
    plain = small_model(family).eval()
    scope = scope_of(family)
    scope.record(IDS[:BEFORE])
    recording = scope.record(IDS)
    assert recording.streams == 4
    assert scope.verdicts("readout").status == "verified"
    streams = streams_by_hand(plain)
    assert float((streams[1][:, 0] - streams[1][:, 1]).abs().max()) > 1e-3  # they are not alike
    probability = scope.look("logit-lens", mode="target", target="id:5").values  # [layer, token]
    by_hand = torch.stack(
        [torch.softmax(logits_by_hand(plain, stream).double(), -1)[:, 5] for stream in streams]
    )
    shown = torch.tensor(probability.copy())
    assert shown.shape == by_hand.shape
    assert float((shown - by_hand).abs().max()) < 1e-6 * float(by_hand.max()) + 1e-7
    assert float((by_hand[0] - by_hand[-1]).abs().max()) > 1e-4  # the layers differ


@pytest.mark.parametrize("family", FAMILIES)
def test_each_stream_is_read_as_if_all_were_this_one(family):
    plain = small_model(family).eval()
    scope = scope_of(family)
    scope.record(IDS)
    figure = scope.look("logit-lens", mode="lenses", position=6)
    assert figure.axes[1].labels == ("logit", *(f"stream {index}" for index in range(4)))
    by_hand = [
        [
            logits_by_hand(plain, streams)[6],
            *(logits_by_hand(plain, streams[:, [index] * 4])[6] for index in range(4)),
        ]
        for streams in streams_by_hand(plain)
    ]
    chances = torch.stack([torch.stack(row) for row in by_hand]).double().softmax(-1).max(-1)
    assert figure.extra["ids"].tolist() == chances.indices.tolist()
    shown = torch.tensor(figure.values.copy())
    assert float((shown - chances.values).abs().max()) < 1e-6
    assert float((shown[1:, 1] - shown[1:, 2]).abs().max()) > 1e-6  # each has its own


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_streams_do_not_allow_is_refused_with_its_reason(family):
    scope = scope_of(family)
    scope.record(IDS)
    figure = scope.look("attribution")
    assert figure.verdict.status == "refused"
    assert "mixes them in each layer: nothing is merely added" in figure.verdict.reason
    for edit, reason in (
        ("zero layer 1 @2", "nothing is merely added"),
        ("steer 1 token id:5 1", "none of them is its stream"),
    ):
        with pytest.raises(ScopeError, match=reason):
            scope.record(IDS, edits=[edit])


def test_the_walkthrough_says_why_a_layer_is_not_traced():
    scope = scope_of("qwen4_exp_text")
    scope.record(IDS)
    figure = scope.look("walkthrough")
    assert figure.verdict.status == "partial"
    assert any("mixes them in each layer" in str(step) for step in figure.extra["steps"])

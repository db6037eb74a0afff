"""The contrast lens, against plain transformers: two prompts, each run by a model of its own."""

import json

import numpy as np
import pytest
import torch

from llmscope.draw import RenderOptions, paint
from llmscope.export import json_text
from llmscope.figure import Focus
from llmscope.lenses import lens
from llmscope.record.compare import pair
from tests.families import small_model
from tests.lenses import hooks
from tests.lenses.hooks import layers_of, scope_of

# The second 17 is only in A, 9 and 31 only in B; nothing stands where it stands in the other.
A = [5, 17, 3, 60, 17, 42, 8]
B = [5, 17, 9, 31, 3, 60, 42, 8]
PAIRS = [(0, 0), (1, 1), (2, 4), (3, 5), (5, 6), (6, 7)]
ALONE = [4], [2, 3]
WORDS = ((11, 40, 7), (90, 2))
FAMILIES = ("llama", "gpt2", "gemma2", "mixtral", "gpt_neox")
MODES = lens("contrast").modes
COSINES = ("word", "cosine", "centred")


class Plain:
    """A prompt in plain eager transformers.

    streams: before each layer and after the last, [layer + 1, position, width]; the norm of
    hidden_states[-1] is not in them.
    """

    def __init__(self, family, ids):
        self.ids, self.model = ids, small_model(family)
        self.model.set_attn_implementation("eager")
        found = []
        layers = layers_of(self.model, family)
        layers[-1].register_forward_hook(lambda _, args, output: found.append(hooks.first(output)))
        with torch.no_grad():
            output = self.model(
                input_ids=torch.tensor([ids]), output_attentions=True, output_hidden_states=True
            )
        streams = [*output.hidden_states[:-1], found[0]]
        self.streams = torch.cat([one.reshape(1, len(ids), -1) for one in streams]).double().numpy()
        self.logits = output.logits[0].double().numpy()
        self.attentions = torch.cat(output.attentions).double().numpy()  # [layer, head, query, key]

    def probabilities(self, position):
        exponentials = np.exp(self.logits[position] - self.logits[position].max())
        return exponentials / exponentials.sum()


@pytest.fixture(scope="module", params=FAMILIES)
def both(request):
    scope = scope_of(request.param)
    scope.record(A)
    return scope, Plain(request.param, A), Plain(request.param, B)


@pytest.fixture(scope="module")
def llama():
    return scope_of("llama")


def look(scope, mode, position=-1, ids=B, **focus):
    return scope.look("contrast", mode=mode, position=position, versus_prompt=tuple(ids), **focus)


def cosine(x, y):
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def kl(p, q):
    return float((p * (np.log(p) - np.log(q))).sum())


def test_kl_of_the_predictions_both_ways(both):
    scope, one, other = both
    figure = look(scope, "kl")
    assert figure.axes[0].labels == tuple(map(str, A))
    assert figure.axes[1].labels == ("KL(A‖B)", "KL(B‖A)")
    assert (figure.unit, figure.verdict.status) == ("nats", "verified")
    assert figure.extra["aligned"].tolist() == [list(pair) for pair in PAIRS]
    for a, b in PAIRS:
        p, q = one.probabilities(a), other.probabilities(b)
        assert figure.values[a] == pytest.approx([kl(p, q), kl(q, p)], rel=1e-4, abs=1e-6)
    assert np.isnan(figure.values[ALONE[0]]).all()
    assert figure.values[2:, 0][[0, 1, 3, 4]].min() > 1e-3  # there is something to tell apart


def test_the_tokens_whose_probability_differs_most(both):
    scope, one, other = both
    extra = look(scope, "kl", position=3, top_k=4).extra
    p, q = one.probabilities(3), other.probabilities(5)
    order = np.argsort(-abs(p - q))[:4]
    assert extra["changed_ids"].tolist() == order.tolist()
    assert extra["changed_probability"] == pytest.approx(np.stack([p, q])[:, order], abs=1e-5)
    assert extra["changed"] == tuple(map(str, order))
    assert "changed" not in look(scope, "kl", position=4).extra


@pytest.mark.parametrize("mode", ["cosine", "centred"])
def test_cosines_of_the_streams_and_of_different_tokens(both, mode):
    scope, one, other = both
    figure = look(scope, mode)
    assert figure.axes[0].labels == ("embed", "0", "1", "2")
    for layer in range(4):
        streams = [plain.streams[layer] for plain in (one, other)]
        rest = [
            (token, stream)
            for plain, some in ((A, streams[0]), (B, streams[1]))
            for token, stream in list(zip(plain, some, strict=True))[1:]
        ]
        mean = np.mean([stream for _, stream in rest], 0) if mode == "centred" else 0.0
        for a, b in PAIRS:
            expected = cosine(streams[0][a] - mean, streams[1][b] - mean)
            assert figure.values[layer, a] == pytest.approx(expected, abs=2e-5)
        different = [
            cosine(x - mean, y - mean)
            for i, (token, x) in enumerate(rest)
            for other_token, y in rest[:i]
            if token != other_token
        ]
        assert figure.extra["baseline"][layer] == pytest.approx(np.mean(different), abs=2e-5)
    assert np.isnan(figure.values[:, ALONE[0]]).all()


def test_one_word_beside_the_baseline(both):
    scope = both[0]
    figure = look(scope, "word", position=3)
    raw, centred = look(scope, "cosine"), look(scope, "centred")
    expected = [raw.values[:, 3], raw.extra["baseline"], centred.values[:, 3]]
    assert figure.values == pytest.approx(np.stack(expected))
    assert (figure.kind, figure.axes[1].labels) == ("lines", ("embed", "0", "1", "2"))


def test_lists_of_words_in_the_logit_lens(both):
    scope, one, other = both
    figure = look(scope, "lens", position=5, words=WORDS)
    for row, (plain, place) in enumerate(((one, 5), (other, 6))):
        scores = plain.logits[place]
        expected = scores[list(WORDS[0])].mean() - scores[list(WORDS[1])].mean()
        assert figure.values[row, -1] == pytest.approx(expected, abs=1e-4)
    extra = figure.extra
    assert extra["words"] == (("11", "40", "7"), ("90", "2"))
    assert extra["difference"] == pytest.approx(figure.values[0] - figure.values[1])
    assert figure.values[0, 0] == pytest.approx(figure.values[1, 0], abs=1e-5) or (
        type(one.model).__name__ == "GPT2LMHeadModel"  # its embedding knows the place as well
    )


def test_earlier_layers_are_read_like_the_last(llama):
    llama.record(A)
    figure = look(llama, "lens", position=5, words=WORDS)
    for row, (plain, place) in enumerate(((Plain("llama", A), 5), (Plain("llama", B), 6))):
        model = plain.model
        with torch.no_grad():
            streams = torch.from_numpy(plain.streams[:, place]).float()
            scores = model.lm_head(model.model.norm(streams)).double()
        expected = scores[:, list(WORDS[0])].mean(1) - scores[:, list(WORDS[1])].mean(1)
        assert figure.values[row] == pytest.approx(expected.numpy(), abs=1e-4)
    signs = np.sign(figure.extra["difference"][::-1])
    kept = next((i for i, sign in enumerate(signs) if sign != signs[0]), 4)
    assert figure.extra["parting"] == ("embed", "0", "1", "2")[4 - kept]


def test_words_that_nobody_gave_are_what_each_says_more_often(llama):
    llama.record(A)
    extra = look(llama, "lens", position=3).extra
    p, q = Plain("llama", A).probabilities(3), Plain("llama", B).probabilities(5)
    order = np.argsort(p - q)
    assert extra["words_ids"] == (tuple(order[::-1][:5]), tuple(order[:5]))
    assert (extra["given"], extra["difference"][-1] > 0) == (False, True)


def test_attention_to_what_the_other_does_not_have(both):
    scope, one, other = both
    figure = look(scope, "attention", position=5)
    looks = [
        plain.attentions[:, :, place][..., alone]
        for plain, place, alone in ((one, 5, ALONE[0]), (other, 6, ALONE[1]))
    ]
    assert figure.values == pytest.approx(looks[0].max(-1), abs=1e-5)
    assert figure.extra["weights"] == pytest.approx(np.stack([x.max(-1) for x in looks]), abs=1e-5)
    assert figure.extra["cues"][1].tolist() == (np.array(ALONE[1])[looks[1].argmax(-1)]).tolist()
    difference = look(scope, "attention-difference", position=5)
    expected = looks[0].max(-1) - looks[1].max(-1)
    assert difference.values == pytest.approx(expected, abs=2e-5)
    assert (figure.unit, figure.verdict.status) == ("probability", "verified")


def test_a_sink_is_no_cue(llama):
    """The first token is where heads rest, whether the other prompt has it or not."""
    llama.record([71, *A[1:]])
    figure = look(llama, "attention", position=3)
    assert 0 not in figure.extra["cues"][0]
    assert (figure.values == 0).all()
    assert (figure.extra["weights"][1] > 0).any()


@pytest.mark.parametrize("fresh", [True, False])
def test_a_prompt_differs_in_nothing_from_itself(llama, fresh):
    llama.record(A[:3])
    llama.record(A, fresh=fresh)
    assert (look(llama, "kl", ids=A).values == 0).all()
    for mode in ("cosine", "centred"):
        assert look(llama, mode, ids=A).values == pytest.approx(1, abs=1e-6)
    curves = look(llama, "lens", ids=A, words=WORDS)
    assert (curves.extra["difference"] == 0).all()
    assert curves.extra["parting"] is None
    for mode in ("attention", "attention-difference"):
        assert (look(llama, mode, ids=A).values == 0).all()
    figure = look(llama, "kl", ids=A)
    assert figure.extra["caption"] == ("A and B are the same prompt",)
    assert not figure.extra["unseen"]


def test_swapped_prompts_swap_what_is_told_of_them(llama):
    here, there = (list(side) for side in zip(*PAIRS, strict=True))

    def told(mode, ids, other, position):
        llama.record(ids)
        words = {"words": WORDS} if mode == "lens" else {}
        return look(llama, mode, position=position, ids=other, **words)

    one, other = told("kl", A, B, 6), told("kl", B, A, 7)
    assert one.values[here] == pytest.approx(other.values[there][:, ::-1], rel=1e-4, abs=1e-7)
    for mode in ("cosine", "centred"):
        one, other = told(mode, A, B, 6), told(mode, B, A, 7)
        assert one.values[:, here] == pytest.approx(other.values[:, there], abs=1e-5)
        assert one.extra["baseline"] == pytest.approx(other.extra["baseline"], abs=1e-5)
    one, other = told("lens", A, B, 6), told("lens", B, A, 7)
    assert one.values == pytest.approx(other.values[::-1], abs=1e-4)
    one, other = told("attention-difference", A, B, 6), told("attention-difference", B, A, 7)
    assert one.values == pytest.approx(-other.values, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_later_cannot_be_seen(llama, mode):
    """Causality: up to where they differ the prompts are one, and every figure says so first."""
    llama.record([5, 17, 3, 60, 42])
    figure = look(llama, mode, position=2, ids=[5, 17, 3, 8, 42, 9])
    assert figure.extra["unseen"]
    assert figure.extra["caption"][0] == (
        "A and B are the same up to ‹3›: what differs comes later and cannot be seen here"
    )
    if mode == "kl":
        assert (figure.values[:3] == 0).all()
        assert figure.values[4].min() > 0
    elif mode == "lens":
        assert (figure.extra["difference"] == 0).all()
    elif mode in COSINES:
        seen = figure.values[[0, 2]] if mode == "word" else figure.values[:, :3]
        assert seen == pytest.approx(1, abs=1e-5)
    else:
        assert (figure.extra["weights"] == 0).all()
    seen = look(llama, mode, position=4, ids=[5, 17, 3, 8, 42, 9])
    assert not seen.extra["unseen"]
    assert not seen.extra["caption"][0].startswith("A and B are the same")


@pytest.mark.parametrize("mode", MODES)
def test_what_cannot_be_told_says_why(llama, mode):
    llama.record(A)
    assert "no prompt B" in llama.look("contrast", mode=mode).verdict.reason
    apart = look(llama, mode, ids=[90, 91, 92])
    assert apart.verdict.status == "refused"
    assert "no token in common" in apart.verdict.reason
    lacking = look(llama, mode, position=4)
    if mode in ("kl", "cosine", "centred"):
        assert "‹17› at 4 is only in A" in lacking.extra["caption"]
    else:
        assert lacking.verdict.reason.startswith("prompt B does not have ‹17›")
        assert "‹60› at 3" in lacking.verdict.reason


@pytest.mark.parametrize(
    ("focus", "message"),
    [
        ({"ids": [5, 96]}, "token 96 is out of range"),
        ({"words": ((5,), (96,))}, "token 96 is out of range"),
        ({"words": ((), (5,))}, "a list of words is empty"),
    ],
)
def test_what_does_not_exist_raises(llama, focus, message):
    llama.record(A)
    with pytest.raises(ValueError, match=message):
        look(llama, "lens", **focus)


def test_an_edited_pass_against_the_same_prompt_shows_what_the_edit_did():
    scope, model = scope_of("llama"), small_model("llama")
    scope.record(A, edits=["zero mlp 1"])
    figure = look(scope, "kl", position=3, ids=A)
    mlp = layers_of(model, "llama")[1].mlp
    edit = (mlp, torch.zeros_like, False)
    for position in (0, 3, 6):
        own = hooks.logits(model, A, edit, position=position)
        plain = hooks.logits(model, A, position=position)
        both = hooks.divergence(own, plain), hooks.divergence(plain, own)
        assert figure.values[position] == pytest.approx(both, rel=1e-4, abs=1e-6)
    assert not figure.extra["unseen"]
    assert figure.extra["same"] == 0
    # Nothing of it is left with the unedited pass, which shares what the edit does not reach.
    scope.record(A)
    assert (look(scope, "kl", ids=A).values == 0).all()


def test_the_last_layer_is_read_with_a_norm_that_an_edit_holds_still():
    scope = scope_of("llama")
    recording = scope.record(A, edits=["steer 0 token id:17 2", "freeze norm final"])
    figure = look(scope, "lens", ids=A, words=WORDS)
    scores = recording.logits.double()  # the model's own, of a pass with hooks
    expected = scores[list(WORDS[0])].mean() - scores[list(WORDS[1])].mean()
    assert figure.values[0, -1] == pytest.approx(float(expected), abs=1e-4)


def test_a_token_more_reads_one_row_more(llama, monkeypatch):
    llama.record(A, fresh=True)
    look(llama, "kl", ids=[*B, 33])
    rows = []
    scores = pair._scores
    monkeypatch.setattr(pair, "_scores", lambda one, run: rows.append(len(run)) or scores(one, run))
    assert np.isfinite(look(llama, "kl", ids=[*B, 33]).values[6]).all()
    assert rows == []
    llama.record([*A, 33])
    grown = look(llama, "kl", ids=[*B, 33])
    assert rows == [1, 1]
    fresh = scope_of("llama")
    fresh.record([*A, 33])
    expected = look(fresh, "kl", ids=[*B, 33]).values
    assert grown.values == pytest.approx(expected, rel=1e-4, abs=1e-7, nan_ok=True)


def test_what_is_near_the_focus_comes_first(llama):
    llama.record(A, fresh=True)
    focus = Focus(mode="kl", position=5, versus_prompt=tuple(B))
    first, *_, last = llama.figures("contrast", llama.latest, focus)
    known = np.flatnonzero(~np.isnan(first.values[:, 0])).tolist()
    assert known == [0, 1, 5, 6]
    assert np.flatnonzero(~np.isnan(last.values[:, 0])).tolist() == [a for a, _ in PAIRS]


@pytest.mark.parametrize(
    ("family", "layers"), [("lfm2", [1]), ("jamba", [1]), ("mamba", []), ("recurrent_gemma", [2])]
)
def test_layers_without_attention(family, layers):
    from tests.lenses.test_experts import scope_on

    scope = scope_on(family)
    scope.record(A)
    figure = look(scope, "attention")
    if layers:
        assert figure.verdict.status == "partial"
        assert np.flatnonzero(np.isfinite(figure.values).all(-1)).tolist() == layers
        assert "kinds" in figure.extra
    else:
        assert figure.verdict.status == "refused"
    assert (look(scope, "kl").values[2] > 0).all()
    assert np.isfinite(look(scope, "cosine").values[:, 2]).all()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_drawn_and_written(llama, mode):
    llama.record(A)
    figure = look(llama, mode, position=5)
    assert json.loads(json_text(figure.to_dict()))["extra"]["other_position"] == 6
    for width, height in ((100, 30), (24, 6), (1, 1)):
        painting = paint(figure, width, height, RenderOptions(), Focus(position=5))
        assert len(painting.rows) == height
    said = " ".join(figure.extra["caption"])
    assert "‹42› is token 5 of A and 6 of B" in said
    assert "only in A: ‹17› · only in B: ‹9› ‹31›" in said

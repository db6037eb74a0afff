"""Edits along the directions of a learned lens, against hooks written by hand."""

from dataclasses import replace

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.writer import write_lens
from llmscope.models.variants import Variants
from llmscope.record.change_hooks import Change, Swap
from llmscope.record.derive import tensors
from tests.families import small_model
from tests.record.by_hand import A, Plain, plus, times
from tests.record.interventions.test_edited import (
    ALL,
    EACH,
    HYBRID,
    WHERES,
    holds,
    most,
    near,
    scope_for,
)
from tests.record.test_edited_errors import worded

FAMILIES = most(*EACH, "olmo2", *HYBRID)
SOME = ("gpt2", "llama", "gemma2", "mamba")


def lens_of(kind="jacobian", streams=(1, 2), seed=5, width=48):
    """A lens with random maps; those of a tuned lens add the stream."""
    generator = torch.Generator().manual_seed(seed)
    maps = {
        stream: AffineMap(
            torch.randn(width, width, generator=generator) * 0.2,
            torch.randn(width, generator=generator) if kind == "tuned" else None,
            adds=kind == "tuned",
        )
        for stream in streams
    }
    return LearnedLens(kind, maps, width, 3, {})


def direction(plain, lens, stream, token):
    """The transposed linear part of the map, times the row of the unembedding."""
    row = plain.model.get_submodule(plain.places["unembed"]).weight[token].detach().double()
    if stream not in lens.maps:
        return row
    linear = lens.maps[stream].weight.double()
    if lens.kind == "tuned":
        linear = linear + torch.eye(len(row)).double()
    return linear.T @ row


def exchanged(rows, a, b):
    """An alteration: the two parts of the least squares fit to a and b change places."""

    def alter(tensor):
        stream = tensor[rows].double()
        both = torch.stack((a, b), dim=1)
        parts = torch.linalg.lstsq(both, stream.T).solution  # [2, row]
        rest = stream.T - both @ parts
        tensor[rows] = (rest + both @ parts.flip(0)).T.to(tensor.dtype)
        return tensor

    return alter


@pytest.fixture(scope="module")
def made():
    """A scope with a Jacobian lens, a plain model of its family, and the lens; made once."""
    kept = {}

    def of(family):
        if family not in kept:
            plain = Plain(family)
            lens = lens_of(width=plain.model.config.get_text_config().hidden_size)
            scope = scope_for(small_model(family))
            scope.translator = lens
            kept[family] = scope, plain, lens
        return kept[family]

    return of


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.few(3)
def test_a_direction_of_the_lens_steers(made, family):
    scope, plain, lens = made(family)
    for layer, stream in ((0, 1), (1, 2), (-1, 3), (-2, 2)):
        vector = direction(plain, lens, stream, 17).float()
        for where, rows in WHERES[:5]:
            own = plain.run(A, ("stream", stream, plus(rows, -2.5 * vector)))
            holds(scope, own, f"steer {layer} jlens id:17 -2.5 {where}")


@pytest.mark.few(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_two_tokens_are_swapped(made, family):
    scope, plain, lens = made(family)
    for layer, stream in ((0, 1), (1, 2), (-1, 3)):
        a, b = (direction(plain, lens, stream, token) for token in (17, 5))
        for where, rows in WHERES[:5]:
            own = plain.run(A, ("stream", stream, exchanged(rows, a, b)))
            holds(scope, own, f"swap {layer} id:17 id:5 {where}")


@pytest.mark.parametrize("family", SOME)
def test_a_tuned_lens_has_the_identity_in_its_map_and_reads_the_embedding(family):
    scope, plain = scope_for(small_model(family)), Plain(family)
    scope.translator = lens = lens_of("tuned", (0, 1, 2))
    for layer, stream in (("embed", 0), ("1", 2), ("2", 3)):
        a, b = (direction(plain, lens, stream, token) for token in (17, 5))
        own = plain.run(A, ("stream", stream, plus(slice(3, 13), 2 * a.float())))
        holds(scope, own, f"steer {layer} jlens id:17 2 @3..")
        own = plain.run(A, ("stream", stream, exchanged(slice(3, 13), a, b)))
        holds(scope, own, f"swap {layer} id:17 id:5 @3..")


def test_edits_are_made_in_their_order(made):
    scope, plain, lens = made("llama")
    a, b = (direction(plain, lens, 1, token) for token in (17, 5))
    steer, swap = ("stream", 1, plus(ALL, 3 * a.float())), ("stream", 1, exchanged(ALL, a, b))
    one, other = plain.run(A, steer, swap), plain.run(A, swap, steer)
    assert float((one - other).abs().max()) > 1e-3
    holds(scope, one, "steer 0 jlens id:17 3", "swap 0 id:17 id:5")
    holds(scope, other, "swap 0 id:17 id:5", "steer 0 jlens id:17 3")
    # Steering along one token and swapping is steering along the other.
    near(one, plain.run(A, swap, ("stream", 1, plus(ALL, 3 * b.float()))))


@pytest.mark.parametrize("family", SOME)
def test_a_swap_twice_is_none_and_leaves_what_is_orthogonal(made, family):
    scope, plain, lens = made(family)
    swap = "swap 0 id:17 id:5 @4.."
    recording = scope.record(A, edits=[swap])
    before, after = recording.base.rows("stream", 1), recording.rows("stream", 1)
    both = torch.stack([direction(plain, lens, 1, token) for token in (17, 5)], dim=1)
    parts = [both.pinverse() @ rows.double().T for rows in (before, after)]  # [2, row]
    assert torch.equal(before[:4], after[:4])
    near(parts[1][:, 4:], parts[0].flip(0)[:, 4:])
    near(after.double().T - both @ parts[1], before.double().T - both @ parts[0])
    assert float((after - before)[4:].abs().max()) > 1e-3
    twice = scope.record(A, edits=[swap, swap])
    near(twice.rows("stream", 1), before)
    near(tensors.logits(twice, 0, len(A)), plain.run(A))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_swap_is_computed_in_float32_and_rounded_once(dtype):
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 48, generator=generator)
    stream = torch.randn(2, 5, 48, generator=generator).to(dtype)
    change = Change("stream", 1, range(3, 6), swap=Swap.of(a, b))
    found = change.apply(stream, 2)  # the rows 2 to 6 of two prompts
    assert found.dtype == dtype
    own = stream.clone().double()
    for prompt in own:
        exchanged(slice(1, 4), a.double(), b.double())(prompt)
    assert torch.equal(found[:, [0, 4]], stream[:, [0, 4]])
    # Half of the last digit, and what float32 rounds.
    bound = torch.finfo(dtype).eps / 2 * own.abs() + 1e-5
    assert bool(((found.double() - own).abs() <= bound).all())
    assert float((found.double() - stream.double())[:, 1:4].abs().max()) > 0.1


def test_other_lenses_are_used_from_the_next_recording_on(tmp_path):
    scope, plain = scope_for(small_model("llama")), Plain("llama")
    lenses = lens_of(seed=1), lens_of("tuned", (0, 1, 2), seed=2)

    def check(lens):
        a, b = (direction(plain, lens, 2, token) for token in (17, 5))
        holds(scope, plain.run(A, ("stream", 2, plus(ALL, 2 * a.float()))), "steer 1 jlens id:17 2")
        holds(scope, plain.run(A, ("stream", 2, exchanged(ALL, a, b))), "swap 1 id:17 id:5")
        holds(scope, plain.run(A, ("stream", 2, exchanged(ALL, a, b))), "swap 1 id:17 id:5")

    for lens in (*lenses, *lenses):
        scope.translator = lens
        assert scope.translator is lens
        check(lens)
    path = tmp_path / "lens.safetensors"
    for lens in lenses:  # the file is read again
        write_lens(lens, path, "float32")
        scope.translator = path
        assert scope.translator == str(path)
        check(lens)
    scope.translator = None
    for edit in ("steer 1 jlens id:17 2", "swap 1 id:17 id:5"):
        with pytest.raises(ScopeError, match="no Jacobian lens of test comes with it") as caught:
            scope.record(A, edits=[edit])
        assert "scope.translator" in caught.value.hint
    scope.translator = lenses[0]
    check(lenses[0])


@pytest.mark.parametrize("value", [3, b"x", ["x"], object()])
def test_nothing_else_is_a_lens(made, value):
    scope, _, lens = made("llama")
    with pytest.raises(TypeError, match="translator"):
        scope.translator = value
    assert scope.translator is lens


def test_an_adapter_has_the_lens_of_its_base_unless_it_has_its_own():
    scope, plain = scope_for(small_model("llama")), Plain("llama")
    base = scope.base
    scope.add(replace(base, adapter="x", origin=base, adapted=Variants()))
    scope.use("x")
    for lens in (lens_of(seed=1), lens_of(seed=2)):
        scope.translator = lens
        own = plain.run(A, ("stream", 1, plus(ALL, direction(plain, lens, 1, 17).float())))
        holds(scope, own, "steer 0 jlens id:17 1")
    scope.loaded_model.translator = lens = lens_of(seed=3)
    own = plain.run(A, ("stream", 1, plus(ALL, direction(plain, lens, 1, 17).float())))
    holds(scope, own, "steer 0 jlens id:17 1")


def narrow(lens, stream, row):
    """The lens with a map at a stream whose matrix is filled with a row, so that it has rank 1."""
    maps = {**lens.maps, stream: AffineMap(row.expand(48, 48).clone())}
    return replace(lens, maps=maps)


WRONG = {
    "steer embed jlens id:17 1": ("no map of the stream before the first layer", "1 to 2"),
    "steer 0 jlens id:17 0": ("the lens has no map of the stream after layer 0", "1 to 2"),
    "swap -3 id:17 id:5": ("the lens has no map of the stream after layer 0", "1 to 2"),
    "swap 3 id:17 id:5": ("there is no layer 3", "0 to 2"),
    "swap 1 id:17 id:5 @13": ("there is no token 13", "0 to 12"),
    "swap 1 id:17 id:17": ("it swaps a token with itself", "two tokens"),
    "swap 1 id:17 id:96": ("96 is no id", "id:95"),
    "steer 1 jlens id:96 1": ("96 is no id", "id:95"),
    "steer 1 jlens x 1": ("has no tokenizer", "id:NUMBER"),
}


@pytest.mark.parametrize("edit", WRONG)
def test_what_does_not_fit_is_refused(edit):
    scope = scope_for(small_model("llama"))
    scope.translator = lens_of(streams=(2,))
    message, hint = WRONG[edit]
    with pytest.raises(ScopeError) as caught:
        scope.record(A, edits=[edit])
    assert message in caught.value.message
    assert caught.value.message.startswith(f"{edit}: ")
    assert hint in caught.value.hint


def test_tokens_are_named_by_their_texts(made):
    scope, (_, plain, lens) = scope_for(small_model("llama"), worded()), made("llama")
    scope.translator = lens
    a, b = (direction(plain, lens, 2, token) for token in (17, 5))
    holds(scope, plain.run(A, ("stream", 2, exchanged(ALL, a, b))), "swap 1 w17 w5")
    holds(scope, plain.run(A, ("stream", 2, plus(ALL, 2 * b.float()))), "steer 1 jlens w5 2")
    with pytest.raises(ScopeError, match="it swaps a token with itself"):
        scope.record(A, edits=["swap 1 w17 id:17"])
    with pytest.raises(ScopeError, match="is not one token but 2"):
        scope.record(A, edits=["swap 1 w17 'w1 w2'"])


def test_a_lens_of_another_model_is_refused(made):
    scope = scope_for(small_model("llama"))
    for lens, reason in (
        (lens_of(width=32), "width 32"),
        (replace(lens_of(), layers=7), "7 layers"),
        (replace(lens_of(), about={"model_name": "org/other"}), "org/other"),
        ("nowhere.pt", "nowhere.pt"),
    ):
        scope.translator = lens
        for edit in ("steer 1 jlens id:17 1", "swap 1 id:17 id:5"):
            with pytest.raises(ScopeError, match=reason) as caught:
                scope.record(A, edits=[edit])
            assert caught.value.message.startswith(f"{edit}: ")
            assert caught.value.hint


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (torch.zeros(48), "the direction of the token 'id:17' is zero"),
        (torch.full((48,), torch.nan), "'id:17' is not finite"),
        (torch.full((48,), torch.inf), "'id:17' is not finite"),
    ],
)
def test_directions_that_are_none_are_refused(row, reason):
    scope = scope_for(small_model("llama"))
    scope.translator = narrow(lens_of(), 1, row)
    for edit in ("steer 0 jlens id:17 1", "swap 0 id:17 id:5"):
        with pytest.raises(ScopeError, match=reason):
            scope.record(A, edits=[edit])
    scope.record(A, edits=["swap 1 id:17 id:5"])  # there they are some


def test_parallel_directions_are_not_swapped():
    scope = scope_for(small_model("llama"))
    one = torch.randn(48, generator=torch.Generator().manual_seed(2))
    other = torch.randn(48, 48, generator=torch.Generator().manual_seed(3))
    scope.record(A)
    for share, refused in ((0.0, True), (1e-6, True), (1e-4, True), (0.5, False)):
        maps = {2: AffineMap(one.expand(48, 48) + share * other)}
        scope.translator = LearnedLens("jacobian", maps, 48, 3, {})
        scope.record(A, edits=["steer 1 jlens id:17 1"])
        if refused:
            with pytest.raises(ScopeError, match="too nearly parallel") as caught:
                scope.record(A, edits=["swap 1 id:17 id:5"])
            assert "another layer" in caught.value.hint
        else:
            scope.record(A, edits=["swap 1 id:17 id:5"])


def test_only_rows_that_are_reached_run_and_earlier_ones_are_reused(made):
    scope, plain, lens = made("llama")
    a, b = (direction(plain, lens, 2, token) for token in (17, 5))
    edits = ["swap 1 id:17 id:5 @3..", "steer 1 jlens id:17 2 @5"]
    longer = [*A, 3]
    for ids in (A[:9], A, longer):
        recording = scope.record(ids, edits=edits)
        own = plain.run(
            ids,
            ("stream", 2, exchanged(slice(3, None), a, b)),
            ("stream", 2, plus(slice(5, 6), 2 * a.float())),
        )
        near(tensors.logits(recording, 0, len(ids)), own)
    assert recording.reused == len(A)
    together = scope.record([A, longer], edits=edits)
    near(tensors.logits(together[1], 0, len(longer)), own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_last_in_every_pass_of_the_model(dtype):
    model = small_model("llama").to(dtype)
    scope, plain = scope_for(model), Plain("llama", small_model("llama").to(dtype))
    scope.translator = lens = lens_of()
    a, b = (direction(plain, lens, 2, token) for token in (17, 5))
    with scope.editing(["swap 1 id:17 id:5"]) as edited, torch.no_grad():
        found = edited(input_ids=torch.tensor([A, A[::-1]])).logits.float()
    bound = 1e-5 if dtype == torch.float32 else 0.05
    for ids, logits in zip((A, A[::-1]), found, strict=True):
        near(logits, plain.run(ids, ("stream", 2, exchanged(ALL, a, b))), bound)
    with scope.editing(["steer 1 jlens id:17 4"]) as edited, torch.no_grad():
        found = edited(input_ids=torch.tensor([A])).logits[0].float()
    near(found, plain.run(A, ("stream", 2, plus(ALL, (4 * a).to(dtype)))), bound)
    for edit in ("swap 1 id:17 id:5 @-1", "steer 1 jlens id:17 4 @3.."):
        with pytest.raises(ScopeError, match="depends on the prompt"), scope.editing([edit]):
            pass


@pytest.mark.few(4)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "granite"])
@pytest.mark.parametrize("edit", ["swap 0 id:17 id:5", "steer 0 jlens id:17 -2 @3.."])
def test_lenses_tell_of_the_pass_with_a_swap(made, family, edit):
    scope, plain, lens = made(family)
    recording = scope.record(A, edits=[edit])
    own = tensors.logits(recording, 12, 13)[0]
    for mode in ("parts", "heads", "layers", "neurons"):
        inside = {"layer": 1} if mode == "neurons" else {}
        figure = scope.look("attribution", target=31, mode=mode, **inside)
        assert figure.verdict.status == "verified", figure.verdict
        assert figure.extra["sum"] == pytest.approx(figure.extra["logit"], rel=1e-4, abs=1e-4)
    figure = scope.look("attribution", target=31, top_k=99)
    assert "edit" in figure.extra["kinds"]
    figure = scope.look("logit-lens", mode="target", target=31)
    assert figure.values[-1, -1] == pytest.approx(float(own.softmax(-1)[31]), rel=1e-4, abs=1e-6)
    # Passes of a sweep are edited as well: without head 1.2, by hand.
    a, b = (direction(plain, lens, 1, token) for token in (17, 5))
    alter = exchanged(ALL, a, b) if edit.startswith("swap") else plus(slice(3, 13), -2 * a.float())
    without = plain.run(A, ("stream", 1, alter), ("heads", 1, times(ALL, plain.head(2), 0.0)))[-1]
    figure = scope.look("ablation", mode="heads", target=31)
    assert figure.verdict.status == "verified"
    change = float(without[31] - own[31])
    assert figure.values[1, 2] == pytest.approx(change, rel=1e-3, abs=1e-4)

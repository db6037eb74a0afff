"""How a context's update and its use grow: whole matrices and plain passes, in float64."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.context.split import MOST_PARTS, example_ends, parts_of, query_of, query_start
from llmscope.record.context.trajectory import trajectory
from llmscope.scope.scope import Scope
from tests.families import small_model

IDS = (5, 17, 3, 60, 17, 42, 8, 33, 71, 9, 80)
BEFORE = 8
LABELS = ("a", "b", "\n", "c", "d", "\n", "e", "f", "g", "h", "i")
LINES = (3, 6, 8)
ANSWER = (12, 40, 12)
FIRSTS = {
    "gpt2": ("transformer.h", ("c_fc",)),
    "llama": ("model.layers", ("gate_proj", "up_proj")),
    "phi3": ("model.layers", ("gate_up_proj",)),
}


def scope_on(family, **changes):
    """A scope on a small model in float64, with a prompt of lines recorded."""
    model = small_model(family, **changes)
    if family != "mixtral":  # torch multiplies its experts in no more than float32
        model = model.double()
    weight = next(model.parameters())
    scope = Scope(
        LoadedModel("test", "test", model, None, find(model), weight.device, weight.dtype)
    )
    recording = scope.record(IDS)
    scope.latest = replace(recording, prompt=replace(recording.prompt, labels=LABELS))
    return scope


def built(scope, family, index, ends):
    """ΔW of a layer after no context and after each prefix, as matrices, and W. [output, input]"""
    folder, names = FIRSTS[family]
    mlp = scope.model.get_submodule(f"{folder}.{index}.mlp")
    seen = []
    hook = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1]))
    with torch.no_grad():
        for end in (0, *ends):
            scope.model(torch.tensor([IDS[:end] + IDS[BEFORE:]]), use_cache=False)
    hook.remove()
    found = [mlp.get_submodule(name).weight.detach() for name in names]
    weight = torch.cat([one.T if family == "gpt2" else one for one in found])
    z0 = seen[0]
    return [torch.outer(weight @ (z - z0), z0) / (z0 @ z0) for z in seen], weight


def cosine(one, other):
    return float((one * other).sum() / (one.norm() * other.norm()))


@pytest.mark.few(3)
@pytest.mark.parametrize("family", FIRSTS)
@pytest.mark.parametrize(("mode", "ends"), [("tokens", tuple(range(1, 9))), ("lines", LINES)])
def test_the_trajectory_from_whole_updates(family, mode, ends):
    scope = scope_on(family)
    figure = scope.look("context", context=BEFORE, mode=mode)
    assert figure.extra["ends"] == ends
    assert figure.axes[1].labels[0] == ("a" if mode == "tokens" else "ab\n")
    for index in range(3):
        updates, weight = built(scope, family, index, ends)
        moves = [after - before for before, after in pairwise(updates)]
        expected = {
            "update_norm": [float(one.norm() / weight.norm()) for one in updates[1:]],
            "cosine": [np.nan, *(cosine(b, a) for a, b in pairwise(updates[1:]))],
            "step_cosine": [np.nan, *(cosine(b, a) for a, b in pairwise(moves))],
        }
        steps = [float(one.norm() / weight.norm()) for one in moves]
        assert figure.values[index].tolist() == pytest.approx(steps, rel=1e-5)
        for name, numbers in expected.items():
            found = figure.extra[name][index].tolist()
            assert found == pytest.approx(numbers, rel=1e-5, abs=1e-6, nan_ok=True), name
    # Some steps take back what the one before did: a cosine that only ever is positive is none.
    if mode == "tokens":
        assert np.nanmin(figure.extra["step_cosine"]) < -0.1


def test_a_direction_that_is_rounding_alone_is_none():
    """Beside the attention of their own layer, the first layer's MLP sees nothing of a context."""
    figure = scope_on("gpt_neox").look("context", context=BEFORE, mode="tokens")
    assert figure.extra["update_norm"][0].max() < 1e-12
    assert np.isnan(figure.extra["cosine"][0]).all()
    assert np.isnan(figure.extra["step_cosine"][0]).all()
    assert np.isfinite(figure.extra["cosine"][1:, 1:]).all()


def test_it_comes_prefix_by_prefix():
    scope = scope_on("llama")
    query = query_of(scope.latest.prompt, BEFORE)
    *earlier, whole = trajectory(scope.latest, query, LINES)
    assert [int(one.sizes.isfinite().sum()) for one in earlier] == [3, 6]
    for count, one in enumerate(earlier, 1):
        for name in ("sizes", "steps", "cosines", "step_cosines"):
            part, full = getattr(one, name)[:, :count], getattr(whole, name)[:, :count]
            assert torch.equal(part.nan_to_num(9), full.nan_to_num(9))


def test_layers_without_an_mlp_have_none():
    scope = scope_on("mamba")
    figure = scope.look("context", context=BEFORE, mode="lines")
    assert np.isnan(figure.values).all()
    assert "mixture" in scope_on("mixtral").look("context", mode="lines").verdict.reason


def bits(model, ids, answer):
    """−log₂ p of each token of an answer, one pass of plain transformers for each."""
    found = []
    for count, token in enumerate(answer):
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *answer[:count]]]), use_cache=False).logits[0, -1]
        found.append(-float(torch.log2(logits.double().softmax(-1)[token])))
    return found


@pytest.mark.parametrize("family", ["gpt2", "llama", "mixtral", "mamba", "gemma2"])
def test_the_gain_from_plain_passes(family):
    scope = scope_on(family)
    before = scope.latest
    figure = scope.look("context", context=BEFORE, mode="gain", answer=ANSWER)
    assert scope.latest is before
    assert (figure.kind, figure.unit) == ("lines", "bits")
    assert [(axis.name, axis.labels) for axis in figure.axes] == [
        ("examples", ("0", "1", "2", "3"))
    ]
    assert figure.extra["ends"] == (0, *LINES)
    assert figure.extra["answer_ids"] == ANSWER
    assert figure.extra["answer"] == "12 40 12"
    expected = [bits(scope.model, IDS[:end] + IDS[BEFORE:], ANSWER) for end in (0, *LINES)]
    assert figure.extra["tokens"] == pytest.approx(np.array(expected), rel=1e-5)
    assert figure.values == pytest.approx(np.array(expected).sum(1), rel=1e-5)
    assert np.ptp(figure.values) > 1e-3  # the examples do something
    # The recording stands: what goes on from it runs the new token alone.
    if family in ("gpt2", "llama"):
        assert scope.record((*IDS, 7)).ran == 1


def test_which_answer_is_meant():
    scope = scope_on("llama")
    with torch.no_grad():
        top = int(scope.model(torch.tensor([IDS])).logits[0, -1].argmax())
    ask = {"context": BEFORE, "mode": "gain"}
    assert scope.look("context", **ask).extra["answer_ids"] == (top,)
    assert scope.look("context", target=3, **ask).extra["answer_ids"] == (3,)
    assert scope.look("context", target=3, answer=(4, 5), **ask).extra["answer_ids"] == (4, 5)
    for answer in ((), (96,), (-1,)):
        with pytest.raises(ValueError, match="answer"):
            scope.look("context", answer=answer, **ask)


def test_special_tokens_stay_and_an_answer_must_fit():
    scope = scope_on("gpt2", max_position_embeddings=12)
    prompt = replace(scope.latest.prompt, special=(True, *(False,) * (len(IDS) - 1)))
    scope.latest = replace(scope.latest, prompt=prompt)
    figure = scope.look("context", context=BEFORE, mode="gain", answer=ANSWER[:2])
    assert figure.extra["ends"] == (1, *LINES)
    expected = sum(bits(scope.model, IDS[:1] + IDS[BEFORE:], ANSWER[:2]))
    assert float(figure.values[0]) == pytest.approx(expected, rel=1e-5)
    refused = scope.look("context", context=BEFORE, mode="gain", answer=ANSWER)
    assert "13 tokens, and the model's context holds 12" in refused.verdict.reason


@pytest.mark.parametrize(
    ("text", "examples"),
    [
        ("a\nb.\nc", ["a\n", "b.\n", "c"]),
        ("a\r\nb\n", ["a\r\n", "b\n"]),
        ("no line end", ["no line end"]),
        ("\n", ["\n"]),
        ("\n\na\nb\n\n", ["\n\na\n", "b\n\n"]),  # blank lines around lines are no example
        ("\nQ\nA\n\nQ\nB\n", ["\nQ\nA\n", "\nQ\nB\n"]),  # as the next one, the query begins so
        ("Q\nA\n\nQ\nB\n\n", ["Q\nA\n\n", "Q\nB\n\n"]),
        ("Q\nA\n \t\n\nQ\nB", ["Q\nA\n", " \t\n\nQ\nB"]),
    ],
)
def test_what_an_example_is(text, examples):
    assert cut(text, "query") == examples


def test_an_example_has_as_many_lines_as_the_query():
    assert cut("Q\nA\nQ\nB\n", "Q\nC") == ["Q\nA\n", "Q\nB\n"]
    assert cut("Q\nA\nQ\nB", "\nQ\nC\n") == ["Q\nA\n", "Q\nB"]
    assert cut("H\nQ\nA\n", "Q\nC") == ["H\n", "Q\n", "A\n"]  # no such examples
    assert cut("Q\nA\n", "Q\nB") == ["Q\nA\n"]


def cut(text, query):
    """The examples of a context whose tokens are its characters, after a special one."""
    ends = example_ends(("<s>", *text, *query), 1, 1 + len(text))
    return [text[start - 1 : end - 1] for start, end in pairwise((1, *ends))]


def test_an_example_ends_with_the_token_that_holds_its_end():
    assert example_ends(("a", ".\n\n", "b", "\n", "c"), 0, 4) == (2, 4)
    assert example_ends(("a", ".\n\nb", "\n", "c"), 0, 3) == (2, 3)


def parts(text):
    """The query of a text whose tokens are its characters, after a special one, and its parts."""
    labels = ("<s>", *text)
    before = query_start(labels, 1)
    found = parts_of(labels, 1, before)
    cuts = pairwise((1, *found.ends))
    return found.name, [text[start - 1 : end - 1] for start, end in cuts], text[before - 1 :]


def test_a_prompt_of_one_line_has_a_context_too():
    town = "cat -> kitten, dog -> puppy, cow ->"
    assert parts(town) == ("clause", ["cat -> kitten,", " dog -> puppy,"], " cow ->")
    assert parts("Who? Tom") == ("clause", ["Who?"], " Tom")
    capital = ["The", " capital", " of", " France"]
    assert parts("The capital of France is") == ("word", capital, " is")
    assert parts("CAB") == ("token", ["C", "A"], "B")
    assert parts("CAB\n") == ("token", ["C", "A", "B"], "\n")
    assert parts("Q A\nQ B\nQ") == ("example", ["Q A\n", "Q B\n"], "Q")
    assert query_start(("<s>", "C"), 1) is None


def test_parts_of_a_long_line_go_together_and_their_number_stays_true():
    labels = ("<s>", *(f" {word}" for word in range(100)))
    found = parts_of(labels, 1, query_start(labels, 1))
    assert (found.name, found.counts[-1], found.ends[-1]) == ("word", 99, 100)
    assert len(found.ends) <= MOST_PARTS
    assert [end - 1 for end in found.ends] == list(found.counts)

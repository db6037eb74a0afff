"""The lens `passages` against plain transformers, and where it finds passages."""

import copy
import re

import numpy as np
import pytest
import torch

import llmscope
from llmscope.draw import RenderOptions
from llmscope.export import render
from llmscope.lenses.passages.split import has_unread_roles, passages, written_answer
from llmscope.record.capture.recording import Prompt
from llmscope.record.context.passage_effects import attention_from, relative, update_of
from llmscope.record.derive.sentences import source_texts
from tests.lenses.hooks import IDS, scope_of
from tests.record.interventions.test_continuations import run_on

TEXT = (
    "Tom lives in the red house.\n\nAnna lives in the blue house.\n\nTom likes milk.\n\n"
    "Anna lives in the"
)


@pytest.fixture(scope="module")
def town():
    return llmscope.load("builtin:town", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def eager():
    scope = llmscope.load("builtin:town", device="cpu", dtype="float32")
    scope.model.set_attn_implementation("eager")
    return scope.model


def plain(model, ids, **options):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **options)


def spoken(model, ids, answer):
    """Log p of an answer, and the distribution where it begins, in float64."""
    logits = plain(model, [*ids, *answer[:-1]]).logits[0, -len(answer) :].double()
    all_of_them = logits.log_softmax(-1)
    return float(all_of_them[range(len(answer)), answer].sum()), all_of_them[0]


def test_a_row_is_the_prompt_without_the_passage(town, eager):
    recording = town.record(TEXT)
    ids = list(recording.prompt.ids)
    answer = (town.token(" tom"), town.token(" lives"))
    figure = town.look("passages", answer=answer)
    extra = figure.extra
    assert figure.verdict.status == "verified"
    assert [one.split()[0] for one in extra["texts"]] == ["Tom", "Anna", "Tom"]
    whole, p = spoken(eager, ids, answer)
    assert extra["log_p"] == pytest.approx(whole, abs=1e-4)
    for row, (start, stop) in enumerate(zip(extra["starts"], extra["stops"], strict=True)):
        without, q = spoken(eager, ids[:start] + ids[stop:], answer)
        assert figure.values[row] == pytest.approx(without - whole, abs=2e-4)
        assert extra["kl"][row] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-4)
    assert np.abs(figure.values).max() > 0.1  # there is something to tell apart
    assert extra["most"]["change"] == int(figure.values.argmin()) == extra["chosen"]


def test_attention_is_that_of_the_last_token_in_all_heads(town, eager):
    recording = town.record(TEXT)
    extra = town.look("passages").extra
    found = plain(eager, list(recording.prompt.ids), output_attentions=True).attentions
    mean = torch.stack(found)[:, 0, :, -1].double().mean((0, 1)).numpy()  # [key]
    assert extra["sink"] == pytest.approx(mean[0], abs=1e-5)
    for row, (start, stop) in enumerate(zip(extra["starts"], extra["stops"], strict=True)):
        own = mean[max(start, 1) : stop].sum()
        assert extra["attention"][row] == pytest.approx(own, abs=1e-5)
        assert extra["per_token"][row] == pytest.approx(own / (stop - start), abs=1e-6)


def entries(model, ids, layer):
    """The last rows of what a layer's MLP is added to, and of what it reads, in a plain pass."""
    caught = []
    block = model.model.layers[layer]
    hooks = [
        block.post_attention_layernorm.register_forward_pre_hook(
            lambda _, args: caught.append(args[0][0, -1])
        ),
        block.mlp.register_forward_pre_hook(lambda _, args: caught.append(args[0][0, -1])),
    ]
    plain(model, ids)
    for hook in hooks:
        hook.remove()
    return caught


def test_the_update_is_the_least_that_gives_the_answer_of_the_whole_prompt(town):
    """By hand, in float64: the weights are changed layer by layer, for the prompt without it."""
    ids = list(town.record(TEXT).prompt.ids)
    extra = town.look("passages").extra
    whole = llmscope.load("builtin:town", device="cpu", dtype="float32").model.double()
    for row, (start, stop) in enumerate(zip(extra["starts"], extra["stops"], strict=True)):
        rest = ids[:start] + ids[stop:]
        model = copy.deepcopy(whole)
        changes = weights = 0.0
        for layer, block in enumerate(model.model.layers):
            (u, z), (u0, z0) = entries(whole, ids, layer), entries(model, rest, layer)
            for matrix in (block.mlp.gate_proj.weight.data, block.mlp.up_proj.weight.data):
                change = torch.outer(matrix @ (z - z0), z0) / z0.square().sum()
                changes += float(change.square().sum())
                weights += float(matrix.square().sum())
                matrix += change
            block.mlp.register_forward_hook(lambda _, __, output, by=u - u0: output + by)
        own, patched = (plain(*one).logits[0, -1] for one in ((whole, ids), (model, rest)))
        assert float((own - patched).abs().max()) < 1e-9  # it stands for the passage
        assert extra["update"][row] == pytest.approx((changes / weights) ** 0.5, rel=1e-3)


def test_relative_norms_are_of_all_matrices_as_one():
    changes = [torch.randn(3, 4), torch.randn(5, 2)]
    weights = [torch.randn(3, 4), torch.randn(5, 2)]
    joined = [torch.cat([one.flatten() for one in some]).norm() for some in (changes, weights)]
    own = relative(*([float(one.norm()) for one in some] for some in (changes, weights)))
    assert own == pytest.approx(float(joined[0] / joined[1]), rel=1e-6)


def test_the_answer_is_the_models_own_or_the_target(town, eager):
    recording = town.record(TEXT)
    extra = town.look("passages").extra
    assert extra["answer_source"] == "model"
    ids = list(recording.prompt.ids)
    for token in extra["answer_ids"]:
        assert int(plain(eager, ids).logits[0, -1].argmax()) == token
        ids.append(token)
    target = town.look("passages", target=town.token(" cake")).extra
    assert (target["answer_ids"], target["answer_source"]) == ((town.token(" cake"),), "given")


@pytest.mark.parametrize("family", ["mamba", "jamba", "mixtral"])
def test_what_a_model_has_not_is_left_out(family):
    run, recording = run_on(scope_of(family), IDS)
    weights, verdict = attention_from(run, recording, len(IDS) - 1)
    if family == "mamba":
        assert verdict.status == "refused"
        assert torch.isnan(weights).all()
    elif family == "jamba":
        assert verdict.status == "partial"
        assert verdict.reason.startswith("attention without layers 0, 2: ")
        assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    else:
        assert verdict.status == "verified"
        with pytest.raises(Exception, match="mixture of experts"):
            update_of(recording, range(1, 3), {})


def tokens_of(text):
    """A text of which each word, and each blank, is a token; and the texts of these."""
    pieces = re.findall(r"<\|\w+\|>|\s+|\w+|[^\w\s]", text)
    special = tuple(piece.startswith("<|") for piece in pieces)
    prompt = Prompt(tuple(range(len(pieces))), tuple(pieces), special, text=text)
    return prompt, source_texts(prompt)


def found_in(text, separator=""):
    """The passages of a text of which each word, and each blank, is a token."""
    prompt, labels = tokens_of(text)
    return ["".join(labels[one.start : one.stop]) for one in passages(prompt, labels, separator)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One.\n\nTwo.\n\nQ?", ["One.\n\n", "Two.\n\n"]),
        ("[1] One.\n[2] Two.\nmore\n\nQ?", ["[1] One.\n", "[2] Two.\nmore\n\n"]),
        ("[1] One.\n[2] Two.\nQ?", ["[1] One.\n", "[2] Two.\n"]),
        (
            "Read.\n<doc id=1>One.\n\nStill.</doc>\n<doc>Two.</doc>\n\nQ?",
            ["<doc id=1>One.\n\nStill.</doc>\n", "<doc>Two.</doc>\n\n"],
        ),
        (
            "<|im_start|>user\nOne.\n\nTwo.\n\nQ?<|im_end|>\n<|im_start|>assistant\n",
            ["One.\n\n", "Two.\n\n"],
        ),
        (
            "<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\nOne.<|im_end|>\n"
            "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nQ?<|im_end|>\n"
            "<|im_start|>assistant\n",
            ["Short.<|im_end|>\n", "One.<|im_end|>\n", "Yes.<|im_end|>\n"],
        ),
        (
            "<|im_start|>user\nOne.<|im_end|>\n<|im_start|>user\nQ?<|im_end|>\n",
            ["One.<|im_end|>\n"],
        ),
        ("<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\n", []),
        ("Q?", []),
        ("", []),
    ],
)
def test_passages_are_found_by_their_form(text, found):
    assert found_in(text) == found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<|a|>user\nQ?<|b|>\n<|a|>assistant\nIt is.<|b|>\n", "It is."),
        ("<|a|>user\nQ?<|b|>\n<|a|>model\nA.\nB.<|b|>", "A.\nB."),
        ("<|a|>user\nQ?<|b|>\n<|a|>assistant\nIt is", None),  # it has only begun
        ("<|a|>user\nQ?<|b|>\n<|a|>assistant\n", None),
        ("<|a|>assistant\nA.<|b|>\n<|a|>user\nQ?<|b|>\n", None),
        ("assistant\nA.", None),
        ("", None),
    ],
)
def test_the_answer_that_a_chat_ends_with(text, answer):
    prompt, labels = tokens_of(text)
    found = written_answer(prompt, labels)
    assert (found and "".join(labels[found.start : found.stop])) == answer


CALL = "<tool_call>capital(France)</tool_call>"
TRACES = {
    "ChatML": (
        "<|im_start|>system\nUse tools.<|im_end|>\n<|im_start|>user\nQ?<|im_end|>\n"
        f"<|im_start|>assistant\n{CALL}<|im_end|>\n<|im_start|>tool\nIt is Paris.<|im_end|>\n"
        "<|im_start|>assistant\n",
        ["Use tools.<|im_end|>\n", f"{CALL}<|im_end|>\n", "It is Paris.<|im_end|>\n"],
    ),
    "a result in the user's name": (
        "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\nLet me see.<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nIt is Paris.\n\nOr so.</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n",
        [
            "Let me see.<|im_end|>\n",
            "<tool_response>\nIt is Paris.\n\nOr so.</tool_response><|im_end|>\n",
        ],
    ),
    "roles between two special tokens": (
        "<|begin|><|start_header_id|>user<|end_header_id|>\n\nQ?<|eot_id|>"
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{CALL}<|eom_id|>"
        "<|start_header_id|>ipython<|end_header_id|>\n\nFrance:\n\nParis.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        [f"{CALL}<|eom_id|>", "France:\n\nParis.<|eot_id|>"],
    ),
    "special tokens that are roles": (
        "<|user|>\nQ?<|assistant|>capital<|observation|>\nParis.\n\nYes.<|assistant|>\n",
        ["capital", "Paris.\n\nYes."],
    ),
    "documents in a result": (
        "<|im_start|>user\nOne.\n\nQ?<|im_end|>\n<|im_start|>tool\nFound: <doc>A.</doc>"
        "<doc>B.</doc>\nEnd.<|im_end|>\n<|im_start|>assistant\n",
        ["One.\n\n", "Found: ", "<doc>A.</doc>", "<doc>B.</doc>\n", "End.<|im_end|>\n"],
    ),
    "no question": (
        "<|im_start|>system\nGo.<|im_end|>\n<|im_start|>tool\nParis.<|im_end|>\n"
        "<|im_start|>assistant\n",
        ["Go.<|im_end|>\n", "Paris.<|im_end|>\n"],
    ),
    "two questions": (
        "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB.<|im_end|>\n"
        "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>tool\nParis.<|im_end|>\n"
        "<|im_start|>assistant\nIt",
        ["A?<|im_end|>\n", "B.<|im_end|>\n", "Paris.<|im_end|>\n"],
    ),
}


@pytest.mark.parametrize("trace", TRACES)
def test_every_turn_of_an_agent_trace_but_its_question_is_a_passage(trace):
    text, found = TRACES[trace]
    texts = found_in(text)
    assert [one.strip() for one in texts] == [one.strip() for one in found]
    assert not any(one.strip().startswith("Q?") for one in texts)


def test_passages_between_matches_of_a_separator():
    assert found_in("One. ## Two. ## Q?", "## ") == ["One. ## ", "Two. ## "]
    assert found_in("One", "x*") == []


def test_what_follows_the_last_separator_is_told_as_never_removed(town, eager):
    """The answer may stand on it: no passage that is removed shows that."""
    recording = town.record("cat dax, sun wug, hat fep, cat")
    figure = town.look("passages", separator=", ", answer=" dax")
    (line,) = [one for one in figure.extra["caption"] if one.startswith("never removed")]
    patterns = plain(eager, list(recording.prompt.ids), output_attentions=True).attentions
    weights = torch.stack(patterns)[:, 0, :, -1].mean((0, 1))
    stop = figure.extra["stops"][-1]
    assert recording.prompt.labels[stop].strip() == "cat"
    rest = f"{float(weights[stop:].sum()):.2g}"
    assert line == f"never removed: ‹cat› after the last passage, attention {rest}"
    town.record(TEXT)
    figure = town.look("passages", answer=" tom")
    assert not any("never removed" in one for one in figure.extra["caption"])


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("<|begin|>One.\n\nQ?", False),
        ("<|begin|>One.<|turn|>Two.<|turn|>Q?", True),
        ("<|user|>One.\n\nQ?<|assistant|>", False),
    ],
)
def test_a_chat_whose_roles_are_not_known_is_told_apart(text, unread):
    assert has_unread_roles(*tokens_of(text)) == unread


def test_without_passages_it_says_how_to_mark_them(town):
    town.record("Who lives in the red house?")
    verdict = town.look("passages").verdict
    assert (verdict.status, "separator=REGEX" in verdict.reason) == ("refused", True)
    with pytest.raises(ValueError, match="separator is no regular expression"):
        town.look("passages", separator="(")


def test_a_probability_that_percent_cannot_tell_is_a_logarithm(town):
    town.record(TEXT)
    answer = tuple(town.token(f" {word}") for word in ("cake", "tom", "house"))
    figure = town.look("passages", answer=answer)
    assert figure.extra["log_p"] < np.log(1e-3)
    assert f"with all passages: {figure.extra['log_p']:.2f} nats" in figure.extra["caption"][0]


def test_the_table_is_read_at_a_glance(town):
    town.record(TEXT)
    figure = town.look("passages", answer=(town.token(" tom"),))
    text = render(figure, "txt", look=RenderOptions(tier="none"), size=(100, 12))
    lines = text.splitlines()
    assert "Δ log p" in lines[1]
    assert "‖ΔW‖/‖W‖" in lines[1]
    marked = [line for line in lines if "▸" in line]
    assert len(marked) == 1
    assert f"▸{figure.extra['chosen'] + 1}" in marked[0]


@pytest.mark.parametrize("text", ["CABACB", "A"])
def test_a_passage_that_is_the_whole_prompt_is_refused(text):
    scope = llmscope.load("builtin:sort")
    scope.record(text)
    verdict = scope.look("passages", separator=text).verdict
    assert verdict.status == "refused"
    assert "the passage is the whole prompt" in verdict.reason
    scope.record("CABACB")
    assert scope.look("passages", separator="CA").verdict.status == "verified"

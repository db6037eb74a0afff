"""The context lens: the patched query against the prompted run, in float64 and by other means."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DynamicCache

import llmscope
from llmscope.export import json_text
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.recording import Prompt
from llmscope.record.context import weight_update
from llmscope.record.context.low_rank import Unpatchable
from llmscope.record.context.split import (
    labels_with_lines,
    last_line,
    query_of,
    tokens_before,
)
from llmscope.record.derive.kl import kl_divergence
from llmscope.record.derive.verify import verify
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.record.conftest import prompt_of, recorder_for

IDS = (5, 17, 3, 60, 17, 42, 8, 33, 71, 9, 80)
BEFORE = 8
BIASED = {"llama": {"attention_bias": True, "mlp_bias": True}}
PARALLEL = ("gpt_neox", "gptj", "phi", "falcon", "codegen")
SEQUENTIAL = ("gpt2", "llama", "qwen3", "opt", "bloom", "phi3", "granite", "falcon_h1", "lfm2")
NORMED_AFTER = ("gemma2", "gemma3_text", "olmo2", "glm4")


def recorded(family):
    """A prompt recorded in float64, by a recorder whose verdicts were measured."""
    recorder = recorder_for(small_model(family, **BIASED.get(family, {})).double())
    verify(recorder)
    return recorder.record(prompt_of(IDS), fresh=True)


def scope_on(family):
    model = small_model(family)
    parameter = next(model.parameters())
    scope = Scope(
        LoadedModel("test", "test", model, None, find(model), parameter.device, parameter.dtype)
    )
    scope.record(IDS)
    return scope


def own_logits(recording, count=1):
    """What plain transformers says after the last tokens of the whole prompt."""
    with torch.no_grad():
        output = recording.model.module(torch.tensor([recording.prompt.ids]), use_cache=False)
    return output.logits[0, -count:]


def gap(one, other):
    return float((one - other).abs().max())


@pytest.mark.few(8)
@pytest.mark.parametrize("family", [*SEQUENTIAL, *PARALLEL, *NORMED_AFTER])
def test_the_patched_query_says_what_the_prompt_said(family):
    recording = recorded(family)
    own = own_logits(recording)
    query = query_of(recording.prompt, BEFORE)
    assert gap(weight_update.bare(recording, query).logits, own) > 0.2
    learnt = weight_update.learn(recording, query)
    assert gap(learnt.logits, own) <= 1e-12
    assert float(kl_divergence(own, learnt.logits)) <= 1e-15
    changes = [update.relative for layer in learnt.layers for update in layer.firsts]
    if family in PARALLEL:  # their MLP does not see what the attention beside it brings
        assert max(changes) < 1e-12
    else:
        assert max(changes) > 0.01


@pytest.mark.few(10)
@pytest.mark.parametrize("family", [*SEQUENTIAL, *PARALLEL])
@pytest.mark.parametrize(("rows", "keep_positions"), [(1, False), (None, True)])
def test_weights_alone_carry_it_too(family, rows, keep_positions):
    recording = recorded(family)
    query = query_of(recording.prompt, BEFORE, rows=rows, keep_positions=keep_positions)
    learnt = weight_update.learn(recording, query, weights_only=True)
    assert gap(learnt.logits, own_logits(recording, query.rows)) <= 1e-12


@pytest.mark.parametrize("family", NORMED_AFTER)
def test_weights_alone_cannot_where_the_mlp_is_normed_afterwards(family):
    recording = recorded(family)
    with pytest.raises(Unpatchable, match="norms what its MLP wrote"):
        weight_update.learn(recording, query_of(recording.prompt, BEFORE), weights_only=True)


def test_the_update_is_the_smallest_that_does_it():
    recording = recorded("gpt2")
    learnt = weight_update.learn(recording, query_of(recording.prompt, BEFORE))
    block = recording.model.module.transformer.h[1]
    entry = {}
    hook = block.mlp.register_forward_pre_hook(lambda _, args: entry.update(z=args[0][0, -1]))
    own_logits(recording)
    hook.remove()
    (update,) = learnt.layers[1].firsts
    z, z0 = entry["z"], learnt.layers[1].entry[0]
    weight = block.mlp.c_fc.weight.T.detach()
    expected = torch.outer(weight @ (z - z0), z0) / (z0 @ z0)
    built = update.left @ update.right
    assert gap(built, expected) <= 1e-13
    assert update.norm == pytest.approx(float(torch.linalg.matrix_norm(expected)), rel=1e-12)
    norm = float(torch.linalg.matrix_norm(weight))
    assert update.relative == pytest.approx(update.norm / norm, rel=1e-6)
    assert gap((weight + built) @ z0, weight @ z) <= 1e-13


def test_weights_changed_for_good_say_it_without_any_hook():
    recording = recorded("llama")
    own = own_logits(recording)
    query = query_of(recording.prompt, BEFORE, keep_positions=False)
    learnt = weight_update.learn(recording, query, weights_only=True)
    with torch.no_grad():
        for layer in learnt.layers:
            for update in (*layer.firsts, layer.down):
                update.module.weight += update.left @ update.right
        alone = recording.model.module(torch.tensor([IDS[BEFORE:]])).logits[0, -1:]
    assert gap(alone, own) <= 1e-11


@pytest.mark.parametrize("spoilt", ["entry", "matrices", "shift", "naive"])
def test_a_wrong_patch_is_told(spoilt):
    recording = recorded("llama")
    own = weight_update.prompted_logits(recording, query := query_of(recording.prompt, BEFORE))
    learnt = weight_update.learn(recording, query)
    layers = list(learnt.layers)
    again = weight_update.apply(recording, query, layers)
    assert gap(again.logits, own) <= 1e-12
    if spoilt == "entry":
        seen = [replace(layer, entry=layer.entry.roll(1, -1)) for layer in layers]
        broken = weight_update.learn(
            recording, query, known_pass=replace(learnt, layers=tuple(seen))
        )
    elif spoilt == "naive":
        broken = weight_update.learn(
            recording, query, known_pass=weight_update.bare(recording, query)
        )
    else:
        if spoilt == "shift":
            layers[1] = replace(layers[1], shift=layers[1].shift * 0)
        else:
            updates = tuple(replace(one, left=one.left * 0) for one in layers[1].firsts)
            layers[1] = replace(layers[1], firsts=updates)
        broken = weight_update.apply(recording, query, layers)
    assert gap(broken.logits, own) > 1e-3
    verdict = weight_update.disagreement(recording, own, broken.logits)
    assert verdict.status == "refused"
    assert "differs from the prompted one" in verdict.reason


def test_the_figure():
    scope = scope_on("llama")
    before = scope.latest
    figure = scope.look("context", context=BEFORE)
    assert scope.latest is before
    assert figure.verdict.status == "verified"
    assert figure.unit == "relative norm"
    assert [axis.name for axis in figure.axes] == ["layer", "matrix"]
    assert figure.axes[1].labels == ("gate_proj", "up_proj")
    recording = scope.latest
    query = query_of(recording.prompt, BEFORE)
    learnt = weight_update.learn(recording, query)
    expected = [[update.relative for update in layer.firsts] for layer in learnt.layers]
    assert figure.values == pytest.approx(np.array(expected, dtype=np.float32))
    extra = figure.extra
    # From whole tensors, with torch's own divergence.
    own = torch.log_softmax(own_logits(recording)[0].double(), -1)
    with torch.no_grad():
        alone = recording.model.module(torch.tensor([IDS[BEFORE:]])).logits[0, -1]
    kl = torch.nn.functional.kl_div(
        torch.log_softmax(alone.double(), -1), own, log_target=True, reduction="sum"
    )
    assert extra["kl_unpatched"] == pytest.approx(float(kl), rel=1e-3)
    assert extra["kl_patched"] <= 1e-10 < 1e-3 < extra["kl_naive"]
    assert extra["max_logit_difference"] <= 1e-4 < extra["naive_logit_difference"]
    assert (extra["context"], extra["kept"], extra["query"], extra["rank"]) == (8, 0, 3, 1)
    assert len(extra["stream_shift"]) == 3
    # The picture says it in words.
    kl, difference, likeliest = extra["caption"]
    for number in (extra["kl_patched"], extra["kl_unpatched"], extra["kl_naive"]):
        assert f" {number:.2g}" in kl
    assert f"patched {extra['max_logit_difference']:.2g}, " in difference
    assert likeliest.split()[5].rstrip(",") == extra["prompted"]
    assert likeliest.split()[-1] == extra["unpatched"]
    said = json.loads(json_text(figure.to_dict()))
    assert said["extra"]["kl_unpatched"] == extra["kl_unpatched"]


def test_all_of_the_query_by_weights_alone():
    figure = scope_on("llama").look("context", context=BEFORE, mode="query")
    assert figure.axes[1].labels == ("gate_proj", "up_proj", "down")
    assert figure.extra["rank"] == 3
    assert figure.extra["kl_patched"] <= 1e-10
    assert figure.verdict.status == "verified"


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mixtral", "mixture of experts"),
        ("deepseek_v3", "mixture of experts"),
        ("jamba", "mixture of experts"),
        ("mamba", "no layer has an MLP"),
        ("rwkv", "differs"),
        ("openai-gpt", "norms the stream itself"),
    ],
)
def test_what_the_identity_does_not_cover_is_refused(family, reason):
    figure = scope_on(family).look("context", context=BEFORE)
    assert figure.verdict.status == "refused"
    assert reason in figure.verdict.reason
    assert figure.values.shape == ()


def test_a_prompt_without_a_context_is_refused_and_a_place_that_is_none_is_an_error():
    scope = scope_on("llama")
    assert scope.look("context").extra["context"] == len(IDS) - 1  # all tokens but the last
    scope.record(IDS[:1])
    assert "a single token" in scope.look("context").verdict.reason
    scope.record(IDS)
    for context in (0, len(IDS), -1):
        with pytest.raises(ValueError, match="context"):
            scope.look("context", context=context)


def test_what_is_left_of_a_prompt():
    labels = ("<s>", "a", "\n", "b", ":")
    prompt = Prompt((1, 5, 6, 7, 8), labels, (True, False, False, False, False))
    assert last_line(labels) == 3
    assert last_line(("a", "\n")) is None
    query = query_of(prompt, 3)
    assert (query.ids, query.positions) == ((1, 7, 8), (0, 3, 4))
    assert (query.context, query.kept, query.rows) == (2, 1, 1)
    assert query_of(prompt, 3, rows=None, keep_positions=False).positions is None
    with pytest.raises(ValueError, match="no context"):
        query_of(prompt, 1)
    # Each message of a chat begins with a special token: only what comes before it is the prompt's.
    chat = Prompt((1, 4, 7, 4, 8), labels, (True, True, False, True, False))
    assert query_of(chat, 3).ids == (1, 4, 8)
    assert query_of(chat, 3, kept_tokens=0).ids == (4, 8)
    spans = ((0, 0), (0, 3), (3, 5), (5, 9))
    assert [tokens_before(spans, characters) for characters in (0, 3, 4, 5, 9)] == [1, 2, 2, 3, 4]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3_text", "opt", "gpt_neox"])
def test_the_query_sees_the_special_token_that_stays_before_it(family):
    """Against the same tokens one by one on a cache, where nothing can be taken for packed."""
    recorder = recorder_for(small_model(family).double())
    verify(recorder)
    special = (True, *(False,) * (len(IDS) - 1))
    prompt = Prompt(IDS, tuple(map(str, IDS)), special)
    recording = recorder.record(prompt, fresh=True)
    query = query_of(prompt, BEFORE)
    assert (query.kept, query.positions) == (1, (0, 8, 9, 10))
    model = small_model(family).double()
    cache = DynamicCache()
    with torch.no_grad():
        for token, place in zip(query.ids, query.positions, strict=True):
            output = model(
                input_ids=torch.tensor([[token]]),
                position_ids=torch.tensor([[place]]),
                cache=cache,
                use_cache=True,
            )
    assert gap(weight_update.bare(recording, query).logits[-1], output.logits[0, -1]) < 1e-10
    other = replace(query, ids=(query.ids[0] + 1, *query.ids[1:]))
    assert (
        gap(
            weight_update.bare(recording, query).logits, weight_update.bare(recording, other).logits
        )
        > 1e-6
    )


def test_lines_that_a_tokenizer_drops_still_part_the_context_from_the_query():
    """The built-in model's tokenizer makes a space of each line break."""
    scope = llmscope.load("builtin:town")
    recording = scope.record("dog puppy\ncow ->")
    assert recording.prompt.notices == ()
    assert not any("\n" in label for label in recording.prompt.labels)
    labels = labels_with_lines(recording.prompt)
    assert labels == ("", "dog ", "puppy\n", "cow ", "->")
    assert last_line(labels) == 3
    by_lines = scope.look("context")
    by_number = scope.look("context", context=3)
    assert by_lines.verdict.status == "verified"
    assert (by_lines.values == by_number.values).all()
    assert by_lines.extra["context"] == 2


def test_labels_with_line_breaks_stay_as_they_are():
    spans = ((0, 2), (2, 3))
    prompt = Prompt((1, 2), ("a\n", "b"), (False, False), spans, text="a\nb")
    assert labels_with_lines(prompt) == prompt.labels
    ids = Prompt((1, 2), ("1", "2"), (False, False))
    assert labels_with_lines(ids) == ids.labels

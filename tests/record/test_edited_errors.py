"""Edits that cannot be, and passes that end in the middle: nothing of them stays."""

import functools

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.record.derive import tensors
from llmscope.support.sandbox import Cancelled
from tests.families import small_model
from tests.lenses.asked import options_for
from tests.record.by_hand import A, B, Plain, plus
from tests.record.interventions.test_edited import ALL, holds, scope_for
from tests.record.walk_edited import bits, same_bits
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("hooks_watch")


def worded():
    """Tokens `w0` to `w95`."""
    inner = Tokenizer(models.WordLevel({f"w{token}": token for token in range(96)}, "w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokens(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0"))


def text(ids):
    return " ".join(f"w{token}" for token in ids)


@pytest.fixture(scope="module")
def speaking():
    """A scope whose model has a tokenizer."""
    return scope_for(small_model("llama"), worded())


def state(scope):
    """What a pass must leave as it was: hooks, forwards, taps."""
    taps = scope.recorder.taps
    hooks = [
        (len(module._forward_hooks), len(module._forward_pre_hooks), "forward" in vars(module))
        for module in scope.model.modules()
    ]
    entries = [(tap.entry, dict(tap.kept), tap.keys, tap.values) for tap in taps.layers]
    return hooks, entries, taps.active, taps.cancelled, taps._final


@pytest.mark.few(4)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize(("layer", "at"), [("embed", 0), ("1", 2), ("-1", 3)])
def test_the_difference_of_two_prompts_steers(family, layer, at):
    scope, plain = scope_for(small_model(family), worded()), Plain(family)
    one, other = B[:7], A[2:6]
    vector = plain.seen(one, "stream", at)[-1] - plain.seen(other, "stream", at)[-1]
    edit = f'steer {layer} "{text(one)}" - "{text(other)}" 1.5 @4..'
    own = plain.run(A, ("stream", at, plus(slice(4, 13), 1.5 * vector)))
    holds(scope, own, edit)
    holds(scope, own, edit)  # from what was kept
    assert scope.latest.edits[0].vector.kind == "prompts"


def test_a_token_steers_by_its_text(speaking):
    plain = Plain("llama")
    row = plain.model.lm_head.weight[17].detach()
    own = plain.run(A, ("stream", 2, plus(ALL, 2 * row)))
    holds(speaking, own, "steer 1 token w17 2")
    holds(speaking, own, "steer 1 token id:17 2")


SHORT = B[:5]
WRONG = {
    "zero mlp 3": "there is no layer 3",
    "zero head -4.0": "there is no layer -4",
    "patch stream 3 @1 from B": "there is no layer 3",
    "steer -4 token id:3 1": "there is no layer -4",
    "freeze norm 3.mlp": "there is no layer 3",
    "zero head 1.4": "there is no head 4 in layer 1",
    "scale head 1.-5 1": "there is no head -5 in layer 1",
    "mean neuron 1.80": "there is no neuron 80 in layer 1",
    "zero mlp 1 @13": "there is no token 13: the prompt has 13",
    "zero mlp 1 @-14": "there is no token -14",
    "zero mlp 1 @5..-10": "ends before it begins",
    "scale mlp 1 1 @13": "there is no token 13",
    "steer 1 token id:3 0 @13": "there is no token 13",
    "steer 1 token id:96 1": "96 is no id of the vocabulary",
    "steer 1 token id:-1 1": "is no id of the vocabulary",
    'steer 1 token "w1 w2" 1': "is not one token but 2",
    'steer 1 token "" 1': "is not one token",
    "patch mlp 1 from B": "the prompt has 13 tokens and prompt B 5",
    "patch mlp 1 @3.. from B": "the prompt has 13 tokens and prompt B 5",
    "patch mlp 1 @5 from B": "there is no token 5: the prompt has 5",
    "patch mlp 1 @2..4 from B @1..2": "it patches 3 tokens from 2",
    "patch mlp 1 from B @1..2": "it patches 13 tokens from 2",
    'steer 1 "w1" - "" 1': "a prompt that steers is empty",
    f'steer 1 "{text([3] * 65)}" - "w1" 1': "the model's context holds 64",
}


@pytest.mark.parametrize("edit", WRONG)
def test_what_does_not_fit_is_told_and_leaves_nothing(speaking, edit):
    plain = bits(speaking.record(A, fresh=True))
    good = bits(speaking.record(A, edits=["zero head 1.2 @3.."], fresh=True))
    before, latest = state(speaking), speaking.latest
    for edits in ([edit], ["zero head 1.2 @3..", edit], [edit, "scale mlp 0 1"]):
        with pytest.raises(ScopeError) as caught:
            speaking.record(A, edits=edits, versus_prompt=SHORT)
        assert WRONG[edit] in caught.value.message
        assert caught.value.hint
        assert state(speaking) == before
        assert speaking.latest is latest
    same_bits(speaking.record(A), plain)
    same_bits(speaking.record(A, edits=["zero head 1.2 @3.."]), good)
    same_bits(speaking.record(A, fresh=True), plain)


def test_there_is_no_prompt_b(speaking):
    for edit in ("patch mlp 1 from B", "patch stream embed @2 from B @1"):
        with pytest.raises(ScopeError, match="there is no prompt B to patch from") as caught:
            speaking.record(A, edits=[edit])
        assert "versus_prompt" in caught.value.hint


def test_vectors_that_do_not_fit(speaking, tmp_path):
    good = torch.ones(48)
    one = tmp_path / "one.safetensors"

    def told(*saved, name=""):
        save_file(dict(zip("abcdef", saved, strict=False)), one)
        return told_of(f"{one}{name}")

    def told_of(path):
        before = state(speaking)
        with pytest.raises(ScopeError) as caught:
            speaking.record(A, edits=[f'steer 1 "{path}" 1'])
        assert caught.value.hint
        assert state(speaking) == before
        return caught.value.message

    assert "there is no file" in told_of(tmp_path / "none.safetensors")
    assert "there is no file" in told_of(tmp_path / "none.safetensors:x")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert "there is no file" in told_of(folder)
    other = tmp_path / "other.safetensors"
    for content in (b"", b"no", b"\xff" * 64, b"\x08" + bytes(7) + b"{}      "):
        other.write_bytes(content)
        told_of(other)
    assert "has 47 numbers" in told(good[:47])
    assert "has 96 numbers" in told(torch.ones(2, 48))
    assert "holds 2 tensors" in told(good, 2 * good)
    assert "holds no tensor of that name" in told(good, 2 * good, name=":c")
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = good.clone()
        bad[7] = value
        assert "holds NaN or infinity" in told(bad)
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int64):
        save_file({"v": good.to(kind)}, one)
        speaking.record(A, edits=[f"steer 1 {one} 1"])
        assert torch.isfinite(speaking.latest.logits).all()
    own = Plain("llama").run(A, ("stream", 2, plus(ALL, good)))
    holds(speaking, own, f"steer 1 {one} 1")
    save_file({"v": 2 * good}, one)  # the file is read again
    own = Plain("llama").run(A, ("stream", 2, plus(ALL, 2 * good)))
    holds(speaking, own, f"steer 1 {one} 1")


@pytest.mark.parametrize(
    ("family", "edit", "reason"),
    [
        ("mixtral", "zero neuron 1.9.0", "there is no expert 9"),
        ("mixtral", "zero neuron 1.0.80", "there is no neuron 80 in expert 0"),
        ("mixtral", "zero neuron 1.shared.3", "there is no neuron 3 of shared experts"),
        ("deepseek_v3", "zero neuron 0.1.3", "layer 0 has no experts whose neurons were found"),
        ("deepseek_v3", "zero neuron 0.80", "there is no neuron 80 in layer 0"),
        ("mamba", "zero head 1.9999", "there is no head 9999 in layer 1"),
        ("mamba", "zero attention 1", "has no attention that was found"),
        ("mamba", "zero mlp 1", "has no mlp that was found"),
        ("mamba", "zero neuron 1.0", "no MLP"),
        ("jamba", "zero head 0.1 into mlp 1", "is not known, as it has no attention"),
        ("jamba", "freeze norm 0.attention", "has no attention that was found"),
        ("rwkv", "mean layer 0", "cannot be trusted"),
        ("olmo2", "freeze norm 1.mlp", "is not the output of a norm alone"),
        ("llama", "steer 1 token w3 1", "has no tokenizer"),
        ("llama", "steer 1 w1 - w2 1", "has no tokenizer"),
    ],
)
def test_what_a_model_does_not_have_is_refused(family, edit, reason):
    scope = scope_for(small_model(family))
    before, own = state(scope), bits(scope.record(A))
    with pytest.raises(ScopeError, match=reason) as caught:
        scope.record(A, edits=[edit])
    assert caught.value.message.startswith(f"{edit}: ")
    assert caught.value.hint
    assert state(scope) == before
    same_bits(scope.record(A), own)


class OutOfMemory(RuntimeError):
    """As torch's own."""


class Interrupt(BaseException):
    """As that of the keyboard, which would end pytest."""


EDITS = ["steer 0 token id:4 1 @3..", "freeze norm 1.mlp", "zero head 2.1", "mean mlp 1"]


@pytest.mark.few(1)
@pytest.mark.parametrize("error", [OutOfMemory, Interrupt])
@pytest.mark.parametrize("family", thinned(["gpt2", "llama", "bloom"], lambda one: one == "gpt2"))
def test_an_error_in_the_middle_of_a_pass_leaves_nothing(family, error):
    scope = scope_for(small_model(family))
    edits = EDITS
    plain = bits(scope.record(A, fresh=True))
    own = bits(scope.record(A, edits=edits, fresh=True))
    wanted = [0]
    for layer in scope.loaded_model.anatomy.layers:
        layer.module.register_forward_pre_hook(lambda *_: fail())
        (layer.mlp_write or layer.mixer_write).register_forward_hook(lambda *_: fail())

    def fail():
        wanted[0] -= 1
        if wanted[0] == 0:
            raise error

    before, failed = state(scope), 0
    for count in range(1, 34, 3):
        scope.record([*A[:6], 1, 2]) if count % 2 else scope.forget()
        wanted[0] = count
        try:
            scope.record(A, edits=edits)
        except error:
            failed += 1
        wanted[0] = 0
        assert state(scope) == before
    assert failed > 3
    same_bits(scope.record(A, fresh=True), plain)
    same_bits(scope.record(A, edits=edits, fresh=True), own)
    close(scope.record([*A, 3], edits=edits), scope_for(small_model(family)), edits)


def close(recording, other, edits):
    """As from a scope that has seen nothing."""
    own = other.record(recording.prompt.ids, edits=edits, fresh=True)
    found = tensors.logits(recording, 0, len(recording))
    logits = tensors.logits(own, 0, len(own))
    assert float((found - logits).abs().max()) <= 1e-5 * float(logits.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("family", thinned(["llama", "jamba"], lambda one: one == "llama"))
def test_a_pass_is_given_up_at_any_layer(family):
    scope = scope_for(small_model(family), worded())
    edits = [*EDITS[:1], *EDITS[3:], f'steer 1 "{text(B)}" - "w5" 1', "patch mlp 2 @3 from B"]
    edits = edits if family == "jamba" else [*edits, "freeze norm 1.mlp"]
    before, own = state(scope), bits(scope.record(A, fresh=True))
    scope.record(A, edits=edits, versus_prompt=B)
    given_up = 0
    for count in range(0, 20, 3):
        scope.forget()  # prompt B and the vector are worked out again
        asked = iter([False] * count)
        enough = functools.partial(next, asked, True)
        try:
            scope.record(A, edits=edits, versus_prompt=B, cancelled=enough)
        except Cancelled:
            given_up += 1
        assert state(scope) == before
        same_bits(scope.record(A, fresh=True), own)
        if not count % 6:
            close_to = scope.record([*A[:-1], 9], edits=edits[:1])
            close(close_to, scope_for(small_model(family)), edits[:1])
    # Three layers each: the prompt, prompt B, two that steer, and the edited pass.
    assert given_up >= 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox", "mixtral"])
@pytest.mark.few(3)
def test_half_precision(family, dtype):
    scope = scope_for(small_model(family).to(dtype))
    plain = Plain(family, small_model(family).to(dtype))
    row = plain.model.get_submodule(plain.places["unembed"]).weight[17].detach()
    eps = torch.finfo(dtype).eps
    own = plain.run(A, ("stream", 1, plus(slice(3, 13), (2.0 * row.float()).to(dtype))))
    recording = scope.record(A, edits=["steer 0 token id:17 2 @3.."])
    found = tensors.logits(recording, 0, len(A))
    assert float((found - own).abs().max()) <= 8 * eps * float(own.abs().max())
    edits = [
        "zero head 1.2 @3..",
        "mean mlp 0",
        "scale attention 1 -2",
        "patch layer 2 @4 from B",
        "patch stream 1 @-1 from B @2",
        "freeze norm final",
        "freeze norm 2.attention @2..",
    ]
    recording = scope.record(A, edits=edits, versus_prompt=B)
    assert recording.rows("stream", 3).dtype == dtype
    assert torch.isfinite(recording.logits).all()
    assert torch.isfinite(tensors.logits(recording, 0, len(A))).all()
    for layer in range(3):
        for lens in ("attention", "residual", "next-token", "logit-lens", "attribution"):
            figure = scope.look(lens, **options_for(lens, layer=layer))
            assert figure.verdict.status != "refused", (lens, figure.verdict)
    theirs = scope.record(B, fresh=True)
    everything = scope.record(A, edits=["patch stream embed from B"], versus_prompt=B, fresh=True)
    assert torch.equal(everything.logits, theirs.logits)


def test_a_forward_of_a_layers_own_is_put_back():
    scope = scope_for(small_model("llama"))
    own = bits(scope.record(A, edits=["zero mlp 2"]))
    for layer in scope.loaded_model.anatomy.layers:  # as those who spread a model over devices do
        layer.module.forward = functools.partial(type(layer.module).forward, layer.module)
    forwards = [layer.module.forward for layer in scope.loaded_model.anatomy.layers]
    recording = scope.record(A, edits=["zero mlp 2"], fresh=True)
    assert recording.depth == 2
    same_bits(recording, own)
    for layer, forward in zip(scope.loaded_model.anatomy.layers, forwards, strict=True):
        assert vars(layer.module)["forward"] is forward


def test_edits_with_an_adapter_on_and_off():
    scope = llmscope.load("builtin:sort")
    adapter = scope.teach("AB", "CAB")
    edits = ["steer 0 token A 3", "zero head 1.0 @2.."]
    own = {}
    for _ in range(2):
        for name in (None, adapter):
            scope.use(name)
            for some in ([], edits):
                recording = scope.record("CAB", edits=some)
                same_bits(recording, own.setdefault((name, bool(some)), bits(recording)))
    assert not torch.equal(own[None, True][-1], own[adapter, True][-1])
    assert scope.record("CABA", edits=edits).ran == 1

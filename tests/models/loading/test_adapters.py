"""Adapters against plain peft: the same folders, loaded by the library alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import llmscope
from llmscope.engine import Engine
from llmscope.engine.events import Frame, Loaded, Request, Want
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.models.anatomy import find
from tests.families import small_model

IDS = (3, 41, 5, 9, 41, 5, 77, 12, 60)
# Where each family keeps what an adapter of each kind changes.
LLAMA = {
    "lora": LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"]),
    "dora": LoraConfig(use_dora=True, target_modules=["k_proj", "o_proj", "up_proj"]),
    "rank-stabilised": LoraConfig(use_rslora=True, lora_alpha=5, target_modules=["gate_proj"]),
    "head": LoraConfig(target_modules=["o_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "ia3": IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
}
KINDS = {
    "llama": LLAMA,
    "qwen2": {name: LLAMA[name] for name in ("lora", "dora", "ia3")},
    "gemma2": {name: LLAMA[name] for name in ("lora", "ia3")},
    "gpt2": {
        "lora": LoraConfig(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
        "ia3": IA3Config(
            target_modules=["c_attn", "mlp.c_proj"],
            feedforward_modules=["mlp.c_proj"],
            fan_in_fan_out=True,
        ),
    },
    "gpt_neox": {
        "lora": LoraConfig(target_modules=["query_key_value", "dense", "dense_h_to_4h"]),
    },
    "opt": {"lora": LoraConfig(target_modules=["q_proj", "out_proj", "fc1", "fc2"])},
    "mamba": {"lora": LoraConfig(target_modules=["in_proj", "x_proj"])},
    "qwen3_moe": {"lora": LoraConfig(target_modules=["q_proj", "gate"])},
}
CASES = [(family, kind) for family, kinds in KINDS.items() for kind in kinds]


def make_base(folder, family="llama"):
    small_model(family).save_pretrained(folder)
    return folder


def make_adapter(folder, base, config, seed=0):
    """An adapter with random weights that matter, saved as peft saves it."""
    config = replace(config)  # the library writes into what it is given
    config.task_type = "CAUSAL_LM"
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in (one for one in wrapped.parameters() if one.requires_grad):
            weight += 0.3 * torch.randn_like(weight)
    wrapped.save_pretrained(folder)
    return folder


def plain(base, adapter):
    """What a person without llmscope would load; eager, so that it gives its patterns."""
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    return PeftModel.from_pretrained(model, adapter).eval()


def run(model, **options):
    with torch.no_grad():
        return model(torch.tensor([IDS]), **options)


def close(found, own):
    own = np.asarray(own, dtype=np.float32)
    return np.abs(np.asarray(found) - own).max() <= 1e-5 * np.abs(own).max()


def logits(scope, **options):
    recording = scope.record(IDS, **options)
    figure = scope.look("next-token", recording=recording, top_k=96)
    row = np.empty(96, dtype=np.float32)
    row[np.asarray(figure.extra["ids"])] = figure.extra["logits"]
    return row


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Bases and adapters, made when they are asked for."""
    root = tmp_path_factory.mktemp("shelf")

    def take(family, kind=None):
        base = root / family
        if not base.exists():
            make_base(base, family)
        if kind is None:
            return base
        adapter = root / f"{family}-{kind}"
        if not adapter.exists():
            make_adapter(adapter, base, KINDS[family][kind])
        return adapter

    return take


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.few(2)
def test_on_and_off_are_those_of_peft(shelf, family, kind):
    base, adapter = shelf(family), shelf(family, kind)
    scope = llmscope.load(str(adapter))  # the base is the one that it was trained on
    assert (scope.adapter, scope.adapters) == (adapter.name, (adapter.name,))
    reference = plain(base, adapter)
    own = run(reference).logits[0, -1]
    on = logits(scope)
    assert close(on, own)
    scope.use(None)
    with reference.disable_adapter():
        assert close(logits(scope), run(reference).logits[0, -1])
    assert not close(logits(scope), own)
    scope.use(adapter.name)
    assert close(logits(scope), own)  # on top of what it had recorded itself
    assert close(logits(scope, fresh=True), own)


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.few(2)
def test_what_is_shown_is_the_adapted_models_own(shelf, family, kind):
    base, adapter = shelf(family), shelf(family, kind)
    scope, bare = llmscope.load(str(adapter)), llmscope.load(str(base))
    for capability in ("readout", "writes", "patterns", "activations", "experts"):
        status = bare.verdicts(capability).status
        assert scope.verdicts(capability).status == status, capability
    reference = plain(base, adapter)
    streams = []
    for module in find(reference.get_base_model()).layers:
        module.module.register_forward_pre_hook(
            lambda _, args, named: streams.append((args or (named["hidden_states"],))[0].clone()),
            with_kwargs=True,
        )
    output = run(reference, output_attentions=family != "mamba")
    recording = scope.record(IDS)
    for layer in range(3):
        assert close(recording.rows("stream", layer), streams[layer][0])
        if family == "mamba":
            continue
        for head in range(4):
            figure = scope.look("attention", layer=layer, head=head)
            assert figure.verdict.status == "verified"
            own = output.attentions[layer][0, head]
            assert np.abs(np.nan_to_num(figure.values) - own.numpy()).max() <= 1e-5


def test_the_base_is_never_touched(shelf):
    kinds = [str(shelf("llama", kind)) for kind in LLAMA]
    base = str(shelf("llama"))
    scope = llmscope.load(base, adapters=kinds)
    saved = load_file(shelf("llama") / "model.safetensors")
    alone = logits(llmscope.load(base), fresh=True)
    shown = {}
    for name in (*scope.adapters, None):
        scope.use(name)
        shown[name] = logits(scope, fresh=True)
    assert np.array_equal(shown[None], alone)
    assert len({row.tobytes() for row in shown.values()}) == 6
    own = scope.model.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in saved.items())
    # And no weight of it is there twice.
    scope.use(kinds[0].rpartition("/")[2])
    adapted = {one.data_ptr() for one in scope.model.parameters()}
    scope.use(None)
    assert {one.data_ptr() for one in scope.model.parameters()} <= adapted


def test_recordings_stay_what_they_are(shelf):
    base, first, second = (shelf("llama", kind) for kind in (None, "lora", "ia3"))
    scope = llmscope.load(str(base), adapters=[str(first), str(second)])
    recordings, before = {}, {}
    for name in (None, first.name, second.name):
        scope.use(name)
        recordings[name] = scope.record(IDS)
        before[name] = [scope.look(lens, layer=1).values for lens in ("attention", "mlp")]
    scope.use(None)
    for name, recording in recordings.items():
        after = [
            scope.look(lens, recording=recording, layer=1).values for lens in ("attention", "mlp")
        ]
        for old, new in zip(before[name], after, strict=True):
            np.testing.assert_array_equal(old, new)
    assert not close(before[None][1], before[first.name][1])


def test_names_that_are_alike_are_told_apart(shelf, tmp_path):
    base = shelf("llama")
    twins = [
        make_adapter(tmp_path / at / "poet", base, LLAMA["lora"], i) for i, at in enumerate("ab")
    ]
    scope = llmscope.load(str(base), adapters=map(str, twins))
    assert scope.adapters == ("poet", "poet-2")
    with pytest.raises(ValueError, match="poet, poet-2"):
        scope.use("painter")


def test_in_half_precision_it_is_peft_as_well(shelf):
    base, adapter = shelf("llama"), shelf("llama", "lora")
    scope = llmscope.load(str(adapter), dtype="bfloat16")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    own = run(PeftModel.from_pretrained(model, adapter).eval()).logits[0, -1].float()
    found = logits(scope, fresh=True)
    assert (
        np.abs(found - own.numpy()).max() <= 2 * torch.finfo(torch.bfloat16).eps * own.abs().max()
    )
    assert scope.verdicts("activations").status == "verified"


def test_the_engine_switches_live(shelf):
    base, adapter = shelf("llama"), shelf("llama", "lora")
    reference = plain(base, adapter)
    on = run(reference).logits[0, -1].softmax(-1).max()
    with reference.disable_adapter():
        off = run(reference).logits[0, -1].softmax(-1).max()
    events = []
    engine = Engine(lambda _: llmscope.load(str(adapter)), events.append)
    wants = (Want("next", "next-token", Focus()),)
    engine.start()
    try:
        for serial, name in enumerate((adapter.name, None, adapter.name), 1):
            engine.ask(Request(serial, "", wants, ids=IDS, adapter=name))
            wait_for(events, serial)
    finally:
        engine.close()
    loaded = next(event for event in events if isinstance(event, Loaded))
    assert (loaded.info.adapter, loaded.info.adapters) == (adapter.name, (adapter.name,))
    frames = [event for event in events if isinstance(event, Frame)]
    # A figure that takes longer than a frame waits comes with the next one.
    shown = [event.figures["next"].values[0] for event in frames if "next" in event.figures]
    assert shown == pytest.approx([float(on), float(off), float(on)], rel=1e-5)
    ran = [frame.cost.ran for frame in frames if "next" in frame.figures]
    assert ran == [len(IDS), len(IDS), 0]  # each keeps what it recorded


def wait_for(events, serial):
    import time

    deadline = time.monotonic() + 60
    while not any(isinstance(event, Frame) and event.serial == serial for event in events):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refusal(*arguments, **options):
    with pytest.raises(ScopeError) as caught:
        llmscope.load(*map(str, arguments), **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return f"{caught.value.message} / {caught.value.hint}"


@pytest.mark.parametrize(
    "config", [PromptTuningConfig(num_virtual_tokens=3), PrefixTuningConfig(num_virtual_tokens=3)]
)
def test_virtual_tokens_are_refused(tmp_path, shelf, config):
    adapter = make_adapter(tmp_path / "soft", shelf("llama"), config)
    assert "virtual tokens" in refusal(adapter)


def test_what_is_wrong_with_an_adapter_is_said(tmp_path, shelf):
    base, adapter = shelf("llama"), tmp_path / "poet"
    make_adapter(adapter, base, LLAMA["lora"])
    config, weights = adapter / "adapter_config.json", adapter / "adapter_model.safetensors"
    said, tensors = json.loads(config.read_text()), load_file(weights)

    assert "does not fit GPT2LMHeadModel" in refusal(shelf("gpt2"), adapters=[str(adapter)])
    (tmp_path / "empty").mkdir()
    assert "empty has no config.json" in refusal(base, adapters=[str(tmp_path / "empty")])
    other = make_base(tmp_path / "other", "gpt2")
    assert "is no checkpoint of" in refusal(base, adapters=[str(other)])
    config.write_text(json.dumps(said | {"base_model_name_or_path": "/nowhere/at/all"}))
    assert "which is not here / llmscope.load(BASE, adapters=[ADAPTER])" in refusal(adapter)
    config.write_text(json.dumps(said | {"base_model_name_or_path": f"/{'x' * 5000}"}))
    assert "which is not here / llmscope.load(BASE, adapters=[ADAPTER])" in refusal(adapter)
    assert llmscope.load(str(base), adapters=[str(adapter)]).adapter == "poet"
    config.write_text(json.dumps(said | {"base_model_name_or_path": None}))
    assert "does not say which model" in refusal(adapter)
    config.write_text("{")
    assert "cannot be read" in refusal(adapter)
    config.write_text(json.dumps(said | {"peft_type": "FROM_NEXT_YEAR"}))
    assert "does not fit" in refusal(adapter)
    config.write_text(json.dumps(said))

    further = {name.replace("layers.2", "layers.3"): one.clone() for name, one in tensors.items()}
    save_file(tensors | further, weights)  # of a deeper model of the same widths
    assert "weights that LlamaForCausalLM has no place for" in refusal(adapter)
    some = dict(list(tensors.items())[1:])
    save_file(some, weights)
    assert "lacks 1 of the adapter's weights" in refusal(adapter)
    weights.write_bytes(b"not tensors")
    assert "does not fit" in refusal(adapter)
    weights.unlink()
    assert "has no adapter_model.safetensors" in refusal(adapter)
    torch.save(tensors, adapter / "adapter_model.bin")
    assert "allow_pickle=True" in refusal(adapter)
    assert llmscope.load(str(adapter), allow_pickle=True).adapter == "poet"


def test_a_base_may_lie_inside_of_the_adapters_folder(tmp_path, shelf):
    adapter = make_adapter(tmp_path / "poet", shelf("llama"), LLAMA["lora"])
    make_base(adapter / "base")
    config = adapter / "adapter_config.json"
    said = json.loads(config.read_text()) | {"base_model_name_or_path": "base"}
    config.write_text(json.dumps(said))
    assert llmscope.load(str(adapter)).adapter == "poet"

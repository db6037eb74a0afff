"""A model in memory: the numbers of `load`, and nothing left on the model, the program or torch."""

import copy
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import llmscope
from llmscope.errors import ScopeError
from llmscope.record.derive.verify import CAPABILITIES
from tests.families import FAMILIES as ALL
from tests.families import small_config, small_model

IDS = (3, 4, 5, 6, 3, 4, 5)
FAMILIES = ("gpt2", "llama", "gemma2", "mixtral", "mamba", "opt")
LENSES = ("next-token", "logit-lens", "attention", "neurons", "attribution", "ablation", "saliency")


def traces(model):
    """All that wrapping, recording and looking must leave as it was."""
    modules = [
        (
            module.training,
            *(
                tuple(vars(module)[name])
                for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
            ),
            "forward" in vars(module),
        )
        for module in model.modules()
    ]
    return {
        "modules": modules,
        "parameters": [(one.requires_grad, one.grad is None) for one in model.parameters()],
        "weights": [one.detach().clone() for one in model.state_dict().values()],
        "attention": model.config._attn_implementation,
        "random": torch.get_rng_state(),
        "torch": (
            *(torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()),
            *(torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            torch.is_autocast_enabled("cpu"),
        ),
    }


def same(one, other):
    tensors = zip(one.pop("weights"), other.pop("weights"), strict=True)
    random = torch.equal(one.pop("random"), other.pop("random"))
    return all(torch.equal(*pair) for pair in tensors) and random and one == other


def figures(scope):
    scope.record(IDS)
    return [scope.look(name) for name in LENSES]


REST = [pytest.param(one, marks=pytest.mark.slow) for one in ALL if one not in FAMILIES]


@pytest.mark.few(3)
@pytest.mark.parametrize("family", [*FAMILIES, *REST])
def test_it_shows_what_load_shows_of_the_same_weights_bit_for_bit(family, tmp_path):
    small_model(family).save_pretrained(tmp_path)
    # Read in the same way: weights at other addresses of memory may round otherwise.
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded, wrapped = llmscope.load(tmp_path, threads=1), llmscope.wrap(model)
    for capability in CAPABILITIES:
        assert loaded.verdicts(capability) == wrapped.verdicts(capability)
    for own, other in zip(figures(loaded), figures(wrapped), strict=True):
        assert own.verdict == other.verdict
        assert np.array_equal(own.values, other.values, equal_nan=True), own.lens


@pytest.mark.few(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_on_the_model_or_in_torch(family):
    model = small_model(family).train()
    model.get_input_embeddings().eval()  # a mode of its own is put back too
    before = traces(model)
    with llmscope.wrap(model) as scope:
        assert same(traces(model), copy.deepcopy(before))
        figures(scope)
        scope.record(IDS, edits=["zero layer 1"])
        assert same(traces(model), copy.deepcopy(before))
        with pytest.raises(ValueError, match="no lens"):
            scope.look("no such")
        with pytest.raises(RuntimeError, match="mine"):
            scope.record((*IDS, 8), cancelled=failing)
        assert same(traces(model), copy.deepcopy(before))
    assert same(traces(model), before)


def failing():
    raise RuntimeError("mine")


def test_a_model_in_training_mode_shows_what_it_shows_in_evaluation_mode():
    model = small_model("gpt2", resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5)
    evaluated = figures(llmscope.wrap(model.eval()))
    trained = figures(llmscope.wrap(model.train()))
    for own, other in zip(evaluated, trained, strict=True):
        assert own.verdict == other.verdict
        assert np.array_equal(own.values, other.values, equal_nan=True), own.lens
    assert model.training


@pytest.mark.few(2)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_training_with_a_record_in_each_step_gives_the_same_parameters(family, optimizer):
    """The record comes between the forward and the backward pass."""
    dropout = {"gpt2": {"resid_pdrop": 0.2, "embd_pdrop": 0.2}, "llama": {"attention_dropout": 0.2}}

    def trained(watched):
        torch.manual_seed(7)
        model = small_model(family, **dropout[family]).train()
        model.gradient_checkpointing_enable()
        scope = llmscope.wrap(model) if watched else None
        steps = optimizer(model.parameters(), lr=1e-2)
        seen = []
        for step in range(10):
            ids = torch.randint(3, 40, (2, 12), generator=torch.Generator().manual_seed(step))
            loss = model(input_ids=ids, labels=ids).loss
            if scope is not None:
                scope.record(IDS)
                seen.append(scope.look("next-token").values[0])
                scope.look("saliency")
            loss.backward()
            steps.step()
            steps.zero_grad()
        return [one.detach() for one in model.parameters()], seen

    alone, _ = trained(watched=False)
    watched, seen = trained(watched=True)
    assert all(map(torch.equal, alone, watched))
    assert len(set(seen)) == 10, "each step has other weights"


def test_settings_of_the_program_do_not_change_the_numbers():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    plain = figures(scope)

    def again(context):
        with context:
            found = figures(llmscope.wrap(model))
        for own, other in zip(plain, found, strict=True):
            assert own.verdict == other.verdict
            assert np.array_equal(own.values, other.values, equal_nan=True), own.lens

    again(torch.inference_mode())
    again(torch.autocast("cpu", dtype=torch.bfloat16))
    again(torch.no_grad())
    again(torch.device("meta"))
    torch.set_default_dtype(torch.float64)
    try:
        again(torch.enable_grad())
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_half_precision(family):
    scope = llmscope.wrap(small_model(family).bfloat16())
    recording = scope.record(IDS)
    assert (scope.loaded_model.dtype, recording.logits.dtype) == (torch.bfloat16, torch.bfloat16)
    assert scope.look("next-token").verdict.status == "verified"


def test_two_scopes_on_one_model_agree_and_one_that_is_detached_leaves_the_other():
    model = small_model("llama")
    one, other = llmscope.wrap(model), llmscope.wrap(model)
    first, second = figures(one), figures(other)
    for own, there in zip(first, second, strict=True):
        assert np.array_equal(own.values, there.values, equal_nan=True), own.lens
    recording = one.latest
    one.detach()
    with pytest.raises(ScopeError, match="detached"):
        one.record(IDS)
    with pytest.raises(ScopeError, match="detached"):
        one.look("next-token", recording=recording)
    assert other.look("attention", layer=1).verdict.status == "verified"
    assert "detached" in repr(one)
    assert "3 layers, 4 heads, width 48, float32 on cpu" in repr(other)


@pytest.mark.slow
def test_what_compiles_adapts_or_parallelises_a_model_is_looked_through():
    peft = pytest.importorskip("peft")
    model = small_model("llama")
    plain = figures(llmscope.wrap(model))
    for outer in (torch.compile(model), nn.DataParallel(model)):
        for own, other in zip(plain, figures(llmscope.wrap(outer)), strict=True):
            assert np.array_equal(own.values, other.values, equal_nan=True), own.lens
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    tuned = peft.get_peft_model(model, config)
    scope = llmscope.wrap(tuned)
    recording = scope.record(IDS)
    with torch.no_grad():
        own = tuned.eval()(torch.tensor([IDS])).logits[0, -1]
    assert torch.allclose(recording.logits, own, atol=1e-5)
    assert scope.look("attention", layer=1).verdict.status == "verified"
    with tuned.disable_adapter():
        assert torch.allclose(scope.record(IDS).logits, own, atol=1e-5) is False


def test_a_model_that_is_trained_on_several_processes_is_looked_through(tmp_path):
    model = small_model("llama")
    plain = figures(llmscope.wrap(model))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        outer = nn.parallel.DistributedDataParallel(model)
        for own, other in zip(plain, figures(llmscope.wrap(outer)), strict=True):
            assert np.array_equal(own.values, other.values, equal_nan=True), own.lens
    finally:
        torch.distributed.destroy_process_group()


def test_a_model_compiled_in_place_runs_as_it_is_written():
    model = small_model("llama")
    plain = figures(llmscope.wrap(model))
    model.compile(backend="eager")
    compiled = model._compiled_call_impl
    for own, other in zip(plain, figures(llmscope.wrap(model)), strict=True):
        assert np.array_equal(own.values, other.values, equal_nan=True), own.lens
    assert model._compiled_call_impl is compiled


class TestRefusals:
    def test_what_is_no_model(self):
        with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
            llmscope.wrap("gpt2")

        class Pipeline:
            model = nn.Linear(2, 2)

        with pytest.raises(TypeError, match=r"pass its \.model"):
            llmscope.wrap(Pipeline())
        with pytest.raises(TypeError, match="tokenizer must be"):
            llmscope.wrap(small_model("gpt2"), "gpt2")

    def test_a_plain_module(self):
        with pytest.raises(ScopeError, match="Linear is a plain module"):
            llmscope.wrap(nn.Linear(2, 2))

    def test_a_model_without_a_head(self):
        with pytest.raises(ScopeError, match="gives no logits"):
            llmscope.wrap(AutoModel.from_config(small_config("llama")))

    def test_an_encoder(self):
        from transformers import BertConfig

        sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        model = AutoModelForMaskedLM.from_config(BertConfig(vocab_size=64, hidden_size=32, **sizes))
        with pytest.raises(ScopeError, match="depend on the token after it, as in an encoder"):
            llmscope.wrap(model)

    @pytest.mark.parametrize("share", [0.01, 0.2])
    def test_a_model_that_draws_random_numbers(self, share):
        model = small_model("llama")
        model.model.layers[1].mlp.register_forward_hook(
            lambda _, args, output: nn.functional.dropout(output, share, training=True)
        )
        with pytest.raises(ScopeError, match="other logits each time for the same tokens"):
            llmscope.wrap(model)

    def test_an_encoder_with_a_decoder(self):
        from transformers import T5Config, T5ForConditionalGeneration

        small = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        with pytest.raises(ScopeError, match="has an encoder of its own"):
            llmscope.wrap(T5ForConditionalGeneration(small))

    def test_a_sharded_model(self):
        class FullyShardedDataParallel(nn.Module):
            pass

        class DeepSpeedEngine(nn.Module):
            pass

        with pytest.raises(ScopeError, match=r"\(FSDP or tensor parallelism\)"):
            llmscope.wrap(FullyShardedDataParallel())
        with pytest.raises(ScopeError, match="DeepSpeed"):
            llmscope.wrap(DeepSpeedEngine())

    def test_an_adapter_that_adds_tokens(self):
        peft = pytest.importorskip("peft")
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        with pytest.raises(ScopeError, match="adds virtual tokens"):
            llmscope.wrap(peft.get_peft_model(small_model("gpt2"), config))

    def test_text_without_a_tokenizer(self):
        with pytest.raises(ScopeError):
            llmscope.wrap(small_model("gpt2")).record("a text")


def test_a_tokenizer_makes_it_take_text():
    from llmscope.models.sources import builtin

    folder = builtin.home() / "sort"
    model = AutoModelForCausalLM.from_pretrained(folder)
    scope = llmscope.wrap(model, AutoTokenizer.from_pretrained(folder))
    recording = scope.record("CAB")
    assert recording.prompt.labels == ("C", "A", "B")
    assert scope.tokenizer is not None
    # Its weights may have changed since they were read: it must not go by the name of the file.
    assert (scope.info().spec, scope.info().name) == ("in-memory", "sort")
    scope.use(scope.teach("CA\n", "B"))
    assert scope.record("B").model.adapter == "context"
    assert scope.look("next-token").verdict.status == "verified"
    scope.detach()
    with pytest.raises(ScopeError, match="detached"):
        scope.use(None)


@pytest.mark.slow
def test_importing_and_loading_change_nothing_of_the_process(tmp_path):
    code = (
        "import os, signal, sys, torch, transformers\n"
        "def state():\n"
        "    return (dict(os.environ), torch.get_num_threads(), torch.get_default_dtype(),\n"
        "        torch.is_grad_enabled(), torch.get_rng_state().tolist(),\n"
        "        [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],\n"
        "        sys.excepthook, transformers.logging.get_verbosity(), os.getcwd())\n"
        "torch.set_num_threads(2)\n"
        "before = state()\n"
        "import llmscope\n"
        "scope = llmscope.load('builtin:sort')\n"
        "scope.record('CAB'); scope.look('ablation'); scope.look('saliency')\n"
        "print([one == other for one, other in zip(before, state())])\n"
    )
    environment = {name: one for name, one in os.environ.items() if "OMP" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == str([True] * 9), done.stderr


@pytest.mark.parametrize("scopes", [1, 2])
def test_threads_wait_for_one_another(scopes):
    model = small_model("llama")
    made = [llmscope.wrap(model) for _ in range(scopes)]
    prompts = [(3, 4, 5, 6), (9, 8, 7), (3, 4, 9, 9, 1)]
    own = {}
    for ids in prompts:
        made[0].record(ids, fresh=True)
        own[ids] = made[0].look("attention", layer=1).values
    wrong, errors = [], []

    def work(number):
        scope = made[number % scopes]
        try:
            for turn in range(12):
                ids = prompts[(number + turn) % 3]
                recording = scope.record(ids)
                found = scope.look("attention", recording=recording, layer=1).values
                if not np.allclose(found, own[ids], atol=1e-5, equal_nan=True):
                    wrong.append(ids)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, errors) == ([], [])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dynamic_int8_is_verified_or_refused_and_says_what_it_does(family):
    model = small_model(family).eval()
    packed = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    scope = llmscope.wrap(packed)
    recording = scope.record(IDS)
    assert "quantised by their range" in " ".join(scope.info().notices)
    with torch.no_grad():
        own = packed(torch.tensor([IDS]), logits_to_keep=1).logits[0, -1]
    assert torch.allclose(recording.logits, own, atol=1e-6)
    for lens in ("next-token", "logit-lens", "attention", "ablation"):
        assert scope.look(lens).verdict.status == "verified"
    letter = scope.record((*IDS, 9))
    assert letter.reused == 0
    assert scope.look("saliency").verdict.status == "refused"


def test_accelerate_gives_a_model_that_can_be_wrapped():
    accelerate = pytest.importorskip("accelerate")
    model = small_model("llama")
    prepared = accelerate.Accelerator(cpu=True).prepare(copy.deepcopy(model))
    one, other = figures(llmscope.wrap(prepared)), figures(llmscope.wrap(model))
    for found, wanted in zip(one, other, strict=True):
        assert np.array_equal(found.values, wanted.values, equal_nan=True)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("org/my-model", "my-model"),
        ("/cache/pypi/" + "b179c9523d0e6a0f" * 4, "LlamaForCausalLM"),
        ("/hub/models--org--x/snapshots/" + "0123456789abcdef0123" * 2 + "/", "LlamaForCausalLM"),
        ("", "LlamaForCausalLM"),
    ],
)
def test_a_digest_is_no_name(path, name):
    model = small_model("llama")
    model.config._name_or_path = path
    assert llmscope.wrap(model).info().name == name

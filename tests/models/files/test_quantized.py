"""Quantised checkpoints: what runs here gives transformers' numbers, what does not says why."""

import json
import sys
from importlib import metadata

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.quantizers import quantizer_bnb_4bit, quantizer_bnb_8bit, quantizer_gptq

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.files import quantized
from llmscope.models.loading import dispatch
from llmscope.models.loading.load import load_model
from tests.families import small_model
from tests.models.checkpoints import edit_config, write_config

IDS = [5, 17, 3, 42, 8, 29]
BLOCK = 16
SHOWN = ("readout", "writes", "patterns", "activations")


def save_fp8(folder, dtype=torch.float32):
    """A Llama whose projections are float8 , a scale for each block; gives back what it means."""
    model = small_model("llama").to(dtype)
    model.save_pretrained(folder)
    written, meant = {}, model.state_dict()
    for name, weight in model.state_dict().items():
        written[name] = weight.contiguous()
        if name.endswith("proj.weight"):
            rows, columns = weight.shape
            blocks = weight.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
            scale = blocks.abs().amax((1, 3)) / torch.finfo(torch.float8_e4m3fn).max
            packed = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
            written[name] = packed.reshape(rows, columns).contiguous()
            written[f"{name}_scale_inv"] = scale.contiguous()
            meant[name] = (packed.float() * scale[:, None, :, None]).reshape(rows, columns)
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
        "activation_scheme": "dynamic",
    }
    edit_config(folder, quantization_config=settings)
    model.load_state_dict(meant)
    return model


@pytest.fixture
def no_gpu(monkeypatch):
    """fp8 is unpacked where there is no GPU for it, which is what is tested here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("stored", "asked", "runs"),
    [
        (torch.float32, "auto", "float32"),
        (torch.bfloat16, "auto", "bfloat16"),
        (torch.bfloat16, "float32", "float32"),
    ],
)
def test_float8_is_unpacked(tmp_path, no_gpu, stored, asked, runs):
    """Into the checkpoint's own numbers unless others are asked for, on a CPU too."""
    meant = save_fp8(tmp_path, stored)
    scope = llmscope.load(str(tmp_path), device="cpu", dtype=asked)
    assert scope.info().dtype == runs
    assert f"weights are fp8 in the file, and were unpacked to {runs}" in scope.info().notices
    with torch.no_grad():
        own = meant.float()(torch.tensor([IDS])).logits[0, -1]
    bound = 1e-5 if stored == torch.float32 else 0.1  # bfloat16 rounds the weights once more
    assert (scope.record(IDS).logits.float() - own).abs().max() < bound
    assert [scope.verdicts(name).status for name in SHOWN] == ["verified"] * 4
    readout = scope.verdicts("activations").discrepancy or 0.0
    assert readout <= (1e-5 if runs == "float32" else 4 * torch.finfo(torch.bfloat16).eps)


def test_float8_spread_over_memory_and_disk(tmp_path, no_gpu, empty_cache, monkeypatch):
    meant = save_fp8(tmp_path / "model")
    monkeypatch.setattr(dispatch, "MAX_MEMORY", {"cpu": 60_000})
    scope = llmscope.load(str(tmp_path / "model"), device="spread")
    assert any(weight.device.type == "meta" for weight in scope.model.parameters())
    with torch.no_grad():
        own = meant(torch.tensor([IDS])).logits[0, -1]
    assert (scope.record(IDS).logits - own).abs().max() < 1e-5
    assert scope.verdicts("patterns").status == "verified"


def bitsandbytes(bits):
    return {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}


def without(monkeypatch):
    """As if none of the packages were installed."""

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    for module in (quantizer_bnb_4bit, quantizer_bnb_8bit):
        monkeypatch.setattr(module, "is_bitsandbytes_available", lambda: False)
    monkeypatch.setattr(quantizer_gptq, "is_optimum_available", lambda: False)
    for name in {"torchao", *sys.modules}:
        if name.partition(".")[0] == "torchao":
            monkeypatch.setitem(sys.modules, name, None)


TORCHAO = {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}, "_version": 2}}


@pytest.mark.parametrize(
    ("settings", "message", "package"),
    [
        (bitsandbytes(8), "quantised with bitsandbytes, which is not installed", "bitsandbytes"),
        (bitsandbytes(4), "quantised with bitsandbytes, which is not installed", "bitsandbytes"),
        ({"load_in_8bit": True}, "quantised with bitsandbytes, which is", "bitsandbytes"),
        ({"quant_method": "torchao", "quant_type": TORCHAO}, "with torchao, which is", "torchao"),
        ({"quant_method": "gptq", "bits": 4}, "gptq, whose package optimum is not", "optimum"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_missing_package_is_told_before_anything_is_read(
    tmp_path, monkeypatch, settings, message, package, nested
):
    without(monkeypatch)
    config = {"quantization_config": settings}
    write_config(
        tmp_path,
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        **({"text_config": config} if nested else config),
    )  # there are no weights to read
    with pytest.raises(ScopeError, match=message) as caught:
        load_model(str(tmp_path))
    assert caught.value.hint.startswith("pip install ")
    assert package in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("method", ["eetq", "spqr", "higgs", "fbgemm_fp8", "vptq", "nvfp4"])
def test_a_missing_gpu_or_package_is_one_line(tmp_path, no_gpu, method):
    more = {
        "spqr": {"bits": 3, "beta1": 16, "beta2": 16, "shapes": {}},
        "vptq": {"config_for_layers": {}, "shared_layer_config": {}},
    }
    settings = {"quant_method": method, **more.get(method, {})}
    write_config(tmp_path, model_type="llama", quantization_config=settings)
    with pytest.raises(ScopeError, match=f"is quantised with {method}") as caught:
        load_model(str(tmp_path))
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("method", ["my_own", "", None, "\x1b[31m"])
def test_an_unknown_method_is_refused(tmp_path, method):
    """transformers would take the packed numbers for plain ones."""
    small_model("llama").save_pretrained(tmp_path)
    edit_config(tmp_path, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(ScopeError, match="which transformers cannot read") as caught:
        load_model(str(tmp_path))
    assert "\x1b" not in caught.value.message


def test_an_old_package_is_not_called_missing(monkeypatch):
    without(monkeypatch)
    monkeypatch.setattr(metadata, "version", lambda name: "0.1")
    with pytest.raises(ScopeError, match=r"bitsandbytes 0\.1 does not work") as caught:
        quantized.check_quantised({"quantization_config": bitsandbytes(8)}, "x")
    assert "--upgrade" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (bitsandbytes(8), "int8 (bitsandbytes)"),
        (bitsandbytes(4) | {"bnb_4bit_quant_type": "nf4"}, "nf4 (bitsandbytes)"),
        ({"quant_method": "torchao", "quant_type": TORCHAO}, "int8 (torchao)"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4 (torchao)"),
        ({"quant_method": "gptq", "bits": 4}, "4 bits (gptq)"),
        ({"quant_method": "quanto", "weights": "int8"}, "int8 (quanto)"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "float8 (compressed-tensors)",
        ),
    ],
)
def test_the_notice_names_the_numbers(settings, told):
    packed = type("Model", (), {"hf_quantizer": object(), "dtype": torch.bfloat16})
    config = json.loads(json.dumps({"quantization_config": settings}))
    assert quantized.describe(config, packed) == [f"weights are {told}"]


def test_plain_weights_have_no_notice():
    assert quantized.describe({"quantization_config": None}, None) == []


def held_against_transformers(folder, method, dtype):
    scope = llmscope.load(str(folder), device="cpu")
    assert f"weights are int8 ({method})" in scope.info().notices
    assert scope.info().dtype == dtype
    own = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map={"": "cpu"})
    with torch.no_grad():
        logits = own.eval()(torch.tensor([IDS])).logits[0, -1]
    assert (scope.record(IDS).logits - logits).abs().max() < 1e-4
    assert [scope.verdicts(name).status for name in SHOWN] == ["verified"] * 4
    scope.record(IDS[:4])
    assert scope.record(IDS).reused == 4
    return scope


@pytest.mark.parametrize(("family", "dtype"), [("llama", "bfloat16"), ("llama", "float32")])
def test_torchao(tmp_path, family, dtype):
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    small_model(family).save_pretrained(tmp_path / "plain")
    made = AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain",
        dtype=getattr(torch, dtype),
        quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig(version=2)),
    )
    made.save_pretrained(tmp_path / "packed")
    held_against_transformers(tmp_path / "packed", "torchao", dtype)


def test_bitsandbytes(tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    small_model("llama").save_pretrained(tmp_path / "plain")
    made = AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain",
        dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        device_map={"": "cpu"},
    )
    made.save_pretrained(tmp_path / "packed")
    held_against_transformers(tmp_path / "packed", "bitsandbytes", "bfloat16")
    with pytest.raises(ScopeError, match="do not run in float32"):
        load_model(str(tmp_path / "packed"), device="cpu", dtype="float32")

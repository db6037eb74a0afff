"""The table of quantisation methods, held against transformers' own quantizers."""

import pytest
import torch
from transformers.quantizers import (
    quantizer_awq,
    quantizer_bnb_4bit,
    quantizer_bnb_8bit,
    quantizer_compressed_tensors,
    quantizer_fbgemm_fp8,
    quantizer_gptq,
    quantizer_mxfp4,
    quantizer_torchao,
)
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer
from transformers.utils import import_utils

from llmscope.models.files import quantization_support
from llmscope.models.files.quantization_support import METHODS, requirements, support

CARDS = [None, (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
CONFIGS = {"fp8": {}, "fbgemm_fp8": {}, "mxfp4": {}}


def installed_all(monkeypatch, version="99.0"):
    """As if every package were there, in a version that suits."""
    versions = {"kernels": import_utils.KERNELS_MIN_VERSION}
    monkeypatch.setattr(quantization_support, "installed", lambda name: versions.get(name, version))


def test_the_methods_are_known_to_transformers():
    known = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}
    assert {one.method for one in METHODS} <= known


def test_the_versions_are_those_that_transformers_asks_for():
    least = {
        "bitsandbytes": import_utils.BITSANDBYTES_MIN_VERSION,
        "torchao": import_utils.TORCHAO_MIN_VERSION,
        "compressed-tensors": import_utils.COMPRESSED_TENSORS_MIN_VERSION,
        "kernels": import_utils.KERNELS_MIN_VERSION,
        "optimum": quantizer_gptq.MIN_OPTIMUM_VERSION,
    }
    for method in METHODS:
        for wanted in requirements(method):
            if wanted.name in least:
                assert wanted.specifier.contains(least[wanted.name]), wanted
                assert not wanted.specifier.contains("0.0.1")


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("method", list(CONFIGS))
def test_hardware_is_able_where_transformers_says_so(monkeypatch, method, card):
    """Those of the methods whose quantizers look at the hardware."""
    installed_all(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: card)
    # A torch built for CUDA names that as its accelerator also where there is no card.
    accelerator = None if card is None else torch.device("cuda")
    monkeypatch.setattr(quantizer_mxfp4, "get_current_accelerator", lambda: accelerator)
    for name in ("is_triton_available", "is_kernels_available"):
        monkeypatch.setattr(quantizer_mxfp4, name, lambda *_: True)
    monkeypatch.setattr(quantizer_fbgemm_fp8, "is_torch_cuda_available", lambda: card is not None)
    monkeypatch.setattr(quantizer_fbgemm_fp8, "is_fbgemm_gpu_available", lambda: True)
    quantizer = AutoHfQuantizer.from_config(
        {"quant_method": method, **CONFIGS[method]}, pre_quantized=True
    )
    place = {"": "cpu" if card is None else "cuda:0"}
    try:
        quantizer.validate_environment(device_map=place, weights_only=True)
    except (ImportError, ValueError, RuntimeError):
        runs = "no"
    else:
        unpacked = getattr(quantizer.quantization_config, "dequantize", False)
        runs = "unpacked" if unpacked else "yes"
    device = "cpu" if card is None else "cuda"
    told = {one.method: one for one in support(device, card)}[method]
    assert told.runs == runs
    assert told.hardware == (runs == "yes")
    assert bool(told.why) == (runs != "yes")


@pytest.mark.parametrize(
    ("module", "checks", "config", "packages"),
    [
        (
            quantizer_bnb_8bit,
            ("is_bitsandbytes_available",),
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            ("bitsandbytes",),
        ),
        (
            quantizer_bnb_4bit,
            ("is_bitsandbytes_available",),
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            ("bitsandbytes",),
        ),
        (quantizer_awq, ("is_gptqmodel_available",), {"quant_method": "awq"}, ("gptqmodel",)),
        (
            quantizer_torchao,
            ("is_torchao_available",),
            {"quant_method": "torchao", "quant_type": "int8_weight_only"},
            ("torchao",),
        ),
        (
            quantizer_compressed_tensors,
            ("is_compressed_tensors_available",),
            {"quant_method": "compressed-tensors"},
            ("compressed-tensors",),
        ),
    ],
    ids=["8bit", "4bit", "awq", "torchao", "compressed-tensors"],
)
def test_a_missing_package_is_the_one_that_transformers_asks_for(
    monkeypatch, module, checks, config, packages
):
    for check in checks:
        monkeypatch.setattr(module, check, lambda *_: False)
    monkeypatch.setattr(quantization_support, "installed", lambda name: None)
    told = [one for one in support("cpu", None) if one.method == config["quant_method"]]

    def look():
        quantizer = AutoHfQuantizer.from_config(config, pre_quantized=True)
        quantizer.validate_environment(device_map={"": "cpu"}, weights_only=True)

    with pytest.raises(ImportError) as caught:
        look()
    for one in told:
        assert tuple(one.packages) == packages
        assert one.runs == "no"
        assert all(package in one.hint for package in packages)
        assert all(
            package.replace("-", "_") in str(caught.value).replace("-", "_") for package in packages
        )


def test_an_old_package_is_not_enough(monkeypatch):
    monkeypatch.setattr(quantization_support, "installed", lambda name: "0.1")
    told = {one.name: one for one in support("cuda", (9, 0))}
    assert told["bitsandbytes 8 bit"].why == "bitsandbytes is 0.1"
    assert told["bitsandbytes 8 bit"].hint == "pip install 'bitsandbytes>=0.46.1'"
    assert told["bitsandbytes 8 bit"].packages == {"bitsandbytes": "0.1"}
    assert told["AWQ"].runs == "yes"


def test_of_another_maker_it_is_not_known(monkeypatch):
    installed_all(monkeypatch)
    assert {one.runs for one in support("mps", None)} == {"unknown", "unpacked"}
    assert {one.hardware for one in support("mps", None)} == {None}
    monkeypatch.setattr(quantization_support, "installed", lambda name: None)
    assert {one.runs for one in support("mps", None)} == {"no", "unpacked"}

"""Quantised weights: they load, what can be shown is told, and logits are transformers' own."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tests.gpu.errors import ROUNDINGS, bound, largest
from tests.gpu.report import Section, first_line
from tests.gpu.setting import DTYPES, Checkpoint, Setting
from tests.record.by_hand import A, B

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "head_dim": 32,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 128,
}
"""Sizes that the kernels take: whole blocks of 64 and 128 weights."""
CAPABILITIES = ("readout", "writes", "patterns", "activations", "experts")
EIGHT_BITS = "bitsandbytes 8 bit"
"""Which columns it rounds to int8, by 1 / 127 of the row, depends on all tokens of the pass."""
BLOCK = 128
"""Weights in each direction that share a scale in fp8."""


def check(setting: Setting, section: Section) -> None:
    """Try each method whose package can be imported, and the real model if it is quantised."""
    plain = setting.checkpoint("llama", "llama-to-quantise", **SIZES)
    makers: dict[str, tuple[str, Callable[[Setting, Checkpoint, Path], None]]] = {
        EIGHT_BITS: ("bitsandbytes", _eight_bit),
        "bitsandbytes 4 bit": ("bitsandbytes", _four_bit),
        "torchao int8": ("torchao", _torchao),
        "fp8": ("torch", _fp8),
        "GPTQ 4 bit": ("gptqmodel", _gptq),
    }
    for name, (package, make) in makers.items():
        if find_spec(package) is None:
            section.skip(name, f"{package} is not installed")
            continue
        folder = setting.home / name.replace(" ", "-")
        try:
            make(setting, plain, folder)
            own = _logits(setting, folder)
        except Exception as error:  # the method itself does not run here
            section.skip(name, f"transformers itself does not run it here: {first_line(error)}")
            continue
        _compare(setting, section, name, folder, own)
        setting.free()
    if not _given(setting, section):
        section.skip("AWQ", "transformers packs no weights by it: give such a model with --model")


def _compare(setting: Setting, section: Section, name: str, folder: Path, own: Any) -> None:
    scope = setting.scope(folder, "auto")
    section.tell(f"{name}: notices", "; ".join(scope.info().notices))
    dtype = scope.info().dtype
    found = scope.record(A, fresh=True)
    limit = bound(dtype, scope.info().layers)
    section.at_most(f"{name}: last logits", largest(found.logits, own), limit)
    told = Counter[str]()
    for capability in CAPABILITIES:
        for layer in range(scope.info().layers):
            verdict = scope.verdicts(capability, layer)
            told[verdict.status] += 1
            if verdict.status != "verified" and not verdict.reason:
                section.true(f"{name}: reason of {capability} {layer}", "missing", False)
    counted = ", ".join(f"{count} {status}" for status, count in told.items())
    section.true(f"{name}: verdicts", counted, told.total() > 0)
    scope.record(A[:5])
    again = scope.record(A)
    mixed = name == EIGHT_BITS
    coarse = limit + ROUNDINGS / 127 * math.sqrt(scope.info().layers) * mixed
    section.at_most(f"{name}: last logits, reused", largest(again.logits, own), coarse)
    section.at_least(f"{name}: tokens reused", again.reused, None if mixed else 5)
    # Another prompt, so that a check that compares nothing would be seen.
    other = largest(scope.record(B).logits, own)
    section.at_least(f"{name}: another prompt is as far off as", other, limit)


def _logits(setting: Setting, folder: Path) -> Any:
    """Return transformers' own last logits of the quantised model."""
    model = setting.own(folder, "auto", device_map={"": str(setting.device)})
    with torch.no_grad():
        ids = torch.tensor([A], device=setting.device)
        return model(input_ids=ids, use_cache=False).logits[0, -1]


def _packed(setting: Setting, plain: Checkpoint, folder: Path, settings: Any, dtype: str) -> None:
    """Quantise a checkpoint as transformers does, and save it."""
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(
        plain.folder,
        dtype=DTYPES[dtype],
        quantization_config=settings,
        device_map={"": str(setting.device)},
        local_files_only=True,
    )
    made.save_pretrained(folder)


def _eight_bit(setting: Setting, plain: Checkpoint, folder: Path) -> None:
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_8bit=True)
    _packed(setting, plain, folder, settings, "float16" if setting.cuda else "bfloat16")


def _four_bit(setting: Setting, plain: Checkpoint, folder: Path) -> None:
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    _packed(setting, plain, folder, settings, "bfloat16")


def _torchao(setting: Setting, plain: Checkpoint, folder: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    settings = TorchAoConfig(Int8WeightOnlyConfig(version=2))
    _packed(setting, plain, folder, settings, "bfloat16")


def _gptq(setting: Setting, plain: Checkpoint, folder: Path) -> None:
    from transformers import GPTQConfig

    from tests.benchmarks.texts import prompts
    from tests.gpu.words import with_tokenizer

    tokenizer = with_tokenizer(plain.folder, SIZES["vocab_size"])
    settings = GPTQConfig(bits=4, dataset=prompts(tokenizer, 16), tokenizer=tokenizer)
    _packed(setting, plain, folder, settings, "float16")


def _fp8(setting: Setting, plain: Checkpoint, folder: Path) -> None:
    """Write projections as float8, with a scale for each block."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(plain.folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    written = {}
    for name, weight in model.state_dict().items():
        written[name] = weight.contiguous()
        if name.endswith("proj.weight"):
            rows, columns = weight.shape
            blocks = weight.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
            scale = blocks.abs().amax((1, 3)) / torch.finfo(torch.float8_e4m3fn).max
            small = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
            written[name] = small.reshape(rows, columns).contiguous()
            written[f"{name}_scale_inv"] = scale.contiguous()
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    settings = {
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
        "activation_scheme": "dynamic",
    }
    config = json.loads(path.read_text("utf-8")) | {"quantization_config": settings}
    path.write_text(json.dumps(config), "utf-8")


def _given(setting: Setting, section: Section) -> bool:
    """Compare the real model if its weights are quantised; return whether they are."""
    if setting.model is None:
        return False
    config = json.loads((setting.model / "config.json").read_text("utf-8"))
    if not config.get("quantization_config"):
        return False
    _compare(setting, section, setting.model.name, setting.model, _logits(setting, setting.model))
    return True

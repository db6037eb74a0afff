"""The largest models that fit: what they take in memory and time, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section
from tests.gpu.setting import Setting
from tests.gpu.shapes import MIXTURE, SEVENTY_BILLION, SMALL, SMALL_MIXTURE, Shape, random_model

GIB = 1 << 30
SHARE = 0.6
"""Of the free memory that weights may take: the rest is for rows and caches."""
LENGTH, QUICK_LENGTH = 1_000, 60
"""Tokens of the prompt that is recorded."""
FOUR_BITS = 0.56
"""Bytes of a weight in 4 bits, with the scales of its blocks."""


def check(setting: Setting, section: Section) -> None:
    """Measure a mixture of experts as large as fits, and 70B's shape in 4 bits."""
    dtype = torch.bfloat16 if setting.cuda else torch.float32
    whole = setting.cuda and not setting.quick
    mixture = _fitted(setting, MIXTURE, dtype) if whole else SMALL_MIXTURE
    if mixture.layers:
        _parts(setting, section, mixture, lambda: random_model(setting, mixture, dtype))
    else:
        section.skip(mixture.name, "not one layer of it fits")
    setting.free()
    dense = SEVENTY_BILLION if whole else SMALL
    if not setting.cuda:
        section.skip(f"{SEVENTY_BILLION.name} in 4 bits", "it needs a GPU")
        _parts(setting, section, dense, lambda: random_model(setting, dense, dtype))
    elif find_spec("bitsandbytes") is None:
        section.skip(f"{dense.name} in 4 bits", "bitsandbytes is not installed")
    elif FOUR_BITS * weights_of(dense) > SHARE * torch.cuda.mem_get_info()[0]:
        section.skip(f"{dense.name} in 4 bits", "its weights do not fit")
    else:
        _parts(setting, section, dense, lambda: _in_four_bits(setting, dense))


def weights_of(shape: Shape) -> int:
    """Return the number of weights of a shape."""
    return shape.layers * layer_weights(shape) + 2 * shape.vocabulary * shape.width


def layer_weights(shape: Shape) -> int:
    """Return the number of weights of a layer."""
    attention = 2 * shape.width * shape.width * (1 + shape.key_heads / shape.heads)
    experts = shape.more.get("num_local_experts", 1)
    return int(attention + experts * 3 * shape.width * shape.neurons)


def _fitted(setting: Setting, shape: Shape, dtype: torch.dtype) -> Shape:
    """Return the shape with as many of its layers as fit."""
    free, _ = torch.cuda.mem_get_info(setting.device)
    room = SHARE * free / dtype.itemsize - 2 * shape.vocabulary * shape.width
    layers = max(0, min(shape.layers, int(room / layer_weights(shape))))
    return replace(shape, name=f"{shape.name}, {layers} of {shape.layers} layers", layers=layers)


def _parts(setting: Setting, section: Section, shape: Shape, make: Callable[[], Any]) -> None:
    """Build a model and look into it: seconds and memory of each part."""
    import llmscope

    clock = _Clock(setting, section, shape.name)
    model = clock.timed("building it", make)
    section.tell(f"{shape.name}: billions of weights", weights_of(shape) / 1e9)
    chance = torch.Generator().manual_seed(0)
    length = LENGTH if setting.cuda and not setting.quick else QUICK_LENGTH
    ids = torch.randint(1, shape.vocabulary, (length,), generator=chance).tolist()
    scope = clock.timed("wrapping it", lambda: llmscope.wrap(model))
    clock.timed("first checks", lambda: scope.verdicts("readout"))
    clock.timed(f"first recording, {length - 1} tokens", lambda: scope.record(ids[:-1]))
    clock.timed("first letter", lambda: scope.record(ids))
    clock.timed("a letter", lambda: scope.record([*ids, 5]))
    recording = clock.timed(
        f"fresh recording, {length} tokens", lambda: scope.record(ids, fresh=True)
    )
    for lens in ("attention", "logit-lens", "residual"):
        figure = clock.timed(f"the lens {lens}", lambda lens=lens: scope.look(lens))
        status = figure.verdict.status
        section.true(f"{shape.name}: {lens} is", status, bool(status != "refused"))
    with torch.no_grad():
        batch = torch.tensor([ids], device=recording.logits.device)
        if setting.spoil is not None:
            setting.spoil(model)
        own = model(input_ids=batch, use_cache=False, logits_to_keep=1).logits[0, -1]
    limit = bound(scope.info().dtype, shape.layers)
    section.at_most(f"{shape.name}: last logits", largest(recording.logits, own), limit)


class _Clock:
    """Times parts, and tells what memory they reach."""

    def __init__(self, setting: Setting, section: Section, name: str) -> None:
        self._setting, self._section, self._name = setting, section, name

    def timed(self, what: str, run: Callable[[], Any]) -> Any:
        """Return what a function returns, with its seconds and the peak of memory told."""
        setting = self._setting
        setting.synchronize()
        if setting.cuda:
            torch.cuda.reset_peak_memory_stats(setting.device)
        begun = time.perf_counter()
        made = run()
        setting.synchronize()
        self._section.tell(f"{self._name}: {what}, s", time.perf_counter() - begun)
        if setting.cuda:
            peak = torch.cuda.max_memory_allocated(setting.device) / GIB
            self._section.tell(f"{self._name}: {what}, GiB at most", peak)
        return made


def _in_four_bits(setting: Setting, shape: Shape) -> Any:
    """Build the model with 4-bit weights: each matrix is drawn on the GPU and packed there."""
    import bitsandbytes
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16).eval()
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or name == "lm_head":
            continue
        packed = bitsandbytes.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=False,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
            device="meta",
        )
        drawn = 0.02 * torch.randn(
            module.out_features, module.in_features, dtype=torch.bfloat16, device=setting.device
        )
        packed.weight = bitsandbytes.nn.Params4bit(
            drawn,
            requires_grad=False,
            quant_type="nf4",
            module=packed,
        ).to(setting.device)
        packed.requires_grad_(False)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, packed)
    return _materialised(setting, model)


def _materialised(setting: Setting, model: Any) -> Any:
    """Give the weights that are still on no device values: norms 1, the others random."""
    for module in model.modules():
        for name, one in list(module.named_parameters(recurse=False)):
            if one.is_meta:
                made = torch.empty(one.shape, dtype=one.dtype, device=setting.device)
                made = made.fill_(1) if one.dim() == 1 else made.normal_(std=0.02)
                setattr(module, name, nn.Parameter(made, requires_grad=False))
    body = model.model
    with torch.device(setting.device):  # its frequencies are worked out when it is made
        body.rotary_emb = type(body.rotary_emb)(model.config)
    return model

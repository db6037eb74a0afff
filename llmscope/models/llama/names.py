"""What llama.cpp calls the tensors of a pass, found by what an architecture has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from llmscope.errors import ScopeError

PARTS: dict[str, tuple[str, ...]] = {
    "attention_in": ("attn_norm",),
    "query": ("Qcur",),
    "key": ("Kcur",),
    "value": ("Vcur",),
    "joined": ("kqv_turned_back", "kqv_out"),
    "attention_out": ("attn_out",),
    "middle": ("ffn_inp", "sa_out"),
    "mlp_in": ("ffn_norm",),
    "neurons": ("ffn_swiglu", "ffn_geglu", "ffn_gelu", "ffn_silu"),
    "mlp_out": ("ffn_out",),
    "after": ("l_out",),
}
"""Part of a layer -> what it may be called, the first that there is counts."""
POST_NORMS: Mapping[str, tuple[str, ...]] = {
    "attention_write": ("attn_post_norm",),
    "mlp_write": ("ffn_post_norm",),
}
EXPERTS: dict[str, tuple[str, ...]] = {
    "router": ("ffn_moe_logits",),
    "chosen": ("ffn_moe_topk",),
    "expert_weights": ("ffn_moe_weights_norm", "ffn_moe_weights"),
    "neurons": ("ffn_moe_swiglu", "ffn_moe_geglu"),
    "mlp_out": ("ffn_moe_out",),
}
"""The same of layers whose MLP is a mixture of experts."""
EMBEDDED = ("inpL", "inp_scaled", "embd", "inp_embd")
NORMED = ("result_norm",)
LOGITS = ("result_output",)
SCORES = "result_scores"
"""What `llmscope.models.llama.native` calls them before a softcap."""
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "ffn_swiglu": nn.functional.silu,
    "ffn_silu": nn.functional.silu,
    "ffn_moe_swiglu": nn.functional.silu,
    "ffn_moe_geglu": lambda rows: nn.functional.gelu(rows, approximate="tanh"),
    "ffn_geglu": lambda rows: nn.functional.gelu(rows, approximate="tanh"),
    "ffn_gelu": lambda rows: nn.functional.gelu(rows, approximate="tanh"),
}


@dataclass(frozen=True)
class Names:
    """The names of the tensors of one model.

    Attributes:
        parts: part of a layer -> its name in llama.cpp.
        embedded: the name of the stream before the first layer.
        layers: the number of layers.
        bytes_per_token: the size of what a pass hands out of a token.
        post_norms: whether writes are normed before they are added to the stream.
        scores: the name of the unembedding's output, which may have another than the logits.
    """

    parts: Mapping[str, str]
    embedded: str
    layers: int
    bytes_per_token: int
    post_norms: bool
    scores: str = LOGITS[0]
    normed: str = NORMED[0]
    logits: str = LOGITS[0]

    def of(self, part: str, layer: int) -> str:
        """Return the name of a part in a layer; of `stream`, of that before the layer."""
        if part == "stream":
            return self.embedded if not layer else f"{self.parts['after']}-{layer - 1}"
        return f"{self.parts[part]}-{layer}"

    def is_stream(self, name: str) -> bool:
        """Return whether a tensor is the stream before a layer or after the last one."""
        return name == self.embedded or name.startswith(f"{self.parts['after']}-")

    @property
    def wanted(self) -> list[str]:
        """The names of all tensors that a pass hands out."""
        return [self.embedded, *self.wanted_from(0)]

    def wanted_from(self, layer: int) -> list[str]:
        """Return the names of the tensors of a layer, of those after it, and of the final norm."""
        layers = range(layer, self.layers)
        parts = (f"{name}-{each}" for each in layers for name in self.parts.values())
        return [*parts, self.normed]

    def layer_of(self, name: str) -> int:
        """Return the layer that a tensor is of; behind the last one, their number."""
        if name == self.embedded:
            return 0
        number = name.rpartition("-")[2]
        return int(number) if number.isdigit() else self.layers

    @property
    def by_table(self) -> bool:
        """Whether the activation function is read from ggml's table of float16, as GELU is."""
        return self.parts["neurons"] in ("ffn_geglu", "ffn_gelu", "ffn_moe_geglu")

    @property
    def mixes_experts(self) -> bool:
        """Whether the MLPs are mixtures of experts."""
        return "router" in self.parts

    @property
    def activate(self) -> Callable[[Tensor], Tensor]:
        """The activation function of the MLP."""
        return ACTIVATIONS[self.parts["neurons"]]


def names_in(tensors: Mapping[str, int], layers: int) -> Names:
    """Return the names of the tensors of a model.

    Args:
        tensors: the numbers a token of each tensor of a pass, by name.
        layers: the number of layers.

    Raises:
        ScopeError: a part is missing in a layer.
    """
    mixture = f"{EXPERTS['router'][0]}-0" in tensors
    wanted = PARTS | EXPERTS if mixture else PARTS
    parts = {part: _first(tensors, names, layers, part) for part, names in wanted.items()}
    post_norms = all(f"{names[0]}-0" in tensors for names in POST_NORMS.values())
    if post_norms:
        parts |= {part: _first(tensors, names, layers, part) for part, names in POST_NORMS.items()}
    embedded = next((name for name in EMBEDDED if name in tensors), None)
    if embedded is None or not {*NORMED, *LOGITS} <= tensors.keys():
        raise _lacking("the stream before the layers" if embedded is None else "the logits")
    scores = SCORES if SCORES in tensors else LOGITS[0]
    names = Names(parts, embedded, layers, 0, post_norms, scores)
    called = {*names.wanted, scores, names.logits}
    return replace(names, bytes_per_token=sum(-(-tensors[name] * 4 // 64) * 64 for name in called))


def _first(tensors: Mapping[str, Any], names: Sequence[str], layers: int, part: str) -> str:
    for name in names:
        if all(f"{name}-{layer}" in tensors for layer in range(layers)):
            return name
    raise _lacking(part.replace("_", " "))


def _lacking(part: str) -> ScopeError:
    return ScopeError(
        f"llama.cpp hands out no tensor for {part} in this architecture",
        "the file without a backend, which transformers then runs",
    )

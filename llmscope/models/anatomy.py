"""Where the parts of a decoder are: found by structure and name, believed only once checked.

No model is named here. The list of layers is the only `ModuleList` as long as the config says;
the parts of a layer are found by the vocabularies below. `llmscope.record.verify` then holds what
was found against the model's own numbers, so a wrong guess is refused rather than shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError

ATTENTION = ("self_attn", "attn", "attention", "self_attention")
ATTENTION_OUT = ("o_proj", "c_proj", "out_proj", "dense", "wo")
MLP = ("mlp", "feed_forward", "ffn")
DOWN = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2")
UP = ("fc1",)
ACTIVATION = ("activation_fn",)
FINAL_NORM = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")
# Layers that norm what they wrote, before adding it: (after attention, after the MLP). The name
# post_attention_layernorm means this only where another norm stands before the MLP.
POST_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm", "post_attention_layernorm"),
)


@dataclass(frozen=True)
class Layer:
    """The parts of one decoder layer. None: it has no such part, or it was not found.

    Attributes:
        module: the whole layer; its input and output are the residual stream.
        attention, attention_out: the attention and the projection that writes its heads' outputs.
        attention_write: the module whose output is added to the stream: the attention itself, or
            the norm that follows it.
        mlp_entry: the module whose input is the MLP's input.
        activation: between the two projections of an MLP that is no module of its own.
        down: the projection whose input is the neurons' activations.
        mlp_write: as attention_write.
    """

    module: nn.Module
    attention: nn.Module | None
    attention_out: nn.Module | None
    attention_write: nn.Module | None
    mlp_entry: nn.Module | None
    activation: nn.Module | None
    down: nn.Module | None
    mlp_write: nn.Module | None

    def activations(self, entry: Tensor) -> Tensor:
        """The input of the down projection for the MLP's input. `[row, width] -> [row, neuron]`.

        Runs the model's own modules and catches what arrives at the down projection.
        """
        assert self.mlp_entry is not None
        assert self.down is not None
        caught: list[Tensor] = []
        hook = self.down.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            with torch.no_grad():
                hidden = self.mlp_entry(entry[None])
                if self.activation is not None:
                    caught.append(self.activation(hidden))
        finally:
            hook.remove()
        return caught[0].reshape(len(entry), -1)


@dataclass(frozen=True)
class Readout:
    """From the last layer's output to logits: `softcap(scale · unembed(norm(stream)))`."""

    norm: nn.Module
    project: nn.Module | None
    unembed: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, stream: Tensor) -> Tensor:
        """Logits, in the model's dtype. `[..., width] -> [..., token]`."""
        with torch.no_grad():
            hidden = self.norm(stream)
            if self.project is not None:
                hidden = self.project(hidden)
            logits: Tensor = self.unembed(hidden)
            if self.scale != 1.0:
                logits = logits * self.scale
            if self.softcap is not None:
                logits = torch.tanh(logits / self.softcap) * self.softcap
            return logits


@dataclass(frozen=True)
class Anatomy:
    """The parts of a decoder, and its sizes. `context` None: no limit is known."""

    layers: tuple[Layer, ...]
    readout: Readout | None
    heads: int
    width: int
    neurons: int
    vocabulary: int
    context: int | None


def find(model: Any) -> Anatomy:
    """Find the parts of a causal language model.

    Raises:
        ScopeError: the model has no list of decoder layers.
    """
    config = model.config.get_text_config()
    stack, owner = _layer_stack(model, config.num_hidden_layers)
    layers = tuple(_layer(module) for module in stack)
    return Anatomy(
        layers=layers,
        readout=_readout(model, owner, config),
        heads=getattr(config, "num_attention_heads", 0) or 0,
        width=config.hidden_size,
        neurons=next((_inputs(layer.down) for layer in layers if layer.down is not None), 0),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        context=getattr(config, "max_position_embeddings", None),
    )


def _layer_stack(model: nn.Module, count: int) -> tuple[nn.ModuleList, nn.Module]:
    """The list of decoder layers and the module that holds it, next to the final norm."""
    found = [
        (child, module)
        for module in model.modules()
        for child in module.children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    with_attention = [pair for pair in found if _first(pair[0][0], ATTENTION) is not None]
    candidates = with_attention or found
    if len(candidates) != 1:
        raise ScopeError(
            f"{type(model).__name__} has {len(candidates)} lists of {count} layers, not one",
            "a decoder-only model",
        )
    return candidates[0]


def _layer(module: nn.Module) -> Layer:
    attention = _first(module, ATTENTION)
    mlp = _first(module, MLP)
    up = mlp if mlp is not None else _first(module, UP)
    down = _first(mlp if mlp is not None else module, DOWN)
    attention_write, mlp_write = attention, mlp if mlp is not None else down
    for after_attention, after_mlp, before_mlp in POST_NORMS:
        if all(hasattr(module, name) for name in (after_attention, after_mlp, before_mlp)):
            attention_write = getattr(module, after_attention)
            mlp_write = getattr(module, after_mlp)
    return Layer(
        module=module,
        attention=attention,
        attention_out=None if attention is None else _first(attention, ATTENTION_OUT),
        attention_write=attention_write,
        mlp_entry=up,
        activation=None if mlp is not None else _first(module, ACTIVATION),
        down=down,
        mlp_write=mlp_write,
    )


def _readout(model: Any, owner: nn.Module, config: Any) -> Readout | None:
    unembed = model.get_output_embeddings()
    norm = _first(owner, FINAL_NORM)
    if unembed is None:
        return None
    scale = getattr(config, "logit_scale", None) or 1 / (
        getattr(config, "logits_scaling", None) or 1.0
    )
    return Readout(
        norm=norm if norm is not None else nn.Identity(),
        project=getattr(owner, "project_out", None),
        unembed=unembed,
        scale=float(scale),
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def _first(module: nn.Module, names: Iterable[str]) -> nn.Module | None:
    children = dict(module.named_children())
    return next((children[name] for name in names if name in children), None)


def _inputs(down: nn.Module) -> int:
    if isinstance(down, nn.Linear):
        return down.in_features
    weight: Tensor = down.weight  # type: ignore[assignment]  # Conv1D: [input, output]
    return int(weight.shape[0])

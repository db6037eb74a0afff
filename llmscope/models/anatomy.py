"""Find the parts of a decoder by structure and module name.

No model is named here. The list of layers is the only `ModuleList` with the number of layers that
the config gives; the parts of a layer are found by the module names below.
`llmscope.record.derive.verify` then compares results computed from these parts with the model's own
numbers, so a wrong guess is rejected rather than shown.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError
from llmscope.models.expert_neurons import (
    ExpertNeurons,
    PassedBeside,
    UnknownExpertsError,
    find_neurons,
)
from llmscope.models.fast_linear import linear, unembedded
from llmscope.models.mixing import ATTENTION, QUERIES, child_of, mixing_of
from llmscope.models.module_calls import ended_at, hidden_output
from llmscope.models.recurrences import Recurrence, find_recurrence
from llmscope.support.text import error_line

ATTENTION_OUT = ("o_proj", "c_proj", "out_proj", "dense", "wo", "Wo", "attention_out")
# A norm between the head outputs and the output projection.
HEADS_NORM = ("attn_sub_norm",)
MLP = ("mlp", "feed_forward", "ffn", "mlp_block", "block_sparse_moe", "shared_mlp")
# An MLP parallel to the experts, with the same input; its output is added to theirs.
BESIDE_EXPERTS = ("shared_mlp",)
DOWN = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2")
UP = ("fc1", "intermediate")
# The second half of an MLP that is split into two modules; the first outputs the activations.
HALF = ("output",)
ACTIVATION = ("activation_fn",)
EXPERTS = ("experts", "moe")
ROUTER = ("gate", "router")
FINAL_NORM = (
    *("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f", "final_norm"),
    *("layer_norm", "embedding_norm", "ln_out", "layernorm", "output_layernorm", "out_norm"),
)
# The last module of the part that adds a per-layer embedding to the residual stream after the MLP.
EMBEDDED = ("post_per_layer_input_norm",)
# Modules between the last residual stream and the unembedding, besides or instead of a final norm.
HEAD = ("generator_predictions", "lm_head", "head")
# Further names of a final norm before such a head.
HEADED_NORM = ("ln", "LayerNorm")
# Modules that mix several residual streams into the one that is read out, before any final norm,
# and whether each takes the streams in a dimension of their own.
STREAM_MIXERS = {"hc_head": True, "hyper_connection_mixer": False}
# The dtypes used for computation; weights of any other dtype are packed.
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Factors of a layer that scale every write before it is added to the residual stream.
SCALES = ("residual_multiplier", "residual_scale")
# Factors that scale one write: attributes of the layer, and of its MLP behind the down projection.
WRITE_SCALES = {
    "attention_write": ("attn_out_multiplier", "attention_out_multiplier"),
    "mixer_write": ("ssm_out_multiplier",),
}
DOWN_SCALES = ("down_multiplier",)
# Settings that may scale the logits, as factors or as divisors, and that may softcap them. Classes
# differ in which they use and how: `Readout.fitted` compares.
LOGIT_SCALES = ("logit_scale", "lm_head_multiplier", "output_multiplier")
LOGIT_DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
# Norms applied to a write before it is added: (after attention, after the MLP). The first pair that
# a layer has is used.
POST_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
    ("post_attention_layernorm", "post_mlp_layernorm"),
    ("post_operator_norm", "post_ffn_norm"),
    ("post_norm1", "post_norm2"),
)

NO_READOUT = "the model has no unembedding that was found"


@dataclass(frozen=True)
class Layer:
    """The parts of one decoder layer. None means that a part is absent or was not found.

    Attributes:
        module: the whole layer; its input and output are the residual stream.
        kind: "attention", or the kind of mixer that replaces it; see `llmscope.models.mixing`.
        parallel_kind: the kind of mixer in parallel with the attention; empty without one.
        attention, attention_out: the attention and the projection that writes the head outputs.
        heads_norm: the norm between the head outputs and that projection, if there is one.
        attention_write: the module whose output is added to the residual stream: the attention
            itself, the norm that follows it, or its projection where the attention module adds the
            residual stream itself.
        mixer_write: the same for the mixer that replaces the attention or runs in parallel with it.
        mlp_input_module: the module whose input is the MLP input.
        activation: the activation function of an MLP whose parts are direct children of the layer.
        down: the projection whose input is the neuron activations.
        mlp_write: like attention_write, for the MLP.
        mlp_parallel: a second MLP whose output is added to that of `mlp_write`, the experts'.
        embedded_write: like attention_write, for the part that adds the token's embedding for this
            layer to the residual stream after the MLP, such as Gemma 4's per-layer inputs.
        recurrence: how the mixer mixes tokens, if it calls a function of a known rule.
        experts: the experts of a mixture-of-experts MLP.
        router: the module that selects experts and their weights.
        neurons: the neurons of the experts; None where they were not found, and `no_neurons` says
            why, in a clause about the layer.
        scales: the factors that scale the writes before they are added; of a write that is not
            named, 1. Write -> factor.
    """

    module: nn.Module
    kind: str
    attention: nn.Module | None
    attention_out: nn.Module | None
    attention_write: nn.Module | None
    mixer_write: nn.Module | None
    mlp_input_module: nn.Module | None
    activation: nn.Module | None
    down: nn.Module | None
    mlp_write: nn.Module | None
    experts: nn.Module | None = None
    router: nn.Module | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    parallel_kind: str = ""
    heads_norm: nn.Module | None = None
    mlp_parallel: nn.Module | None = None
    embedded_write: nn.Module | None = None
    neurons: ExpertNeurons | None = None
    no_neurons: str = ""
    recurrence: Recurrence | None = None

    @property
    def neuron_count(self) -> int:
        """Return the number of the layer's neurons; 0 if none were found."""
        if self.neurons is not None:
            return self.neurons.in_features
        return 0 if self.down is None else inputs_of(self.down)

    @property
    def mapped(self) -> Recurrence | None:
        """The recurrence that mixes the tokens in place of attention; None with attention."""
        return self.recurrence if self.attention is None else None

    @property
    def has_memories(self) -> bool:
        """Whether heads of a recurrence mix the tokens: of Mamba they are thousands of channels."""
        return self.mapped is not None and self.mapped.rule.unit == "head"

    @property
    def sort(self) -> str:
        """Describe the layer's parts in words; layers with the same parts have the same sort."""
        mixes = f"{self.kind} + {self.parallel_kind}" if self.parallel_kind else self.kind
        return f"{mixes}, experts" if self.experts is not None else mixes

    def scale(self, write: str) -> float:
        """Return the factor that scales a write, such as `mlp_write`, before it is added."""
        return self.scales.get(write, 1.0)

    def activations(self, entry: Tensor) -> Tensor:
        """Return the down projection's input for MLP inputs. `[row, width] -> [row, neuron]`.

        Runs the model's own modules and captures the input of the down projection.
        """
        assert self.down is not None
        caught: list[Tensor] = []
        hook = self.down.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            with torch.no_grad():
                hidden = self._mlp(entry)
                if self.activation is not None:
                    caught.append(self.activation(hidden))
        finally:
            hook.remove()
        return caught[0].reshape(len(entry), -1)

    def mixture(self, entry: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the MLP output with the router's expert selection replaced.

        Everything else (shared experts, their gate) is the model's own. `[row, width]`,
        `[row, choice]` twice -> `[row, width]`.

        Args:
            entry: the MLP inputs.
            chosen: the indices of the selected experts.
            weights: the weights of the selected experts.

        Raises:
            ValueError: the experts take no selection of this form.
        """
        assert self.experts is not None
        handed: set[str] = set()

        def replaced(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.shape[-1] != chosen.shape[-1]:
                return value
            name, ours = ("weights", weights) if value.is_floating_point() else ("chosen", chosen)
            handed.add(name)
            return ours.to(value).reshape(value.shape)

        def hand(_: nn.Module, args: Any, kwargs: Any) -> Any:
            named = {name: replaced(value) for name, value in kwargs.items()}
            return (*args[:1], *map(replaced, args[1:])), named

        def give(_: nn.Module, args: Any, output: Any) -> Any:
            return (*output[:1], *map(replaced, output[1:]))

        # Where the mixture alters the choice on its way to the experts, the router's is replaced.
        altered = self.neurons is not None and isinstance(self.neurons.weights, PassedBeside)
        if altered and self.router is not None:
            hook = self.router.register_forward_hook(give)
        else:
            hook = self.experts.register_forward_pre_hook(hand, with_kwargs=True)
        try:
            with torch.no_grad():
                output = self._mlp(entry)
        finally:
            hook.remove()
        if len(handed) != 2:
            raise ValueError("the experts are not handed a choice with weights")
        mixed = hidden_output(output).reshape(len(entry), -1)
        if self.mlp_parallel is not None:
            with torch.no_grad():
                mixed = mixed + self.mlp_parallel(entry)
        return mixed

    def routed(self, entry: Tensor) -> Any:
        """Return the router's output for MLP inputs `[row, width]`.

        Runs the MLP and captures the router's output; runs the router alone if it was not reached.
        """
        assert self.router is not None
        caught: list[Any] = []
        hook = self.router.register_forward_hook(lambda _, __, output: caught.append(output))
        try:
            with torch.no_grad(), suppress(Exception):  # the router alone raises below
                self._mlp(entry)
        finally:
            hook.remove()
        return caught[0] if caught else self.router(entry)

    def _mlp(self, entry: Tensor) -> Any:
        """Return the MLP output for its input, without the residual stream added."""
        assert self.mlp_input_module is not None
        rest = (torch.zeros_like(entry[None]),) if _adds_residual(self.mlp_input_module) else ()
        return self.mlp_input_module(entry[None], *rest)

    def projected(self, heads: Tensor) -> Tensor:
        """Apply the output projection to the concatenated head outputs `[row, input]`."""
        assert self.attention_out is not None
        joined = heads if self.heads_norm is None else self.heads_norm(heads)
        output: Tensor = self.attention_out(joined)
        return output

    def written(self, name: str, modules: tuple[nn.Module | None, ...]) -> Any:
        """Return a function from a projection's output to the write that is added to the stream.

        Args:
            name: the write, such as `mlp_write`; its module is applied unless in `own`.
            modules: the modules whose output is written unchanged, apart from the write's scale.
        """
        module: nn.Module | None = getattr(self, name)
        scale = self.scale(name)

        def write(projected: Tensor) -> Tensor:
            after = projected if module is None or module in modules else module(projected)
            return after * scale if scale != 1.0 else after

        return write


@dataclass(frozen=True)
class Readout:
    """The map from the last layer's output to logits: `softcap(scale · unembed(norm(stream)))`.

    Attributes:
        mixes: whether `norm` first mixes several residual streams, which stand side by side.
        scales, softcaps: what the scale and the softcap may be by the model's config.
    """

    norm: nn.Module
    project: nn.Module | None
    unembed: nn.Module
    scale: float = 1.0
    softcap: float | None = None
    scales: tuple[float, ...] = ()
    softcaps: tuple[float, ...] = ()
    mixes: bool = False

    def fitted(self, stream: Tensor, holds: Callable[[Tensor], bool]) -> Readout:
        """Return the readout with a scale and a softcap whose logits hold; itself without any.

        Args:
            stream: the last layer's output for a probe. [row, width]
            holds: returns whether logits are those of the model. [row, token]
        """
        plain = replace(self, scale=1.0, softcap=None)
        with torch.no_grad():
            scores = plain(stream)
            for softcap in dict.fromkeys((self.softcap, None, *self.softcaps)):
                for scale in dict.fromkeys((self.scale, 1.0, *self.scales)):
                    readout = replace(self, scale=scale, softcap=softcap)
                    if holds(readout.scaled(scores)):
                        return readout
        return self

    def __call__(self, stream: Tensor, *, fast: bool = False) -> Tensor:
        """Return logits in the model's dtype. `[..., width] -> [..., token]`.

        Args:
            stream: the last layer's output.
            fast: whether the unembedding is applied as in a pass on top of earlier rows, for the
                same bits; see `llmscope.models.fast_linear`.
        """
        with torch.no_grad():
            matrix, projected = self.matrix, self.projected(self.norm(stream))
            if matrix is None:
                return self.scaled(self.unembed(projected))
            scores = linear(matrix, projected) if fast else unembedded(matrix, projected)
            return self.scaled(scores)

    def capped(self, logits: Tensor) -> Tensor:
        """Return logits after the softcap, if the model has one."""
        if self.softcap is None:
            return logits
        return torch.tanh(logits / self.softcap) * self.softcap

    def scaled(self, scores: Tensor) -> Tensor:
        """Return logits from the unembedding's output: scaled, and after the softcap."""
        return self.capped(scores * self.scale if self.scale != 1.0 else scores)

    def linear(self, normed: Tensor) -> Tensor:
        """Return logits before any softcap, from the normed stream, with gradients.

        Shapes are those of `__call__`.
        """
        logits: Tensor = self.unembed(self.projected(normed))
        return logits * self.scale if self.scale != 1.0 else logits

    def linear_of(self, normed: Tensor, tokens: Sequence[int]) -> Tensor:
        """Return the logits of `linear` for some tokens alone. `[..., width] -> [..., token]`

        A plain unembedding computes no others, which takes a thousandth of the time.
        """
        rows, matrix = list(tokens), self.matrix
        if matrix is None:
            return self.linear(normed)[..., rows]
        bias = None if matrix.bias is None else matrix.bias[rows]
        logits = nn.functional.linear(self.projected(normed), matrix.weight[rows], bias)
        return logits * self.scale if self.scale != 1.0 else logits

    @property
    def matrix(self) -> nn.Linear | None:
        """The unembedding, if rows of its weights may be used without calling it.

        None for packed weights, for a module with hooks, and for weights that accelerate moves to
        the device when the module is called: until then they hold nothing.
        """
        unembed = self.unembed
        hooks = (unembed._forward_hooks, unembed._forward_pre_hooks, unembed._backward_hooks)
        changed = any(hooks) or "forward" in vars(unembed)  # accelerate puts its own in place
        if type(unembed) is not nn.Linear or unembed.weight.dtype not in FLOATS or changed:
            return None
        return None if unembed.weight.is_meta else unembed

    def projected(self, normed: Tensor) -> Tensor:
        """Return the unembedding's input for the normed stream."""
        hidden = normed if self.project is None else self.project(normed)
        # Some state-space models keep their residual stream in float32 whatever the weights are.
        kind = getattr(getattr(self.unembed, "weight", None), "dtype", None)
        # Other dtypes are quantized weights; their module takes any dtype.
        return hidden.to(kind) if kind in FLOATS else hidden


class Until(nn.Module):
    """The part of an output head before its unembedding, computed by the head's own modules."""

    def __init__(self, head: nn.Module, unembed: nn.Module) -> None:
        super().__init__()
        self._parts = head, unembed  # in a tuple, so not registered as children

    def forward(self, stream: Tensor) -> Tensor:
        """Return the unembedding's input for the last residual stream.

        `[..., width] -> [..., width]`
        """
        head, unembed = self._parts
        with ended_at(unembed, before=True) as caught:
            head(stream)
        inputs: Tensor = caught[0][0]
        return inputs


class MixedStreams(nn.Module):
    """The one stream that is read out, mixed from several residual streams by the model's module.

    Args:
        mixer: the module.
        width: that of one stream.
        apart: whether the module takes the streams in a dimension of their own.
    """

    def __init__(self, mixer: nn.Module, width: int, *, apart: bool) -> None:
        super().__init__()
        self._mixer = (mixer,)  # in a tuple, so not registered as a child
        self._width = width
        self._apart = apart

    def forward(self, streams: Tensor) -> Tensor:
        """Return the mixed stream. `[..., stream · width] -> [..., width]`"""
        (mixer,) = self._mixer
        rows = streams.reshape(1, -1, streams.shape[-1])  # [1, row, stream · width]
        if self._apart:
            rows = rows.reshape(1, rows.shape[1], -1, self._width)  # [1, row, stream, width]
        mixed: Tensor = mixer(rows)
        return mixed.reshape(*streams.shape[:-1], self._width)


@dataclass(frozen=True)
class Anatomy:
    """The parts of a decoder and its sizes. `context` is None if no limit is known."""

    layers: tuple[Layer, ...]
    readout: Readout | None
    heads: int
    width: int
    neurons: int
    vocabulary: int
    context: int | None

    @property
    def hybrid(self) -> bool:
        """Return whether the layers are of more than one kind."""
        return len({layer.kind for layer in self.layers}) > 1

    def heads_at(self, layer: int) -> int:
        """Return the number of heads of a layer; of one without attention, the number of its maps.

        Args:
            layer: the layer; one below 0 counts from the end. Outside of the model, any.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            return self.heads
        mapped = self.layers[layer].mapped
        return self.heads if mapped is None else mapped.count

    def require_readout(self) -> Readout:
        """Return the readout.

        Raises:
            ValueError: the model has no unembedding that was found.
        """
        if self.readout is None:
            raise ValueError(NO_READOUT)
        return self.readout

    def check_tokens(self, ids: Iterable[int]) -> None:
        """Check that token ids are in the vocabulary.

        Raises:
            ValueError: one of them is not.
        """
        for token in ids:
            if not 0 <= token < self.vocabulary:
                raise ValueError(
                    f"token {token} is out of range: the vocabulary has {self.vocabulary}"
                )


def find(model: Any) -> Anatomy:
    """Find the parts of a causal language model.

    Raises:
        ScopeError: the model has no list of decoder layers.
    """
    config = model.config.get_text_config()
    if not hasattr(config, "hidden_size"):
        raise ScopeError(
            f"{type(config).__name__} says no hidden_size: the model has no one width",
            "a decoder-only model",
        )
    stack, owner = _layer_stack(model, getattr(config, "num_hidden_layers", None))
    layers = tuple(_layer(module, config) for module in stack)
    context = _number(config, "max_position_embeddings")
    return Anatomy(
        layers=layers,
        readout=_readout(model, stack, owner, config),
        heads=int(_number(config, "num_attention_heads") or 0),
        width=config.hidden_size,
        neurons=next((layer.neuron_count for layer in layers if layer.neuron_count), 0),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        context=int(context) if context and context > 0 else None,  # XLNet says -1
    )


def _number(config: Any, name: str) -> float | None:
    """Return a setting of a config that should be a number; None if it has no such setting.

    Raises:
        ScopeError: it is something else. A class that does not use a setting does not check it.
    """
    value = getattr(config, name, None)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ScopeError(f"{name} is no number in the model's config", "another copy of the model")


Stack = tuple[nn.ModuleList, nn.Module]
"""A list of layers and the module that contains it."""


def _layer_stack(model: nn.Module, count: int | None) -> Stack:
    """Return the list of decoder layers and the module that contains it and the final norm.

    Args:
        model: the model to search.
        count: the number of layers in the config. Models whose layers run several times in a
            forward pass give the total number of layer runs here; if no list has that length, the
            list whose layers run last is taken.
    """
    lists = [
        (child, module)
        for module in model.modules()
        for child in module.children()
        if isinstance(child, nn.ModuleList) and len(child)
    ]
    stacks = [stack for stack in lists if len(stack[0]) == count]
    with_attention = [stack for stack in stacks if child_of(stack[0][0], ATTENTION) is not None]
    candidates = with_attention or stacks
    if len(candidates) > 1:  # layers for images or audio do not run for token ids
        candidates = [stack for stack, runs in _runs(model, candidates).items() if runs]
    if not stacks:
        mixed = [stack for stack in lists if mixing_of(stack[0][0]).kind != "unknown"]
        candidates = list(_runs(model, mixed))[-1:]
    if len(candidates) != 1:
        raise ScopeError(
            f"{type(model).__name__} has {len(candidates) or 'no'} lists of {count or 'its'} "
            "layers that run one after another",
            "a decoder-only model",
        )
    return candidates[0]


@torch.no_grad()
def _runs(model: Any, stacks: list[Stack]) -> dict[Stack, int]:
    """Count how often each stack's first layer runs in a forward pass over token ids.

    The result is in the order of the last runs; stacks that do not run are left out.
    """
    order: list[Stack] = []
    hooks = [
        stack[0][0].register_forward_hook(lambda *_, stack=stack: order.append(stack))
        for stack in stacks
    ]
    try:
        device = model.get_input_embeddings().weight.device
        model(input_ids=torch.tensor([[1, 2]], device=device), use_cache=False)
    except Exception as error:  # any error of a model that needs more than ids
        raise ScopeError(
            f"{type(model).__name__} does not run on token ids alone: {error_line(error)}",
            "a decoder-only model",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    last = dict.fromkeys(reversed(order))
    return {stack: order.count(stack) for stack in reversed(last)}


def _layer(module: nn.Module, config: Any) -> Layer:
    mixing = mixing_of(module)
    mlp = child_of(module, MLP) if mixing.feed_forward is None else mixing.feed_forward
    attention = _attention_parts(mixing.attention)
    projection = _mlp_parts(module, mlp)
    experts = _expert_parts(module, mlp)
    attention_write, mixer_write, mlp_write = attention.write, mixing.mixer, projection.write
    for after_attention, after_mlp in POST_NORMS:  # norms between a part and the stream
        if hasattr(module, after_attention) and hasattr(module, after_mlp):
            if attention.module is not None:
                attention_write = getattr(module, after_attention)
            elif mixer_write is not None:
                mixer_write = getattr(module, after_attention)
            mlp_write = getattr(module, after_mlp)
            break
    return Layer(
        module=module,
        kind=mixing.kind,
        attention=attention.module,
        attention_out=attention.out,
        attention_write=attention_write,
        mixer_write=mixer_write,
        mlp_input_module=mlp if mlp is not None else child_of(module, UP),
        activation=projection.activation,
        down=projection.down,
        mlp_write=mlp_write,
        experts=experts.experts,
        router=experts.router,
        scales=_scales(module, mlp, config),
        parallel_kind=mixing.parallel_kind if mixing.mixer is not None else "",
        mlp_parallel=experts.parallel,
        heads_norm=None if attention.module is None else child_of(attention.module, HEADS_NORM),
        embedded_write=child_of(module, EMBEDDED),
        neurons=experts.neurons,
        no_neurons=experts.no_neurons,
        recurrence=find_recurrence(mixing.mixer),
    )


class _AttentionParts(NamedTuple):
    """The parts of an attention.

    Attributes:
        module: the module that calls the attention function; None if its parts were not found.
        out: the output projection; None if it was not found.
        write: the module whose output is added to the stream; None without an attention.
    """

    module: nn.Module | None
    out: nn.Module | None
    write: nn.Module | None


def _attention_parts(attention: nn.Module | None) -> _AttentionParts:
    """Return the parts of a layer's attention; a list of several in sequence has none."""
    if attention is None or isinstance(attention, nn.ModuleList):
        return _AttentionParts(None, None, None)
    out = _anywhere(attention, ATTENTION_OUT)
    if out is None:
        queries, is_separate = attention, False
    else:
        queries = _attends(attention)
        is_separate = out not in set(queries.modules())
    if is_separate or _adds_residual(attention):
        return _AttentionParts(queries, out, out)
    return _AttentionParts(attention, out, attention)


class _MlpParts(NamedTuple):
    """The parts of an MLP.

    Attributes:
        down: the down projection; None if it was not found.
        activation: the module whose output the down projection reads, where it is not in the MLP.
        write: the module whose output is added to the stream.
    """

    down: nn.Module | None
    activation: nn.Module | None
    write: nn.Module | None


def _mlp_parts(module: nn.Module, mlp: nn.Module | None) -> _MlpParts:
    """Return the parts of a layer's MLP; None: its projections are children of the layer."""
    if mlp is not None:
        down = child_of(mlp, DOWN)
        # A factor inside of the MLP is that of the projection's write: neither lies between them.
        is_scaled = _factor(mlp, DOWN_SCALES) is not None
        return _MlpParts(down, None, down if is_scaled or _adds_residual(mlp) else mlp)
    down, activation = child_of(module, DOWN), child_of(module, ACTIVATION)
    half = child_of(module, HALF)
    if down is None and half is not None:
        down, activation = child_of(half, ("dense", *DOWN)), nn.Identity()
    return _MlpParts(down, activation, down)


class _ExpertParts(NamedTuple):
    """The parts of a mixture of experts.

    Attributes:
        experts: the module of the experts; None without a mixture.
        router: the module that chooses experts; None if it was not found.
        parallel: the MLP that runs beside the experts; None without one.
        neurons: the neurons of the experts; None if they are not known.
        no_neurons: why they are not known; empty without a mixture.
    """

    experts: nn.Module | None = None
    router: nn.Module | None = None
    parallel: nn.Module | None = None
    neurons: ExpertNeurons | None = None
    no_neurons: str = ""


def _expert_parts(module: nn.Module, mlp: nn.Module | None) -> _ExpertParts:
    """Return the parts of a layer's mixture of experts."""
    if mlp is None:
        return _ExpertParts()
    mixture, experts = mlp, child_of(mlp, EXPERTS)
    if experts is None and child_of(module, EXPERTS) is not None:
        mixture = module  # experts that are siblings of the MLP, as in Gemma 4
        experts = child_of(module, EXPERTS)
    if experts is None and child_of(mlp, ("router",)) is not None:
        experts = mlp  # the experts are inside the MLP under other names
    if experts is None:
        return _ExpertParts()
    router, parallel = child_of(mixture, ROUTER), child_of(module, BESIDE_EXPERTS)
    try:
        if mixture is module:
            raise UnknownExpertsError("its experts are beside its MLP, behind norms of their own")
        neurons = find_neurons(mixture, experts, router, parallel, inputs_of)
    except UnknownExpertsError as reason:
        return _ExpertParts(experts, router, parallel, None, str(reason))
    return _ExpertParts(experts, router, parallel, neurons)


def _factor(module: nn.Module, names: Iterable[str]) -> float | None:
    """Return the first named number of a module; None if it has none of these names."""
    values = (getattr(module, name, None) for name in names)
    return next((float(value) for value in values if isinstance(value, int | float)), None)


def _scales(module: nn.Module, mlp: nn.Module | None, config: Any) -> dict[str, float]:
    """Return the factors that scale a layer's writes; those of 1 are left out."""
    every = _factor(module, SCALES)
    if every is None:
        every = _number(config, "residual_multiplier") or 1.0
    scales = dict.fromkeys(("attention_write", "mixer_write", "mlp_write", "embedded_write"), every)
    for name, names in WRITE_SCALES.items():
        scales[name] *= _factor(module, names) or 1.0
    if mlp is not None:
        scales["mlp_write"] *= _factor(mlp, DOWN_SCALES) or 1.0
    return {name: scale for name, scale in scales.items() if scale != 1.0}


def _readout(model: Any, stack: nn.ModuleList, owner: nn.Module, config: Any) -> Readout | None:
    unembed = model.get_output_embeddings()
    if unembed is None:
        return None
    norm = child_of(owner, FINAL_NORM)
    head = _head(model, stack, unembed)
    if head is not None:  # as in BERT, whose descendants name the final norm differently
        around = next((module for module in model.modules() if owner in module.children()), owner)
        norms = [norm, *(child_of(place, HEADED_NORM) for place in (owner, around))]
        norm = next((candidate for candidate in norms if candidate is not None), None)
        norm = head if norm is None else nn.Sequential(norm, head)
    for name, apart in STREAM_MIXERS.items():
        mixer = child_of(owner, (name,))
        if mixer is not None:
            mixed = MixedStreams(mixer, config.hidden_size, apart=apart)
            norm = mixed if norm is None else nn.Sequential(mixed, norm)
    norm = nn.Identity() if norm is None else norm
    factors = _settings(config, LOGIT_SCALES)
    divisors = _settings(config, LOGIT_DIVISORS)
    scales = (*factors, *(1 / value for value in (*divisors, *factors)), *divisors)
    softcaps = _settings(config, SOFTCAPS)
    return Readout(
        norm=norm,
        project=getattr(owner, "project_out", None),
        unembed=unembed,
        scale=scales[0] if scales else 1.0,
        softcap=softcaps[0] if softcaps else None,
        scales=scales,
        softcaps=softcaps,
        mixes=any(isinstance(module, MixedStreams) for module in norm.modules()),
    )


def _settings(config: Any, names: Iterable[str]) -> tuple[float, ...]:
    """Return the named settings of a config that are numbers other than 0."""
    values = (getattr(config, name, None) for name in names)
    return tuple(
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and value
    )


def _head(model: Any, stack: nn.ModuleList, unembed: nn.Module) -> nn.Module | None:
    """Return the part with weights, more than a norm, before the unembedding; None without one.

    It shares a module with the unembedding, or is a child of the model.
    """
    around = next((module for module in model.modules() if unembed in module.children()), model)
    within = set(around.modules())
    if stack not in within:
        weights = [parameter for parameter in around.parameters() if parameter.dim() > 1]
        return Until(around, unembed) if len(weights) > 1 else None
    head = child_of(model, HEAD)
    return None if head is unembed else head


def _anywhere(module: nn.Module, names: Iterable[str]) -> nn.Module | None:
    """Return the first named child of the module or of any of its submodules."""
    return next((child for inner in module.modules() if (child := child_of(inner, names))), None)


def _attends(attention: nn.Module) -> nn.Module:
    """Return the submodule that computes the queries, and so calls the attention function.

    In BERT and its descendants it is separate from the output projection, which adds the residual
    stream and applies a norm.
    """
    named = (
        module for module in attention.modules() if QUERIES & dict(module.named_children()).keys()
    )
    return next(named, attention)


def _adds_residual(module: nn.Module) -> bool:
    """Return whether the module takes the residual stream and adds it to its own output."""
    return "residual" in inspect.signature(module.forward).parameters


def inputs_of(project: nn.Module) -> int:
    """Return the number of inputs of a projection."""
    features = getattr(project, "in_features", None)  # quantized projections have it too
    if features is not None:
        return int(features)
    if not hasattr(project, "weight"):  # a projection in a wrapper, such as Moshi's
        return inputs_of(next(inner for inner in project.children() if _projects(inner)))
    weight: Tensor = project.weight  # type: ignore[assignment]  # Conv1D: [input, output]
    return int(weight.shape[0])


def _projects(module: nn.Module) -> bool:
    return hasattr(module, "in_features") or hasattr(module, "weight")

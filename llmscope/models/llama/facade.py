"""A module with the parts of a decoder whose numbers come from llama.cpp.

The recorder, the lenses and the edits see modules of a model: layers, norms, projections. So a
backend needs no recording of its own. A pass runs in llama.cpp, which hands out the tensors; then
the modules here are called in order, and each returns what llama.cpp computed in its place, if its
input is llama.cpp's. If a hook changed something on the way, the changed tensor is written into
llama.cpp's pass, which runs again from the tokens that are new, and the modules go on with its
numbers.

Outside of a pass, and for rows that are not of it, a projection multiplies with llama.cpp's own
kernel, and a norm is computed here: the same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmscope.errors import ScopeError
from llmscope.models.llama.experts import LlamaMixture, check_mixture
from llmscope.models.llama.names import Names
from llmscope.models.llama.process import LOGITS, LlamaProcess
from llmscope.models.llama.sequences import Sequences, TokenPass
from llmscope.models.llama.weights import GgufWeights

NO_GRADIENTS = "llama.cpp computes no gradients"
WITHOUT = "the file without a backend, which transformers then runs"


class LlamaConfig(PreTrainedConfig):  # type: ignore[misc]
    """The sizes of a decoder, under the names that transformers gives them."""

    model_type = "llama.cpp"


@dataclass(eq=False)
class LlamaPass:
    """One pass that llama.cpp ran, whose tensors the modules return.

    Attributes:
        ids: the tokens of each prompt.
        past: the keys of each prompt's prefix in the last layer; None: no prefix.
        every: whether the logits after each token are wanted, and not after the last alone.
        tensors: by name. [prompt, row, width]
        logits: after the last token. [prompt, token]
        writes: by prompt, the tensors that hooks changed. Name -> [row, width]
    """

    backend: Backend
    ids: list[list[int]]
    past: list[Tensor] | None
    every: bool
    tensors: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    writes: list[dict[str, Tensor]] = field(default_factory=list)
    _last_keys: list[Tensor] = field(default_factory=list)

    def run(self) -> None:
        """Run the tokens. Prompts that are alike, as in a sweep of edits, run once."""
        self.writes = [{} for _ in self.ids]
        distinct = list[int]()
        places = list[int]()
        for prompt in range(len(self.ids)):
            alike = (place for place, other in enumerate(distinct) if self._is_alike(prompt, other))
            place = next(alike, None)
            if place is None:
                place = len(distinct)
                distinct.append(prompt)
            places.append(place)
        names = self.backend.names
        results = self._run([(prompt, 0) for prompt in distinct], names.wanted)
        self._last_keys = [results[place][self.backend.sequences.key] for place in places]

        def gather(name: str) -> Tensor:
            if len(distinct) == 1:
                tensor = results[0][name]
                return tensor[None].expand(len(places), *tensor.shape)
            return torch.stack([results[place][name] for place in places])

        self.tensors = {name: gather(name) for name in (*names.wanted, *self._scores)}
        self.logits = gather(LOGITS)

    def _is_alike(self, prompt: int, other: int) -> bool:
        """Return whether two prompts have the same tokens on top of the same prefix."""
        if self.ids[prompt] != self.ids[other]:
            return False
        return self.past is None or torch.equal(self.past[prompt], self.past[other])

    @property
    def _scores(self) -> tuple[str, ...]:
        names = self.backend.names
        return tuple(dict.fromkeys((names.scores, names.logits))) if self.every else ()

    def _run(
        self, prompts: Sequence[tuple[int, int]], wanted: Sequence[str]
    ) -> list[dict[str, Tensor]]:
        """Run prompts at once, each from one of its rows on, with what hooks changed in it."""
        sequences, passes = self.backend.sequences, []
        for prompt, start in prompts:
            past = None if self.past is None else self.past[prompt].transpose(0, 1).flatten(1)
            if start:
                keys = self.backend.process.as_cached(self._last_keys[prompt][:start], "key")
                past = keys if past is None else torch.cat([past, keys])
            writes = {name: rows[start:] for name, rows in self.writes[prompt].items()}
            passes.append(TokenPass(self.ids[prompt][start:], past, writes))
        return sequences.decode(passes, [*wanted, *self._scores, sequences.key])

    def is_own(self, name: str, tensor: Tensor) -> bool:
        """Return whether a tensor is llama.cpp's own of this name."""
        computed = self.tensors.get(name)
        return (
            computed is not None
            and tensor.shape == computed.shape
            and (tensor.data_ptr() == computed.data_ptr() or torch.equal(tensor, computed))
        )

    def exchange(self, name: str, tensor: Tensor) -> Tensor:
        """Return llama.cpp's own tensor; write a changed one into its pass first.

        Only the prompts whose rows were changed run again, together. If it is the stream that was
        changed, of which alone the rest is computed, they run from their first changed row.
        """
        if self.is_own(name, tensor):
            return self.tensors[name]
        names, changed = self.backend.names, list[tuple[int, int]]()
        for prompt, (rows, computed) in enumerate(zip(tensor, self.tensors[name], strict=True)):
            differing = (rows != computed).any(-1).nonzero()
            if not len(differing):
                continue
            alone = names.is_stream(name) and not self.writes[prompt]
            self.writes[prompt][name] = rows.detach().clone()
            changed.append((prompt, int(differing[0]) if alone else 0))
        after = [*names.wanted_from(names.layer_of(name)), *self._scores]
        after += [names.embedded] if name == names.embedded else []
        results = self._run(changed, after)
        for each in after:  # hooks may hold the tensors that were handed out so far
            self.tensors[each] = self.tensors[each].clone()
        self.logits = self.logits.clone()
        for (prompt, start), result in zip(changed, results, strict=True):
            for each in after:
                self.tensors[each][prompt, start:] = result[each]
            self.logits[prompt] = result[LOGITS]
        return self.tensors[name]


class Backend:
    """What the modules of one model share: the process, the names of its tensors, the pass.

    Attributes:
        current: the pass whose modules are called; None between passes.
        latest: the pass that ended last.
    """

    def __init__(self, process: LlamaProcess, names: Names, weights: GgufWeights, key: str) -> None:
        self.process, self.names, self.weights = process, names, weights
        self.sequences = Sequences(process, names, key)
        self.current: LlamaPass | None = None
        self.latest: LlamaPass | None = None

    def known(self, source: str, rows: Tensor, result: str) -> Tensor | None:
        """Return a tensor of the pass that is computed from these rows; None for other rows."""
        if self.current is None or rows.requires_grad or not self.current.is_own(source, rows):
            return None
        return self.current.tensors.get(result)


class QuantizedLinear(nn.Module):
    """A projection, with the weight as it lies in the file.

    Args:
        source, result: the names of its input and its output in a pass; empty without.
    """

    def __init__(
        self, backend: Backend, weight: str, *, source: str = "", result: str = ""
    ) -> None:
        super().__init__()
        self._backend, self._weight = backend, weight
        self._source, self._result = source, result
        self.out_features, self.in_features = backend.weights.shape(weight)
        bias = weight.removesuffix("weight") + "bias"
        self.bias = (
            nn.Parameter(backend.weights(bias).clone(), requires_grad=False)
            if bias in backend.weights
            else None
        )

    @property
    def weight(self) -> Tensor:
        """The weight in float32. [output, input]"""
        return self._backend.weights(self._weight)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        """Return the product with each row. `[..., input] -> [..., output]`"""
        computed = self._backend.known(self._source, input, self._result)
        if computed is not None:
            return computed
        if input.requires_grad and torch.is_grad_enabled():
            # The value is llama.cpp's, and the gradient that of the weight.
            product = nn.functional.linear(input, self.weight, self.bias)
            exact: Tensor = product + (self(input.detach()) - product).detach()
            return exact
        rows = input.detach().float().reshape(-1, self.in_features).contiguous()
        product = self._backend.process.apply(self._weight, rows, self.out_features)
        if self.bias is not None:
            product = product + self.bias
        return product.view(*input.shape[:-1], self.out_features)


class LlamaNorm(nn.Module):
    """An RMSNorm, or a LayerNorm where the file has a bias for it, as ggml computes it."""

    def __init__(
        self, backend: Backend, weight: str, eps: float, *, source: str = "", result: str = ""
    ) -> None:
        super().__init__()
        self._backend, self._eps, self._source, self._result = backend, eps, source, result
        self.weight = nn.Parameter(backend.weights(weight).clone(), requires_grad=False)
        bias = weight.removesuffix("weight") + "bias"
        self.bias = (
            nn.Parameter(backend.weights(bias).clone(), requires_grad=False)
            if bias in backend.weights
            else None
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the normed rows. `[..., width]`"""
        computed = self._backend.known(self._source, hidden_states, self._result)
        if computed is not None:
            return computed
        rows = hidden_states
        if self.bias is not None:
            rows = rows - rows.double().mean(-1, keepdim=True).to(rows.dtype)
        mean = (rows * rows).double().mean(-1, keepdim=True).to(rows.dtype)
        normed = rows * (1.0 / torch.sqrt(mean + self._eps)) * self.weight
        return normed if self.bias is None else normed + self.bias


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return llama.cpp's own pattern · values; if the inputs are others, compute it here.

    `[prompt, head, row, head width]` -> `[prompt, row, head, head width]`
    """
    assert isinstance(module, LlamaAttention)
    joined = module.joined(query, key, value)
    if joined is None:
        group = query.shape[1] // key.shape[1]
        keys, values = (part.repeat_interleave(group, 1) for part in (key, value))
        scores = query @ keys.transpose(2, 3) * (scaling or 1.0)
        if (cap := module.config.attention_softcap) is not None:
            scores = (scores / cap).tanh() * cap
        rows, length = scores.shape[-2:]
        hidden = torch.ones(rows, length, dtype=torch.bool).triu(length - rows + 1)
        if module.sliding_window is not None:
            hidden |= ~torch.ones_like(hidden).triu(length - rows + 1 - module.sliding_window)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        joined = (weights @ values).transpose(1, 2)
    return joined, None


class LlamaAttention(nn.Module):
    """Self-attention: the queries and keys after their rotation, in llama.cpp's order."""

    def __init__(self, backend: Backend, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self._backend = config, layer, backend
        self.scaling, self.head_dim = config.scales[layer], config.head_dim
        self.sliding_window = config.windows[layer] or None
        for name, part in (("q_proj", "attn_q"), ("k_proj", "attn_k"), ("v_proj", "attn_v")):
            weight = f"blk.{layer}.{part}.weight"
            if weight in backend.weights:
                self.add_module(name, QuantizedLinear(backend, weight))
        if f"blk.{layer}.attn_qkv.weight" in backend.weights:
            self.qkv_proj = QuantizedLinear(backend, f"blk.{layer}.attn_qkv.weight")
        names = backend.names
        self.o_proj = QuantizedLinear(
            backend,
            f"blk.{layer}.attn_output.weight",
            source=names.of("joined", layer),
            result=names.of("attention_out", layer),
        )
        self._inputs: tuple[Tensor, Tensor, Tensor] | None = None

    def joined(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
        """Return pattern · values of the pass; None if the inputs are not those of the pass."""
        current, inputs = self._backend.current, self._inputs
        if current is None or inputs is None:
            return None
        for tensor, computed in zip((query, key, value), inputs, strict=True):
            if tensor is not computed and not torch.equal(tensor, computed):
                return None
        joined = current.tensors[self._backend.names.of("joined", self.layer_idx)]
        return joined.view(*joined.shape[:2], -1, self.head_dim)

    def forward(self, hidden_states: Tensor, cache: Any = None) -> tuple[Tensor, None]:
        """Return what the heads write. `[prompt, row, width]`"""
        current, names = self._backend.current, self._backend.names
        if current is None:
            raise ScopeError("llama.cpp runs no attention outside of a pass", WITHOUT)
        current.exchange(names.of("attention_in", self.layer_idx), hidden_states)
        query, key, value = (
            self._by_head(current.tensors[names.of(part, self.layer_idx)], part)
            for part in ("query", "key", "value")
        )
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        self._inputs = query, key, value
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        try:
            joined, _ = attend(
                self,
                query,
                key,
                value,
                None,
                scaling=self.scaling,
                softcap=self.config.attention_softcap,
                sliding_window=self.sliding_window,
            )
        finally:
            self._inputs = None
        return self.o_proj(joined.flatten(2)), None

    def _by_head(self, rows: Tensor, part: str) -> Tensor:
        """Split rows into heads, rounded as the KV cache is. `[prompt, head, row, head width]`"""
        heads = rows.view(*rows.shape[:2], -1, self.head_dim).transpose(1, 2)
        return self._backend.process.as_cached(heads, part)


class LlamaMlp(nn.Module):
    """The MLP, with a gate if the file has one."""

    def __init__(self, backend: Backend, layer: int) -> None:
        super().__init__()
        names, self._backend = backend.names, backend
        self._source, self._activations = names.of("mlp_in", layer), names.of("neurons", layer)
        gate = f"blk.{layer}.ffn_gate.weight"
        self.gate_proj = QuantizedLinear(backend, gate) if gate in backend.weights else None
        self.up_proj = QuantizedLinear(backend, f"blk.{layer}.ffn_up.weight")
        self.down_proj = QuantizedLinear(
            backend,
            f"blk.{layer}.ffn_down.weight",
            source=self._activations,
            result=names.of("mlp_out", layer),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the MLP's output. `[..., width]`"""
        neurons = self._backend.known(self._source, hidden_states, self._activations)
        if neurons is None:
            neurons = self._neurons(hidden_states)
        output: Tensor = self.down_proj(neurons)
        return output

    def _neurons(self, rows: Tensor) -> Tensor:
        activate = self._backend.names.activate
        up: Tensor = self.up_proj(rows)
        if self.gate_proj is not None:
            gated: Tensor = activate(self.gate_proj(rows)) * up
            return gated
        if self.up_proj.out_features == 2 * self.down_proj.in_features:  # gate and up in one
            gate, up = up.chunk(2, -1)
            return activate(gate) * up
        return activate(up)


def _mlp(backend: Backend, config: LlamaConfig, layer: int) -> LlamaMlp | LlamaMixture:
    if not backend.names.mixes_experts:
        return LlamaMlp(backend, layer)
    check_mixture(backend, layer, config.expert_gating, config.expert_scale)
    return LlamaMixture(backend, layer, config.num_experts_per_tok)


class LlamaBlock(nn.Module):
    """One decoder layer."""

    def __init__(self, backend: Backend, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self._backend, self._layer = backend, layer
        names, eps = backend.names, config.norm_eps

        def norm(part: str, source: str, result: str) -> LlamaNorm:
            return LlamaNorm(
                backend,
                f"blk.{layer}.{part}.weight",
                eps,
                source=names.of(source, layer),
                result=names.of(result, layer),
            )

        self.input_layernorm = norm("attn_norm", "stream", "attention_in")
        self.self_attn = LlamaAttention(backend, config, layer)
        if names.post_norms:
            self.post_attention_layernorm = norm(
                "post_attention_norm", "attention_out", "attention_write"
            )
            self.pre_feedforward_layernorm = norm("ffn_norm", "middle", "mlp_in")
            self.mlp = _mlp(backend, config, layer)
            self.post_feedforward_layernorm = norm("post_ffw_norm", "mlp_out", "mlp_write")
        else:
            self.post_attention_layernorm = norm("ffn_norm", "middle", "mlp_in")
            self.mlp = _mlp(backend, config, layer)

    def forward(self, hidden_states: Tensor, cache: Any = None) -> Tensor:
        """Return the stream after the layer. `[prompt, row, width]`"""
        current, names, layer = self._backend.current, self._backend.names, self._layer
        if current is None:
            raise ScopeError("llama.cpp runs no layer outside of a pass", WITHOUT)

        def exchange(part: str, tensor: Tensor) -> Tensor:
            return current.exchange(names.of(part, layer), tensor)

        attended, _ = self.self_attn(self.input_layernorm(hidden_states), cache=cache)
        write = exchange("attention_out", attended)
        if names.post_norms:
            write = exchange("attention_write", self.post_attention_layernorm(write))
        middle = exchange("middle", hidden_states + write)
        before = (
            self.pre_feedforward_layernorm if names.post_norms else (self.post_attention_layernorm)
        )
        mlp_in = exchange("mlp_in", before(middle))
        write = exchange("mlp_out", self.mlp(mlp_in))
        if names.post_norms:
            write = exchange("mlp_write", self.post_feedforward_layernorm(write))
        return middle + write


class Embedding(nn.Module):
    """The token embedding; its rows in a pass are llama.cpp's."""

    def __init__(self, backend: Backend, weight: str) -> None:
        super().__init__()
        self._backend, self._weight = backend, weight
        self.num_embeddings, self.embedding_dim = backend.weights.shape(weight)

    @property
    def weight(self) -> Tensor:
        """The embedding of each token in float32. [token, width]"""
        return self._backend.weights(self._weight)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the embedding of tokens. `[prompt, row]` -> `[prompt, row, width]`"""
        current = self._backend.current
        if current is not None and current.ids == input_ids.tolist():
            return current.tensors[self._backend.names.of("stream", 0)]
        return self.weight[input_ids]


class Decoder(nn.Module):
    """The layers and the final norm."""

    def __init__(self, backend: Backend, config: LlamaConfig) -> None:
        super().__init__()
        names, count = backend.names, config.num_hidden_layers
        self.embed_tokens = Embedding(backend, "token_embd.weight")
        self.layers = nn.ModuleList(LlamaBlock(backend, config, layer) for layer in range(count))
        self.norm = LlamaNorm(
            backend,
            "output_norm.weight",
            config.norm_eps,
            source=names.of("stream", count),
            result=names.normed,
        )


class LlamaForCausalLM(PreTrainedModel):  # type: ignore[misc]
    """A decoder that llama.cpp runs."""

    config_class = LlamaConfig
    base_model_prefix = "model"
    _supports_sdpa = False
    _can_set_attn_implementation_cached_value = True
    any_length = True
    """A token's numbers never depend on how long the prompt is: they are in the KV cache."""

    def __init__(self, config: LlamaConfig, backend: Backend) -> None:
        super().__init__(config)
        self.backend = backend
        self.parameter_count = backend.weights.count
        self.model = Decoder(backend, config)
        head = "output.weight" if "output.weight" in backend.weights else "token_embd.weight"
        self.lm_head = QuantizedLinear(
            backend, head, source=backend.names.normed, result=backend.names.scores
        )

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.model.embed_tokens

    def forget_latest_pass(self) -> None:
        """Let the next pass take the cells of the KV cache that the last one has.

        A product over other cells is summed in another order, and quantised weights round what
        they multiply to 8 bits: a difference in the last bit then becomes one of 1 in 100.
        """
        self.backend.sequences.forget_latest()

    def get_output_embeddings(self) -> nn.Module:
        """Return the unembedding."""
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        cache: Any = None,
        use_cache: bool = False,
        logits_to_keep: Any = 0,
        attention_mask: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Run tokens on top of those in the cache.

        Args:
            input_ids: the tokens. [prompt, row]
            cache: the keys and values so far, which are added to; None: no tokens before.
            use_cache: accepted for transformers' sake.
            logits_to_keep: the rows whose logits are returned: indices, or how many of the last
                ones, 0 for all.
            attention_mask: none may be hidden.

        Raises:
            ScopeError: gradients are asked for, a mask hides tokens, or llama.cpp fails.
        """
        if torch.is_grad_enabled():
            raise ScopeError(NO_GRADIENTS, WITHOUT)
        if attention_mask is not None and not bool(attention_mask.all()):
            raise ScopeError("llama.cpp runs no padded prompts here", "one prompt at a time")
        every = list(range(input_ids.shape[1]))
        rows = (
            [every[row] for row in logits_to_keep.tolist()]
            if isinstance(logits_to_keep, Tensor)
            else every[-logits_to_keep:]
        )
        past = None
        if cache is not None and cache.get_seq_length():
            past = list(cache.layers[-1].keys)
        current = LlamaPass(self.backend, input_ids.tolist(), past, rows != every[-1:])
        current.run()
        outer, self.backend.current = self.backend.current, current
        names = self.backend.names
        try:
            hidden = current.exchange(names.of("stream", 0), self.model.embed_tokens(input_ids))
            for index, layer in enumerate(self.model.layers):
                hidden = layer(hidden, cache=cache)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
                hidden = current.exchange(names.of("stream", index + 1), hidden)
            normed = current.exchange(names.normed, self.model.norm(hidden))
            if current.every:
                scores = self.lm_head(normed)
                if names.scores != names.logits:
                    current.exchange(names.scores, scores)
                    scores = current.tensors[names.logits]
                logits = scores[:, rows]
            else:
                logits = current.logits[:, None]
        finally:
            self.backend.current, self.backend.latest = outer, current
        return CausalLMOutputWithPast(logits=logits)


def sizes_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a header without the name of the architecture before them."""
    return {
        key.partition(".")[2]: value
        for key, value in values.items()
        if not key.startswith(("general.", "tokenizer.", "split.", "quantize."))
    }

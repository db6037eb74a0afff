"""transformers alone, with its default attention, sdpa."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import copy, deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from tests.benchmarks.jobs import BACKWARDS, RECEIVER, Job
from tests.benchmarks.texts import Prompt, by_length, pairs, prompt, prompts
from tests.benchmarks.worker import synchronize

CHUNK = 1024
"""Tokens of a long prompt that run together, as llmscope's."""
LOOPED = 128
"""Heads of a loop that are run at most."""
BATCH = 16
"""Prompts that go through the model together, as llmscope's own --batch-size."""


class _Runs:
    """The passes of pairs of prompts, and forwards of changed ones from a layer on.

    Args:
        model: the model.
        first, second: the ids of prompts A and B [pair, token].
        start: the first token at which some pair differs.

    Attributes:
        mine, theirs: the outputs of A and of B.
        moved: what the output projections of A and of B read, by layer [pair, token, hidden].
        wrote: what the MLPs of A and of B write, by layer [pair, token, hidden].
    """

    def __init__(self, model: Any, first: torch.Tensor, second: torch.Tensor, start: int) -> None:
        self._model, self.layers, self.start = model, model.model.layers, start
        self._count, length = first.shape
        self.moved: list[list[torch.Tensor]] = [[], []]
        self.wrote: list[list[torch.Tensor]] = [[], []]
        self.mine, self.theirs = (self._run(at, ids) for at, ids in enumerate((first, second)))
        (self._caches,) = (each for each in self.mine.values() if isinstance(each, DynamicCache))
        self._rows = torch.arange(start, length, device=first.device)[None]
        self._rotation = model.model.rotary_emb(self.mine.hidden_states[0], self._rows)
        shape = (length - start, length)
        self._mask = torch.ones(shape, dtype=torch.bool, device=first.device).tril(start)
        self._size = CHUNK // (length - start)

    def _run(self, at: int, ids: torch.Tensor) -> Any:
        moved, wrote, start = self.moved[at], self.wrote[at], self.start
        hooks = []
        for layer in self.layers:
            project, mlp = layer.self_attn.o_proj, layer.mlp
            hooks += [
                project.register_forward_pre_hook(lambda _, args: moved.append(args[0][:, start:])),
                mlp.register_forward_hook(lambda *args: wrote.append(args[2][:, start:])),
            ]
        output = self._model(input_ids=ids, output_hidden_states=True, use_cache=True)
        for hook in hooks:
            hook.remove()
        return output

    def cells(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the pairs and the places of each batch of `count` places a pair."""
        every = torch.cartesian_prod(torch.arange(self._count), torch.arange(count))
        for chunk in every.to(self._rows.device).split(self._size):
            yield chunk[:, 0], chunk[:, 1]

    def answer_behind_heads(
        self, moved: torch.Tensor, pair: torch.Tensor, layer: int
    ) -> torch.Tensor:
        """Return the last logits from what an output projection reads [cell, token, hidden]."""
        block = self.layers[layer]
        stream = self.mine.hidden_states[layer][pair, self.start :] + block.self_attn.o_proj(moved)
        stream = stream + block.mlp(block.post_attention_layernorm(stream))
        return self.answer(stream, pair, layer + 1)

    def answer(self, stream: torch.Tensor, pair: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the last logits from the stream before a layer [cell, token, hidden]."""
        cache = DynamicCache()
        for index, cached in enumerate(self._caches.layers):
            before = (each[pair, :, : self.start] for each in (cached.keys, cached.values))
            cache.update(*before, index)
        for later in self.layers[layer:]:
            stream = later(
                stream,
                attention_mask=self._mask[None, None],
                position_ids=self._rows,
                cache=cache,
                use_cache=True,
                position_embeddings=self._rotation,
            )
        logits: torch.Tensor = self._model.lm_head(self._model.model.norm(stream[:, -1]))
        return logits.cpu()

    def pattern(self, layer: int, head: int) -> torch.Tensor:
        """Return the attention of a head of A [pair, token, key]."""
        attention = self.layers[layer].self_attn
        width = attention.head_dim
        stream = self.mine.hidden_states[layer][:, self.start :]
        read = self.layers[layer].input_layernorm(stream)
        query = read @ attention.q_proj.weight[head * width : (head + 1) * width].T
        cos, sin = self._rotation
        turned = torch.cat([-query[..., width // 2 :], query[..., : width // 2]], dim=-1)
        query = query * cos + turned * sin
        group = head // attention.num_key_value_groups
        scores = query @ self._caches.layers[layer].keys[:, group].mT * attention.scaling
        return scores.masked_fill(~self._mask, -torch.inf).softmax(-1)

    def value(self, layer: int, group: int) -> torch.Tensor:
        """Return a head's values of A before the first token that differs [pair, key, width]."""
        return self._caches.layers[layer].values[:, group, : self.start]


class Contender:
    attention = "sdpa"

    def __init__(self, folder: str, device: str, threads: int, dtype: str = "float32") -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation=self.attention,
            local_files_only=True,
        )
        self.model.eval().to(device)

    def prompt(self, length: int) -> Prompt:
        return prompt(self.tokenizer, length)

    def ids(self, length: int) -> torch.Tensor:
        return torch.tensor([self.prompt(length).ids], device=self.device)

    def forward(self, length: int) -> Job:
        """The whole prompt, and the logits after its last token."""
        ids = self.ids(length)
        return Job(lambda: self.model(input_ids=ids, logits_to_keep=1))

    def decode(self, length: int) -> Job:
        """The last token alone, on a cache that holds the others."""
        return self._cached(length, length - 1)

    def decode_lens(self, length: int) -> Job:
        """The same with the logit lens of that token: of its embedding, and after each layer."""
        decode = self._cached(length, length - 1, output_hidden_states=True)

        def run() -> None:
            output = decode.run()
            # The last of these has been through the norm: its readout is the model's own logits.
            streams = torch.cat([stream[0, -1:] for stream in output.hidden_states[:-1]])
            for logits in (self.read(streams), output.logits[0]):
                logits.softmax(-1).max(-1)

        return Job(run, decode.reset)

    def chunk(self, length: int) -> Job:
        """The first chunk of a long prompt, and the logits after its last token."""
        ids = self.ids(length)[:, :CHUNK]
        return Job(
            lambda: self.model(
                input_ids=ids, cache=DynamicCache(), use_cache=True, logits_to_keep=1
            )
        )

    def prefill(self, length: int) -> Job:
        """A long prompt in chunks on a cache, with the logits after every token."""
        ids = self.ids(length)

        def run() -> None:
            cache = DynamicCache()
            for some in ids.split(CHUNK, dim=1):
                self.model(input_ids=some, cache=cache, use_cache=True)

        return Job(run)

    def suffix(self, length: int) -> Job:
        """The second half, on a cache that holds the first."""
        return self._cached(length, length // 2)

    def layer(self, length: int) -> Job:
        """One layer in the middle of the model, on the whole prompt."""
        layers = self.model.model.layers
        layer = layers[len(layers) // 2]
        seen: list[tuple[Any, dict[str, Any]]] = []
        hook = layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
        )
        self.model(input_ids=self.ids(length), logits_to_keep=1, use_cache=False)
        hook.remove()
        ((args, kwargs),) = seen
        return Job(lambda: layer(*args, **kwargs))

    def jacobian(self, length: int) -> Job:
        """The rows of the Jacobians of one prompt that `jacobian` of llmscope gives, by hand."""
        from llmscope.jobs.fit_lens.jacobian import TOKENS, TOKENS_ELSEWHERE

        ids, width = self.ids(length), self.model.config.hidden_size
        batch = max(1, min(width, TOKENS.get(self.device, TOKENS_ELSEWHERE) // length))
        return Job(lambda: self._jacobian(ids, batch, min(width, BACKWARDS * batch)))

    @torch.enable_grad()
    def _jacobian(self, ids: torch.Tensor, batch: int, rows: int) -> list[torch.Tensor]:
        """The first rows of each layer's Jacobian. [row, width]"""
        layers, places = self.model.model.layers, slice(16, ids.shape[1] - 1)
        streams: list[torch.Tensor] = []

        def keep(_: Any, __: Any, output: Any) -> Any:
            streams.append(output if streams else output.detach().requires_grad_())
            return streams[-1]

        hooks = [layer.register_forward_hook(keep) for layer in layers]
        self.model.requires_grad_(False)
        self.model.model(input_ids=ids.expand(batch, -1), use_cache=False)
        for hook in hooks:
            hook.remove()
        *sources, last = streams
        found: list[list[torch.Tensor]] = [[] for _ in sources]
        for first in range(0, rows, batch):
            count = min(batch, rows - first)
            seed = torch.zeros_like(last)
            for row in range(count):
                seed[row, places, first + row] = 1
            grads = torch.autograd.grad(last, sources, seed, retain_graph=first + batch < rows)
            for kept, grad in zip(found, grads, strict=True):
                kept.append(grad[:count, places].mean(1).cpu())
        return [torch.cat(kept) for kept in found]

    def sweep(self, length: int) -> Job:
        """For each layer a batch of as many prompts as it has heads, from that layer to the last.

        The layers alone: no embedding, mask or rotation is worked out, and nothing is read off.
        """
        layers, heads = self.model.model.layers, self.model.config.num_attention_heads
        seen = self._seen(length, heads)

        def run() -> None:
            for first in reversed(range(len(layers))):
                self._from(first, seen)

        return Job(run)

    def patched(self, count: int) -> Job:
        """So many pairs: the stream of B in each layer, at each token from the first that differs.

        The cells of a layer run in batches of all pairs, from that layer on, on a cache with the
        tokens before the first that differs.
        """
        first, second, start = self._pairs(count)

        def run() -> None:
            runs = _Runs(self.model, first, second, start)
            for layer in reversed(range(len(runs.layers))):
                for pair, place in runs.cells(first.shape[1] - start):
                    stream = runs.mine.hidden_states[layer][pair, start:].clone()
                    cell = torch.arange(len(pair), device=self.device)
                    stream[cell, place] = runs.theirs.hidden_states[layer][pair, start + place]
                    runs.answer(stream, pair, layer)

        return Job(run)

    def patched_heads(self, count: int) -> Job:
        """So many pairs: what each head of B moves, at all tokens from the first that differs."""
        first, second, start = self._pairs(count)
        return Job(lambda: self._patched_heads(_Runs(self.model, first, second, start)))

    def _patched_heads(self, runs: _Runs) -> list[torch.Tensor]:
        heads, found = self.model.config.num_attention_heads, []
        for layer in reversed(range(len(runs.layers))):
            for pair, head in runs.cells(heads):
                cell = torch.arange(len(pair), device=self.device)
                # [cell, token, head, width]
                moved = runs.moved[0][layer][pair].unflatten(-1, (heads, -1)).clone()
                theirs = runs.moved[1][layer][pair].unflatten(-1, (heads, -1))
                moved[cell, :, head] = theirs[cell, :, head]
                found.append(runs.answer_behind_heads(moved.flatten(-2), pair, layer))
        return found

    def patched_edges(self, count: int) -> Job:
        """So many pairs: the edge from each head and MLP to the values of a head."""
        first, second, start = self._pairs(count)
        return Job(lambda: self._patched_edges(_Runs(self.model, first, second, start), *RECEIVER))

    def _patched_edges(self, runs: _Runs, layer: int, head: int) -> list[torch.Tensor]:
        config, receiver, found = self.model.config, runs.layers[layer].self_attn, []
        heads, width = config.num_attention_heads, receiver.head_dim
        group = head // (heads // config.num_key_value_heads)
        values = receiver.v_proj.weight[group * width : (group + 1) * width]  # [width, hidden]
        patterns = runs.pattern(layer, head)  # [pair, token, key]
        before = runs.value(layer, group)  # of the tokens that A and B share [pair, key, width]
        for sender in reversed(range(layer)):
            project = runs.layers[sender].self_attn.o_proj.weight.unflatten(1, (heads, -1))
            for pair, part in runs.cells(heads + 1):
                change = (runs.moved[1][sender] - runs.moved[0][sender])[pair]
                change = change.unflatten(-1, (heads, -1))  # [cell, token, head, width]
                cell, of_head = (
                    torch.arange(len(pair), device=self.device),
                    part.clamp(max=heads - 1),
                )
                writes = torch.einsum(
                    "ctw,chw->cth", change[cell, :, of_head], project[:, of_head].transpose(0, 1)
                )
                of_mlp = (runs.wrote[1][sender] - runs.wrote[0][sender])[pair]
                writes = torch.where((part == heads)[:, None, None], of_mlp, writes)
                stream = runs.mine.hidden_states[layer][pair, runs.start :] + writes
                value = runs.layers[layer].input_layernorm(stream) @ values.T
                moved = runs.moved[0][layer][pair].unflatten(-1, (heads, -1)).clone()
                moved[:, :, head] = patterns[pair] @ torch.cat([before[pair], value], dim=1)
                found.append(runs.answer_behind_heads(moved.flatten(-2), pair, layer))
        return found

    def _pairs(self, count: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return the ids of both prompts of each pair, and the first place where some differ."""
        chosen = pairs(count)
        first, second = (
            torch.tensor([self.tokenizer(text)["input_ids"] for text in texts], device=self.device)
            for texts in ([pair.text for pair in chosen], [pair.other for pair in chosen])
        )
        return first, second, int((first != second).any(0).nonzero()[0])

    def attributed(self, count: int) -> Job:
        """So many prompts in padded batches: what each head and MLP adds to a difference of logits.

        From what the output projections read and the MLPs write at the last token.
        """
        texts, (target, versus) = [pair.text for pair in pairs(count)], self._answers()

        def run() -> None:
            for ids, mask in self._padded(texts):
                self._attributed(ids, mask, target, versus)

        return Job(run)

    def _answers(self) -> tuple[int, int]:
        """The two tokens whose logits are subtracted."""
        ids = [self.tokenizer(text)["input_ids"] for text in (" Mary", " John")]
        return ids[0][0], ids[1][0]

    def _attributed(
        self, ids: torch.Tensor, mask: torch.Tensor, target: int, versus: int
    ) -> torch.Tensor:
        inner, heads = self.model.model, self.model.config.num_attention_heads
        joined: list[torch.Tensor] = []
        written: list[torch.Tensor] = []
        final: list[torch.Tensor] = []
        hooks = [inner.norm.register_forward_pre_hook(lambda _, args: final.append(args[0][:, -1]))]
        for layer in inner.layers:
            project, mlp = layer.self_attn.o_proj, layer.mlp
            hooks += [
                project.register_forward_pre_hook(lambda _, args: joined.append(args[0][:, -1])),
                mlp.register_forward_hook(lambda *args: written.append(args[2][:, -1])),
            ]
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -1]
        for hook in hooks:
            hook.remove()
        (stream,) = final
        unembedding = self.model.lm_head.weight
        scale = (stream.square().mean(-1, keepdim=True) + inner.norm.variance_epsilon).rsqrt()
        direction = (unembedding[target] - unembedding[versus]) * inner.norm.weight * scale
        by_head = [
            (inputs * (direction @ layer.self_attn.o_proj.weight)).view(len(ids), heads, -1).sum(-1)
            for inputs, layer in zip(joined, inner.layers, strict=True)
        ]
        by_mlp = [(write * direction).sum(-1) for write in written]
        whole = torch.cat([*by_head, *(share[:, None] for share in by_mlp)], dim=1).sum(1)
        embedding = (inner.embed_tokens(ids[:, -1]) * direction).sum(-1)
        left = logits[:, target] - logits[:, versus] - whole - embedding
        if float(left.abs().max()) > 1e-2:
            raise RuntimeError(f"the parts leave {float(left.abs().max())} unexplained")
        return torch.stack(by_head, dim=1).cpu()

    def loop(self, length: int) -> Job:
        """Set every head to zero in turn, a pass each; of many heads run some, and scale it."""
        layers, ids = self.model.model.layers, self.ids(length)
        heads = self.model.config.num_attention_heads
        places = [(layer, head) for layer in range(len(layers)) for head in range(heads)]
        some = places[:: -(-len(places) // LOOPED)]
        width = layers[0].self_attn.o_proj.in_features // heads

        def run() -> dict[str, float]:
            synchronize()
            begun = time.perf_counter()
            for layer, head in some:
                columns = slice(head * width, (head + 1) * width)

                def zero(_: Any, args: Any, columns: slice = columns) -> Any:
                    changed = args[0].clone()
                    changed[..., columns] = 0
                    return (changed,)

                hook = layers[layer].self_attn.o_proj.register_forward_pre_hook(zero)
                self.model(input_ids=ids, logits_to_keep=1, use_cache=False).logits.cpu()
                hook.remove()
            seconds = time.perf_counter() - begun
            return {"seconds": seconds * len(places) / len(some)}

        return Job(run)

    def from_low(self, length: int) -> Job:
        """From a layer low down to the last, and the logits after every token."""
        return self._rest(length, 1 / 6, length)

    def from_middle(self, length: int) -> Job:
        """The same from the middle."""
        return self._rest(length, 1 / 2, length)

    def from_high(self, length: int) -> Job:
        """The same from high up."""
        return self._rest(length, 5 / 6, length)

    def last_from_low(self, length: int) -> Job:
        """From a layer low down to the last, and the logits after the last token alone."""
        return self._rest(length, 1 / 6, 1)

    def last_from_middle(self, length: int) -> Job:
        """The same from the middle."""
        return self._rest(length, 1 / 2, 1)

    def last_from_high(self, length: int) -> Job:
        """The same from high up."""
        return self._rest(length, 5 / 6, 1)

    def batched(self, count: int) -> Job:
        """So many prompts, sorted by length and padded: forwards as one writes them."""
        texts = prompts(self.tokenizer, count)

        def run() -> None:
            for ids, mask in self._padded(texts):
                self.model(input_ids=ids, attention_mask=mask)

        return Job(run)

    def batched_last(self, count: int) -> Job:
        """The same with the logits after the last tokens alone."""
        texts = prompts(self.tokenizer, count)

        def run() -> None:
            for ids, mask in self._padded(texts):
                self.model(input_ids=ids, attention_mask=mask, logits_to_keep=1)

        return Job(run)

    def batched_lens(self, count: int) -> Job:
        """The same with the top tokens, and the logit lens of each last token after each layer."""
        texts = prompts(self.tokenizer, count)

        def run() -> None:
            for ids, mask in self._padded(texts):
                output = self.model(
                    input_ids=ids,
                    attention_mask=mask,
                    logits_to_keep=1,
                    output_hidden_states=True,
                )
                output.logits[:, -1].softmax(-1).topk(10)
                for stream in output.hidden_states[:-1]:
                    self.read(stream[:, -1]).softmax(-1).max(-1)

        return Job(run)

    def read(self, stream: torch.Tensor) -> torch.Tensor:
        """The logit lens of some streams, by hand."""
        return self.model.lm_head(self.model.model.norm(stream))

    def _padded(self, texts: list[str]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Ids and mask of each batch, padded on the left."""
        for batch in by_length(self.tokenizer, texts, BATCH):
            longest = max(map(len, batch))
            gaps = [longest - len(ids) for ids in batch]
            ids = [[0] * gap + own for gap, own in zip(gaps, batch, strict=True)]
            mask = [[0] * gap + [1] * len(own) for gap, own in zip(gaps, batch, strict=True)]
            yield (
                torch.tensor(ids, device=self.device),
                torch.tensor(mask, device=self.device),
            )

    def _rest(self, length: int, share: float, rows: int) -> Job:
        """The layers after a part of all of them, and the logits after so many last tokens."""
        seen = self._seen(length, 1)

        def run() -> Any:
            stream = self._from(layer_at(share, len(seen)), seen)
            return self.model.lm_head(self.model.model.norm(stream[:, -rows:]))

        return Job(run)

    def _seen(self, length: int, batch: int) -> list[tuple[Any, dict[str, Any]]]:
        """What each layer is handed in a pass over so many of the same prompt."""
        seen: list[tuple[Any, dict[str, Any]]] = []

        def look(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            seen.append((args[0], kwargs))

        layers = self.model.model.layers
        hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
        ids = self.ids(length).expand(batch, -1)
        self.model(input_ids=ids, logits_to_keep=1, use_cache=False)
        for hook in hooks:
            hook.remove()
        return seen

    def _from(self, first: int, seen: list[tuple[Any, dict[str, Any]]]) -> Any:
        """The last stream, from what the first of these layers is handed on."""
        stream = seen[first][0]
        for layer, (_, kwargs) in zip(self.model.model.layers[first:], seen[first:], strict=True):
            output = layer(stream, **kwargs)
            stream = output[0] if isinstance(output, tuple) else output
        return stream

    def _cached(self, length: int, kept: int, **asked: bool) -> Job:
        ids = self.ids(length)
        config = self.model.config
        hybrid = "linear_attention" in (getattr(config, "layer_types", None) or ())
        cache = DynamicCache(config=config) if hybrid else DynamicCache()
        self.model(input_ids=ids[:, :kept], cache=cache, use_cache=True, logits_to_keep=1)
        held = [deepcopy(vars(layer)) if hybrid else copy(vars(layer)) for layer in cache.layers]

        def reset() -> None:
            for layer, parts in zip(cache.layers, held, strict=True):
                vars(layer).update(deepcopy(parts) if hybrid else parts)

        def run() -> Any:
            return self.model(
                input_ids=ids[:, kept:], cache=cache, use_cache=True, logits_to_keep=1, **asked
            )

        return Job(run, reset)


def layer_at(share: float, layers: int) -> int:
    """The layer after so large a part of all."""
    return round(share * layers)

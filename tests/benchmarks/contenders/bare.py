"""transformers alone, with its default attention, sdpa."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from tests.benchmarks.jobs import BACKWARDS, Job
from tests.benchmarks.texts import Prompt, by_length, pairs, prompt, prompts
from tests.benchmarks.worker import synchronize

CHUNK = 1024
"""Tokens of a long prompt that run together, as llmscope's."""
LOOPED = 128
"""Heads of a loop that are run at most."""
BATCH = 16
"""Prompts that go through the model together, as llmscope's own --batch-size."""


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
        from llmscope.fitting.jacobian import TOKENS, TOKENS_ELSEWHERE

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
        chosen = pairs(count)
        first, second = (
            torch.tensor([self.tokenizer(text)["input_ids"] for text in texts], device=self.device)
            for texts in ([pair.text for pair in chosen], [pair.other for pair in chosen])
        )
        start = int((first != second).any(0).nonzero()[0])
        return Job(lambda: self._patched(first, second, start))

    def _patched(self, first: torch.Tensor, second: torch.Tensor, start: int) -> None:
        inner, (count, length) = self.model.model, first.shape
        asked = {"output_hidden_states": True, "use_cache": True}
        mine, theirs = (self.model(input_ids=ids, **asked) for ids in (first, second))
        (caches,) = (value for value in mine.values() if isinstance(value, DynamicCache))
        rows = torch.arange(start, length, device=self.device)[None]
        rotation = inner.rotary_emb(mine.hidden_states[0], rows)
        mask = torch.ones(length - start, length, dtype=torch.bool, device=self.device).tril(start)
        cells = [(pair, place) for pair in range(count) for place in range(length - start)]
        size = CHUNK // (length - start)
        for layer in reversed(range(len(inner.layers))):
            for chunk in (cells[at : at + size] for at in range(0, len(cells), size)):
                of = torch.tensor([pair for pair, _ in chunk], device=self.device)
                stream = mine.hidden_states[layer][of, start:].clone()
                for job, (pair, place) in enumerate(chunk):
                    stream[job, place] = theirs.hidden_states[layer][pair, start + place]
                cache = DynamicCache()
                for index, cached in enumerate(caches.layers):
                    before = (cached.keys[of, :, :start], cached.values[of, :, :start])
                    cache.update(*before, index)
                for later in inner.layers[layer:]:
                    stream = later(
                        stream,
                        attention_mask=mask[None, None],
                        position_ids=rows,
                        cache=cache,
                        use_cache=True,
                        position_embeddings=rotation,
                    )
                self.model.lm_head(inner.norm(stream[:, -1])).cpu()

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
        cache = DynamicCache()
        self.model(input_ids=ids[:, :kept], cache=cache, use_cache=True, logits_to_keep=1)
        held = [(layer.keys, layer.values) for layer in cache.layers]

        def reset() -> None:
            for layer, (keys, values) in zip(cache.layers, held, strict=True):
                layer.keys, layer.values = keys, values

        def run() -> Any:
            return self.model(
                input_ids=ids[:, kept:], cache=cache, use_cache=True, logits_to_keep=1, **asked
            )

        return Job(run, reset)


def layer_at(share: float, layers: int) -> int:
    """The layer after so large a part of all."""
    return round(share * layers)

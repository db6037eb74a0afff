"""The recorder: runs the model for the tokens that are new, and hands out recordings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from llmscope.models.subject import Subject
from llmscope.record.recording import Prompt, Recording
from llmscope.record.taps import Taps


class Recorder:
    """Records prompts on one model, one at a time, from one thread.

    Causal attention makes history immutable: rows before the first changed token stand, so only
    the rest is run, on top of the keys and values of what stands.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.taps = Taps(subject.model, subject.anatomy)
        self._latest: Recording | None = None
        forward = inspect.signature(subject.model.forward).parameters
        self._last_only: dict[str, Any] = (
            {"logits_to_keep": 1} if "logits_to_keep" in forward else {}
        )
        # Recurrent and convolution layers keep a state that cannot be cut back to a prefix.
        self._reusable = not self.taps.unrouted and all(
            layer.attention is not None for layer in subject.anatomy.layers
        )

    def record(
        self,
        prompt: Prompt,
        *,
        fresh: bool = False,
        cancelled: Callable[[], bool] | None = None,
    ) -> Recording:
        """Run what is new in the prompt.

        Args:
            fresh: reuse nothing, so that the numbers are the same bit for bit every time.
            cancelled: asked before each layer; true ends the pass there.

        Raises:
            Cancelled: nothing was lost, and the next call is right.
        """
        before = None if fresh or not self._reusable else self._latest
        shared = 0 if before is None else _common(before.prompt.ids, prompt.ids)
        parts = () if before is None else before.prefix(shared)
        cache = self._cache(before, shared)
        fresh_ids = prompt.ids[shared:]
        logits = None
        if fresh_ids:
            try:
                with self.taps.open(cancelled), torch.no_grad():
                    output = self.subject.model(
                        input_ids=torch.tensor([fresh_ids], device=self.subject.device),
                        cache=cache,
                        use_cache=True,
                        **self._last_only,
                    )
                parts = (*parts, (segment := self.taps.segment(), len(segment)))
            finally:
                self.taps.drop()
            logits = output.logits[0, -1]
        keys, values = _keys_and_values(cache, len(self.taps.layers))
        recording = Recording(
            subject=self.subject,
            prompt=prompt,
            parts=parts,
            keys=keys,
            values=values,
            settings=tuple(tap.settings for tap in self.taps.layers),
            logits=logits,
            ran=len(fresh_ids),
            reused=shared,
        )
        self._latest = recording
        return recording

    def forget(self) -> None:
        """Let go of the latest recording: the next one starts from nothing."""
        self._latest = None

    def run(self, ids: Sequence[Sequence[int]], *, grad: bool = False) -> Any:
        """A pass beside the recording: transformers' own output, for lenses that need more passes.

        Args:
            ids: prompts of one length. [batch, position]
            grad: keep what a backward pass needs.
        """
        with torch.set_grad_enabled(grad):
            batch = torch.tensor(ids, device=self.subject.device)
            return self.subject.model(input_ids=batch, use_cache=False)

    def _cache(self, before: Recording | None, length: int) -> DynamicCache:
        """A cache of its own that holds the first `length` keys of a recording.

        Keys are never changed in place, so the new cache starts from views of the old ones. It is
        left unconfigured: a configured one drops the keys that slide out of a window.
        """
        cache = DynamicCache()
        if before is not None and length:
            for keys, values in zip(before.keys, before.values, strict=True):
                assert keys is not None
                assert values is not None
                layer = DynamicLayer()
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys[None, :, :length], values[None, :, :length]
                cache.layers.append(layer)
        return cache


def _common(old: tuple[int, ...], new: tuple[int, ...]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )


def _keys_and_values(cache: DynamicCache, layers: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """One pair a layer, None where the cache has none. [key head, row, head width]"""
    keys: list[Any] = [None] * layers
    values: list[Any] = [None] * layers
    for index, held in enumerate(cache.layers[:layers]):
        if getattr(held, "keys", None) is not None:
            keys[index], values[index] = held.keys[0], held.values[0]
    return tuple(keys), tuple(values)

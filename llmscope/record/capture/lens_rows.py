"""The logit lens of the newest token, computed in the model's own call of its unembedding.

A letter's map reads the stream before every layer through the unembedding. Alone, that reads all
of its weights a second time, which on a CPU takes longer than the products themselves: so the
streams go along as further rows of the call that the model makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from llmscope.models.anatomy import Readout, Until
from llmscope.models.unembedding import fast_rows
from llmscope.record.capture.hooks import LayerHooks


class LensRows:
    """The scores of a pass over one token after each layer, before scale and softcap.

    Attributes:
        scores: [layer + 1, token], the stream before each layer, then the last one; None: the
            model's unembedding was not called in a way that takes more rows.
    """

    def __init__(self, taps: LayerHooks, readout: Readout) -> None:
        self.scores: Tensor | None = None
        self._taps, self._readout = taps, readout
        self._added = 0

    def give(self, _: Any, args: Sequence[Any]) -> tuple[Tensor] | None:
        """Put the streams before the rows that the model reads. `[1, row, width]`"""
        self._added = 0
        streams = self._taps.streams_of_one()
        if streams is None or len(args) != 1 or args[0].shape[:-1] != (1, 1):
            return None
        readout = self._readout
        rows = readout.projected(readout.norm(streams))
        if rows.shape[-1] != args[0].shape[-1] or rows.dtype != args[0].dtype:
            return None
        self._added = len(rows)
        return (torch.cat([rows[None], args[0]], dim=1),)

    def take(self, _: Any, args: Any, output: Tensor) -> Tensor | None:
        """Return the model's own row, a copy: the rest is changed in place."""
        if not self._added:
            return None
        self.scores = output[0]
        return output[:, self._added :].clone()


@contextmanager
def lens_rows(taps: LayerHooks, readout: Readout | None) -> Iterator[LensRows | None]:
    """Compute the lens in a pass over one token within the context.

    Args:
        taps: the hooks of the layers, which keep the streams.
        readout: the model's readout; None: it was not found, so nothing is computed.

    Yields:
        What holds the scores after the pass; None where the unembedding is not a plain one.
    """
    # `Until` calls the unembedding itself.
    own = None if readout is None or isinstance(readout.norm, Until) else readout.matrix
    if readout is None or own is None:
        yield None
        return
    rows = LensRows(taps, readout)
    before = own.register_forward_pre_hook(rows.give)
    after = own.register_forward_hook(rows.take)
    try:
        with fast_rows(own):
            yield rows
    finally:
        before.remove()
        after.remove()

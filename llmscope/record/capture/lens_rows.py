"""The lenses of the newest token, computed in the model's own call of its unembedding.

A letter's map reads the stream before every layer through the unembedding. Alone, that reads all
of its weights a second time, which on a CPU takes longer than the products themselves: so the
streams go along as further rows of the call that the model makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmscope.models.anatomy import Readout, Until
from llmscope.record.capture.hooks import LayerHooks

if TYPE_CHECKING:
    from llmscope.learned.lenses.lens import LearnedLens


class LensRows:
    """The scores of a pass over one token after each layer, before scale and softcap.

    Attributes:
        scores: by lens, None for the logit lens: [layer + 1, token], the stream before each layer,
            then the last one; empty: the model's unembedding was not called in a way that takes
            more rows.
        rows: how many rows the unembedding was called with.
    """

    def __init__(
        self, taps: LayerHooks, readout: Readout, lenses: Sequence[LearnedLens | None]
    ) -> None:
        self.scores: dict[LearnedLens | None, Tensor] = {}
        self.rows = 1
        self._taps, self._readout, self._lenses = taps, readout, lenses

    def give(self, _: Any, args: Sequence[Any]) -> tuple[Tensor] | None:
        """Put the streams before the rows that the model reads. `[1, row, width]`"""
        self.rows = 1
        streams = self._taps.streams_of_one()
        if streams is None or len(args) != 1 or args[0].shape[:-1] != (1, 1):
            return None
        readout, at = self._readout, range(len(streams))
        mapped = [streams if lens is None else lens(streams, at) for lens in self._lenses]
        rows = readout.projected(readout.norm(torch.cat(mapped)))
        if rows.shape[-1] != args[0].shape[-1] or rows.dtype != args[0].dtype:
            return None
        self.rows += len(rows)
        return (torch.cat([rows[None], args[0]], dim=1),)

    def take(self, _: Any, args: Any, output: Tensor) -> Tensor | None:
        """Return the model's own row, a copy: the rest is changed in place."""
        if self.rows == 1:
            return None
        last_row = output[:, -1:].clone()
        if len(self._lenses) == 1:
            self.scores = {self._lenses[0]: output[0]}
        else:
            parts = output[0, :-1].chunk(len(self._lenses))
            self.scores = {
                lens: torch.cat([part, last_row[0]])
                for lens, part in zip(self._lenses, parts, strict=True)
            }
        return last_row


@contextmanager
def lens_rows(
    taps: LayerHooks, readout: Readout | None, lenses: Sequence[LearnedLens | None]
) -> Iterator[LensRows | None]:
    """Compute lenses in a pass over one token within the context.

    Args:
        taps: the hooks of the layers, which keep the streams.
        readout: the model's readout; None: it was not found, so nothing is computed.
        lenses: learned lenses, and None for the logit lens.

    Yields:
        What holds the scores after the pass; None where the unembedding is not a plain one.
    """
    # `Until` calls the unembedding itself.
    matrix = None if readout is None or isinstance(readout.norm, Until) else readout.matrix
    if readout is None or matrix is None:
        yield None
        return
    # The readings of a lens end with the model's own last row: a lens that maps the last stream
    # cannot come along.
    last = len(taps.layers)
    included = [lens for lens in lenses if lens is None or last not in lens.maps]
    if not included:
        yield None
        return
    rows = LensRows(taps, readout, included)
    pre_hook = matrix.register_forward_pre_hook(rows.give)
    post_hook = matrix.register_forward_hook(rows.take)
    try:
        yield rows
    finally:
        pre_hook.remove()
        post_hook.remove()

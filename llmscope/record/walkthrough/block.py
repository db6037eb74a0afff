"""Shared code for a layer's attention and MLP: their inputs and their norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmscope.record.norms import exact
from llmscope.record.walkthrough.embedding import WIDE, rows_of
from llmscope.record.walkthrough.step import disagreement
from llmscope.record.walkthrough.steps import Chain, norm_form, normed, unknown_norm
from llmscope.record.walkthrough.tracer import Call, Watched


class LayerBlock:
    """The layer that the walkthrough shows from inside.

    Args:
        chain: the steps so far.
        seen: the trace of the pass.
        stream: index of the step whose value enters the layer.
        rows: the rows of the prompt that are computed from the attention scores on.

    Attributes:
        known: steps that the layer's parts may read -> the model's own values, in float64.
            [row, width]
    """

    def __init__(self, chain: Chain, seen: Watched, stream: int, rows: range) -> None:
        self.chain, self.seen, self.rows = chain, seen, rows
        assert seen.entered is not None
        self.known: dict[int, Tensor] = {stream: exact(seen.entered)}
        self._norms: dict[Call, int] = {}

    @property
    def whole(self) -> int:
        """The number of rows of the prompt."""
        assert self.seen.entered is not None
        return len(self.seen.entered)

    def cut(self, tensor: Tensor) -> Tensor:
        """Return the computed rows of a tensor that has all rows or just those. [row, width]"""
        if len(tensor) != self.whole:
            return tensor
        return tensor[self.rows.start : self.rows.stop]

    def fed(self, reader: Call | None) -> Call | None:
        """Return the call of the norm whose output a module reads; None if it reads no norm's."""
        if reader is None or reader.given is None:
            return None
        read = reader.given
        return next(
            (
                call
                for call in self.seen.inside
                if call is not reader
                and call.gave is not None
                and call.given is not None
                and call.gave.numel() == read.numel()
                and torch.equal(rows_of(call.gave), rows_of(read))
                and not (call.given.shape == call.gave.shape and torch.equal(call.given, call.gave))
            ),
            None,
        )

    def entry(self, reader: Call | None, of: str) -> int:
        """Return the step that attention or MLP reads: a norm's, or a known step's; add it if new.

        Args:
            reader: the call of the attention or MLP.
            of: the reader's name, for texts.

        Raises:
            LookupError: the reader was not called.
        """
        if reader is None or reader.given is None:
            raise LookupError(f"the {of} was not called")
        norm = self.fed(reader)
        if norm is not None:
            if norm not in self._norms:
                self._norms[norm] = self._norm(norm, of)
            return self._norms[norm]
        read = rows_of(reader.given)
        source = self.source(read)
        if source is not None:
            return source
        return self.chain.add(
            f"{of} input",
            f"what {of} reads"[:18],
            f"This is what the {of} reads of the stream.",
            "?",
            WIDE,
            list(self.known)[-1:],
            f"what the {of} reads is neither the stream nor the output of a norm",
            read,
        )

    def source(self, tensor: Tensor) -> int | None:
        """Return the known step with this value; None if no known step has it."""
        ranked = [
            (disagreement(actual, exact(tensor)), index)
            for index, actual in self.known.items()
            if actual.shape == tensor.shape
        ]
        off, index = min(ranked, default=(torch.inf, -1))
        return index if off < self.chain.near else None

    def _norm(self, call: Call, of: str) -> int:
        inputs = rows_of(call.given)  # type: ignore[arg-type]
        source = self.source(inputs)
        return self.norm(
            call,
            f"{of} norm",
            "made one size",
            f"The stream grows from layer to layer. So the {of} reads a copy in which each token's "
            "numbers are of one typical size.",
            [source] if source is not None else list(self.known)[-1:],
        )

    def norm(self, call: Call, name: str, gist: str, sentence: str, inputs: Sequence[int]) -> int:
        """Add the step of a norm over the width, from its parameters; return its index."""
        form, actual = norm_form(call), rows_of(call.gave)  # type: ignore[arg-type]
        is_part = len(self.chain.at(inputs[0])) != len(actual)
        return self.chain.add(
            name,
            gist,
            sentence,
            form[0] if form else "norm(x)",
            WIDE,
            inputs,
            form[1] if form else unknown_norm(call.module),
            self.cut(actual) if is_part else actual,
            weights=self.chain.weights(call.module),
            start=self.rows.start if is_part else 0,
            reads=lambda at: ((at[0], slice(None)),),
            tell=None if form is None else normed(form),
        )

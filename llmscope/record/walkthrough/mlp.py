"""Steps of a layer's MLP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.models.anatomy import Layer
from llmscope.record.norms import exact
from llmscope.record.walkthrough.arithmetic import ACTIVATIONS, Form
from llmscope.record.walkthrough.block import LayerBlock
from llmscope.record.walkthrough.embedding import WIDE, rows_of
from llmscope.record.walkthrough.experts import add_whole_mlp, mixture
from llmscope.record.walkthrough.step import disagreement
from llmscope.record.walkthrough.steps import SOME
from llmscope.record.walkthrough.terms import bent, summed
from llmscope.record.walkthrough.tracer import Call

NEURONS = ("position", "neuron")
BENT = (
    "A clear yes passes, a no is held back near zero: so a neuron fires or stays silent, and what "
    "it says depends on what it sees."
)
FLAT = "The numbers are bent so that none goes beyond 1 or -1, however clear the yes or the no."


@dataclass(frozen=True, eq=False)
class Half:
    """Output of a first projection with one value per neuron: all of it, or one of two halves.

    Attributes:
        call: the projection's call.
        columns: indices of the projection's outputs that were used; None: all of them.
        own: the model's own values. [row, neuron]
    """

    call: Call
    columns: Tensor | None
    own: Tensor


class Mlp:
    """Adds the steps of one layer's MLP to the chain."""

    def __init__(self, block: LayerBlock, parts: Layer, entry: int, reader: Call) -> None:
        self.block, self.chain, self.seen, self.parts = block, block.chain, block.seen, parts
        self.entry, self.start, self.reader = entry, block.rows.start, reader

    def walk(self) -> int:
        """Add the steps up to the down projection or the experts; return the last step's index."""
        if self.parts.experts is not None and self.parts.router is not None:
            return mixture(self.block, self.parts, self.entry, self.reader)
        down = self.seen.call_of(self.parts.down)
        if down is None or down.given is None or down.gave is None:
            return add_whole_mlp(self.block, self.entry, self.reader)
        hidden = self._add_hidden(rows_of(down.given))
        run, by = self.chain.projection(down)
        biased = getattr(down.module, "bias", None) is not None
        return self.chain.add(
            "down projection",
            "what neurons write",
            "Each neuron that fires adds numbers of its own, learned ones, as loudly as it fires: "
            "this is what the MLP has to say.",
            f"m = h W_down{' + b' if biased else ''}",
            WIDE,
            (hidden,),
            run,
            self.block.cut(rows_of(down.gave)),
            weights=self.chain.weights(down.module),
            by=by,
            start=self.start,
            reads=lambda at: ((at[0], slice(None)),),
            tell=self.chain.tells(down.module, None, lambda at: at[1], ("neuron",)),
        )

    def _add_hidden(self, actual: Tensor) -> int:
        """Add the steps up to the down projection's input; return the last step's index."""
        assert self.parts.down is not None
        width = actual.shape[-1]
        halves = [half for call in self._firsts() for half in _halves(call, width)]
        explained = self._explain_activation(halves, actual)
        if explained is None:
            return self.chain.add(
                *("activations", "neurons that fire", "Each neuron fires or stays silent."),
                *("?", NEURONS, (self.entry,)),
                "how they come about cannot be told from what the MLP calls",
                self.block.cut(actual),
                start=self.start,
            )
        (formula, activate), gate, up = explained
        gated = up is not None
        before = self._up(
            gate,
            "gate projection" if gated else "up projection",
            "how far each opens" if gated else "questions it asks",
            "The MLP looks at each token alone. Each neuron asks a learned question of its "
            "numbers: the higher what comes out, the clearer the yes.",
            "g = x W_gate" if gated else "u = x W_up",
        )
        other = None
        if up is not None:
            said_up = "A second question of each neuron: what it passes on, as far as it opens."
            name, gist = "up projection", "what it passes on"
            other = self._up(up, name, gist, said_up, "u = x W_up")
        letter = "g" if gated else "u"
        after = self.chain.add(
            "activation",
            "neurons that fire",
            FLAT if formula.startswith("tanh") else BENT,
            f"{'a' if gated else 'h'} = {formula.replace('(x)', f'({letter})')}",
            NEURONS,
            (before,),
            activate,
            self._activation_output() if gated else self.block.cut(actual),
            start=self.start,
            reads=lambda at: (at,),
            tell=lambda _, x: bent(formula, float(x), float(activate(x))),
        )
        if other is None:
            return after
        return self.chain.add(
            "gated neurons",
            "open × passed on",
            "What each neuron passes on is multiplied by how far it opens.",
            "h = a · u",
            NEURONS,
            (after, other),
            lambda a, u: a * u,
            self.block.cut(actual),
            start=self.start,
            reads=lambda at: (at, at),
            tell=lambda _, a, u: summed("how far it opens · what it passes on", a, u, ()),
        )

    def _firsts(self) -> list[Call]:
        """Return the calls of projections whose input is the MLP's input."""
        assert self.reader.given is not None
        inner = set(self.reader.module.modules())
        read = rows_of(self.reader.given)
        return [
            call
            for call in self.seen.inside
            if call.module in inner
            and call.module is not self.parts.down
            and not (list(call.module.children()) and call.module is self.reader.module)
            and call.given is not None
            and call.gave is not None
            and call.given.numel() == read.numel()
            and torch.equal(rows_of(call.given), read)
        ]

    def _explain_activation(
        self, halves: list[Half], actual: Tensor
    ) -> tuple[Form, Half, Half | None] | None:
        """Return the activation function, its input, and the factor of its output; None: no match.

        Args:
            halves: candidates for the input and the factor.
            actual: the model's own input of the down projection. [row, neuron]
        """
        sample = exact(actual[:SOME])
        best: tuple[float, tuple[Form, Half, Half | None]] | None = None
        for gate in halves:
            for up in (None, *(half for half in halves if half is not gate)):
                for form in ACTIVATIONS:
                    computed = form[1](exact(gate.own[:SOME]))
                    computed = computed if up is None else computed * exact(up.own[:SOME])
                    off = disagreement(computed, sample)
                    if best is None or off < best[0]:
                        best = (off, (form, gate, up))
        if best is None or not best[0] < self.chain.near:
            return None
        return best[1]

    def _activation_output(self) -> Tensor | None:
        """Return the output of the activation's module; None if it has no module of its own."""
        inner = set(self.reader.module.modules())
        for call in self.seen.inside:
            if call.module in inner and call.given is not None and call.gave is not None:
                bend = not list(call.module.parameters()) and call.given.shape == call.gave.shape
                if bend and not torch.equal(call.given, call.gave):
                    return self.block.cut(rows_of(call.gave))
        return None

    def _up(
        self,
        half: Half,
        name: str,
        gist: str,
        sentence: str,
        formula: str,
    ) -> int:
        call, columns, actual = half.call, half.columns, half.own
        run, by = self.chain.projection(call, columns)
        biased = getattr(call.module, "bias", None) is not None
        return self.chain.add(
            name,
            gist,
            sentence,
            formula + (" + b" if biased else ""),
            NEURONS,
            (self.entry,),
            lambda x: run(self.block.cut(x)),
            self.block.cut(actual),
            weights=self.chain.weights(call.module, columns),
            by=by,
            start=self.start,
            reads=lambda at: ((at[0] + self._shift, slice(None)),),
            tell=self.chain.tells(call.module, columns, lambda at: at[1], ("dimension",)),
        )

    @property
    def _shift(self) -> int:
        """Offset from a row of the output to its row in the input."""
        return self.start if len(self.chain.at(self.entry)) == self.block.whole else 0


def _halves(call: Call, width: int) -> Iterator[Half]:
    """Yield the output of a first projection: one value per neuron, or two halves."""
    assert call.gave is not None
    rows = rows_of(call.gave)
    if rows.shape[-1] == width:
        yield Half(call, None, rows)
    elif rows.shape[-1] == 2 * width:
        for columns in (torch.arange(width), torch.arange(width, 2 * width)):
            yield Half(call, columns, rows[:, columns.to(rows.device)])

"""Edits that the open model can make: examples of them, and how a line with one could go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.edits import Edit

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo
    from llmscope.tui.state.figure_store import FigureStore
    from llmscope.tui.state.view_state import ViewState

STRENGTH = 4
"""The strength of an offered steering along a token."""
_PLACE = re.compile(r"(?:steer|swap) (\d+)|\w+ \w+ (\d+)(?:[./]((?:(?:\d+|shared)\.)?\d*))?")
"""The layer, and the head, neuron or feature, that a line with an edit names."""


@dataclass(frozen=True)
class Offered:
    """What edits can be about, at the cursor.

    Attributes:
        layer, head, neuron: those under the cursor; None without any. Of an expert the neuron is
            `EXPERT.NEURON`.
        tokens: texts of tokens: the second candidate for the next token, the others, and those of
            the prompt.
        feature: the chosen feature, as edits name it; empty without one.
        dictionary: whether there is a dictionary of features.
        key: the position of a token that later ones read.
        experts: the layers whose experts were found.
    """

    layer: int
    head: int | None
    neuron: str
    tokens: tuple[str, ...] = ()
    feature: str = ""
    dictionary: bool = False
    key: int = 0
    experts: tuple[int, ...] = ()

    @classmethod
    def of(cls, state: ViewState, figures: FigureStore) -> Offered | None:
        """Return what a view state offers; None before its model is known."""
        if state.info is None:
            return None
        result = figures.shown("next-token")
        labels = () if result is None or not result.figure.axes else result.figure.axes[0].labels
        candidates = labels[1:2] + labels[:1] + labels[2:]
        prompt = tuple(token.text for token in state.tokens if not token.special)
        tokens = (text for text in (*candidates, *prompt) if can_quote(text))
        listed = figures.shown("features")
        strongest = None if listed is None else listed.figure.extra.get("strongest")
        feature = state.zero_feature(strongest)
        return cls(
            state.focus.layer,
            state.focus.head if state.info.heads else None,
            str(state.neuron_edit(state.focus.layer, state.focus.neuron or 0)).partition(".")[2],
            tuple(dict.fromkeys(tokens)),
            "" if feature is None else str(feature.feature),
            state.dictionary is not None,
            max(0, min(state.focus.position, len(state.tokens) - 2)),
            tuple(layer for layer, *_ in state.info.expert_neurons),
        )

    @property
    def examples(self) -> tuple[str, ...]:
        """Return an ablation, a steering towards the second candidate, and a patch."""
        part = f"mlp {self.layer}" if self.head is None else f"head {self.layer}.{self.head}"
        steering = (f'steer {self.layer} token "{token}" {STRENGTH}' for token in self.tokens[:1])
        return (f"zero {part}", *steering, f"patch stream {self.layer} @-1 from B")

    def complete(self, typed: str) -> str:
        """Return the edit that a line begins, at the place that it names; empty if none."""
        place = _PLACE.match(typed)
        layer, index = self.layer, ""
        if place is not None:
            layer, index = int(place[1] or place[2]), place[3] or ""
        edits = self._edits(layer, index)
        return next((edit for edit in edits if edit.startswith(typed) and edit != typed), "")

    def _edits(self, layer: int, index: str) -> Iterator[str]:
        """Yield edits of each kind at a layer.

        Args:
            layer: the layer.
            index: the head, neuron or feature that was typed; empty: the one under the cursor.
        """
        parts = [f"mlp {layer}", f"attention {layer}", f"layer {layer}"]
        parts.insert(0, f"neuron {layer}.{index or self.neuron}")
        if self.head is not None:
            parts.insert(0, f"head {layer}.{index or self.head}")
        feature = self.feature
        if index and self.dictionary:
            feature = f"{layer}/{index}"
        for action in ("zero", "mean"):
            yield from (f"{action} {part}" for part in parts)
        yield from (f"scale {part} 2" for part in parts)
        for token in self.tokens:
            yield f'steer {layer} token "{token}" {STRENGTH}'
            yield f'steer {layer} jlens "{token}" {STRENGTH}'
        if feature:
            yield f"zero feature {feature}"
            yield f"scale feature {feature} 2"
            yield f"set feature {feature} to 8"
            yield f"steer {layer} feature {feature} 8"
        yield f"patch stream {layer} @-1 from B"
        yield from (f"patch {part} from B" for part in parts)
        for token, other in zip(self.tokens, self.tokens[1:], strict=False):
            yield f'swap {layer} "{token}" "{other}" @-1'
        yield "freeze norm final"
        yield f"freeze norm {layer}.mlp"
        if self.head is not None:
            yield f"block head {layer}.{index or self.head} @-1 from @{self.key}"
        yield f"block attention {layer} @-1 from @{self.key}"
        if layer in self.experts:
            expert = (index or self.neuron).partition(".")[0]
            expert = expert if expert.isdecimal() else "0"
            yield f"force expert {layer}.{expert} @-1"
            yield f"forbid expert {layer}.{expert} @-1"


def can_quote(token: str) -> bool:
    """Return whether a token can stand between quotes as it is."""
    return bool(token.strip()) and token.isprintable() and not set(token) & set('"\\')


def flaw(edit: Edit, info: ModelInfo) -> str:
    """Return why a model of this size has no such place; empty if it has."""
    if edit.layer is not None and not -info.layers <= edit.layer < info.layers:
        return f"there is no layer {edit.layer}: 0 to {info.layers - 1}"
    heads = info.heads if edit.layer is None else info.heads_at(edit.layer % info.layers)
    if edit.part == "head" and edit.index is not None and not -heads <= edit.index < heads:
        return f"there is no head {edit.index}: 0 to {heads - 1}"
    mixed = edit.expert or edit.layer in info.experts  # compiling the edit says what is wrong
    if edit.part != "neuron" or edit.index is None or mixed:
        return ""
    if edit.index >= (info.neurons or 0):
        return f"there is no neuron {edit.index}: 0 to {(info.neurons or 1) - 1}"
    return ""

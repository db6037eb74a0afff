"""What a person looks at, as one frozen value: moving the cursor makes the next one.

Nothing here knows a widget, so every rule of the cursor can be read and tested alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llmscope.edits import Edit
from llmscope.engine.events import SPAN, ModelInfo, Token
from llmscope.figure import Focus
from llmscope.sampler import Sampler
from llmscope.tui.state.edit_list import EditList
from llmscope.tui.state.views import ATTENTION_MODES, MAP_VIEWS, MapView


@dataclass(frozen=True)
class ViewState(EditList):
    """The model, the tokens on screen, the one cursor that all panes share, and the edits.

    Attributes:
        info: the model; None while it loads.
        tokens: those of the picture on screen.
        focus: its layer and head count from 0 once the model is known; its position counts
            from 0 once there are tokens.
        following: the position stays on the last token while a person types.
        target_pinned: the target was pinned, so it survives a move to another token.
        view: index into `MAP_VIEWS`.
        attention: index into `ATTENTION_MODES`.
        whole: the whole prompt is shown, in blocks of tokens where it is long.
        adapter: the name of the adapter that is on; None: the base model.
        versus: the token that the target is held against; None: none.
        turns: how often a person asked a pane for its next view, by the pane's key.
        inside: the steps of the walk, from the first to before the last, that are of the layer
            under the cursor; known once a step was chosen.
        sampler: how the token is drawn that the model writes next.
    """

    info: ModelInfo | None = None
    tokens: tuple[Token, ...] = ()
    focus: Focus = field(default_factory=Focus)
    following: bool = True
    target_pinned: bool = False
    view: int = 0
    attention: int = 0
    adapter: str | None = None
    whole: bool = False
    versus: int | None = None
    turns: tuple[tuple[str, int], ...] = ()
    inside: tuple[int, int] | None = None
    sampler: Sampler = field(default_factory=Sampler)

    @classmethod
    def opening(cls, focus: Focus | None) -> ViewState:
        """The scene before the model is known, with the cursor where it was asked for."""
        if focus is None:
            return cls()
        attention = ATTENTION_MODES.index(focus.mode) if focus.mode in ATTENTION_MODES else 0
        view = next((i for i, view in enumerate(MAP_VIEWS) if view.mode == focus.mode), 0)
        return cls(
            focus=focus,
            following=focus.position == -1,
            target_pinned=focus.target is not None,
            versus=focus.versus,
            view=view,
            attention=attention,
        )

    @property
    def map_view(self) -> MapView:
        """What fills the map."""
        return MAP_VIEWS[self.view]

    @property
    def attention_mode(self) -> str:
        """What the attention pane shows: one head, or what becomes of all of them."""
        return ATTENTION_MODES[self.attention]

    @property
    def asked_position(self) -> int:
        """The position to ask figures for: -1 while following, whatever the next text holds."""
        return -1 if self.following else self.focus.position

    @property
    def step(self) -> int:
        """The chosen step of the walk through the pass: at first where it begins."""
        return self.focus.step or 0

    @property
    def long(self) -> bool:
        """Whether figures over pairs of tokens hold a part of the prompt only."""
        return len(self.tokens) > SPAN

    def view_of(self, pane: str, views: Sequence[str]) -> str:
        """Which of its views a pane shows."""
        return views[dict(self.turns).get(pane, 0) % len(views)]

    def turned_in(self, pane: str, views: Sequence[str]) -> ViewState:
        """The next view of a pane."""
        turns = dict(self.turns)
        turns[pane] = (turns.get(pane, 0) + 1) % len(views)
        return replace(self, turns=tuple(turns.items()))

    @property
    def token(self) -> Token | None:
        """The token under the cursor."""
        inside = 0 <= self.focus.position < len(self.tokens)
        return self.tokens[self.focus.position] if inside else None

    @property
    def zero_head(self) -> Edit | None:
        """The head under the cursor silenced; None if the model has none."""
        if self.info is None or not self.info.heads:
            return None
        return Edit("zero", "head", self.focus.layer, self.focus.head)

    @property
    def zero_layer(self) -> Edit | None:
        """The layer under the cursor left out; None before there is a model."""
        return None if self.info is None else Edit("zero", "layer", self.focus.layer)

    def zero_neuron(self, strongest: int | None) -> Edit | None:
        """The chosen neuron silenced, or the strongest; all of the layer's MLP if none is known."""
        if self.info is None:
            return None
        neuron = strongest if self.focus.neuron is None else self.focus.neuron
        return Edit("zero", "mlp" if neuron is None else "neuron", self.focus.layer, neuron)

    def loaded(self, info: ModelInfo) -> ViewState:
        """The model is known: layer and head become indices that it has."""
        focus = replace(
            self.focus,
            layer=_index(self.focus.layer, info.layers),
            head=_index(self.focus.head, info.heads),
        )
        return replace(self, info=info, focus=focus, adapter=info.adapter)

    def landed(self, tokens: tuple[Token, ...]) -> ViewState:
        """Tokens are known: the position follows the last one, or stays where it was put."""
        last = len(tokens) - 1
        position = last if self.following else _index(self.focus.position, len(tokens))
        return replace(
            self,
            tokens=tokens,
            focus=replace(self.focus, position=position),
            following=self.following or position == last,
        )

    def edited(self, kept: int) -> ViewState:
        """The text changed after its first `kept` characters.

        A cursor that was put on a token of the changed part has lost it, and follows again.
        """
        scene = self if self.focus.weight is not None else self.at_cell(None)
        token = self.token
        if self.following or (token is not None and token.end <= kept):
            return scene if self.target_pinned else scene.aim(None)
        return replace(scene, following=True).aim(None if not self.target_pinned else self.target)

    @property
    def target(self) -> int | None:
        """The token id that is asked about."""
        return self.focus.target

    def aim(self, target: int | None, *, pinned: bool | None = None) -> ViewState:
        """Ask about another next token; `pinned` keeps it across moves."""
        keep = self.target_pinned if pinned is None else pinned
        return replace(self, focus=replace(self.focus, target=target), target_pinned=keep)

    def go(
        self,
        *,
        layer: int | None = None,
        head: int | None = None,
        position: int | None = None,
        neuron: int | None = None,
    ) -> ViewState:
        """Put the cursor on a place; what lies outside is pulled to the nearest edge."""
        focus, following, inside = self.focus, self.following, self.inside
        if self.info is not None:
            if layer is not None:
                focus = replace(focus, layer=_clamp(layer, self.info.layers))
            if head is not None and self.info.heads:
                focus = replace(focus, head=_clamp(head, self.info.heads))
            if focus.layer != self.focus.layer:
                focus = replace(focus, neuron=None)
                if self.inside is not None:
                    step, inside = followed(
                        *(self.step, self.inside),
                        *(self.focus.layer, focus.layer, self.info.layers),
                    )
                    focus = replace(focus, step=step)
        if position is not None and self.tokens:
            focus = replace(focus, position=_clamp(position, len(self.tokens)))
            following = focus.position == len(self.tokens) - 1
            if focus.position != self.focus.position:
                target = focus.target if self.target_pinned else None
                focus = replace(focus, target=target, neuron=None)
                if focus.weight is None:
                    focus = replace(focus, cell=None)
        if neuron is not None:
            focus = replace(focus, neuron=neuron)
        return replace(self, focus=focus, following=following, inside=inside)

    def walk_to(self, step: int, inside: tuple[int, int] | None) -> ViewState:
        """Choose a step of the walk; `inside`: see the class, None where it is not known anew."""
        focus = self.focus
        if step != self.step:
            focus = replace(focus, step=step, weight=None, cell=None)
        return replace(self, focus=focus, inside=inside or self.inside)

    def at_cell(self, cell: tuple[int, int] | None) -> ViewState:
        """Put the cursor on a number of the step, or of the weight that is shown of it."""
        return replace(self, focus=replace(self.focus, cell=cell))

    def weighed(self, count: int) -> ViewState:
        """The next of so many weights that the step reads; after the last, what comes out of it."""
        weight = self.focus.weight
        following = 0 if weight is None else weight + 1
        shown = following if following < count else None
        return replace(self, focus=replace(self.focus, weight=shown, cell=None))

    def walk_on(self, layer: int, step: int, inside: tuple[int, int]) -> ViewState:
        """Choose a step of the walk through another layer."""
        focus = replace(self.focus, layer=layer, step=step, weight=None, cell=None, neuron=None)
        return replace(self, focus=focus, inside=inside)

    def move(self, *, layer: int = 0, head: int = 0, position: int = 0) -> ViewState:
        """Move the cursor by so many layers, heads and tokens."""
        return self.go(
            layer=self.focus.layer + layer if layer else None,
            head=self.focus.head + head if head else None,
            position=self.focus.position + position if position else None,
        )

    def turned(self, by: int = 1) -> ViewState:
        """The next view of the map."""
        return replace(self, view=(self.view + by) % len(MAP_VIEWS))

    def adapted(self) -> ViewState:
        """The next adapter on; after the last one, the base model."""
        if self.info is None:
            return self
        choices = (None, *self.info.adapters)
        return replace(self, adapter=choices[(choices.index(self.adapter) + 1) % len(choices)])

    def drawing(self, sampler: Sampler) -> ViewState:
        """The next tokens drawn in another way."""
        return replace(self, sampler=sampler)

    def attending(self) -> ViewState:
        """The next mode of the attention pane."""
        return replace(self, attention=(self.attention + 1) % len(ATTENTION_MODES))


def followed(
    step: int, inside: tuple[int, int], old: int, new: int, layers: int
) -> tuple[int, tuple[int, int]]:
    """Where the same step stands, and the steps of the layer, in the walk through another layer.

    What comes before the layer is one step, and so is what comes after it; the first layer and the
    last lack one of them.
    """
    earlier = (new > 0) - (old > 0)
    later = (new < layers - 1) - (old < layers - 1)
    first, stop = inside
    if step >= first:
        step += earlier + (later if step >= stop else 0)
    return step, (first + earlier, stop + earlier)


def _clamp(index: int, count: int) -> int:
    return max(0, min(index, count - 1))


def _index(index: int, count: int) -> int:
    """An index from 0; a negative one counts from the end."""
    return _clamp(index + count if index < 0 else index, max(count, 1))

"""What the screen shows, as one frozen value: moving the cursor makes a new one.

Nothing here depends on a widget, so every rule of the cursor can be read and tested alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llmscope.edits import SHARED, Edit
from llmscope.engine.events import SPAN, ModelInfo, Token
from llmscope.figure import Focus
from llmscope.models.info import DictionaryFacts
from llmscope.models.sampler import Sampler
from llmscope.tui.state.edit_list import EditList
from llmscope.tui.state.moment import Moment
from llmscope.tui.state.prompt_list import PromptList
from llmscope.tui.state.views import ATTENTION_MODES, ATTENTION_VIEWS, MAP_VIEWS, MapView


@dataclass(frozen=True)
class ChosenFeature:
    """A feature that the user chose.

    Attributes:
        index: its index in the dictionary.
        position: the token at which it was chosen in the list; None: it was found by a search, and
            stays chosen at every token.
    """

    index: int
    position: int | None = None


@dataclass(frozen=True)
class ViewState(EditList):
    """The model, the tokens on screen, the cursor that all panes share, and the edits.

    Attributes:
        info: the model; None while it loads.
        tokens: the tokens of the figures on screen.
        focus: its layer and head count from 0 once the model is known; its position counts
            from 0 once there are tokens.
        following: the position stays on the last token while the user types.
        target_pinned: the target was pinned, so it survives a move to another token.
        view: index into `MAP_VIEWS`.
        attention: index into `ATTENTION_VIEWS`.
        whole: the whole prompt is shown, in blocks of tokens where it is long.
        strip: the overview of the whole text is shown; None: where the prompt is long.
        measure: index into `MEASURES`, the number of each token that overview and reader show.
        adapter: the name of the active adapter; None is the base model.
        versus: the token that the target is compared with; None compares with no token.
        turns: how often the user switched a pane to its next view, by the pane's key.
        inside: the steps of the walkthrough within the layer under the cursor, as a half-open
            range; known once a step was chosen.
        sampler: how the next generated token is sampled.
        part: the part of the model that was chosen in a list: kind, layer and head, the last two
            -1 where it has none; None if none was chosen.
        moment: the prompt and step of a run; None with a model or a snapshot.
        translator: the learned lens that streams pass first, by its name; None: the logit lens.
        chosen_lenses: the lenses that the user chose beside those known for the model.
        dictionaries: the dictionaries of features in use, by layer.
        listed_features: names of dictionaries that were in use, for the list to choose from.
        dictionary_place: which dictionary of a layer is shown, of several, by the tensor it reads.
        feature: the feature that was chosen in a list; None: the strongest at the token.
        query: what features are searched for; empty while there is no search.
        prompts: the list of a file of prompts; None without a file.
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
    strip: bool | None = None
    measure: int = 0
    versus: int | None = None
    turns: tuple[tuple[str, int], ...] = ()
    inside: tuple[int, int] | None = None
    sampler: Sampler = field(default_factory=Sampler)
    part: tuple[str, int, int] | None = None
    moment: Moment | None = None
    translator: str | None = None
    chosen_lenses: tuple[str, ...] = ()
    dictionaries: tuple[DictionaryFacts, ...] = ()
    listed_features: tuple[str, ...] = ()
    dictionary_place: str = ""
    feature: ChosenFeature | None = None
    query: str = ""
    prompts: PromptList | None = None

    @classmethod
    def opening(cls, focus: Focus | None) -> ViewState:
        """Return the state before the model is known, with the cursor at `focus`."""
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
    def cursor(self) -> Focus:
        """Return the focus with the chosen feature as its option `feature`."""
        feature = () if self.feature is None else (("feature", self.feature.index),)
        return replace(self.focus, options=feature)

    @property
    def map_view(self) -> MapView:
        """Return the view that the map shows: the first one where the chosen one is not offered.

        An earlier session may have left another model with it.
        """
        chosen = MAP_VIEWS[self.view]
        return chosen if self.offers(chosen) else MAP_VIEWS[0]

    def offers(self, view: MapView) -> bool:
        """Return whether there is what a view of the map needs: lenses, or a direction."""
        if view.lens == "probe":
            return bool(self.direction)
        return view.mode != "lenses" or bool(self.lenses)

    @property
    def direction(self) -> str:
        """The file of the direction that the screen was opened with; empty without one."""
        return "" if self.info is None else self.info.direction

    @property
    def two_models(self) -> bool:
        """Return whether the model is compared with a second one."""
        return self.info is not None and self.info.versus is not None

    @property
    def compares_models(self) -> bool:
        """Return whether figures can compare the two models: there are two, and no edits."""
        return self.two_models and not self.in_force

    @property
    def attention_mode(self) -> str:
        """Return the view of the attention pane: one head, a summary of all, or one query."""
        return ATTENTION_VIEWS[self.attention]

    @property
    def requested_position(self) -> int:
        """Return the position to request figures for: -1 while following, whatever text is next."""
        return -1 if self.following else self.focus.position

    @property
    def step(self) -> int:
        """Return the chosen step of the walkthrough, initially its first."""
        return self.focus.step or 0

    @property
    def long(self) -> bool:
        """Return whether figures over pairs of tokens hold only a part of the prompt."""
        return len(self.tokens) > SPAN

    def view_of(self, pane: str, views: Sequence[str]) -> str:
        """Return which of its views a pane shows."""
        return views[dict(self.turns).get(pane, 0) % len(views)]

    def with_view(self, pane: str, view: int) -> ViewState:
        """Return the state with one of a pane's views, by its index."""
        return replace(self, turns=tuple({**dict(self.turns), pane: view}.items()))

    @property
    def token(self) -> Token | None:
        """Return the token under the cursor; None if there are no tokens."""
        inside = 0 <= self.focus.position < len(self.tokens)
        return self.tokens[self.focus.position] if inside else None

    @property
    def zero_head(self) -> Edit | None:
        """Return the edit that zeroes the head under the cursor; None if the model has no heads."""
        if self.info is None or not self.info.heads:
            return None
        return Edit("zero", "head", self.focus.layer, self.focus.head)

    @property
    def zero_layer(self) -> Edit | None:
        """Return the edit that skips the layer under the cursor; None before the model is known."""
        return None if self.info is None else Edit("zero", "layer", self.focus.layer)

    def zero_neuron(self, strongest: int | None) -> Edit | None:
        """Return the edit that zeroes the chosen neuron, or the strongest, or the layer's MLP."""
        if self.info is None:
            return None
        neuron = strongest if self.focus.neuron is None else self.focus.neuron
        if neuron is None:
            return Edit("zero", "mlp", self.focus.layer)
        return self.neuron_edit(self.focus.layer, neuron)

    def neuron_edit(self, layer: int, neuron: int) -> Edit:
        """Return the edit that zeroes a neuron, which is named by its expert if it has one."""
        edit = Edit("zero", "neuron", layer, neuron)
        for at, experts, width in () if self.info is None else self.info.expert_neurons:
            if at == layer:
                expert, index = divmod(neuron, width)
                if expert >= experts:
                    return replace(edit, expert=SHARED, index=neuron - experts * width)
                return replace(edit, expert=str(expert), index=index)
        return edit

    def zero_feature(self, strongest: int | None) -> Edit | None:
        """Return the edit that zeroes the chosen feature, or the strongest; None if none is."""
        here = self.dictionary
        index = strongest if self.feature is None else self.feature.index
        if here is None or index is None:
            return None
        place = "" if self._is_alone(here) else here.place
        return Edit("zero", "feature", here.layer, index, place=place)

    def loaded(self, info: ModelInfo) -> ViewState:
        """Return the state for a known model: layer and head become indices within it."""
        focus = replace(
            self.focus,
            layer=_index(self.focus.layer, info.layers),
            head=_index(self.focus.head, info.heads_at(_index(self.focus.layer, info.layers))),
        )
        state = replace(self, info=info, focus=focus, adapter=info.adapter)
        if self.info is not None and self.info.spec == info.spec:
            return state  # another adapter of the same model
        state = replace(state, translator=info.translator, chosen_lenses=(), listed_features=())
        if info.direction:  # what was asked for is what is seen first
            view = next(at for at, map_view in enumerate(MAP_VIEWS) if map_view.lens == "probe")
            state = replace(state, view=view)
        return state.with_dictionaries(info.dictionaries)

    def with_tokens(self, tokens: tuple[Token, ...]) -> ViewState:
        """Return the state with new tokens; the position follows the last one, or is kept."""
        last = len(tokens) - 1
        position = last if self.following else _index(self.focus.position, len(tokens))
        return replace(
            self,
            tokens=tokens,
            focus=replace(self.focus, position=position),
            following=self.following or position == last,
        )

    def edited(self, unchanged: int) -> ViewState:
        """Return the state after a change to the text behind its first `kept` characters.

        A cursor that was put on a token of the changed part follows the last token again.
        """
        state = self if self.focus.weight is not None else self.at_cell(None)
        token = self.token
        if self.following or (token is not None and token.end <= unchanged):
            return state if self.target_pinned else state.set_target(None)
        return replace(state, following=True).set_target(
            None if not self.target_pinned else self.target
        )

    @property
    def target(self) -> int | None:
        """Return the id of the target token; None for the most probable one."""
        return self.focus.target

    def set_target(self, target: int | None, *, pinned: bool | None = None) -> ViewState:
        """Return the state with another target token; `pinned` keeps it when the cursor moves."""
        keep = self.target_pinned if pinned is None else pinned
        return replace(self, focus=replace(self.focus, target=target), target_pinned=keep)

    def move_to(
        self,
        *,
        layer: int | None = None,
        head: int | None = None,
        position: int | None = None,
        neuron: int | None = None,
    ) -> ViewState:
        """Return the state with the cursor at a place, clamped to the nearest valid one."""
        focus, following, inside = self.focus, self.following, self.inside
        feature = self.feature
        if self.info is not None:
            if layer is not None:
                focus = replace(focus, layer=_clamp(layer, self.info.layers))
            heads = self.info.heads_at(focus.layer)
            if heads and (head is not None or focus.layer != self.focus.layer):
                focus = replace(focus, head=_clamp(focus.head if head is None else head, heads))
            if focus.layer != self.focus.layer:
                focus = replace(focus, neuron=None)
                feature = self._feature_at(focus.layer)
                if self.inside is not None:
                    step, inside = follow_step(
                        self.step,
                        self.inside,
                        self.focus.layer,
                        focus.layer,
                        self.info.layers,
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
        return replace(self, focus=focus, following=following, inside=inside, feature=feature)

    def choose_part(self, kind: str, layer: int, head: int) -> ViewState:
        """Return the state with a part of the model chosen, and the cursor at its place."""
        state = self.move_to(layer=layer if layer >= 0 else None, head=head if head >= 0 else None)
        return replace(state, part=(kind, layer, head))

    def walk_to(self, step: int, inside: tuple[int, int] | None) -> ViewState:
        """Return the state at a step of the walkthrough; if `inside` is None, it is kept."""
        focus = self.focus
        if step != self.step:
            focus = replace(focus, step=step, weight=None, cell=None)
        return replace(self, focus=focus, inside=inside or self.inside)

    def at_cell(self, cell: tuple[int, int] | None) -> ViewState:
        """Return the state with the cursor on a value of the step, or of its weight on screen."""
        return replace(self, focus=replace(self.focus, cell=cell))

    def with_next_weight(self, count: int, by: int = 1) -> ViewState:
        """Return the state with another weight of a step's `count`; beyond them, its output."""
        weight = self.focus.weight
        at = ((count if weight is None else weight) + by) % (count + 1)
        weight_shown = at if at < count else None
        return replace(self, focus=replace(self.focus, weight=weight_shown, cell=None))

    def open_layer(self, layer: int, step: int, inside: tuple[int, int]) -> ViewState:
        """Return the state at a step of the walkthrough through another layer."""
        focus = replace(self.focus, layer=layer, step=step, weight=None, cell=None, neuron=None)
        return replace(self, focus=focus, inside=inside, feature=self._feature_at(layer))

    def move(self, *, layer: int = 0, head: int = 0, position: int = 0) -> ViewState:
        """Return the state with the cursor moved by `layer` layers, `head` heads and so on."""
        return self.move_to(
            layer=self.focus.layer + layer if layer else None,
            head=self.focus.head + head if head else None,
            position=self.focus.position + position if position else None,
        )

    def with_next_adapter(self) -> ViewState:
        """Return the state with the next adapter; after the last one, the base model."""
        if self.info is None:
            return self
        choices = (None, *self.info.adapters)
        return replace(self, adapter=choices[(choices.index(self.adapter) + 1) % len(choices)])

    @property
    def lenses(self) -> tuple[str, ...]:
        """The learned lenses to choose from, by their names."""
        known = () if self.info is None else self.info.lenses
        return tuple(dict.fromkeys((*known, *self.chosen_lenses)))

    @property
    def compared_lenses(self) -> tuple[str, ...]:
        """The lenses that are shown side by side: the two chosen last, or those known."""
        known = () if self.info is None else self.info.lenses
        return (*self.chosen_lenses[-2:], *known)[:2]

    @property
    def lens_of_edits(self) -> str | None:
        """The learned lens that edits name: chosen last, or given; None: the model's own."""
        translator = None if self.info is None else self.info.translator
        return self.chosen_lenses[-1] if self.chosen_lenses else translator

    def with_next_lens(self) -> ViewState:
        """Return the state with the next learned lens; after the last one, the logit lens."""
        choices = (None, *self.lenses)
        at = choices.index(self.translator) if self.translator in choices else 0
        return replace(self, translator=choices[(at + 1) % len(choices)])

    def with_lens(self, name: str | None) -> ViewState:
        """Return the state with a learned lens, which is then one to choose from."""
        chosen = self.chosen_lenses
        if name is not None and (name in chosen or name not in self.lenses):
            chosen = (*(lens for lens in chosen if lens != name), name)
        return replace(self, translator=name, chosen_lenses=chosen)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the dictionaries in use, as `--features` takes them."""
        return tuple(
            dict.fromkeys(dictionary.given for dictionary in self.dictionaries if dictionary.given)
        )

    @property
    def requested_features(self) -> tuple[str, ...]:
        """The names that a request gives: none while only those that ship with the model are."""
        shipped = () if self.info is None else self.info.shipped_features
        usual = self.features == shipped and set(self.listed_features) <= set(shipped)
        return () if usual else self.features

    @property
    def dictionary(self) -> DictionaryFacts | None:
        """The dictionary that is shown: that of the cursor's layer, or of the nearest one."""
        return self.dictionary_at(self.focus.layer)

    def dictionary_at(self, layer: int) -> DictionaryFacts | None:
        """Return the dictionary of a layer, or of the nearest one; None without any."""

        def distance(facts: DictionaryFacts) -> tuple[int, int, bool]:
            return abs(facts.layer - layer), facts.layer, facts.kind != self.dictionary_place

        return min(self.dictionaries, key=distance, default=None)

    @property
    def requested_place(self) -> str:
        """The place that a request gives; empty if the dictionary is the only one of its layer."""
        here = self.dictionary
        return "" if here is None or self._is_alone(here) else here.kind

    def _is_alone(self, here: DictionaryFacts) -> bool:
        """Return whether a dictionary is the only one of its layer."""
        return sum(dictionary.layer == here.layer for dictionary in self.dictionaries) == 1

    def show_dictionary(self, facts: DictionaryFacts) -> ViewState:
        """Return the state with the cursor at the layer of a dictionary, which is then shown."""
        state = self.move_to(layer=facts.layer)
        if state.dictionary == facts:
            return state
        return replace(state, dictionary_place=facts.kind, feature=None)

    def _feature_at(self, layer: int) -> ChosenFeature | None:
        """Return the chosen feature, if the dictionary of a layer is the one that is shown."""
        return self.feature if self.dictionary_at(layer) == self.dictionary else None

    def choose_feature(self, index: int) -> ViewState:
        """Return the state with a feature chosen at the token under the cursor."""
        return replace(self, feature=ChosenFeature(index, self.focus.position))

    def keep_found_feature(self, index: int) -> ViewState:
        """Return the state after a search, with the feature that was found."""
        return replace(self, feature=ChosenFeature(index), query="")

    def with_listed_features(self, ids: Sequence[int]) -> ViewState:
        """Return the state with the features of another token listed.

        A feature that was chosen in the list stays chosen if it is listed there, too.
        """
        chosen = self.feature
        if chosen is None or chosen.position in (None, self.focus.position):
            return self
        return self if chosen.index in ids else replace(self, feature=None)

    def with_dictionaries(
        self, dictionaries: Sequence[DictionaryFacts], given_name: str = ""
    ) -> ViewState:
        """Return the state with other dictionaries of features.

        Args:
            dictionaries: the dictionaries, by layer.
            given_name: the name that was given for what is to be shown; the cursor moves to the
                nearest of its layers.
        """
        names = dict.fromkeys(
            (*self.listed_features, *(dictionary.given for dictionary in dictionaries))
        )
        kinds = [dictionary.kind for dictionary in dictionaries]
        state = replace(
            self,
            dictionaries=tuple(dictionaries),
            listed_features=tuple(name for name in names if name),
            dictionary_place=max(kinds, key=kinds.count, default=""),
            feature=None,
            query="",
        )
        ours = [dictionary for dictionary in dictionaries if dictionary.given == given_name]
        if not ours or state.dictionary in ours:
            return state
        return state.show_dictionary(
            min(ours, key=lambda dictionary: abs(dictionary.layer - state.focus.layer))
        )

    def with_prompts(self, prompts: PromptList | None) -> ViewState:
        """Return the state with another list of prompts."""
        return replace(self, prompts=prompts)

    def with_sampler(self, sampler: Sampler) -> ViewState:
        """Return the state with another sampler for the next tokens."""
        return replace(self, sampler=sampler)

    def with_next_attention_mode(self) -> ViewState:
        """Return the state with the next mode of the attention pane."""
        return replace(self, attention=(self.attention + 1) % len(ATTENTION_VIEWS))


def follow_step(
    step: int, inside: tuple[int, int], old: int, new: int, layers: int
) -> tuple[int, tuple[int, int]]:
    """Return where a step and the steps of its layer are in the walkthrough of layer `new`.

    All before the layer is one step, and so is all after it; the first layer lacks the former, the
    last layer the latter.
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
    """Return an index from 0; a negative one counts from the end."""
    return _clamp(index + count if index < 0 else index, max(count, 1))

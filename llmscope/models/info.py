"""Facts about a loaded model as plain values, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmscope.models.generation import Rules, rules
from llmscope.models.tokenizer.roles import ChatMarks
from llmscope.support.text import NOTE, one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel


@dataclass(frozen=True)
class DictionaryFacts:
    """Facts about a sparse dictionary of features, as plain values.

    Attributes:
        name: its own name, as `--features` takes it; empty for one in memory.
        given: the name by which it was given, which may lead to several.
        layer: the layer whose tensor it reads.
        place: that tensor: `resid_post`, or `z.3` for one of head 3.
        features: how many features it has.
        title: what it reads, and predicts if that is another tensor: `stream after layer 7`.
    """

    name: str
    given: str
    layer: int
    place: str
    features: int
    title: str

    @property
    def kind(self) -> str:
        """The place without a head."""
        return self.place.partition(".")[0]


@dataclass(frozen=True)
class ModelInfo:
    """The facts that the header and status line show, and the ranges of valid indices."""

    spec: str
    name: str
    architecture: str
    layers: int
    heads: int
    width: int
    neurons: int
    vocabulary: int
    context: int | None
    parameters: int
    dtype: str
    device: str
    revision: str | None = None
    notices: tuple[str, ...] = ()
    chat: ChatMarks = field(default_factory=ChatMarks)
    """The text that the chat template writes around each role; empty until the template is run."""
    chat_words: frozenset[str] = frozenset()
    """Words of which a text that follows the chat template contains at least one."""
    maps: tuple[int, ...] = ()
    """How many maps each layer without attention has, one a head or channel; 0 of the others. Empty
    if all layers have attention."""
    experts: tuple[int, ...] = ()
    """The indices of layers whose MLP is a mixture of experts."""
    expert_neurons: tuple[tuple[int, int, int], ...] = ()
    """Layer, number of experts, and of neurons of each, where the experts' neurons were found."""
    adapter: str | None = None
    reward: str | None = None
    """The name of the reward model that was loaded with it; None without one."""
    adapters: tuple[str, ...] = ()
    taught: tuple[str, ...] = ()
    """The adapters that were made from a context in this session and are not saved to a file."""
    family: tuple[str, ...] = ()
    """The adapters and checkpoints that ship with a built-in model: `builtin:NAME` each."""
    rules: Rules = field(default_factory=Rules)
    """The rules in its `generation_config` for generation."""
    lenses: tuple[str, ...] = ()
    """The learned lenses for it on this machine, as `--translator` takes them."""
    translator: str | None = None
    """The learned lens that was given with it; None without one."""
    direction: str = ""
    """The file of the direction that was given with it; empty without one."""
    shipped_features: tuple[str, ...] = ()
    """The dictionaries of features that ship with it, as `--features` takes them."""
    dictionaries: tuple[DictionaryFacts, ...] = ()
    """The dictionaries that were given with it, or else those that ship with it, by layer."""
    versus: ModelInfo | None = None
    """The second model that it is compared with; None without one."""

    def heads_at(self, layer: int) -> int:
        """Return the number of heads of a layer, or of its maps if it has no attention."""
        inside = -len(self.maps) <= layer < len(self.maps)
        return (inside and self.maps[layer]) or self.heads

    @property
    def versus_name(self) -> str:
        """The name of the second model, with what tells it from the first; empty without one."""
        other = self.versus
        if other is None:
            return ""
        named = [other.name if other.adapter is None else f"{other.name} + {other.adapter}"]
        if other.name == self.name and other.revision != self.revision and other.revision:
            named.append(f"@{other.revision[:7]}")
        named += [
            theirs
            for ours, theirs in ((self.dtype, other.dtype), (self.device, other.device))
            if ours != theirs
        ]
        return " ".join(named)


def model_info(model: LoadedModel, base: LoadedModel, chat_words: frozenset[str]) -> ModelInfo:
    """Return the `ModelInfo` of a model.

    Args:
        model: the model with the active adapter.
        base: the base model, which has all adapters.
        chat_words: see `ModelInfo`.
    """
    anatomy, adapted = model.anatomy, base.adapted
    mapped = [layer.mapped for layer in anatomy.layers]
    return ModelInfo(
        spec=model.spec,
        name=model.name,
        architecture=type(model.module).__name__,
        layers=len(anatomy.layers),
        heads=anatomy.heads,
        width=anatomy.width,
        neurons=anatomy.neurons,
        vocabulary=anatomy.vocabulary,
        context=anatomy.context,
        parameters=model.parameters,
        dtype=model.dtype_name,
        device=str(model.device),
        revision=model.revision,
        notices=tuple(one_line(notice, NOTE) for notice in model.notices),
        chat_words=chat_words,
        maps=tuple(0 if part is None else part.count for part in mapped) if any(mapped) else (),
        experts=tuple(i for i, layer in enumerate(anatomy.layers) if layer.experts is not None),
        expert_neurons=tuple(
            (at, layer.neurons.weights.count, layer.neurons.weights.width)
            for at, layer in enumerate(anatomy.layers)
            if layer.neurons is not None
        ),
        adapter=model.adapter,
        reward=None if model.reward is None else model.reward.name,
        adapters=tuple(adapted),
        taught=tuple(name for name, adapter in adapted.loaded.items() if adapter.lesson),
        family=adapted.family,
        rules=rules(model.module),
    )

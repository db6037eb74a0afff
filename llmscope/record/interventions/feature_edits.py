"""Edits along features: the dictionary that an edit means, and the change that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llmscope.edits import Edit, FeatureName, PlaceKind
from llmscope.errors import ScopeError, WrongUseError, WrongValueError, option
from llmscope.learned.dictionaries.catalog import (
    Given,
    header_of,
    headers_of,
    known_dictionaries,
    load_weights,
)
from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.place import STREAMS, WRITES, Place
from llmscope.learned.dictionaries.reader import FORMS
from llmscope.models.anatomy import Layer, inputs_of
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.mlp_input import MlpInput
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change
from llmscope.record.feature_change import FeatureChange, LiveNorm, LivePlace
from llmscope.record.norms import UnknownNorm, take_apart
from llmscope.record.sites import NoPlace, Site, write_site
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.record.features.active import Applied

LISTED = 8
"""Most layers or places that an error lists."""
ORDER: tuple[PlaceKind, ...] = (
    *("resid_pre", "z", "attn_out", "resid_mid"),
    *("mlp_normed", "mlp_in", "mlp_act", "mlp_out"),
)
"""The tensors of a layer in the order in which most models compute them."""
MLP_INPUTS: tuple[PlaceKind, ...] = ("mlp_in", "mlp_normed")
MODULES: tuple[Site, ...] = ("attention_module", "mlp_module")
"""Sites of what a norm changes before it is added to the stream."""
CAPABILITIES: dict[PlaceKind, str] = {
    "z": "heads",
    "mlp_act": "activations",
    "attn_out": "writes",
    "mlp_out": "writes",
    "resid_mid": "writes",
}
"""The capability whose identity must hold for a change at a place; other places need none."""


def given_features(model: LoadedModel) -> tuple[Given, ...]:
    """Return the dictionaries of a model's edits: its own, its origin's, or the known ones."""
    base = model.origin or model
    return model.features or base.features or known_dictionaries(base)


def dictionary_of(model: LoadedModel, name: FeatureName) -> Dictionary:
    """Return the dictionary that a feature's name means, on the model's device.

    Raises:
        ScopeError: no dictionary fits or several do, it has no such feature, or it cannot be read.
    """
    dictionaries = given_features(model)
    if not dictionaries:  # an edit fetches nothing
        raise ScopeError(
            f"no dictionary of features comes with {display_text(model.name)}",
            f"{option('features')}: {FORMS}",
        )
    layers = len(model.anatomy.layers)
    if not -layers <= name.layer < layers:
        raise WrongUseError(f"there is no layer {name.layer}", f"0 to {layers - 1}")
    layer = name.layer % layers
    all_layers = headers_of(dictionaries, model.origin or model)
    of_layer = [entry for entry in all_layers if header_of(entry).reads.layer == layer]
    if not of_layer:
        others = sorted({header_of(entry).reads.layer for entry in all_layers})
        raise ScopeError(
            f"there is no dictionary at layer {layer}",
            f"layer {_list_names(others)}; or {option('features')}",
        )
    matching = [e for e in of_layer if not name.place or _at(name, header_of(e).reads)]
    matching = matching or [e for e in of_layer if _at(name, header_of(e).writes)]
    if not matching:
        raise ScopeError(
            f"there is no dictionary for {layer}.{name.place}",
            _list_features(map(header_of, of_layer), name.feature),
        )
    if len(matching) > 1:
        names = {str(header_of(entry).reads) for entry in matching}
        hint = f"one of them with {option('features')}"
        if len(names) == len(matching):
            hint = _list_features(map(header_of, matching), name.feature)
        raise ScopeError(f"there are {len(matching)} dictionaries at layer {layer}", hint)
    dictionary = load_weights(matching[0], model)
    count = dictionary.header.features
    if name.feature >= count:
        raise WrongUseError(
            f"there is no feature {name.feature} in the dictionary at layer {layer}: it has "
            f"{count}",
            f"0 to {count - 1}",
        )
    return dictionary


def _at(name: FeatureName, place: Place) -> bool:
    return name.kind == place.kind and name.head in (None, place.head)


def _list_names(names: Sequence[object]) -> str:
    texts = [str(name) for name in names[:LISTED]]
    return ", ".join([*texts, "…"] if len(names) > LISTED else texts)


def _list_features(headers: Iterable[DictionaryHeader], feature: int) -> str:
    return _list_names([f"{header.reads}/{feature}" for header in headers])


def direction_of(model: LoadedModel, name: FeatureName) -> Tensor:
    """Return the decoder row of a feature, as a direction of the stream. [width], float32

    Raises:
        ScopeError: there is no such feature, or its row is no direction of the stream.
    """
    dictionary = dictionary_of(model, name)
    header, width = dictionary.header, model.anatomy.width
    parts = model.anatomy.layers[header.writes.layer]
    behind = header.writes.kind in WRITES and write_site(parts, header.writes)[0] in MODULES
    if header.writes.kind not in (*STREAMS, *WRITES) or behind:
        raise ScopeError(
            f"the rows of a dictionary for the {header.writes.title} are no directions of the "
            "stream",
            "a dictionary for a stream, or for what attention or MLP writes",
        )
    if header.out_width != width:
        raise ScopeError(
            f"the dictionary is for a width of {header.out_width}, and the stream has {width}",
            "a dictionary of this model",
        )
    with torch.no_grad():
        row = dictionary.rows(torch.tensor([name.feature], device=dictionary.decoder.device))[0]
    return row.float().to(model.device)


def feature_edit(
    edit: Edit, base: Recording, rows: range, apply: Callable[[Dictionary, Recording], Applied]
) -> Change:
    """Return the change that an edit of a feature makes.

    Args:
        edit: zero, scale or set.
        base: the unedited recording.
        rows: the tokens.
        apply: returns how a dictionary is applied to a recording; raises ValueError if it cannot.

    Raises:
        ScopeError: there is no such feature, or it cannot be changed in this model.
    """
    assert edit.feature is not None
    dictionary = dictionary_of(base.model, edit.feature)
    try:
        way = apply(dictionary, base)
    except ValueError as reason:
        raise ScopeError(
            f"the dictionary does not fit: {reason}", option("features", "FOLDER")
        ) from None
    options = {"value": edit.factor} if edit.action == "set" else {"factor": edit.factor}
    return feature_change(base, way, edit.feature.feature, rows, **options)


def feature_change(
    recording: Recording,
    way: Applied,
    feature: int,
    rows: range,
    *,
    factor: float | None = None,
    value: float | None = None,
) -> Change:
    """Return the change of a feature's activation at some tokens, alone or as a job of a sweep.

    The dictionary must be one that was applied to the recording.

    Args:
        recording: a recording of the model.
        way: the dictionary, as it is applied.
        feature: the index of the feature.
        rows: the tokens.
        factor: multiplies the activation; 0 ablates the feature.
        value: replaces the activation. Exactly one of factor and value is given.

    Raises:
        ScopeError: the tensor that the dictionary predicts cannot be changed so in this model.
        ValueError: there is no such feature, or not exactly one of factor and value is given.
    """
    if (factor is None) == (value is None):
        raise WrongValueError("exactly one of factor and value is needed")
    header = way.dictionary.header
    if not 0 <= feature < header.features:
        raise WrongValueError(
            f"there is no feature {feature}: the dictionary has {header.features}"
        )
    reads, writes = _places(recording, header)
    site, layer = writes.sites[-1]
    change = FeatureChange(way.dictionary, feature, reads, writes, way.centred, factor, value)
    return Change(site, layer, rows, writes.columns, feature=change)


def places_changed(model: LoadedModel, header: DictionaryHeader) -> list[tuple[str, int]]:
    """Return the capabilities, each with a layer, that must hold where features are changed."""
    layers, needed = model.anatomy.layers, list[tuple[str, int]]()
    for place in dict.fromkeys((header.reads, header.writes)):
        if place.kind in CAPABILITIES:
            needed.append((CAPABILITIES[place.kind], place.layer))
        if place.kind == "resid_post" and place.module:
            # A model may norm the stream between two layers, or run its layers in loops.
            needed.append(("writes", place.layer))
        if place.kind not in WRITES or not 0 <= place.layer < len(layers):
            continue
        parts = layers[place.layer]
        with suppress(NoPlace):  # which reading it tells
            site, _ = write_site(parts, place)
            if site == "attention_module":
                needed.append(("heads", place.layer))
            elif site == "mlp_module" and (parts.down is not None or parts.experts is not None):
                mixture = parts.experts is not None
                needed.append(("experts" if mixture else "activations", place.layer))
    return needed


def _places(recording: Recording, header: DictionaryHeader) -> tuple[LivePlace, LivePlace]:
    """Return what a dictionary reads and predicts, in a running pass; kept with the recording."""
    key = "live places", header.reads, header.writes
    if key not in recording.memo:
        recording.memo[key] = _find_places(recording, header)
    places: tuple[LivePlace, LivePlace] = recording.memo[key]
    return places


def _find_places(recording: Recording, header: DictionaryHeader) -> tuple[LivePlace, LivePlace]:
    reads, writes = header.reads, header.writes
    layer = recording.model.anatomy.layers[writes.layer]
    parallel = layer.mlp_parallel is not None
    if parallel and ("mlp_out" in (reads.kind, writes.kind) or writes.kind in MLP_INPUTS):
        raise _impossible(writes, "the layer has two MLPs whose outputs are added")
    if reads == writes:
        both = _live(recording, reads)
        return both, both
    turns = [ORDER.index(place.kind) if place.kind in ORDER else -1 for place in (reads, writes)]
    if reads.layer != writes.layer or not -1 < turns[0] < turns[1]:
        raise _impossible(writes, f"from the {reads.title}, in one pass")
    return _live(recording, reads), _live(recording, writes)


def _impossible(place: Place, reason: str) -> ScopeError:
    return ScopeError(
        f"the {place.title} cannot be changed along a feature: {reason}", "another dictionary"
    )


def _live(recording: Recording, place: Place) -> LivePlace:
    """Return where hooks read or change, in a pass, what a dictionary calls a place.

    A place that is a sum, such as the stream between attention and MLP, is several tensors.
    """
    layer, kind = place.layer, place.kind
    anatomy = recording.model.anatomy
    parts = anatomy.layers[layer]
    site, scale = write_site(parts, place) if kind in WRITES else ("attention_write", 1.0)
    sites: dict[PlaceKind, tuple[Site, int]] = {
        "resid_pre": ("stream", layer),
        "resid_post": ("stream", layer + 1),
        "attn_out": (site, layer),
        "mlp_in": ("mlp_input", layer),
        "mlp_normed": ("mlp_input", layer),
        "mlp_out": (site, layer),
        "z": ("heads", layer),
        "mlp_act": ("neurons", layer),
    }
    if kind == "resid_mid":
        mixes = _mixes(recording, place)
        return LivePlace(place, (("stream", layer), (mixes, layer)), scale=parts.scale(mixes))
    if kind == "mlp_normed":
        norm = _norm(recording, place, parts)
        return LivePlace(place, (("norm", layer), sites[kind]), norm=norm)
    if kind == "z" and place.head is not None:
        assert parts.attention_out is not None
        width = inputs_of(parts.attention_out) // anatomy.heads
        columns = slice(place.head * width, (place.head + 1) * width)
        return LivePlace(place, (sites[kind],), columns)
    return LivePlace(place, (sites[kind],), scale=scale)


def _mixes(recording: Recording, place: Place) -> Site:
    """Return the write after which the stream within a layer is there."""
    parts = recording.model.anatomy.layers[place.layer]
    if parts.attention_write is not None and parts.mixer_write is not None:
        raise _impossible(place, f"attention and {parts.parallel_kind} write it together")
    entry = _entry(recording, place.layer)
    if parts.mlp_input_module is not None and (entry is None or not entry.middle):
        raise _impossible(place, "it was not found that the MLP reads it")
    return "mixer_write" if parts.attention_write is None else "attention_write"


def _norm(recording: Recording, place: Place, parts: Layer) -> LiveNorm:
    entry = _entry(recording, place.layer)
    children: list[nn.Module] = list(parts.module.children())
    if entry is None or not any(entry.norm is child for child in children):
        raise _impossible(place, "what the MLP reads is no norm of the stream")
    stream = recording.layer_rows(place.layer, range(1)).stream
    try:
        return LiveNorm(entry.norm, take_apart(entry.norm, stream))
    except UnknownNorm as finding:
        raise _impossible(place, str(finding)) from None


def _entry(recording: Recording, layer: int) -> MlpInput | None:
    """Return how a layer's MLP input is derived in an unedited pass; None if it is kept."""
    unedited = recording.base or recording
    return unedited.parts[-1][0].layers[layer].entry

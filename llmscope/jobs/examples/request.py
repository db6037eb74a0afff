"""Turn what the user names into the sources of a model's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError, option
from llmscope.jobs.examples.sources import FeatureSource, HeadSource, NeuronSource, UnitSource
from llmscope.learned.dictionaries.catalog import Given, header_of, headers_of, load_weights
from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.examples.request import FeatureRequest

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel, Progress


def sources_for(
    model: LoadedModel,
    *,
    dictionaries: Sequence[Given] = (),
    features: Sequence[FeatureRequest] = (),
    neurons: Mapping[int, tuple[int, ...]] | None = None,
    heads: Mapping[int, tuple[int, ...]] | None = None,
    progress: Progress | None = None,
) -> list[UnitSource]:
    """Return the sources of units, those of one place together.

    Args:
        model: the model.
        dictionaries: dictionaries and names; if empty, those that ship with the model.
        features: which features of them.
        neurons, heads: by layer.
        progress: called with the progress of a download; None reports nothing.

    Raises:
        ScopeError: there is no such dictionary or feature, or several that may be meant.
    """
    sources: list[UnitSource] = []
    if features:
        headers = headers_of(dictionaries, model, progress)
        for header, chosen in _by_dictionary(headers, features):
            sources.append(FeatureSource(load_weights(header, model), chosen))
    sources += [NeuronSource(layer, indices) for layer, indices in (neurons or {}).items()]
    sources += [HeadSource(layer, indices) for layer, indices in (heads or {}).items()]
    return sources


def _by_dictionary(
    headers: Sequence[DictionaryHeader | Dictionary], features: Sequence[FeatureRequest]
) -> list[tuple[DictionaryHeader | Dictionary, tuple[int, ...] | None]]:
    """Return the features of each dictionary, ascending; None: all."""
    if not headers:
        raise ScopeError("no dictionary is known for the model", option("features", "FOLDER"))
    by_dictionary: dict[int, set[int | None]] = {}
    for request in features:
        fitting = [
            at for at, header in enumerate(headers) if request.names(str(header_of(header).reads))
        ]
        places = ", ".join(str(header_of(headers[at]).reads) for at in fitting)
        if not fitting:
            known = ", ".join(str(header_of(header).reads) for header in headers)
            raise ScopeError(
                f"no dictionary is for {request.place}; there are {known}", "one of those"
            )
        if len(fitting) > 1 and request.index is not None:
            raise ScopeError(
                f"feature {request} may be of several dictionaries: {places}",
                f"{header_of(headers[fitting[0]]).reads}/{request.index}",
            )
        for at in fitting:
            by_dictionary.setdefault(at, set()).add(request.index)
    return [
        (
            headers[at],
            None
            if None in indices
            else tuple(sorted(index for index in indices if index is not None)),
        )
        for at, indices in sorted(by_dictionary.items())
    ]

"""The variants of one model: adapters for it, and checkpoints that were trained from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel


class Variants(Mapping[str, "LoadedModel"]):
    """Models by name, in order. A model that is not loaded yet is loaded on first access."""

    def __init__(
        self,
        loaded: Mapping[str, LoadedModel] | None = None,
        later: Mapping[str, Callable[[], LoadedModel]] | None = None,
    ) -> None:
        """Keep the loaded models, followed by functions that load the others."""
        self._loaded = dict(loaded or {})
        self._later = dict(later or {})
        self._names = dict.fromkeys((*self._loaded, *self._later))

    def __getitem__(self, name: str) -> LoadedModel:
        """Return a model, loading it if needed.

        Raises:
            KeyError: the name is unknown.
            ScopeError: the model cannot be loaded.
        """
        if name not in self._loaded:
            self._loaded[name] = self._later[name]()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:  # must not load the model
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    @property
    def loaded(self) -> Mapping[str, LoadedModel]:
        """Return the models that are loaded already."""
        return dict(self._loaded)

    @property
    def family(self) -> tuple[str, ...]:
        """Return the names of the built-in variants, loaded or not; the spec is `builtin:NAME`."""
        return tuple(self._later)

    def add(self, name: str, model: LoadedModel) -> None:
        """Append a model."""
        self._loaded[name] = model
        self._names[name] = None

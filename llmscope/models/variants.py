"""The stages of one model: adapters on it, and checkpoints that were trained from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel


class Stages(Mapping[str, "LoadedModel"]):
    """Models by name, in order. One that is not loaded yet is when it is first asked for."""

    def __init__(
        self,
        loaded: Mapping[str, LoadedModel] | None = None,
        later: Mapping[str, Callable[[], LoadedModel]] | None = None,
    ) -> None:
        """Those that are there, then those that can be loaded."""
        self._loaded = dict(loaded or {})
        self._later = dict(later or {})
        self._names = dict.fromkeys((*self._loaded, *self._later))

    def __getitem__(self, name: str) -> LoadedModel:
        """Raises KeyError for an unknown name, and ScopeError for what cannot be loaded."""
        if name not in self._loaded:
            self._loaded[name] = self._later[name]()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:  # which must not load it
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    @property
    def loaded(self) -> Mapping[str, LoadedModel]:
        """Those that are loaded already."""
        return dict(self._loaded)

    @property
    def family(self) -> tuple[str, ...]:
        """Those that came with the model, loaded or not: `builtin:NAME` is each one's spec."""
        return tuple(self._later)

    def add(self, name: str, subject: LoadedModel) -> None:
        """One more, at the end."""
        self._loaded[name] = subject
        self._names[name] = None

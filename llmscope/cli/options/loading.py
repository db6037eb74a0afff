"""The loading options of the command line. Imports nothing slow."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.models.hidden_states import HiddenStates
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope


BASE = "base"
"""What the model without any adapter is called."""


@dataclass(frozen=True)
class StreamsFile:
    """The streams of one text that another engine wrote, in place of a second model.

    Attributes:
        model: the file.
        layers: the ids of the layers in it; None: all of the model's.
    """

    model: str
    layers: tuple[int, ...] | None = None

    adapters: ClassVar[tuple[str, ...]] = ()
    versus: ClassVar[None] = None
    versus_adapter: ClassVar[None] = None

    @property
    def options(self) -> dict[str, str | int | bool]:
        """The layers as `--layer-ids` takes them."""
        return {} if self.layers is None else {"layer_ids": ",".join(map(str, self.layers))}

    def read(self) -> HiddenStates:
        """Read the file.

        Raises:
            ScopeError: it is no such file, or is damaged.
        """
        from llmscope.models.hidden_states import read_hidden_states

        return read_hidden_states(Path(self.model), self.layers)


@dataclass(frozen=True)
class Loader:
    """The model to load and how to load it; calling the object loads it.

    Attributes:
        translator: the learned lens of edits; None: the Jacobian lens that comes with it.
        features: the dictionaries of edits along features; empty: those that come with it.
        direction: the file of the direction that the screen reads with; None: no direction.
        versus: loads the second model that it is compared with, or the streams of another engine;
            None without one.
        versus_adapter: the adapter of that second model where it is the same one, `base` for none;
            None: it is not named by its adapter.
        switched_to: the name of the adapter that is on, `base` for none; None: as loading leaves
            it.
    """

    model: str | None
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    memory: str | None = None
    spill: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    adapters: tuple[str, ...] = ()
    unverified: bool = False
    reward: str | None = None
    translator: str | None = None
    features: tuple[str, ...] = ()
    direction: str | None = None
    versus: Loader | StreamsFile | None = None
    versus_adapter: str | None = None
    switched_to: str | None = None
    backend: str = "transformers"
    cache_type: str | None = None

    @property
    def options(self) -> dict[str, str | int | bool]:
        """The options that are not at their default, as keywords of `llmscope.load`.

        Adapters are left out.
        """
        names = (
            *("device", "dtype", "backend", "cache_type", "threads", "memory", "spill"),
            "reward",
        )
        switches = ("trust_remote_code", "allow_pickle", "unverified")
        values = {name: getattr(self, name) for name in (*names, *switches)}
        usual = ("auto", "transformers", None, False)
        return {name: value for name, value in values.items() if value not in usual}

    def other(self, model: str) -> Loader:
        """Return a loader for another model with the same options, compared with no second one.

        Adapters, the reward model, what was learned of it, and the trust in remote code and pickled
        weights belong to this model: the user did not give them for the other. llama.cpp goes on,
        with the type of its cache, where the other is named as a GGUF file too.
        """
        from llmscope.models.spec import DEFAULT, is_gguf

        if model == (self.model or DEFAULT):
            return replace(self, versus=None, versus_adapter=None)
        onward = self.backend == "auto" or is_gguf(model)
        return replace(
            self,
            model=model,
            adapters=(),
            reward=None,
            translator=None,
            features=(),
            direction=None,
            versus=None,
            versus_adapter=None,
            trust_remote_code=False,
            allow_pickle=False,
            backend=self.backend if onward else "transformers",
            cache_type=self.cache_type if onward else None,
        )

    def __call__(self, progress: Progress | None) -> Scope:
        """Load the model. Imports torch.

        Raises:
            ScopeError: the model cannot be loaded, its lens cannot be read or does not fit, a
                dictionary cannot be read, an adapter is not there, or the second model cannot be
                loaded, does not fit beside the first, or does not read the same tokens.
        """
        from llmscope.support.gc_control import freeze_for_good, uncollected

        begun = time.perf_counter()
        with uncollected():
            for library in ("torch", "transformers"):
                if progress is not None and library not in sys.modules:
                    progress(f"importing {library}", 0.0, None)
                if library == "torch":
                    import_module(library)
            from llmscope.scope.scope import load  # imports what is needed of transformers

            freeze_for_good()  # no other code shares this process
        # No local name for it: this frame may be among what was frozen, and would keep the model.
        return self._with_second(
            _report_loading(
                load(
                    self.model,
                    device=self.device,
                    dtype=self.dtype,
                    backend=self.backend,
                    cache_type=self.cache_type,
                    threads=self.threads,
                    memory=self.memory,
                    spill=self.spill,
                    adapters=self.adapters,
                    reward=self.reward,
                    unverified=self.unverified,
                    trust_remote_code=self.trust_remote_code,
                    allow_pickle=self.allow_pickle,
                    progress=progress,
                ),
                begun,
            ),
            progress,
        )

    def _with_second(self, scope: Scope, progress: Progress | None) -> Scope:
        """Return a scope with what else was asked for: what edits learned, and the second model.

        Raises:
            ScopeError: the lens cannot be read, or does not fit the model; a dictionary cannot be
                read; or the second model cannot be compared with it.
        """
        if self.switched_to is not None:
            _switch(scope, self.switched_to)
        self._set_learned(scope, progress)
        if isinstance(self.versus, StreamsFile):
            scope.compare(self.versus.read())
        elif self.versus is not None:
            from llmscope.scope.second_model import compare_with

            compare_with(scope, self.versus, progress)
        return scope

    def _set_learned(self, scope: Scope, progress: Progress | None) -> None:
        """Set the learned lens and the dictionaries of a scope's edits, and the direction.

        Raises:
            ScopeError: the lens or direction cannot be read, or does not fit the model; or a
                dictionary cannot be read.
        """
        if self.translator is not None:
            from llmscope.learned.lenses.catalog import lens_for

            learned = lens_for(self.translator, scope.loaded_model, progress)
            if isinstance(learned, str):
                raise ScopeError(learned, "another --translator, or none")
        scope.translator = self.translator
        if self.features:
            from llmscope.learned.dictionaries.catalog import headers_of

            headers_of(self.features, scope.loaded_model, progress)
        scope.features = self.features
        if self.direction is not None:
            from llmscope.learned.lenses.direction_file import directions_for

            wrong = directions_for(self.direction, scope.loaded_model)
            if isinstance(wrong, str):
                raise ScopeError(wrong, "another --direction, or none")
            scope.direction = self.direction


def _switch(scope: Scope, adapter: str) -> None:
    """Switch to an adapter of a scope, or to the model without any: `base`.

    Raises:
        ScopeError: there is no such adapter, or none is on that `base` would be without.
    """
    if adapter == BASE and scope.adapter is None:
        raise ScopeError(
            "no adapter is on, so that base is the model itself", "--adapter ADAPTER too"
        )
    try:
        scope.use(None if adapter == BASE else adapter)
    except ValueError as error:
        raise ScopeError(str(error), "one of them, base, or its folder or hub id") from None


def _report_loading(scope: Scope, begun: float) -> Scope:
    """Return the scope; with --verbose, tell what was loaded since `begun`."""
    from llmscope.cli.output.notices import detail, volume

    if volume.verbose:
        info = scope.info()
        detail(
            f"loaded {info.spec}: {info.architecture}, {info.layers} layers, "
            f"{info.parameters / 1e6:.1f}M parameters, {info.dtype} on {info.device}: "
            f"{time.perf_counter() - begun:.2f} s"
        )
    return scope

"""Groups of options that commands share: dataclasses whose fields are options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_type_hints

from llmscope.cli.options import shared
from llmscope.cli.options.loading import Loader
from llmscope.cli.options.panels import in_panel

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope

Group = TypeVar("Group")
Command = Callable[..., None]


def gather(group: type[Group], values: Mapping[str, Any]) -> Group:
    """Return a group filled with the options of its names."""
    return group(**{name: values[name] for name in names(group)})


def names(group: type[Any]) -> tuple[str, ...]:
    """Return the names of a group's options, in order."""
    return tuple(field.name for field in fields(group))


def group_options(
    command: Command, more: Iterable[inspect.Parameter] = (), *, after: str = ""
) -> Command:
    """Return a command whose parameters are single options, for Typer.

    Each parameter annotated with a group becomes the group's options.

    Args:
        command: the function that takes groups.
        more: options that reach it through its `**name` parameter.
        after: the parameter behind which those are listed.
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, type[Any]] = {
        parameter.name: parameter.annotation
        for parameter in parameters
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    flat: list[inspect.Parameter] = []
    for parameter in parameters:
        if parameter.name in groups:
            flat += _options(groups[parameter.name])
        elif parameter.kind is not parameter.VAR_KEYWORD:
            flat.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        if parameter.name == after:
            flat += more

    @wraps(command)
    def call(**options: Any) -> None:
        filled = {name: gather(group, options) for name, group in groups.items()}
        grouped_names = {name for group in groups.values() for name in names(group)}
        command(
            **filled,
            **{name: value for name, value in options.items() if name not in grouped_names},
        )

    wrapped: Any = call
    wrapped.__signature__ = inspect.Signature(flat)
    return call


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    if panel := getattr(group, "panel", ""):
        hints = {name: in_panel(hint, panel) for name, hint in hints.items()}
    return [
        inspect.Parameter(
            *(field.name, inspect.Parameter.KEYWORD_ONLY),
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


@dataclass(frozen=True)
class DeviceOptions:
    """Where and how a model runs, and which code may run with it."""

    panel: ClassVar[str] = "Model"

    device: shared.Device = "auto"
    dtype: shared.Dtype = "auto"
    backend: shared.Backend = "transformers"
    cache_type: shared.CacheType = None
    threads: shared.Threads = None
    memory: shared.Memory = None
    spill: shared.Spill = None
    trust_remote_code: shared.TrustRemoteCode = False
    allow_pickle: shared.AllowPickle = False

    def loader(self, model: str | None, **more: Any) -> Loader:
        """Return what loads a model with these options, and `more` fields of `Loader`."""
        options = {name: getattr(self, name) for name in names(DeviceOptions)}
        return Loader(model, **options, **more)


@dataclass(frozen=True)
class HardwareOptions(DeviceOptions):
    """Which revision of a model runs, where and how."""

    revision: shared.Revision = None

    def spec(self, model: str | None) -> str | None:
        """Return the spec of a model, with the revision if one is given.

        Raises:
            BadParameter: the model's name has another revision.
            ScopeError: the spec cannot be parsed, or its source has no revisions.
        """
        from llmscope.models.spec import with_revision

        try:
            return with_revision(model, self.revision)
        except ValueError as error:
            shared.usage(False, str(error), "--revision")
            raise

    def loader(self, model: str | None, **more: Any) -> Loader:
        """Return what loads a model with these options, and `more` fields of `Loader`.

        Raises:
            BadParameter, ScopeError: see `spec`.
        """
        return super().loader(self.spec(model), **more)

    @contextmanager
    def loaded(self, model: str | None) -> Iterator[tuple[Scope, Progress | None]]:
        """Yield a model that is loaded, and what tells the progress of the command on stderr.

        Raises:
            BadParameter, ScopeError: see `spec`; or the model cannot be loaded.
        """
        from llmscope.cli.output.progress import EVERY, progress_line

        with progress_line(every=EVERY) as progress:
            yield self.loader(model)(progress), progress


@dataclass(frozen=True)
class VolumeOptions:
    """How much is told beside the output; their callbacks set `llmscope.cli.output.notices`."""

    quiet: shared.Quiet = False
    verbose: shared.Verbose = False


@dataclass(frozen=True)
class ModelOptions(HardwareOptions):
    """What is loaded onto a model, and how it runs."""

    adapter: shared.Adapter = None
    reward: shared.Reward = None
    unverified: shared.Unverified = False

    def loader(self, model: str | None, **more: Any) -> Loader:
        """Return what loads a model with these options."""
        return super().loader(
            model,
            adapters=tuple(self.adapter or ()),
            reward=self.reward,
            unverified=self.unverified,
            **more,
        )

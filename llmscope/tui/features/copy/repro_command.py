"""The inputs of a figure on screen, and the command line that reproduces it.

`View` holds the inputs independently of the output language; `command` here and
`llmscope.tui.features.copy.repro_script` write them down.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from llmscope.models.spec import DEFAULT, IN_MEMORY
from llmscope.support.text import controls

if TYPE_CHECKING:
    from llmscope.engine.events import ModelInfo
    from llmscope.figure import Focus
    from llmscope.lenses import Lens
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState

PLACE = ("layer", "position", "head")
"""Fields of the focus that are written even with their default value, if the lens uses them."""
TEXTS = ("prompt", "system", "versus_prompt", "words_a", "words_b", "answer")
"""Options whose value is free text; written as `--name=value`, since it may begin with a dash."""
BEFORE = (
    "lens",
    "prompt",
    "written",
    "no_special_tokens",
    "versus_prompt",
    "words_a",
    "words_b",
    "edit",
    "change",
    "mode",
)
AFTER = (
    "format",
    "versus_dtype",
    "versus_device",
    "versus_backend",
    "versus_cache_type",
    "versus_model",
    "versus_adapter",
    "device",
    "dtype",
    "backend",
    "cache_type",
    "threads",
    "memory",
    "spill",
    "trust_remote_code",
    "allow_pickle",
    "adapter",
    "reward",
    "unverified",
)
"""The options of `llmscope snapshot` that a figure may need, in the order used there: before and
after those that lenses declare."""


USUAL = {"dtype": "auto", "device": "auto", "backend": "transformers", "cache_type": "f16"}
"""The options that a second model may have of its own -> what they are where they are not given."""


class SourceLike(Protocol):
    """What was opened, with the options that reproduce it."""

    @property
    def model(self) -> str | None:
        """The spec of the model; None for the default one."""

    @property
    def options(self) -> Mapping[str, str | int | bool]:
        """Keyword arguments of `llmscope.load` that change what is loaded."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Specs of the adapters that are loaded onto the model."""

    @property
    def versus(self) -> SourceLike | None:
        """The second model, or the streams of another engine; None without either."""

    @property
    def versus_adapter(self) -> str | None:
        """The adapter that names the second model; None if none does."""


class LoaderLike(SourceLike, Protocol):
    """A callable that loads a model."""

    def __call__(self, progress: Progress | None) -> Scope:
        """Load the model, in the engine's thread."""


@dataclass(frozen=True)
class ModelSource:
    """How the model was opened.

    Attributes:
        spec: the spec of the model.
        options: keyword arguments of `llmscope.load` that change what is loaded, such as `dtype`.
        adapters: the specs of the adapters that were loaded onto it.
        versus: how the second model was opened; None without one.
        versus_adapter: the adapter that names the second model, where it is the same one; None: the
            second model is not named so.
    """

    spec: str
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    adapters: tuple[str, ...] = ()
    versus: ModelSource | None = None
    versus_adapter: str | None = None

    @classmethod
    def of(cls, spec: str, loader: SourceLike) -> ModelSource:
        """Return how `loader` opens the model that the user called `spec`."""
        second = loader.versus
        versus = None if second is None else cls.of(second.model or DEFAULT, second)
        return cls(spec, loader.options, loader.adapters, versus, loader.versus_adapter)

    @property
    def of_streams(self) -> bool:
        """Whether it is a file with the streams of another engine, and no model."""
        return self.spec.endswith(".safetensors")

    @property
    def named(self) -> bool:
        """Whether a command line can open the model: not one that is in a program's memory."""
        return self.spec != IN_MEMORY

    @property
    def flags(self) -> tuple[str, ...]:
        """The options as command-line words."""
        options = {**self.options, **self.versus_options}
        return tuple(word for name, value in options.items() for word in flag(name, value))

    @property
    def versus_options(self) -> dict[str, str | int | bool]:
        """The options of the second model, where they differ from those of the first."""
        second = self.versus
        if second is None:
            return {}
        chosen: dict[str, str | int | bool] = {"versus_model": second.spec}
        if self.versus_adapter is not None:
            chosen = {"versus_adapter": self.versus_adapter}
        if second.of_streams:
            return chosen | dict(second.options)
        for name, usual in USUAL.items():
            wanted = second.options.get(name, usual)
            if wanted != self.options.get(name, usual):
                chosen[f"versus_{name}"] = wanted
        return chosen

    def adapters_for(self, info: ModelInfo, adapter: str | None) -> tuple[str, ...] | None:
        """Return the adapter specs to load so that `adapter` is active.

        None if there are no such specs: neither the base model of an adapter that was opened as a
        model nor an adapter made from a context has a spec.
        """
        if info.family and (adapter is None or adapter in info.family):
            return () if adapter is None else (f"builtin:{adapter}",)
        apart = {*info.taught, *info.family}
        loaded = [name for name in info.adapters if name not in apart]
        first_here = len(loaded) - len(self.adapters)
        specs = dict(zip(loaded[first_here:], self.adapters, strict=False))
        if adapter in specs and not first_here:
            return (specs[adapter],)
        if (adapter is None and not first_here) or (first_here and adapter == loaded[0]):
            return ()
        return None


@dataclass(frozen=True)
class View:
    """Everything that a figure depends on.

    Attributes:
        source, adapters: the model, and the specs of the adapters to load onto it.
        prompt, written, special_tokens: what is recorded; see `Scope.record`.
        edits: the edits of the pass, in order, as text.
        other: prompt B, if an edit or the lens needs it.
        patches: whether an edit patches from prompt B.
        contrasts: whether the figure compares the prompt with prompt B.
        lens: the name of the lens.
        words: the two word lists that the lens reads, as typed.
        focus: the fields of `Focus` that the lens uses and that are not the default. A span or a
            pool is included if the figure covers only that part of a long prompt.
        cursor: layer and position, as far as the lens uses them or a picture of it marks them.
        translator: the learned lens that edits name; None if no edit does, or it is the model's.
        features: the dictionaries that edits name; empty if no edit does, or they are the model's.
    """

    source: ModelSource
    adapters: tuple[str, ...]
    prompt: str
    written: tuple[int, ...]
    special_tokens: bool
    edits: tuple[str, ...]
    other: str | None
    patches: bool
    contrasts: bool
    lens: str
    words: tuple[str, str] | None
    focus: Mapping[str, Any]
    cursor: Mapping[str, int]
    translator: str | None = None
    features: tuple[str, ...] = ()

    @property
    def two_lenses(self) -> bool:
        """Whether edits and figure need different learned lenses, and a command names one."""
        from llmscope.lenses import lens

        if self.translator is None or "translator" not in lens(self.lens).uses:
            return False
        return self.focus.get("translator") != self.translator


def view(source: ModelSource, result: Shown, state: ViewState) -> View | None:
    """Return the inputs of a figure on screen.

    None if its model cannot be named, or if the figure only says that there is no prompt B.
    """
    from llmscope.lenses import lens

    chosen, request, want = lens(result.want.lens), result.request, result.want.focus
    adapters = None if state.info is None else source.adapters_for(state.info, request.adapter)
    if adapters is None or (chosen.versus and request.versus_prompt is None):
        return None
    if request.two_models and source.versus is None:  # one that a program gave the scope
        return None
    uses, written, focus = chosen.uses_in(want.mode), request.written, _focus(result, state)
    # With edits, a change is the difference by edits, whatever B is.
    contrasts = "versus_prompt" in uses or (want.change and not request.edits)
    reads = "words" in uses and want.mode == "lens"
    layer, position = (getattr(focus if name in uses else state.focus, name) for name in PLACE[:2])
    cursor = {"layer": layer, "position": _place(result, position)}
    places = uses | chosen.marked_in(want.mode)
    return View(
        source,
        adapters,
        prompt=request.text if written is None else request.text[: written.start],
        # Tokenized again, generated text may give other tokens.
        written=() if written is None else written.ids,
        special_tokens=request.special_tokens,
        edits=tuple(map(str, request.edits)),
        other=request.versus_prompt if request.patches or contrasts else None,
        patches=request.patches,
        contrasts=contrasts and request.versus_prompt is not None,
        lens=result.want.lens,
        words=request.words if reads else None,
        focus={
            **_focus_fields(focus, {*uses, "mode", "change"} - {"span", "pool"}),
            **_part(result, chosen, focus),
        },
        cursor={name: place for name, place in cursor.items() if name in places},
        translator=request.translator if request.learned else None,
        features=state.requested_features if request.featured else (),
    )


def command(view: View, format: str = "txt") -> str | None:  # noqa: A002
    """Return the `llmscope snapshot …` line that reproduces the figure, quoted for a shell.

    The line equals the command in such a snapshot's provenance: in the order that
    `llmscope snapshot` lists, without redundant options.

    None if the model is in a program's memory; if the figure and its edits read through different
    lenses; or if a text holds control characters: a command
    line cannot hold a NUL, and the others would control the terminal that the line is pasted into.
    """
    if not view.source.named or view.two_lenses:
        return None
    import shlex

    from llmscope.lenses import command_options, options

    known = options()
    chosen: dict[str, Any] = {
        **view.source.options,
        **view.source.versus_options,
        "adapter": view.adapters,
        "lens": view.lens,
        "prompt": view.prompt,
        "written": ",".join(map(str, view.written)) or None,
        "no_special_tokens": not view.special_tokens,
        **{
            name: value if isinstance(value, bool) else known[name].text(value)
            for name, value in view.focus.items()
        },
        "translator": view.focus.get("translator", view.translator),
        "features": view.focus.get("features", view.features),
        **view.cursor,
        "edit": view.edits,
        "versus_prompt": view.other,
        **dict(zip(("words_a", "words_b"), view.words or (), strict=False)),
        "change": "change" in view.focus,
        "format": format,
    }
    if chosen.get("head") == "0":
        del chosen["head"]
    words = ["llmscope", "snapshot", view.source.spec]
    for name in (*BEFORE, *(option.name for option in command_options()), *AFTER):
        words += flag(name, chosen.pop(name, None))
    assert not chosen, f"{list(chosen)} have no place in a command line"
    line = shlex.join(words)
    return None if controls(line) else line


def flag(name: str, value: Any) -> list[str]:
    """Return an option's words, repeated for each value of a tuple; empty for None, False."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, tuple | list):
        return [word for item in value for word in flag(name, item)]
    if value is None or isinstance(value, bool):
        return [option] if value else []
    return [f"{option}={value}"] if name in TEXTS else [option, str(value)]


def _focus(result: Shown, state: ViewState) -> Focus:
    """Return the focus of a figure's request, as a script would write it."""
    from llmscope.record.context.split import tokens_before

    focus, request = result.want.focus, result.request
    if focus.layer < 0 and state.info is not None:  # a negative layer counts from the end
        focus = replace(focus, layer=focus.layer + state.info.layers)
    if focus.step is None:  # the table holds all steps, and marks this one
        focus = replace(focus, step=state.step)
    if request.context is not None:
        spans = [(token.start, token.end) for token in result.tokens]
        focus = replace(focus, context=tokens_before(spans, request.context))
    position, change = _place(result, focus.position), focus.change and request.of_two
    return replace(focus, position=position, change=change)


def _focus_fields(focus: Focus, names: Collection[str]) -> dict[str, Any]:
    """Return the fields of a focus that must be written, in their order."""
    from llmscope.lenses import options

    named = [option for option in options().values() if option.name in names]
    return {
        option.name: option.of(focus)
        for option in named
        if option.name in PLACE or option.of(focus) != option.default
    }


def _place(result: Shown, position: int) -> int:
    """Return a position counted from the beginning of the prompt, clamped to it."""
    count = max(len(result.tokens), 1)
    return position % count if position < 0 else min(position, count - 1)


def _part(result: Shown, chosen: Lens, focus: Focus) -> dict[str, Any]:
    """Return the span or pool of a figure of a long prompt; empty if it covers all of it."""
    from llmscope.engine.engine import near

    count, axes = len(result.tokens), result.figure.axes
    along = next((axis for axis in axes if axis.name in ("position", "query")), None)
    if along is None or (along.start, along.step, len(along)) == (0, 1, count):
        return {}  # columns are left out only for their cost
    focus = near(chosen, focus, count)
    part = {"span": focus.span} if focus.pool == 1 else {"pool": focus.pool}
    return {name: value for name, value in part.items() if value is not None}

"""The session of an agent: one open model, the edits in force, and the figures looked at last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import line
from llmscope.agents.files import OutputFolder
from llmscope.edits import parse, read_prompt_b
from llmscope.errors import ScopeError
from llmscope.export import EditsCaption
from llmscope.figure import Figure, Focus

if TYPE_CHECKING:
    from llmscope.edits import Edit
    from llmscope.engine.events import Token
    from llmscope.lenses import Lens
    from llmscope.models.info import ModelInfo
    from llmscope.models.provenance import Origin
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope

OPEN_FIRST = "open with model=builtin:town, a hub id or a folder"


@dataclass(frozen=True)
class LoadOptions:
    """Which model is opened first, and how models are loaded.

    Attributes:
        model: the model of the first call that needs one; None: a call of `open` names it.
        device, dtype, backend, cache_type, threads, memory, spill, adapters, reward, unverified:
            as of `llmscope.load`.
        trust_remote_code, allow_pickle: as of `llmscope.load`; no tool can change them.
    """

    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "transformers"
    cache_type: str | None = None
    threads: int | None = None
    memory: str | None = None
    spill: str | None = None
    adapters: tuple[str, ...] = ()
    reward: str | None = None
    unverified: bool = False
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def another(self, model: str, **changed: Any) -> LoadOptions:
        """Return the options for another model, without what belongs to this one."""
        return replace(self, model=model, **{"adapters": (), "reward": None, **changed})

    def load(self, progress: Callable[[str, float, float | None], None] | None) -> Scope:
        """Load the model. Imports torch.

        Raises:
            ScopeError: it cannot be loaded.
        """
        from llmscope.scope.scope import load

        options = dict(vars(self))
        return load(options.pop("model"), **options, progress=progress)


def _nothing(_: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class AgentCall:
    """A running call of a tool.

    Attributes:
        cancelled: returns whether the client gave it up; asked before each layer.
        report: called with a line that says how far it is.
    """

    cancelled: Callable[[], bool] = bool
    report: Callable[[str], None] = _nothing

    def loading(self, stage: str, done: float, total: float | None) -> None:
        """Report how far a model is loaded; `progress` of `llmscope.load`.

        Raises:
            Cancelled: the client gave the call up.
        """
        self.stop_if_cancelled()
        if stage:
            share = f" {done / total:.0%}" if total else ""
            self.report(line(f"{stage}{share}"))

    def stop_if_cancelled(self) -> None:
        """End the call if the client gave it up.

        Raises:
            Cancelled: it did.
        """
        if self.cancelled():
            from llmscope.support.sandbox import Cancelled

            raise Cancelled


@dataclass(frozen=True)
class SeenFigures:
    """Figures that were looked at, with all that a file about them holds.

    Attributes:
        figures: the figures.
        focus: where they were made.
        tokens: the figure of the lens `tokens`, for the rows around a map.
        info: the model.
        origin: where the numbers come from.
        prompt: the text; None if it is not known.
        cells: its tokens.
        edits: the edits and prompt B.
    """

    figures: tuple[Figure, ...]
    focus: Focus
    tokens: Figure
    info: ModelInfo
    origin: Origin
    prompt: str | None
    cells: tuple[Token, ...]
    edits: EditsCaption


@dataclass
class AgentSession:
    """What the tools share: the model stays loaded between their calls. One call runs at a time.

    Attributes:
        options: how models are loaded.
        folder: where files are written.
        edits: the edits in force, in order.
        versus_prompt: prompt B, which edits that patch need; None without one.
        prompt: the latest prompt; None before the first.
        chat: whether the latest prompt is put into the chat template.
        seen: the figures that were looked at last; None before the first.
    """

    options: LoadOptions
    folder: OutputFolder
    edits: tuple[Edit, ...] = ()
    versus_prompt: str | None = None
    prompt: str | None = None
    chat: bool = False
    seen: SeenFigures | None = None
    _scope: Scope | None = field(default=None, repr=False)

    @property
    def is_open(self) -> bool:
        """Whether a model is loaded."""
        return self._scope is not None

    def scope(self, call: AgentCall) -> Scope:
        """Return the open model; the first call loads the one of the command line.

        Raises:
            ScopeError: no model is named, or it cannot be loaded.
        """
        if self._scope is None:
            if self.options.model is None:
                raise ScopeError("no model is open", OPEN_FIRST)
            self._scope = self.options.load(call.loading)
        return self._scope

    def open(self, options: LoadOptions, call: AgentCall) -> Scope:
        """Load a model in place of the open one. Edits and prompts are dropped.

        The open one is released first only where both do not fit in memory.

        Raises:
            ScopeError: it cannot be loaded. The model that was open stays, or is loaded again by
                the next call.
        """
        from llmscope.models.loading.memory import reserve

        with reserve(self.release):
            scope = options.load(call.loading)
        self.release()
        self._scope, self.options = scope, options
        return scope

    def release(self) -> None:
        """Free the open model, and drop what was said about it."""
        scope, self._scope = self._scope, None
        self.seen = self.prompt = self.versus_prompt = None
        self.edits, self.chat = (), False
        if scope is None:
            return
        from llmscope.models.loading.memory import free_cache

        device = scope.loaded_model.device
        scope.detach()
        del scope
        free_cache(device)

    def text(self, arguments: Mapping[str, Any]) -> str:
        """Return the prompt of a call: its own, which is remembered, or the latest one.

        Raises:
            ScopeError: there is no prompt yet.
        """
        if "prompt" in arguments:
            self.prompt, self.chat = arguments["prompt"], bool(arguments.get("chat", False))
        elif "chat" in arguments:
            self.chat = arguments["chat"]
        if self.prompt is None:
            raise ScopeError("there is no prompt yet", 'prompt="The capital of France is"')
        return self.prompt

    def record(
        self,
        text: str,
        call: AgentCall,
        *,
        edits: tuple[Edit, ...] | None = None,
        versus_prompt: str | None = None,
        written: tuple[int, ...] = (),
    ) -> Recording:
        """Record a prompt under edits.

        Args:
            text: the prompt. It is put into the chat template if the session's latest prompt was.
            call: the agent's call, which may be cancelled between layers.
            edits: the edits; None: the session's edits in force.
            versus_prompt: prompt B, from which edits may patch; None: the session's.
            written: ids of tokens that follow the prompt.

        Raises:
            ScopeError: the prompt or an edit does not fit the model, or an edit patches from prompt
                B, which was not given.
        """
        scope = self.scope(call)
        chosen = self.edits if edits is None else edits
        other = self.versus_prompt if versus_prompt is None else versus_prompt
        if read_prompt_b(chosen) and other is None:
            raise ScopeError("an edit patches from prompt B", "versus_prompt with its text")
        return scope.record(
            self.rendered(text, call),
            special_tokens=not self.chat,
            cancelled=self.stopping(call),
            edits=chosen,
            versus_prompt=self.rendered(other, call) if other and read_prompt_b(chosen) else None,
            written=written,
            progress=lambda recordings, total: call.report(f"{len(recordings)} of {total} tokens"),
        )

    def rendered(self, text: str, call: AgentCall) -> str:
        """Return a prompt as the model reads it: in the chat template if the latest one is."""
        return self.scope(call).chat.prompt(text) if self.chat else text

    def stopping(self, call: AgentCall) -> Callable[[], bool]:
        """Return what passes ask before each layer, which also reports the layer."""
        from llmscope.engine.layer_progress import LayerProgress

        layers = len(self.scope(call).loaded_model.anatomy.layers)
        return LayerProgress(
            call.cancelled, layers, lambda at, all_: call.report(f"layer {at} of {all_}")
        )

    def figure(self, chosen: Lens, recording: Recording, focus: Focus, call: AgentCall) -> Figure:
        """Return the complete figure of a lens, and report the partial ones before it.

        Raises:
            ValueError: a layer, head, position or mode does not exist.
            ScopeError: the recording cannot be looked at.
            Cancelled: the client gave the call up.
        """
        figure = None
        scope, stopping = self.scope(call), self.stopping(call)
        for figure in scope.figures(chosen.name, recording, focus, cancelled=stopping):
            call.stop_if_cancelled()
            done = figure.extra.get("progress")
            if done:
                call.report(f"{done[0]} of {done[1]} passes")
        assert figure is not None
        return figure

    def keep(self, figure: Figure, recording: Recording, focus: Focus, text: str) -> SeenFigures:
        """Remember a figure for `export`, with all that a file about it holds."""
        from llmscope.engine.events import tokens_of
        from llmscope.scope.figures import figure_of

        scope = self._scope
        assert scope is not None
        with scope.unchanged():
            tokens = figure_of(scope, recording, "tokens", Focus())
        self.seen = SeenFigures(
            (figure,),
            focus,
            tokens,
            scope.info(),
            scope.origin(),
            text,
            tokens_of(recording),
            EditsCaption(
                tuple(map(str, recording.edits)),
                self.versus_prompt if recording.edits else None,
                bool(recording.edits) and self.versus_prompt is not None,
            ),
        )
        return self.seen


def parsed(texts: list[str]) -> tuple[Edit, ...]:
    """Return edits from their texts.

    Raises:
        ScopeError: one cannot be parsed; the message names it.
    """
    edits = []
    for text in texts:
        try:
            edits.append(parse(text))
        except ScopeError as error:
            raise error.at(line(text, 100)) from None
    return tuple(edits)

"""The engine: one thread that loads the model, runs forward passes and makes figures.

The engine answers only the newest request. When the prompt changes, a running pass is cancelled at
the next layer. Figures are cached until the prompt changes, so moving a cursor computes only what
the cursor changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from threading import Thread
from typing import TYPE_CHECKING, Any

from llmscope.engine.comparison import ComparedPrompt, OtherError
from llmscope.engine.events import (
    SPAN,
    Ask,
    ChatFileRead,
    ChatFileRequest,
    ChatRequest,
    ContextAdded,
    ContextRequest,
    DictionariesRead,
    DictionaryRequest,
    Event,
    Frame,
    LensRead,
    LensRequest,
    Loaded,
    LoadFailed,
    Loading,
    OpenFailed,
    OpenRequest,
    PassInfo,
    PromptsRequest,
    Refused,
    Request,
    StopRequest,
    Templated,
    Want,
    Working,
)
from llmscope.engine.layer_progress import EVERY, LayerProgress
from llmscope.engine.model_switch import GivenUp, OpenModel
from llmscope.engine.prompts_behind import PromptsBehind
from llmscope.engine.sampling import BranchRecordings, sampled
from llmscope.engine.side_by_side import side_by_side
from llmscope.engine.slot import Slot
from llmscope.engine.token_rows import TokenRows
from llmscope.errors import OutOfMemory, ScopeError, option
from llmscope.figure import Figure, Focus
from llmscope.record.fetch import Fetches, mapped
from llmscope.support.sandbox import give_up_when
from llmscope.support.text import typed_error_line

if TYPE_CHECKING:
    import psutil

    from llmscope.edits import Edit
    from llmscope.lenses import Lens
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.models.provenance import Origin
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope.scope import Scope

STRIDE = SPAN // 3
"""Tokens by which the span shown of a long prompt moves at a time."""
FULL, LEAST = 8192, 64
"""Tokens of a prompt up to which a third of the span has `STRIDE` tokens, and fewest of a third."""
CHECKING = "checking the numbers against the model"
"""The task between a load and the first pass."""
PACE = 0.05
"""Minimum seconds between two incomplete frames of one request."""
OVERTAKEN = "it was given up for a later request"
"""The error of a request that is dropped and that no later request answers too."""
NOTHING_OPEN = "no model is open"
"""The error of a request while there is no model."""

Load = Callable[[Callable[[str, float, float | None], None]], "Scope"]


class Engine:
    """A thread that takes requests and posts events.

    Args:
        load: returns the scope; called in the engine's thread with a progress callback.
        post: called from the engine's thread with each event.
    """

    def __init__(self, load: Load, post: Callable[[Event], None]) -> None:
        self._model = OpenModel(load, self._forget_model)
        self._post = post
        self._slot = Slot()
        self._prompts = PromptsBehind(post, self._slot.newer)
        self._thread = Thread(target=self._work, name="llmscope-engine", daemon=True)
        self._recording: Recording | None = None
        self._own: object = None
        self._wrote = False
        self._prompt: object = None
        self._before = self._second_before = 0
        self._held: tuple[object, ComparedPrompt] | None = None
        self._figures: dict[Any, Figure] = {}
        self._origins: dict[str | None, Origin] = {}
        self._aside = BranchRecordings()
        self._tokens = TokenRows()
        self._milliseconds = 0.0
        self._made: dict[str, Figure] = {}
        self._part_shown = -1
        self._process: psutil.Process | None = None

    def start(self) -> None:
        """Start the thread, which loads the model first."""
        self._thread.start()

    def ask(self, request: Ask) -> None:
        """Request figures, a chat template's text, an adapter of a context, or another model.

        A StopRequest only cancels what runs. An older request that has not been started is dropped.
        The answer to a later request serves figures and models that were asked for before it too;
        any other request that is dropped is answered with an error. A PromptsRequest waits for all
        others, and drops none of them.
        """
        if isinstance(request, PromptsRequest):
            self._slot.put_behind(request)
            return
        dropped = self._slot.put(request)
        if dropped is not None:
            self._give_up(dropped)

    def _give_up(self, request: Ask | None) -> None:
        """Answer a request that was dropped, unless the answer to a later one serves it too."""
        if request is None or isinstance(request, Request | OpenRequest | StopRequest):
            return
        with suppress(BaseException):  # the screen may be gone
            self._post(_failure(request, OVERTAKEN))

    def close(self, timeout: float = 2.0) -> bool:
        """End the thread; a running pass is cancelled at the next layer.

        Args:
            timeout: seconds to wait.

        Returns:
            Whether the thread ended in time; a library loading a large file may delay it.
        """
        self._slot.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        give_up_when(self._slot.newer)
        self._serve(None)
        while not self._slot.closed:
            request = self._slot.take(self._prompts.patience)
            if request is not None:
                self._serve(request)
                self._prompts.read_later()
            elif not self._slot.closed:
                self._read_prompts()

    def _read_prompts(self) -> None:
        """Read on in the file of prompts that was asked for, for a while."""
        request = self._slot.take_behind()
        if request is not None:
            self._prompts.begin(request)
        scope = self._model.scope
        if scope is None or not self._prompts.reads:
            self._prompts.read_later()
            return
        if scope.adapter != self._prompts.adapter:
            self._forget()  # the latest recording is of another adapter than will be on
        if not self._prompts.read_on(scope):
            with suppress(BaseException):  # what failed may have left little memory
                self._forget()
                scope.forget()

    def _serve(self, request: Ask | None) -> None:
        """Answer a request, whatever the code of a model or of a library raises.

        This catches BaseException, such as a Rust panic, or SystemExit from code that came with a
        model: if the thread ended, the screen would wait forever.

        Args:
            request: None loads the model that the program was started with.
        """
        try:
            self._handle(request)
            return
        except GivenUp:
            self._give_up(request)
            return
        except BaseException as error:
            failure = _failure(request, _describe_error(error))
        # Free memory only now: until here, the exception kept the frames of the pass alive, and
        # with them its tensors.
        with suppress(BaseException):
            self._forget()
        with suppress(BaseException):
            if self._model.scope is not None:
                self._model.scope.forget()
        with suppress(BaseException):  # the screen may be gone
            self._post(failure)

    def _handle(self, request: Ask | None) -> None:
        if request is None or isinstance(request, OpenRequest):
            self._open(request)
        elif isinstance(request, StopRequest | PromptsRequest):
            return  # nothing to do until anything else is asked
        elif (scope := self._model.scope) is None:
            self._post(_failure(request, NOTHING_OPEN))
        elif isinstance(request, ChatRequest):
            self._post(_apply_template(scope, request))
        elif isinstance(request, ChatFileRequest):
            self._post(_chat_of_file(scope, request))
        elif isinstance(request, ContextRequest):
            self._teach(scope, request)
        elif isinstance(request, LensRequest):
            self._post(self._read_lens(scope, request))
        elif isinstance(request, DictionaryRequest):
            self._post(self._read_dictionaries(scope, request))
        else:
            # Only this thread changes the model: check it once per request, and then in short.
            with scope.unchanged(rows=False):
                self._answer(scope, request)
                self._prepare(scope)

    def _prepare(self, scope: Scope) -> None:
        """Measure what the next letter needs, now that all figures are on screen.

        If that fails, the next letter measures what it needs, and reports the error.
        """
        if not self._slot.newer():
            with suppress(BaseException):  # see `_serve`
                scope.prepare_reuse()

    def _open(self, request: OpenRequest | None) -> None:
        """Load the first model (None), or replace the open model."""
        try:
            if request is None:
                self._post(Loaded(self._model.first(self._progress)))
            else:
                self._post(self._model.change(request, self._progress))
            if self._model.scope is not None:
                self._post(Working(0, CHECKING))
                for scope in (self._model.scope, self._model.scope.other):
                    if scope is not None:
                        scope.verdicts("readout")  # run all checks now, not in the first pass
                self._post(Working(0))
        except GivenUp:
            return
        except ScopeError as error:
            failed = LoadFailed(error.message, error.hint)
        except BaseException as error:  # must be reported, whatever a library raised
            failed = LoadFailed(_describe_error(error))
        else:
            return
        with suppress(BaseException):  # a device that failed may fail again
            self._model.lose()
        self._post(failed)

    def _progress(self, stage: str, done: float, total: float | None) -> None:
        if self._slot.closed or self._slot.opening:
            raise GivenUp
        self._post(Loading(stage, done, total))

    def _forget_model(self) -> None:
        """Drop all results of the model, and what reads prompts with it."""
        self._forget()
        self._prompts.forget()

    def _forget(self) -> None:
        """Drop all results of the model."""
        self._recording, self._own, self._prompt = None, None, None
        self._figures, self._held, self._before, self._second_before = {}, None, 0, 0
        self._origins = {}
        self._aside.forget()

    def _answer(self, scope: Scope, request: Request) -> None:
        from llmscope.support.sandbox import Cancelled

        trouble = None
        try:
            recording = self._record(scope, request)
            prompt = self._hold(scope, request, recording)
        except Cancelled:
            return
        except OutOfMemory as error:
            trouble = Refused(request.serial, error.message, error.hint)
        except ScopeError as error:
            faults = tuple(error.faults.items()) if isinstance(error, _EditError) else ()
            of_b = isinstance(error, OtherError)
            self._post(Refused(request.serial, error.message, error.hint, faults, of_b))
            return
        except GivenUp:
            raise
        except BaseException as error:  # such as out of memory: keep the picture and the program
            trouble = _refusal(scope, request, error)
        if trouble is not None:
            # Only now, as in `_serve`.
            self._forget()
            scope.forget()
            self._post(trouble)
            return
        if request.draw is not None:
            self._post(sampled(scope, recording, request, request.draw))
        frame = Frame(
            *(request.serial, self._tokens.of(recording.prompt), {}, self._cost(scope, recording)),
            notices=(*recording.prompt.notices, *_memory(scope, recording)),
            prompt_b=prompt.prompt_b,
            word_notes=prompt.notes,
            origin=self._origin(scope),
        )
        if self._show(scope, recording, request, prompt, frame):
            frame = replace(frame, figures=self._made, cost=self._cost(scope, recording))
            self._post(frame)

    def _show(
        self,
        scope: Scope,
        recording: Recording,
        request: Request,
        prompt: ComparedPrompt,
        frame: Frame,
    ) -> bool:
        """Make a request's figures and post frames with them, except the last.

        Args:
            scope: the scope.
            recording: the recording of the prompt, or of its first part.
            request: the request.
            prompt: what the recording is compared with.
            frame: the frame without figures. Of a partial one, no sweep runs, and each pane has a
                first figure before any has its last.

        Returns:
            False if the request is out of date; else `_made` holds the figures of the last frame.
        """
        computed: dict[str, Figure] = {}
        begun = posted = time.monotonic()
        sweeps: list[tuple[Want, Iterator[Figure]]] = []

        def report(at: int) -> None:
            if time.monotonic() - begun >= EVERY:
                self._post(Working(request.serial, "computing figure", at + 1, len(request.wants)))

        looks = [self._look(scope, recording, want, request, prompt) for want in request.wants]
        firsts = zip(request.wants, side_by_side(looks, report, self._slot.newer), strict=True)
        for at, (want, figures) in enumerate(chain(firsts, sweeps)):  # `sweeps` grows meanwhile
            first = at < len(looks)
            if at == len(looks) and computed:  # nor do the other figures wait for the first sweep
                self._post(replace(frame, figures=computed, complete=False))
                computed, posted = {}, time.monotonic()
            for figure in figures:
                computed[want.key] = figure
                out_of_date = self._slot.newer()
                if self._slot.newer_prompt(request):
                    return False
                # Post finished figures now, without waiting for a sweep that has just begun.
                begins = figure.extra.get("progress", (1, 1))[0] == 0
                if out_of_date or begins or time.monotonic() - posted > PACE:
                    self._post(replace(frame, figures=computed, complete=False))
                    computed, posted = {}, time.monotonic()
                if out_of_date:
                    return False
                if frame.partial and "progress" in figure.extra:  # the rest of the prompt waits
                    break
                if first and (begins or frame.partial):  # the other panes' first figures come first
                    sweeps.append((want, figures))
                    break
        self._made = computed
        return not self._slot.newer_prompt(request)

    def _show_part(self, scope: Scope, request: Request, recording: Recording) -> None:
        """Post figures of the first part of a long prompt that has what the request looks at."""
        if request.of_two or self._part_shown == request.serial:
            return
        if any(want.focus.position >= len(recording) for want in request.wants):
            return
        self._part_shown = request.serial
        self._figures = {}
        frame = Frame(
            *(request.serial, self._tokens.of(recording.prompt), {}, self._cost(scope, recording)),
            complete=False,
            notices=recording.prompt.notices,
            origin=self._origin(scope),
            partial=True,
        )
        prompt = self._hold(scope, request, recording)
        if self._show(scope, recording, request, prompt, frame):
            self._post(replace(frame, figures=self._made))

    def _teach(self, scope: Scope, request: ContextRequest) -> None:
        from llmscope.engine.context_training import add_context

        # Making the adapter takes a recording of its own, which replaces the latest one.
        self._forget()
        self._post(add_context(scope, request))

    def _read_lens(self, scope: Scope, request: LensRequest) -> LensRead:
        """Read a learned lens, so that the figures find it read; report why it cannot be used."""
        from llmscope.learned.lenses.catalog import lens_for

        scope.use(request.adapter)
        try:
            lens_or_reason = lens_for(request.name, scope.loaded_model, self._report_fetch)
        except ScopeError as error:
            return LensRead(request, error.message, error.hint)
        return LensRead(request, lens_or_reason if isinstance(lens_or_reason, str) else "")

    def _read_dictionaries(self, scope: Scope, request: DictionaryRequest) -> DictionariesRead:
        """Read what dictionaries of features are; report why one cannot be used."""
        from llmscope.learned.dictionaries.catalog import facts_of

        scope.use(request.adapter)
        try:
            facts = facts_of(request.names, scope.loaded_model, self._report_fetch)
        except ScopeError as error:
            return DictionariesRead(request, error=error.message, hint=error.hint)
        return DictionariesRead(request, facts)

    def _report_fetch(self, stage: str, done: float, total: float | None) -> None:
        """Report the progress of a download, which ends if anything else is requested."""
        if self._slot.newer():
            raise GivenUp
        self._post(Loading(stage, done, total))

    def _record(self, scope: Scope, request: Request) -> Recording:
        """Return a recording of the request's prompt: the latest one if nothing has changed."""
        if self._prompt != request.prompt:
            self._prompt, self._before = request.prompt, scope.ran_beside
            self._second_before = scope.ran_second
            # Drop the figures that compare with prompt B: B may have changed.
            self._figures = {key: figure for key, figure in self._figures.items() if key[0] is None}
        same = self._own == request.own
        if self._recording is not None and same and not scope.stale(self._recording):
            return self._recording
        scope.use(request.adapter)
        if request.translator is not None:
            scope.translator = request.translator
        if request.features:
            scope.features = request.features
        begun = time.perf_counter()
        try:
            recording = self._run(scope, request, request.edits)
        except ScopeError as error:
            if not request.edits or isinstance(error, OutOfMemory):
                raise
            raise self._blame(scope, request, error) from None
        self._milliseconds = (time.perf_counter() - begun) * 1e3
        if self._wrote:  # keep generated branches, but not every prompt on the way while typing
            self._aside.put(self._recording, recording)
        self._wrote = request.written is not None
        if not self._wrote:
            self._aside.heed(recording)
        self._recording, self._own = recording, request.own
        self._figures = {}
        return recording

    def _run(self, scope: Scope, request: Request, edits: tuple[Edit, ...]) -> Recording:
        recorder, begun, first = scope.recorder, time.monotonic(), -1

        def report(layer: int, layers: int) -> None:
            nonlocal first
            start, stop, whole = recorder.running
            first = start if first < 0 else first
            if stop == whole and start == first:
                self._post(Working(request.serial, "running layer", layer, layers))
                return
            done = start + (stop - start) * layer // layers
            rate = (done - first) / max(time.monotonic() - begun, 1e-6)
            self._post(Working(request.serial, "reading token", done, whole, rate))

        layers = len(scope.loaded_model.anatomy.layers)
        cancelled = LayerProgress(lambda: self._slot.newer_prompt(request), layers, report)
        prompt, other = _read_prompts(scope.loaded_model, request, edits)
        return scope.record_prompt(
            prompt,
            edits=edits,
            other=other,
            cancelled=cancelled,
            aside=self._aside.kept,
            progress=lambda part, _: self._show_part(scope, request, part),
        )

    def _hold(self, scope: Scope, request: Request, recording: Recording) -> ComparedPrompt:
        """Return what the request compares the recording with, cached if nothing has changed."""
        wanted = (recording, request.versus_prompt, request.special_tokens, request.words)
        if self._held is None or self._held[0] != wanted:
            prompt = ComparedPrompt(scope, request, recording)
            if prompt.prompt_b is None:  # no B, or an error that must be reported again
                return prompt
            self._held = wanted, prompt
        return self._held[1]

    def _blame(self, scope: Scope, request: Request, error: ScopeError) -> ScopeError:
        """Return the error with the edits that cause it, or that of the prompt without edits."""
        try:
            self._run(scope, request, ())
        except ScopeError as other:
            return other
        faults = {edit: error.message.removeprefix(f"{edit}: ") for edit in request.edits}
        if len(faults) > 1:
            alone = {edit: self._fault(scope, request, edit) for edit in faults}
            faults = {edit: fault for edit, fault in alone.items() if fault} or faults
        return _EditError(error, faults)

    def _fault(self, scope: Scope, request: Request, edit: Edit) -> str:
        """Return the error of an edit when it is the only one; empty if it works."""
        try:
            self._run(scope, request, (edit,))
        except ScopeError as error:
            return error.message.removeprefix(f"{edit}: ")
        return ""

    def _look(
        self,
        scope: Scope,
        recording: Recording,
        want: Want,
        request: Request,
        prompt: ComparedPrompt,
    ) -> Fetches[Figure]:
        """Yield increasingly complete figures for a pane; a failed one states why it failed.

        Also yield what they wait for.
        """
        from llmscope.lenses import lens
        from llmscope.support.sandbox import Cancelled

        try:
            chosen = lens(want.lens)
            last = len(recording) - 1
            wanted = replace(want.focus, position=min(want.focus.position, last))
            if request.context is not None and "context" in chosen.uses:
                from llmscope.record.context.split import tokens_before

                before = tokens_before(recording.prompt.spans, request.context)
                wanted = replace(wanted, context=before)
            if prompt.flaw and wanted.mode == "lens" and "words" in chosen.uses:
                yield Figure.refused(want.lens, want.lens, prompt.flaw)
                return
            wanted = prompt.focus(chosen, wanted)
            focus = near(chosen, scope.resolve(chosen, recording, wanted), len(recording))
            key = (focus.versus_prompt, want.lens, *chosen.values(focus))
            if key in self._figures:
                yield self._figures[key]
                return
            figure: Figure | None = None

            def report(layer: int, layers: int) -> None:
                if figure is None:  # a sweep reports its passes in its figures
                    task = f"computing {want.lens}, layer"
                    self._post(Working(request.serial, task, layer, layers))

            def remember(new_figure: Figure) -> Figure:
                nonlocal figure
                figure = new_figure
                return new_figure

            cancelled = LayerProgress(
                self._slot.newer, len(scope.loaded_model.anatomy.layers), report
            )
            steps = scope.figure_steps(want.lens, recording, focus, cancelled=cancelled)
            yield from mapped(steps, remember)
            if figure is None:  # else the pane would wait for it
                yield Figure.refused(want.lens, want.lens, "the lens returned no figure")
                return
            if "progress" in figure.extra:  # nothing more comes: the pane would wait for it
                figure = finished(figure)
                yield figure
            self._figures[key] = figure
        except Cancelled:  # the request is out of date
            return
        except (GivenUp, GeneratorExit):
            raise
        except ScopeError as error:
            hint = f" (try: {error.hint})" if error.hint else ""
            yield Figure.refused(want.lens, want.lens, f"{error.message}{hint}")
        except BaseException as error:  # a lens may be third-party code
            yield Figure.refused(want.lens, want.lens, _describe_error(error))

    def _origin(self, scope: Scope) -> Origin:
        """Return the origin of the numbers, gathered once per adapter."""
        if scope.adapter not in self._origins:
            self._origins[scope.adapter] = scope.origin()
        return self._origins[scope.adapter]

    def _cost(self, scope: Scope, recording: Recording) -> PassInfo:
        import psutil

        vram = None
        if scope.loaded_model.device.type == "cuda":
            import torch

            vram = torch.cuda.memory_allocated(scope.loaded_model.device)
        self._process = self._process or psutil.Process()  # making one reads several files
        rss = self._process.memory_info().rss
        beside = scope.ran_beside - self._before
        cost = (recording.ran, recording.reused, self._milliseconds, rss, vram)
        second = scope.ran_second - self._second_before
        return PassInfo(*cost, other_ran=beside, second_ran=second)


def _read_prompts(
    model: LoadedModel, request: Request, edits: Sequence[Edit]
) -> tuple[Prompt, Prompt | None]:
    """Return the tokens of a request's prompt, and of prompt B where an edit reads it.

    Raises:
        ScopeError: one of them is empty, too long, or has ids that the model lacks.
    """
    from llmscope.edits import read_prompt_b
    from llmscope.record.capture.prompts import prompt_from

    text, written = request.text, request.written
    if written is not None:
        text = text[: written.start]
    special = request.special_tokens
    prompt = prompt_from(
        model,
        text if request.ids is None else request.ids,
        special_tokens=special,
        written=() if written is None else written.ids,
    )
    # Unless an edit needs prompt B, it does not matter whether B can be run.
    if request.versus_prompt is None or not read_prompt_b(edits):
        return prompt, None
    return prompt, prompt_from(model, request.versus_prompt, special_tokens=special)


def _memory(scope: Scope, recording: Recording) -> tuple[str, ...]:
    """Return the notice about released rows, if any."""
    count = recording.released
    if not count:
        return ()
    limit = scope.recorder.budget.limit / (1 << 30)
    return (
        f"all but keys and values of {count:,} tokens went to stay within "
        f"{option('memory', f'{limit:g}GB')}: it is computed again where you look",
    )


def _apply_template(scope: Scope, request: ChatRequest) -> Templated:
    chat = scope.chat
    try:
        if request.marks_only or chat.roles(request.text):
            text = request.text
        else:
            text = chat.prompt(request.text, request.system)
    except ScopeError as error:
        return Templated(request, error=error.message)
    return Templated(request, text, marks=chat.marks)


def _chat_of_file(scope: Scope, request: ChatFileRequest) -> ChatFileRead:
    from llmscope.support.sandbox import Cancelled

    try:
        return ChatFileRead(request, request.file.text(scope))
    except Cancelled:  # the template gave way to a later request
        return ChatFileRead(request, error=OVERTAKEN)
    except ScopeError as error:
        return ChatFileRead(request, error=error.line)


def near(chosen: Lens, focus: Focus, length: int) -> Focus:
    """Return the focus with a span that, in a long prompt, covers the tokens around its position.

    The span moves by a third of its length, so that moving the cursor or adding text rarely changes
    it. It has fewer tokens in a longer prompt, so that its pairs with all tokens take no more
    memory.
    """
    is_set = focus.span is not None or focus.pool > 1
    if "span" not in chosen.uses or is_set or length <= SPAN:
        return focus
    stride = max(STRIDE >> (length // FULL).bit_length(), LEAST)
    start = max(0, focus.position // stride * stride - stride)
    return replace(focus, span=(start, start + 3 * stride))


def finished(figure: Figure) -> Figure:
    """Return the last figure of a lens without the progress of a computation that has ended."""
    extra = {name: value for name, value in figure.extra.items() if name != "progress"}
    return replace(figure, extra=extra)


def _describe_error(error: BaseException) -> str:
    """Return an exception's message in one line; a fixed text if even that fails."""
    try:
        return typed_error_line(error)
    except BaseException:  # such as out of memory again
        return "the model's code failed, and so did every way to say how"


def _failure(request: Ask | None, message: str) -> Event:
    """Return the event that answers a request with an error; None is the first load."""
    match request:
        case None:
            return LoadFailed(message)
        case OpenRequest():
            return OpenFailed(request, message)
        case ChatRequest():
            return Templated(request, error=message)
        case ChatFileRequest():
            return ChatFileRead(request, error=message)
        case ContextRequest():
            return ContextAdded(request, error=message)
        case LensRequest():
            return LensRead(request, error=message)
        case DictionaryRequest():
            return DictionariesRead(request, error=message)
        case StopRequest() | PromptsRequest():
            return Working(0)
        case _:
            return Refused(request.serial, message)


def _refusal(scope: Scope, request: Request, error: BaseException) -> Refused:
    """Return the event that reports a failed pass; out of memory gets a hint."""
    from llmscope.models.loading.memory import out_of_memory, ran_out

    if not ran_out(error):
        return Refused(request.serial, _describe_error(error))
    memory = out_of_memory(scope.loaded_model.device)
    return Refused(request.serial, memory.message, memory.hint)


class _EditError(ScopeError):
    """An error of one or more edits, with the message for each of them."""

    def __init__(self, error: ScopeError, faults: Mapping[Edit, str]) -> None:
        super().__init__(error.message, error.hint)
        self.faults = faults

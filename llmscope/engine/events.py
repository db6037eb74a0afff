"""What the engine and the screen say to each other: frozen values, no torch, no Textual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmscope.edits import parse
from llmscope.figure import Figure, Focus
from llmscope.models.info import ModelInfo
from llmscope.models.tokenizer.roles import ChatMarks
from llmscope.sampler import Sampler

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress
    from llmscope.models.provenance import Origin
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope import Scope

__all__ = [
    "SPAN",
    "Ask",
    "Beside",
    "ChatRequest",
    "Event",
    "Frame",
    "LoadFailed",
    "Loaded",
    "Loading",
    "ModelInfo",
    "OpenFailed",
    "OpenRequest",
    "Opened",
    "PassInfo",
    "Refused",
    "Request",
    "Sample",
    "Sampled",
    "Taught",
    "TeachRequest",
    "Templated",
    "Token",
    "Want",
    "Written",
    "tokens_of",
    "tokens_of_prompt",
]


SPAN = 768
"""Tokens of a long prompt that a figure over pairs of tokens holds: those around its focus."""


@dataclass(frozen=True)
class Want:
    """One figure that a visible pane asks for. `key` is the pane's own name for it."""

    key: str
    lens: str
    focus: Focus


@dataclass(frozen=True)
class Written:
    """The end of a text that a model wrote: its tokens stand as they were drawn.

    To cut the text into tokens again may give others.

    Attributes:
        start: where it begins in the text.
        ids: its tokens.
    """

    start: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """A token that is wanted to follow a prompt; see `llmscope.sampler.draw`.

    `rules`: apply those of the model's generation_config first.
    """

    sampler: Sampler
    branch: int = 0
    tried: tuple[int, ...] = ()
    rules: bool = True


@dataclass(frozen=True)
class Request:
    """The state of the screen that figures are wanted for. Later ones replace earlier ones.

    `wants` is in order of importance: the pane under the cursor first. `adapter` is switched on
    for the pass; None is the base model. `context`: so many characters of the text come before
    the query; None: all lines but the last. `edits` are made to the pass, in their order, each as
    `llmscope.edits` writes it; `versus_prompt` is the prompt B that they and figures may need.
    `words` are two lists of words that figures hold against each other, as they were written.
    `written` is what a model wrote of the text; `draw` asks for the token that is to follow it.
    """

    serial: int
    text: str
    wants: tuple[Want, ...]
    special_tokens: bool = True
    ids: tuple[int, ...] | None = None
    adapter: str | None = None
    context: int | None = None
    edits: tuple[str, ...] = ()
    versus_prompt: str | None = None
    words: tuple[str, str] | None = None
    written: Written | None = None
    draw: Sample | None = None

    @property
    def prompt(self) -> tuple[object, ...]:
        """What figures are of. Requests that agree in it need the same passes."""
        return (*self.own, self.versus_prompt)

    @property
    def own(self) -> tuple[object, ...]:
        """What the pass over the prompt itself depends on: on B only if an edit takes from it."""
        pass_ = (self.text, self.special_tokens, self.ids, self.written, self.adapter)
        return (*pass_, self.edits, self.versus_prompt if self.patches else None)

    @property
    def of_two(self) -> bool:
        """Whether there is anything that its pass could be held against."""
        return bool(self.edits) or self.versus_prompt is not None

    @property
    def patches(self) -> bool:
        """Whether an edit takes from prompt B."""
        return any(parse(edit).action == "patch" for edit in self.edits)


@dataclass(frozen=True)
class ChatRequest:
    """A message of the user that is wanted in the model's chat template.

    Attributes:
        text: the message; one that is in the template already comes back as it is.
        system: the system message before it.
        marks_only: only the template's marks are wanted, and the text comes back as it is.
    """

    text: str
    system: str | None = None
    marks_only: bool = False

    @property
    def prompt(self) -> tuple[object, ...]:
        """No pass has this prompt: one that is under way is given up for the template."""
        return ("chat", self.text, self.system)


@dataclass(frozen=True)
class TeachRequest:
    """The context of a prompt that is wanted as a change of the base model's weights.

    Attributes:
        text: context and query; `context` characters of it are the context, None: all lines but
            the last.
        folder: where the adapter is to be written; None: it is put on the model and kept nowhere.
    """

    text: str
    context: int | None
    special_tokens: bool = True
    folder: str | None = None

    @property
    def prompt(self) -> tuple[object, ...]:
        """A pass that is under way is given up for it."""
        return ("teach", self)


@dataclass(frozen=True)
class OpenRequest:
    """Another model that is wanted in the place of the one that is open.

    Attributes:
        spec: its name, as a person wrote it.
        load: makes its scope, in the engine's thread; called with a progress callback. None: the
            model that is open is to stay after all.
    """

    spec: str
    load: Callable[[Progress], Scope] | None = field(repr=False)

    @property
    def prompt(self) -> tuple[object, ...]:
        """A pass that is under way is given up for it."""
        return ("open", self)


Ask = Request | ChatRequest | TeachRequest | OpenRequest


@dataclass(frozen=True)
class Token:
    """A token of the prompt. `start` and `end` are its place in the text: equal if it has none."""

    position: int
    id: int
    text: str
    start: int
    end: int
    special: bool = False


def tokens_of(recording: Recording) -> tuple[Token, ...]:
    """The tokens of a recording's prompt."""
    return tokens_of_prompt(recording.prompt)


def tokens_of_prompt(prompt: Prompt) -> tuple[Token, ...]:
    """The tokens of a prompt, as the screen knows them."""
    spans = prompt.spans or ((0, 0),) * len(prompt)
    rows = zip(prompt.ids, prompt.labels, spans, prompt.special, strict=True)
    return tuple(
        Token(position, token, label, start, end, special)
        for position, (token, label, (start, end), special) in enumerate(rows)
    )


@dataclass(frozen=True)
class Beside:
    """Prompt B beside A.

    Attributes:
        text: what it was made of.
        tokens: its tokens.
        aligned: places of the same token in A and in B, ascending.
        notices: what a person should know about it.
    """

    text: str
    tokens: tuple[Token, ...]
    aligned: tuple[tuple[int, int], ...]
    notices: tuple[str, ...] = ()

    def there(self, position: int) -> int | None:
        """The place in B of a token of A; None if only A has it."""
        return dict(self.aligned).get(position)


@dataclass(frozen=True)
class Loading:
    """Progress of a load: what is being done, how many bytes of it, of how many if known."""

    stage: str
    done: float = 0.0
    total: float | None = None


@dataclass(frozen=True)
class Loaded:
    """The model is ready."""

    info: ModelInfo


@dataclass(frozen=True)
class LoadFailed:
    """The model could not be loaded: what is wrong, and what to try."""

    error: str
    hint: str = ""


@dataclass(frozen=True)
class Opened:
    """Another model is open now."""

    request: OpenRequest
    info: ModelInfo


@dataclass(frozen=True)
class OpenFailed:
    """Another model could not be opened: what is wrong, and what to try.

    Attributes:
        left: the model that is open all the same; None: there is none.
        again: that one had been let go, so it was loaded once more, or could not be.
    """

    request: OpenRequest
    error: str
    hint: str = ""
    left: ModelInfo | None = None
    again: bool = False


@dataclass(frozen=True)
class PassInfo:
    """What the last pass cost. Bytes of memory; milliseconds of wall time.

    `other_ran`: so many tokens of prompt B were run for the same picture. What was measured may be
    None: it is not to be told.
    """

    ran: int
    reused: int
    milliseconds: float | None
    rss: int | None
    vram: int | None = None
    other_ran: int = 0


@dataclass(frozen=True)
class Frame:
    """Figures for a request. `complete` False: more for the same request will follow.

    A frame with the same `serial` adds to the one before. `notices` say what a person should know
    about this very prompt, such as letters that the tokenizer dropped. `beside` is prompt B, if
    there is one that can be run; `word_notes` tell how the request's words were read. `origin` is
    what computed it.
    """

    serial: int
    tokens: tuple[Token, ...]
    figures: Mapping[str, Figure]
    cost: PassInfo
    complete: bool = True
    notices: tuple[str, ...] = ()
    beside: Beside | None = None
    word_notes: tuple[str, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True)
class Refused:
    """A request that cannot be answered (too long, empty): the last good picture stays.

    Attributes:
        faults: the edits that are in the way, each with what is wrong with it; empty where the
            prompt is.
        of_b: prompt B is in the way.
    """

    serial: int
    reason: str
    hint: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    of_b: bool = False


@dataclass(frozen=True)
class Sampled:
    """The token that is to follow a prompt.

    Attributes:
        token, label: its id, and what it says.
        text: what all says that the model wrote, this token at its end.
        stops: the model ends here: the token is a stop token, and is not to be written.
        full: the context has no room for another token.
        error: there is no token, and why.
    """

    request: Request
    token: int = -1
    label: str = ""
    text: str = ""
    stops: bool = False
    full: bool = False
    error: str = ""


@dataclass(frozen=True)
class Templated:
    """The template's text for a message; with an `error` there is none.

    Attributes:
        marks: what the template writes around each role; empty where that is not known.
    """

    request: ChatRequest
    text: str = ""
    error: str = ""
    marks: ChatMarks = field(default_factory=ChatMarks)


@dataclass(frozen=True)
class Taught:
    """The context is an adapter now: on the model as `adapter`, or in the folder asked for.

    Attributes:
        info: the model with its adapters.
        query: the text that the adapter was made for.
        said: what came of it, for a person; with an `error` there is none.
    """

    request: TeachRequest
    info: ModelInfo | None = None
    adapter: str | None = None
    query: str = ""
    said: str = ""
    error: str = ""


Event = (
    Loading
    | Loaded
    | LoadFailed
    | Opened
    | OpenFailed
    | Frame
    | Refused
    | Sampled
    | Templated
    | Taught
)

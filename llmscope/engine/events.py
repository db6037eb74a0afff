"""Messages between the engine and the screen: frozen values, without torch or Textual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from llmscope.edits import Edit, read_prompt_b
from llmscope.engine.prompt_list import (
    ChatFileRead,
    ChatFileRequest,
    PromptsRead,
    PromptsRequest,
)
from llmscope.figure import Figure, Focus
from llmscope.models.info import DictionaryFacts, ModelInfo
from llmscope.models.sampler import Sampler
from llmscope.models.tokenizer.roles import ChatMarks

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress
    from llmscope.models.provenance import Origin
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope.scope import Scope

__all__ = [
    "SPAN",
    "Ask",
    "ChatFileRead",
    "ChatFileRequest",
    "ChatRequest",
    "ContextAdded",
    "ContextRequest",
    "DictionariesRead",
    "DictionaryRequest",
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
    "PromptB",
    "PromptsRead",
    "PromptsRequest",
    "Refused",
    "Request",
    "Sample",
    "Sampled",
    "StopRequest",
    "Templated",
    "Token",
    "Want",
    "Working",
    "Written",
    "tokens_of",
    "tokens_of_prompt",
]


SPAN = 768
"""Tokens that a figure over pairs of tokens shows of a long prompt, around its focus."""


@dataclass(frozen=True)
class Want:
    """A figure requested by a visible pane. `key` is the pane's own name for it."""

    key: str
    lens: str
    focus: Focus


@dataclass(frozen=True)
class Written:
    """The end of a text that a model generated, with its tokens as they were sampled.

    Tokenizing the text again may give other tokens.

    Attributes:
        start: where the generated part begins in the text.
        ids: its token ids.
    """

    start: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """A request to sample the next token; see `llmscope.models.sampler.draw`.

    `rules`: first apply the rules of the model's generation_config.
    """

    sampler: Sampler
    branch: int = 0
    tried: tuple[int, ...] = ()
    rules: bool = True


@dataclass(frozen=True)
class Request:
    """A request for figures of the screen's current state. Later requests replace earlier ones.

    `wants` is in order of importance: the pane under the cursor first. `adapter` is switched on
    for the pass; None is the base model. `context` is the number of characters of the text before
    the query; None takes all lines except the last. `edits` are applied to the pass in order;
    `versus_prompt` is the prompt B that edits and figures may need. `words` are two word lists that
    figures compare, as the user wrote them. `written` is the part of the text that a model
    generated; `draw` asks to sample the token that follows the text.
    `moment` is the prompt and the step of a run, as indices; None with a model or a snapshot.
    `translator` is the learned lens that edits name; None is the one that the model has.
    `features` are the dictionaries that edits name; empty: those that the model has. `two_models`:
    whether the model is compared with a second one, which figures may need.
    """

    serial: int
    text: str
    wants: tuple[Want, ...]
    special_tokens: bool = True
    ids: tuple[int, ...] | None = None
    adapter: str | None = None
    context: int | None = None
    edits: tuple[Edit, ...] = ()
    versus_prompt: str | None = None
    words: tuple[str, str] | None = None
    written: Written | None = None
    draw: Sample | None = None
    moment: tuple[int, int] | None = None
    translator: str | None = None
    features: tuple[str, ...] = ()
    two_models: bool = False

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key of all passes that figures need. Requests with equal keys need the same passes."""
        return (*self.own, self.versus_prompt, self.two_models)

    @property
    def own(self) -> tuple[object, ...]:
        """A key of the pass over the prompt itself; includes B only if an edit patches from it."""
        pass_ = (self.text, self.special_tokens, self.ids, self.written, self.adapter)
        other = self.versus_prompt if self.patches else None
        learned = self.translator if self.learned else None
        features = self.features if self.featured else ()
        return (*pass_, self.moment, self.edits, other, learned, features)

    @property
    def of_two(self) -> bool:
        """Whether the pass can be compared: with the unedited one, that of prompt B or model B."""
        return bool(self.edits) or self.versus_prompt is not None or self.two_models

    @property
    def learned(self) -> bool:
        """Whether an edit needs a learned lens."""
        return any(edit.uses_lens for edit in self.edits)

    @property
    def featured(self) -> bool:
        """Whether an edit needs a dictionary of features."""
        return any(edit.uses_features for edit in self.edits)

    @property
    def patches(self) -> bool:
        """Whether an edit patches from prompt B."""
        return read_prompt_b(self.edits)


@dataclass(frozen=True)
class ChatRequest:
    """A request to put a user message into the model's chat template.

    Attributes:
        text: the message; if it is in the template already, it is returned unchanged.
        system: the system message before it.
        marks_only: return only the template's marks, and the text unchanged.
    """

    text: str
    system: str | None = None
    marks_only: bool = False

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("chat", self.text, self.system)


@dataclass(frozen=True)
class ContextRequest:
    """A request to turn a prompt's context into a change of the base model's weights.

    Attributes:
        text: context and query.
        context: number of characters of `text` that are the context; None takes all lines except
            the last.
        special_tokens: add the tokenizer's special tokens.
        folder: where to write the adapter; None applies it to the model without saving it.
    """

    text: str
    context: int | None
    special_tokens: bool = True
    folder: str | None = None

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("teach", self)


@dataclass(frozen=True)
class OpenRequest:
    """A request to open another model in place of the open one.

    Attributes:
        spec: its name, as the user wrote it.
        load: returns its scope; called in the engine's thread with a progress callback. None keeps
            the open model: the switch was cancelled.
        second: compare the open model with it instead; without `load`, with no model any more.
    """

    spec: str
    load: Callable[[Progress], Scope] | None = field(repr=False)
    second: bool = False

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("open", self)


@dataclass(frozen=True, eq=False)
class LensRequest:
    """A request to read a learned lens, after a download if it is on the hub.

    Attributes:
        name: its name, as `--translator` takes it.
        adapter: the adapter that the model is used with; None is the base model.
    """

    name: str
    adapter: str | None = None

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("lens", self)


@dataclass(frozen=True, eq=False)
class DictionaryRequest:
    """A request to read what dictionaries of features are, after a download from the hub.

    Attributes:
        names: their names, as `--features` takes them.
        adapter: the adapter that the model is used with; None is the base model.
    """

    names: tuple[str, ...]
    adapter: str | None = None

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("dictionaries", self)


@dataclass(frozen=True)
class StopRequest:
    """A request to stop the running work on figures, and to answer nothing."""

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("stop",)


Ask = (
    Request
    | ChatRequest
    | ChatFileRequest
    | ContextRequest
    | LensRequest
    | DictionaryRequest
    | OpenRequest
    | PromptsRequest
    | StopRequest
)


class Token(NamedTuple):
    """A token of the prompt. `start` and `end` are its span in the text: equal if it has none.

    A named tuple, as each letter makes one for every token, and a dataclass takes thrice as long.
    """

    position: int
    id: int
    text: str
    start: int
    end: int
    special: bool = False


def tokens_of(recording: Recording) -> tuple[Token, ...]:
    """Return the tokens of a recording's prompt."""
    return tokens_of_prompt(recording.prompt)


def tokens_of_prompt(prompt: Prompt, start: int = 0) -> tuple[Token, ...]:
    """Return the tokens of a prompt in the screen's form, from position `start` on."""
    spans = prompt.spans or ((0, 0),) * len(prompt)
    rows = zip(prompt.ids, prompt.labels, spans, prompt.special, strict=True)
    return tuple(
        Token(position, token, label, begin, end, special)
        for position, (token, label, (begin, end), special) in enumerate(
            islice(rows, start, None), start
        )
    )


@dataclass(frozen=True)
class PromptB:
    """Prompt B and its alignment with prompt A.

    Attributes:
        text: the text of B.
        tokens: the tokens of B.
        aligned: positions of the same token in A and in B, ascending.
        notices: notes for the user about B.
    """

    text: str
    tokens: tuple[Token, ...]
    aligned: tuple[tuple[int, int], ...]
    notices: tuple[str, ...] = ()

    def there(self, position: int) -> int | None:
        """Return the position in B of a token of A; None if only A has it."""
        return dict(self.aligned).get(position)


@dataclass(frozen=True)
class Loading:
    """Progress of a load: the stage, and `done` of `total` bytes (None if unknown)."""

    stage: str
    done: float = 0.0
    total: float | None = None


@dataclass(frozen=True)
class Loaded:
    """The model is ready."""

    info: ModelInfo


@dataclass(frozen=True)
class LoadFailed:
    """The model could not be loaded: the error, and a hint what to try."""

    error: str
    hint: str = ""


@dataclass(frozen=True)
class Opened:
    """The requested model is open now."""

    request: OpenRequest
    info: ModelInfo


@dataclass(frozen=True)
class OpenFailed:
    """The requested model could not be opened: the error, and a hint what to try.

    Attributes:
        request: what was asked for.
        error: what is wrong.
        hint: what to try.
        left: the model that is still open; None if no model is open.
        again: the previous model had been released, so loading it again was attempted.
    """

    request: OpenRequest
    error: str
    hint: str = ""
    left: ModelInfo | None = None
    again: bool = False


@dataclass(frozen=True)
class PassInfo:
    """The cost of the last pass: tokens run and reused, wall time in ms, memory in bytes.

    `other_ran` is the number of tokens of prompt B that were run for the same picture, and
    `second_ran` that of tokens that the second model ran. A measured value of None is not shown.
    """

    ran: int
    reused: int
    milliseconds: float | None
    rss: int | None
    vram: int | None = None
    other_ran: int = 0
    second_ran: int = 0


@dataclass(frozen=True)
class Working:
    """How far the work on a request is; work that takes less than 0.1 s is not reported.

    Attributes:
        serial: the request's; 0 for the check of a model that was loaded.
        task: what is done, and last what is counted, such as `running layer`; empty once the check
            of a model is over.
        done, total: how far it is; 0 of 0 if nothing is counted.
        rate: how much is done in a second; 0 if that is not measured.
    """

    serial: int
    task: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0


@dataclass(frozen=True)
class Frame:
    """Figures for a request. `complete` False: more for the same request will follow.

    A frame with the same `serial` adds to the previous one. `notices` are notes for the user about
    this prompt, such as letters that the tokenizer dropped. `prompt_b` is None without a prompt B
    that can be run. `word_notes` tell how the request's words were read. `origin` is the state of
    the model that computed the figures. `partial`: only a first part of a long prompt has run, to
    which tokens and figures belong.
    """

    serial: int
    tokens: tuple[Token, ...]
    figures: Mapping[str, Figure]
    cost: PassInfo
    complete: bool = True
    notices: tuple[str, ...] = ()
    prompt_b: PromptB | None = None
    word_notes: tuple[str, ...] = ()
    origin: Origin | None = None
    partial: bool = False


@dataclass(frozen=True)
class Refused:
    """A request that cannot be answered (too long, empty): the last good picture stays.

    Attributes:
        serial: the request's.
        reason: the error.
        hint: what to try.
        faults: the edits that cause the error, each with its own error; empty if no edit does.
        of_b: prompt B causes the error.
    """

    serial: int
    reason: str
    hint: str = ""
    faults: tuple[tuple[Edit, str], ...] = ()
    of_b: bool = False


@dataclass(frozen=True)
class Sampled:
    """The sampled next token of a prompt.

    Attributes:
        request: what was asked for.
        token: its id.
        label: its text.
        text: the text of all generated tokens, this token last.
        stops: the token is a stop token: generation ends, and the token is not written.
        full: the context window has no room for another token.
        error: why no token was sampled; empty if one was.
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
    """A message in the chat template; no text if there is an `error`.

    Attributes:
        request: what was asked for.
        text: the message in the template.
        error: why it could not be made; empty if it could.
        marks: what the template writes around each role; empty if unknown.
    """

    request: ChatRequest
    text: str = ""
    error: str = ""
    marks: ChatMarks = field(default_factory=ChatMarks)


@dataclass(frozen=True)
class ContextAdded:
    """The adapter made of a context: on the model as `adapter`, or in the requested folder.

    Attributes:
        request: what was asked for.
        info: the model with its adapters; None if the adapter was written to a folder.
        adapter: the adapter's name on the model; None if it was written to a folder.
        query: the text that the adapter was made for.
        said: the result, as text for the user; empty if there is an `error`.
        error: why there is no adapter; empty if there is one.
    """

    request: ContextRequest
    info: ModelInfo | None = None
    adapter: str | None = None
    query: str = ""
    said: str = ""
    error: str = ""


@dataclass(frozen=True)
class LensRead:
    """The requested lens can be read, and fits the model, unless there is an `error`.

    Attributes:
        request: what was asked for.
        error: why it cannot be used; empty if it can.
        hint: what to try.
    """

    request: LensRequest
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class DictionariesRead:
    """The requested dictionaries can be read, unless there is an `error`.

    Attributes:
        request: what was asked for.
        dictionaries: the facts about them, by layer.
        error: why they cannot be used; empty if they can.
        hint: what to try.
    """

    request: DictionaryRequest
    dictionaries: tuple[DictionaryFacts, ...] = ()
    error: str = ""
    hint: str = ""


Event = (
    Loading
    | Loaded
    | LoadFailed
    | Opened
    | OpenFailed
    | Working
    | Frame
    | Refused
    | Sampled
    | Templated
    | ContextAdded
    | LensRead
    | DictionariesRead
    | ChatFileRead
    | PromptsRead
)

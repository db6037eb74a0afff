"""Compute the rows of a shard from a window of prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmscope.batch.job import PromptJob, look_ahead
from llmscope.batch.padded import Together
from llmscope.batch.prompts import PromptLine
from llmscope.batch.shards import Row
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.snapshot import figures_of, resolved
from llmscope.text import told

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope import Scope

Done = Callable[[int, int], None]


def nobody(prompts: int, errors: int) -> None:
    """Do nothing; the default progress callback."""


def rows_of(
    scope: Scope,
    window: Sequence[PromptLine],
    looking: PromptJob,
    together: Together | None,
    done: Done = nobody,
) -> list[Row]:
    """Return one row per prompt of a window, in order.

    Args:
        scope: the model.
        window: the prompts.
        looking: the lenses and options for each prompt.
        together: padded batching; None runs prompts one by one.
        done: called with how many more prompts are finished, and how many of them failed.
    """
    rows: dict[int, Row] = {}
    prompts: dict[int, Prompt] = {}
    for index, line in enumerate(window):
        with _Caught(rows, index, line) as caught:
            if line.prompt is None:
                raise ScopeError(line.error)
            prompts[index] = _prompt(scope, line.prompt, looking)
        done(int(caught.failed), int(caught.failed))
    with scope.unchanged():  # only this batch uses the model
        if together is not None:
            for batch in together.batches(prompts):
                _batch(scope, window, {i: prompts[i] for i in batch}, looking, together, rows, done)
        else:
            for index in prompts:
                with _Caught(rows, index, window[index]) as caught:
                    recording = _recorded(scope, window[index].prompt or "", looking)
                    focus = resolved(scope, recording, looking.focus)
                    rows[index] = _row(scope, window[index], recording, focus, looking)
                done(1, int(caught.failed))
    return [rows[index] for index in range(len(window))]


def _batch(
    scope: Scope,
    window: Sequence[PromptLine],
    prompts: Mapping[int, Prompt],
    looking: PromptJob,
    together: Together,
    rows: dict[int, Row],
    done: Done,
) -> None:
    """Fill in `rows`, by index, for prompts that run in one padded pass."""
    found: dict[int, Recording] = {}
    with _enough_memory():  # otherwise each runs alone, which may fit
        found |= zip(prompts, together.record(scope, list(prompts.values())), strict=True)
    asked: dict[int, tuple[Recording, Focus]] = {}
    for index, prompt in prompts.items():
        with _Caught(rows, index, window[index]) as caught:
            recording = found.get(index) or together.record(scope, [prompt])[0]
            asked[index] = recording, resolved(scope, recording, looking.focus)
        done(int(caught.failed), int(caught.failed))
    with _enough_memory():
        look_ahead(scope, list(asked.values()), looking.lenses)
    for index, (recording, focus) in asked.items():
        with _Caught(rows, index, window[index]) as caught:
            rows[index] = _row(scope, window[index], recording, focus, looking)
        done(1, int(caught.failed))


def _prompt(scope: Scope, text: str, looking: PromptJob) -> Prompt:
    return scope.prompt(_text(scope, text, looking), special_tokens=_special(looking))


def _recorded(scope: Scope, text: str, looking: PromptJob) -> Recording:
    return scope.record(
        _text(scope, text, looking),
        fresh=True,
        special_tokens=_special(looking),
        edits=looking.edits,
        versus_prompt=looking.focus.versus_prompt,
    )


def _text(scope: Scope, text: str, looking: PromptJob) -> str:
    return scope.chat.prompt(text, looking.system) if looking.chat else text


def _special(looking: PromptJob) -> bool:
    return looking.special_tokens and not looking.chat  # a chat template adds its own


def _row(
    scope: Scope, line: PromptLine, recording: Recording, focus: Focus, looking: PromptJob
) -> Row:
    figures = figures_of(scope, recording, looking.lenses, focus)
    return Row(line, recording.prompt.ids, recording.prompt.labels, tuple(figures))


def _no_memory(error: BaseException | None) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)


class _enough_memory:  # noqa: N801 - a context manager
    """Suppresses out-of-memory errors: the rest of the block is skipped."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return _no_memory(error)


class _Caught:
    """Turns the error of one prompt into its row, so that the other prompts continue."""

    def __init__(self, rows: dict[int, Row], index: int, line: PromptLine) -> None:
        self._rows, self._index, self._line = rows, index, line
        self.failed = False

    def __enter__(self) -> _Caught:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        # After any other failure the model may keep failing, so it ends the batch: no wrong numbers
        # are written.
        if isinstance(error, ScopeError):
            said = error.message
        elif isinstance(error, ValueError):
            said = told(error)
        elif _no_memory(error):
            said = "there is not enough memory for it"
        else:
            return False
        self._rows[self._index] = Row(self._line, error=said)
        self.failed = True
        return True

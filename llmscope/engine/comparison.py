"""What a request compares the prompt with: prompt B, and two word lists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.engine.events import PromptB, Request, Want, tokens_of_prompt
from llmscope.errors import ScopeError
from llmscope.figure import Focus

if TYPE_CHECKING:
    from llmscope.lenses import Lens
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope


class OtherError(ScopeError):
    """Prompt B cannot be run, and a requested figure needs it."""


class ComparedPrompt:
    """Prompt B and the word lists of one request, tokenized for the model.

    Attributes:
        prompt_b: prompt B for the screen; None without a B that can be run.
        notes: notes for the user on how the words were read.
        flaw: why the words cannot be read; empty if they can.

    Raises:
        OtherError: prompt B cannot be run, and a requested figure needs it.
    """

    def __init__(self, scope: Scope, request: Request, recording: Recording) -> None:
        self.prompt_b: PromptB | None = None
        self.notes: tuple[str, ...] = ()
        self.flaw = ""
        self._ids: tuple[int, ...] | None = None
        self._words: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        if request.versus_prompt is not None:
            self._read_b(scope, request, request.versus_prompt, recording)
        if request.words is not None:
            try:
                self._read_words(scope, *request.words)
            except ScopeError as error:
                self.flaw = error.line

    def focus(self, chosen: Lens, focus: Focus) -> Focus:
        """Return the focus with prompt B and the word lists added, where the lens uses them."""
        if self._ids is not None and ("versus_prompt" in chosen.uses or focus.change):
            focus = replace(focus, versus_prompt=self._ids)
        if self._words is not None and "words" in chosen.uses:
            focus = replace(focus, words=self._words)
        return focus

    def _read_b(self, scope: Scope, request: Request, text: str, recording: Recording) -> None:
        from llmscope.record.capture.prompts import prompt_from

        try:
            prompt = prompt_from(scope.loaded_model, text, special_tokens=request.special_tokens)
        except ScopeError as error:
            if any(_of_b(want, request) for want in request.wants):
                raise OtherError(error.message, error.hint) from None
            return
        from llmscope.record.compare.alignment import align

        aligned = align(recording.prompt.labels, prompt.labels)
        self.prompt_b = PromptB(text, tokens_of_prompt(prompt), aligned, prompt.notices)
        self._ids = tuple(prompt.ids)

    def _read_words(self, scope: Scope, *texts: str) -> None:
        words, other = map(scope.words, texts)
        self._words = words.ids, other.ids
        shared = [
            f"‹{scope.loaded_model.label(token)}›" for token in words.ids if token in other.ids
        ]
        both = f"{' '.join(shared)} is in both lists, where it says nothing"
        self.notes = (*words.notes, *other.notes, *([both] if shared else []))


def _of_b(want: Want, request: Request) -> bool:
    """Return whether a figure needs prompt B."""
    from llmscope.lenses import lens

    reads_b = "versus_prompt" in lens(want.lens).uses
    return reads_b or (want.focus.change and not request.edits)

"""A transcript in the chat template of a model."""

from __future__ import annotations

from contextlib import suppress

from llmscope.corpus.records.transcripts.transcript import Transcript
from llmscope.errors import ScopeError
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.conversation import Rendered, TurnSpan, render


def render_transcript(transcript: Transcript, chat: Chat) -> Rendered:
    """Return a transcript as the text that the model reads.

    Args:
        transcript: the transcript; one that is not a chat keeps its text as it is.
        chat: the model's chat template. One that refuses the arguments of calls as objects gets
            them as texts.

    Notes of the result begin with the transcript's file and line.

    Raises:
        ScopeError: the template rejects a turn, or the model has none.
    """
    if transcript.plain:
        text, spans = "", []
        for number, turn in enumerate(transcript.turns, 1):
            spans.append(TurnSpan(len(text), len(text) + len(turn.content), turn.role, number))
            text += turn.content
        return Rendered(text, tuple(spans))
    try:
        chat_text = _in_template(transcript, chat)
    except ScopeError as error:
        raise ScopeError(_add_place(transcript, error.message), error.hint) from None
    notes = tuple(_add_place(transcript, note) for note in chat_text.notes)
    return Rendered(chat_text.text, chat_text.spans, notes)


def _in_template(transcript: Transcript, chat: Chat) -> Rendered:
    """Render a transcript; with the arguments of calls as texts if objects are refused."""

    def render_messages(as_text: bool) -> Rendered:
        messages = [turn.to_message(as_text=as_text) for turn in transcript.turns]
        return render(chat, messages, transcript.asked, transcript.tools)

    try:
        return render_messages(as_text=False)
    except ScopeError:
        if any(turn.calls for turn in transcript.turns):
            with suppress(ScopeError):  # if texts are refused too, the first reason is raised
                return render_messages(as_text=True)
        raise


def _add_place(transcript: Transcript, words: str) -> str:
    """Return words about a turn, or the whole of a transcript, with its file and line."""
    return f"{transcript.where}{', ' if words.startswith('turn') else ': '}{words}"

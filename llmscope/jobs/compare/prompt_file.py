"""Files that the screen opens: a file of prompts, which is listed, or a chat, which is read.

Nothing here imports torch: a file is checked before a model is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmscope.corpus.records.prompts import STDIN, PromptLine, PromptSource, prompt_line
from llmscope.corpus.records.transcripts.reader import SUFFIXES, TranscriptFile
from llmscope.engine.prompt_list import ChatText
from llmscope.errors import ScopeError
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.engine.prompt_list import PromptReader
    from llmscope.scope.scope import Scope

CHATS = ("messages", "conversations", "chosen", "instruction", "text")
"""Columns of records that are read as transcripts, where there is no text in `prompt`."""
RECORDS = (".jsonl", ".parquet")
"""Suffixes of files whose records may hold a chat in place of a prompt."""


class PromptFile:
    """A file of prompts or chats.

    Args:
        name: its path.
        chat: put each prompt into the model's chat template.
        system: the system message, with `chat`.
        special_tokens: let the tokenizer add its special tokens to prompts that are no chats.

    Attributes:
        kind: tells it from a chat.
        path: its absolute path.
        name: its name as displayed.

    Raises:
        ScopeError: the file cannot be read, or its suffix is not that of a known format.
    """

    kind: Literal["prompts"] = "prompts"

    def __init__(
        self,
        name: str,
        *,
        chat: bool = False,
        system: str | None = None,
        special_tokens: bool = True,
    ) -> None:
        if name == STDIN:
            raise ScopeError("the screen reads its keys from stdin", "a file of prompts")
        self.path = os.path.abspath(name)
        self.name = one_line(os.path.basename(name))
        self.chat, self.system, self.special_tokens = chat, system, special_tokens
        self.source()

    def source(self) -> PromptSource:
        """Return the file, to be read from its beginning."""
        records = Path(self.path).suffix.lower() in RECORDS
        return PromptSource(self.path, None if records else "prompt")

    def lines(self) -> Iterator[tuple[PromptLine, float]]:
        """Yield the lines, each with the fraction of the file that was read.

        Raises:
            ScopeError: the rest of the file cannot be read.
        """
        source = self.source()
        for line in source:
            if f".{source.format}" in RECORDS and not line.error:
                prompt = line.inputs.get("prompt")
                if isinstance(prompt, str) or not any(name in line.inputs for name in CHATS):
                    line = prompt_line(line.number, prompt, line.inputs)
                else:
                    line = replace(line, prompt=None)
            yield line, source.read or 0.0

    def reader(self, scope: Scope) -> PromptReader:
        """Return what reads the file from its beginning with a model.

        Raises:
            ScopeError: the file cannot be read, or the models cannot be compared.
        """
        from llmscope.jobs.compare.prompt_reader import PromptFileReader

        return PromptFileReader(self, scope)


class ChatFile:
    """A file with one chat or agent trace.

    Args:
        name: its path.

    Attributes:
        kind: tells it from a file of prompts.
        name: its name as displayed.

    Raises:
        ScopeError: its suffix is not that of a known format.
    """

    kind: Literal["chat"] = "chat"

    def __init__(self, name: str) -> None:
        self._file = TranscriptFile(os.path.abspath(name))
        self.name = one_line(os.path.basename(name))

    def text(self, scope: Scope) -> ChatText:
        """Return the chat in the template of a model.

        Raises:
            ScopeError: the file is no transcript, or the template rejects it.
        """
        from llmscope.corpus.records.transcripts.rendering import render_transcript

        transcript, more = self._file.transcript()
        chat = render_transcript(transcript.until(None), scope.chat)
        notes = (*chat.notes, *(("the file has other transcripts",) if more else ()))
        return ChatText(chat.text, () if transcript.plain else chat.spans, notes)


def open_file(name: str, *, special_tokens: bool = True) -> PromptFile | ChatFile:
    """Return a file of prompts, or one with a single chat.

    Args:
        name: its path.
        special_tokens: see `PromptFile`.

    Raises:
        ScopeError: the file cannot be read, or is neither.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        return PromptFile(name, special_tokens=special_tokens)
    try:
        transcript, more = TranscriptFile(os.path.abspath(name)).transcript()
    except ScopeError:
        if suffix not in RECORDS:
            raise
        more = True
    else:
        more = more or transcript.plain
    if more and suffix in RECORDS:
        return PromptFile(name, special_tokens=special_tokens)
    return ChatFile(name)

"""Chats and agent traces from files, as the field writes them; needs neither torch nor textual."""

from llmscope.corpus.records.transcripts.transcript import ToolCall, Transcript, Turn

__all__ = ["ToolCall", "Transcript", "Turn"]

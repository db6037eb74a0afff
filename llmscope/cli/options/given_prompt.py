"""The texts of a snapshot: read before a model loads, then put into the model's tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from llmscope.cli.options.answer_tokens import answer_ids
from llmscope.cli.options.edit_options import other_ids
from llmscope.cli.options.prompt import PromptOptions, check_chat, read_ids, read_other, read_prompt
from llmscope.cli.options.shared import usage
from llmscope.cli.output.notices import tell

if TYPE_CHECKING:
    from llmscope.cli.options.loading import StreamsFile
    from llmscope.cli.options.transcript import TranscriptOptions
    from llmscope.corpus.records.transcripts import Transcript
    from llmscope.figure import Focus
    from llmscope.scope.scope import Scope


@dataclass(frozen=True)
class ModelPrompt:
    """The prompt as the model is given it.

    Attributes:
        text: the prompt in the chat template, if there is one; or token ids.
        other: prompt B in the same form; None without one.
        focus: the focus, with the tokens of the word lists, the answer, prompt B and the context.
    """

    text: str | tuple[int, ...]
    other: str | tuple[int, ...] | None
    focus: Focus


@dataclass(frozen=True)
class GivenPrompt:
    """The texts of a snapshot as they were given.

    Attributes:
        options: the options they were given by.
        context: the text before the prompt; empty without one.
        prompt: what follows the context directly, as text or token ids.
        other: prompt B, as text or token ids; None without one.
        written: ids of the tokens after the prompt; empty without any.
        special_tokens: whether the tokenizer adds its special tokens.
        transcript: the conversation that is the prompt; None if it is no conversation.
    """

    options: PromptOptions
    context: str
    prompt: str | tuple[int, ...]
    other: str | tuple[int, ...] | None
    written: tuple[int, ...]
    special_tokens: bool
    transcript: Transcript | None = None

    @classmethod
    def read(
        cls, options: PromptOptions, part: TranscriptOptions, streams: StreamsFile | None
    ) -> Self:
        """Return the texts that options name, read from their files.

        Args:
            options: the options.
            part: which part of a transcript is the prompt.
            streams: streams whose prompt is taken where none is given; None without them.

        Raises:
            BadParameter: options do not go together, or ids are not numbers.
            ScopeError: a file cannot be read.
        """
        check_chat(options.chat, options.system, options.ids)
        both = options.answer is not None and options.written is not None
        usage(not both, "give only one of them", "--answer / --written")
        written = () if options.written is None else read_ids(options.written, "--written")
        other = read_other(options.versus_prompt, options.ids)
        if options.transcript is not None:
            transcript, _ = part.read(options.transcript)
            text = "".join(turn.content for turn in transcript.turns)
            special = options.special_tokens and transcript.plain
            return cls(options, "", text, other, written, special, transcript)
        if streams is not None and options.empty:
            ids = tuple(streams.read().ids)
            return cls(options, "", ids, other, written, options.special_tokens)
        sources = (options.prompt, options.prompt_file, options.context_file, options.ids)
        context, prompt = read_prompt(*sources)
        return cls(options, context, prompt, other, written, options.special_tokens)

    @property
    def typed(self) -> str | tuple[int, ...]:
        """The context and the prompt, as text; or the token ids."""
        return self.context + self.prompt if isinstance(self.prompt, str) else self.prompt

    def for_model(self, scope: Scope, focus: Focus) -> ModelPrompt:
        """Return the prompt in the model's chat template, and the focus with the model's tokens.

        Args:
            scope: the model.
            focus: where to look.

        Raises:
            BadParameter: the answer does not continue the prompt's tokens.
            ScopeError: a word, the answer or prompt B has no tokens that the model knows.
        """
        text, other = self._render_in_template(scope), self.other
        if self.options.chat and isinstance(other, str):
            other = scope.chat.prompt(other, self.options.system)
        if self.options.words is not None:
            lists = [scope.words(words) for words in self.options.words]
            focus = replace(focus, words=(lists[0].ids, lists[1].ids))
            for note in (*lists[0].notes, *lists[1].notes):
                tell(note)
        if self.options.answer is not None and isinstance(text, str):
            answer = answer_ids(self.options.answer, text, scope.loaded_model.tokens)
            focus = replace(focus, answer=answer)
        if other is not None:
            ids = other_ids(scope, other, special_tokens=self.special_tokens)
            focus = replace(focus, versus_prompt=ids)
        if self.context and self.prompt and isinstance(text, str) and isinstance(self.typed, str):
            from llmscope.record.context.split import end_of_context, tokens_before

            end = end_of_context(text, self.typed, len(self.context))
            spans = scope.encode(text, special_tokens=self.special_tokens).spans
            focus = replace(focus, context=tokens_before(spans, end))
        return ModelPrompt(text, other, focus)

    def _render_in_template(self, scope: Scope) -> str | tuple[int, ...]:
        """Return the prompt in the model's chat template, if it is to be in one."""
        if self.transcript is not None:
            from llmscope.corpus.records.transcripts.rendering import render_transcript

            rendering = render_transcript(self.transcript, scope.chat)
            for note in rendering.notes:
                tell(note)
            return rendering.text
        typed = self.typed
        if self.options.chat and isinstance(typed, str):
            return scope.chat.prompt(typed, self.options.system)
        return typed

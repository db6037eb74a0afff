"""The prompt of a snapshot, from an option, a file or token ids."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from llmscope.cli import completion
from llmscope.cli.options import shared
from llmscope.cli.options.shared import usage
from llmscope.cli.options.transcript import TranscriptOptions
from llmscope.errors import ScopeError
from llmscope.support.lines import read_stream
from llmscope.support.text import display_text


@dataclass(frozen=True)
class PromptOptions:
    """The texts of a snapshot: the prompt and what comes before, after and beside it."""

    panel: ClassVar[str] = "Prompt"

    prompt: Annotated[str | None, typer.Option(help="The prompt.")] = None
    prompt_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the prompt here; - for stdin.")
    ] = None
    ids: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Token ids instead of a prompt.")
    ] = None
    written: Annotated[
        str | None,
        typer.Option(
            metavar="1,2,3", help="Ids of tokens after the prompt, such as those a model wrote."
        ),
    ] = None
    context_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A text that comes before the prompt.")
    ] = None
    transcript: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A chat or agent trace in the model's chat template, as for `llmscope read`.",
            autocompletion=completion.transcripts,
        ),
    ] = None
    chat: shared.Chat = False
    system: shared.System = None
    no_special_tokens: shared.NoSpecialTokens = False
    versus_prompt: shared.VersusPrompt = None
    words_a: shared.WordsA = None
    words_b: shared.WordsB = None
    answer: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The answer, with its blank, for --mode gain, --lens reasoning and passages.",
        ),
    ] = None

    @property
    def empty(self) -> bool:
        """Whether no prompt is given, nor anything that would come before it."""
        sources = (self.prompt, self.prompt_file, self.ids, self.context_file, self.transcript)
        return all(source is None for source in sources)

    @property
    def special_tokens(self) -> bool:
        """Whether the tokenizer adds its special tokens; a chat template has its own."""
        return not self.no_special_tokens and not self.chat

    @property
    def words(self) -> tuple[str, str] | None:
        """Both lists of words; None if they were not given."""
        return (
            None if self.words_a is None or self.words_b is None else (self.words_a, self.words_b)
        )


def read_prompt(
    text: str | None, file: str | None, context: str | None, ids: str | None
) -> tuple[str, str | tuple[int, ...]]:
    """Return the context, and the prompt that follows it directly as text or token ids.

    At most one of `text`, `file` and `ids` may be given; none only if there is a context.

    Args:
        text: the prompt.
        file: a file that holds the prompt; `-` for stdin.
        context: a file that holds the context; `-` for stdin. Not with `ids`.
        ids: token ids, as text.

    Raises:
        BadParameter: no prompt or several were given, or ids are not numbers.
        ScopeError: a file cannot be read.
    """
    sources = [value for value in (text, file, ids) if value is not None]
    usage(len(sources) < 2, "one prompt, please", "--prompt / --prompt-file / --ids")
    usage(bool(sources) or context is not None, "no prompt", "--prompt / --prompt-file / --ids")
    if ids is not None:
        usage(context is None, "ids take no context file", "--ids / --context-file")
        return "", read_ids(ids)
    before = "" if context is None else _read(context)
    return before, text if text is not None else "" if file is None else _read(file)


def read_other(text: str | None, ids: str | None) -> str | tuple[int, ...] | None:
    """Return prompt B: as token ids if the prompt is given as ids, else as text.

    Raises:
        BadParameter: prompt B should be token ids but is not.
    """
    return text if text is None or ids is None else read_ids(text, "--versus-prompt")


def check_texts(
    texts: PromptOptions, part: TranscriptOptions, lenses: Sequence[tuple[str, str]]
) -> None:
    """Raise BadParameter unless texts, transcript, word lists and answer go with the lenses.

    Args:
        texts: the options that name texts.
        part: which part of a transcript is the prompt.
        lenses: names of lenses, each with its mode.
    """
    for option in ("prompt_file", "context_file", "transcript"):
        path = getattr(texts, option)
        usage(
            path is None or "\0" not in path,
            "no path holds a NUL character",
            f"--{option.replace('_', '-')}",
        )
    if texts.transcript is None:
        usage(not part.given, "it takes --transcript FILE", "--turn / --line / --rejected")
    else:
        others = (texts.prompt, texts.prompt_file, texts.ids, texts.context_file)
        usage(all(other is None for other in others), "it is the prompt itself", "--transcript")
        usage(not texts.chat, "it is in the chat template already", "--chat")
    if texts.answer is not None:
        usage(
            any(mode == "gain" or name in ("reasoning", "passages") for name, mode in lenses),
            "it takes --lens context --mode gain, reasoning or passages",
            "--answer",
        )
        usage(texts.ids is None, "with --ids, give --target id:NUMBER instead", "--answer")
    one_list = (texts.words_a is None) != (texts.words_b is None)
    usage(not one_list, "two lists of words, please", "--words-a / --words-b")
    usage(
        texts.words is None or ("contrast", "lens") in lenses or "screen" in dict(lenses),
        "they take --lens contrast --mode lens",
        "--words-a / --words-b",
    )


def check_chat(chat: bool, system: str | None, ids: str | None = None) -> None:
    """Raise BadParameter unless the options about the chat template go together."""
    usage(system is None or chat, "it takes --chat", "--system")
    usage(ids is None or not chat, "ids take no chat template", "--ids / --chat")


DIGITS = 18
"""Maximum digits of a token id."""


def read_ids(text: str, option: str = "--ids") -> tuple[int, ...]:
    """Return token ids from text that separates them by commas or spaces.

    Raises:
        BadParameter: a word is not a number.
    """
    words = text.replace(",", " ").split()
    # No vocabulary has longer ids, and Python does not parse numbers of thousands of digits.
    fine = all(word.isdecimal() and len(word) <= DIGITS for word in words)
    beside = "" if option == "--ids" else "beside --ids "
    usage(fine, f"{beside}whole numbers such as 464,3139", option)
    return tuple(map(int, words))


def _read(name: str) -> str:
    file_name = "stdin" if name == "-" else display_text(name)
    try:
        if name == "-":
            content = read_stream(sys.stdin.buffer, "prompt")
        else:
            with Path(name).open("rb") as file:  # which may be the pipe of another program
                content = read_stream(file, "prompt")
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it, or too large
        reason = display_text(getattr(error, "strerror", None) or str(error))
        raise ScopeError(f"cannot read {file_name}: {reason}", "another file") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScopeError(
            f"{file_name} is not UTF-8 (byte {error.start})", "convert it to UTF-8 first"
        ) from error

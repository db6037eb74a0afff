"""Whether the tokenizer here gives llama.cpp's tokens, and llama.cpp's own where it does not.

transformers makes a tokenizer of the vocabulary in a file. When the file is opened, both tokenize a
wide sample of texts. If a text gets other tokens, llama.cpp tokenizes all texts from then on, in a
process that has the vocabulary alone, so that a long pass keeps no letter waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmscope.models.llama.process import LOADING, ROOM, LlamaProcess
from llmscope.models.tokenizer.token_offsets import Span, search
from llmscope.models.tokenizer.token_text import Pieces
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.models.tokenizer.worker import PATIENCE, RATE, failed
from llmscope.support.sandbox import CallError, Worker
from llmscope.support.text import display_text

TEXTS = (
    *("", " ", "The capital of France is", "  12345\n\tdef f(x): return x", "Pâris 😀 don't"),
    *("日本語 — über", "in 1945, 3.14159 and 1,234,567", "x" * 40, "I'LL we've it's", "½ ² Ⅷ ٣٤٥"),
    *(
        "a\r\nb\n\n\n  c\t\td  ",
        "   \n",
        "\n\n",
        "e\u0301 ﬁ ＡＢ",
        "안녕하세요 नमस्ते สวัสดี مرحبا",
        "a\u00a0b\u3000c\u200bd",
    ),
    *(
        "y[10]+=2**16 // ok?!",
        "<s>x</s> [INST] <|im_start|>",
        "▁ Ġ <0x41> ##",
        "👩‍👩‍👧 🇫🇷 1️⃣",
        "\x00\x1b[31m\x7f",
    ),
)
"""Texts that are tokenized in both ways."""
PIECES = 2000
"""Number of tokens of the vocabulary of which further texts are made."""
TOGETHER = 8
"""Number of tokens that one of those texts is made of."""


class LlamaVocabulary:
    """llama.cpp's own tokenizer, in a process that loads the vocabulary of a file alone.

    Args:
        path: the GGUF file.
        library: the path of libllama; empty: that of the binding.
        tokenizer: transformers' tokenizer of the same vocabulary, which gives the text of ids.
    """

    def __init__(self, path: Path, library: str, tokenizer: Any) -> None:
        self._tokenizer, self._pieces = tokenizer, Pieces(tokenizer)
        self._worker = Worker(
            "llmscope.models.llama.native",
            memory=ROOM,
            setup=("load_vocabulary", str(path.resolve()), library),
            seconds=LOADING,
        )

    def encode(self, text: str, special_tokens: bool) -> tuple[list[int], list[Span]]:
        """Return llama.cpp's ids of a text, and where they are in it.

        Raises:
            ScopeError: llama.cpp fails on this text, or takes too long.
        """
        try:
            seconds = PATIENCE + len(text) / RATE
            (ids,) = self._worker.call("tokenize", [text], special_tokens, seconds=seconds)
        except CallError as error:
            raise failed(error) from error
        return ids, search(text, [self._pieces[token] for token in ids])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def tokens_as_llama(
    process: LlamaProcess, path: Path, library: str, tokenizer: Any
) -> tuple[Tokens, list[str]]:
    """Return a tokenizer that gives llama.cpp's own ids, and notices.

    Args:
        process: llama.cpp with the file.
        path, library: as in `LlamaVocabulary`.
        tokenizer: transformers' tokenizer of the file.
    """
    tokens = Tokens(tokenizer)
    texts = [*TEXTS, *_texts_of(tokenizer)]
    for special_tokens in (False, True):
        theirs = process.call("tokenize", texts, special_tokens)
        for text, ids in zip(texts, theirs, strict=True):
            if list(tokens.encode(text, special_tokens).ids) != ids:
                notice = (
                    f"transformers makes other tokens of ‹{display_text(text, whitespace=True)}› "
                    "than llama.cpp: its own are taken"
                )
                return Tokens(tokenizer, LlamaVocabulary(path, library, tokenizer)), [notice]
    return tokens, []


def _texts_of(tokenizer: Any) -> Iterator[str]:
    """Yield texts of tokens that are spread over the vocabulary."""
    count = len(tokenizer)
    pieces = Pieces(tokenizer)
    ids = range(0, count, max(1, count // PIECES))
    for start in range(0, len(ids), TOGETHER):
        data = b"".join(pieces.data(token) for token in ids[start : start + TOGETHER])
        yield data.decode("utf-8", "ignore")

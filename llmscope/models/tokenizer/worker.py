"""Load foreign tokenizers, after a trial in a child process, and run them there if necessary."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.models.tokenizer.parts import LONGEST, plain, plain_file, short
from llmscope.models.tokenizer.token_offsets import Span
from llmscope.support.sandbox import MIB, CallError, FunctionError, Worker
from llmscope.support.text import error_line

CHILD = "llmscope.models.tokenizer.child"
PATIENCE = 2.0
"""Seconds that a text may take, plus one for each `RATE` characters."""
RATE = 100_000
MEMORY = 768 * MIB
"""Bytes of address space for the child, plus `FACTOR` for each byte of the tokenizer's file."""
FACTOR = 16
VALUES = 5_000_000
"""Values that a tokenizer.json may hold; Gemma 3's has 1.3 million. Each takes some 400 bytes."""
LARGEST_ID = 5_000_000
"""Largest id of a token; the largest vocabularies have some 260,000."""
LOADING = 10.0
"""Seconds that a tokenizer may take to load, plus one for each MiB of its file."""


def load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """Load transformers' tokenizer from a folder.

    Raises:
        CallError: it holds too many values, or its parts take too long, need too much memory or
            crash.
        Exception: any other error of transformers for a damaged tokenizer.
    """
    from transformers import AutoTokenizer

    path = folder / "tokenizer.json"
    if path.is_file() and path.read_bytes().count(b",") > VALUES:
        raise CallError(f"its tokenizer.json holds more than {VALUES:,} values")
    if path.is_file() and not shipped(folder) and not plain_file(path):
        size = path.stat().st_size
        trial = Worker(CHILD, memory=MEMORY + FACTOR * size)
        try:
            trial.call("try_folder", str(folder), seconds=LOADING + size / MIB)
        except FunctionError as error:
            if error.kind == "PanicException":
                raise
            # An ordinary error is safe to repeat below, where transformers adds details to it.
        finally:
            trial.close()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise CallError(error_line(error)) from None  # a Rust panic
    if not path.is_file():  # else its trial in the child process would have crashed
        refuse_long_tokens(tokenizer)
    return tokenizer


def refuse_long_tokens(tokenizer: Any) -> None:
    """Raise a CallError if a token is longer than `LONGEST`; the tokenizer is then never freed."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and not short(backend.get_vocab()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(backend))  # not even when the program ends
        raise CallError(f"it has a token of more than {LONGEST:,} characters")


def shipped(folder: Path) -> bool:
    """Return whether a folder is one of the built-in models."""
    return Path(__file__).parents[2] / "builtin" in folder.parents


class TokenizerWorker:
    """A tokenizer with parts of unbounded cost, run in a child process.

    Args:
        backend: a `tokenizers.Tokenizer`.
        split_special_tokens: split special tokens in a text like any other text.

    Raises:
        CallError: an id is too large, or the tokenizer does not load in the child process.
    """

    def __init__(self, backend: Any, *, split_special_tokens: bool = False) -> None:
        largest = max(backend.get_vocab().values(), default=0)
        if largest > LARGEST_ID:  # `to_str` lists every id that is missing below it
            raise CallError(f"it gives a token the id {largest:,}, which is above {LARGEST_ID:,}")
        text = backend.to_str()
        self._worker = Worker(
            CHILD,
            memory=MEMORY + FACTOR * len(text),
            setup=("load", text, split_special_tokens),
            seconds=LOADING + len(text) / MIB,
        )

    def encode(self, text: str, special_tokens: bool) -> tuple[list[int], list[Span]]:
        """Return the ids of a text and the tokenizer's offsets.

        Raises:
            ScopeError: the tokenizer fails on this text, or takes too long.
        """
        ids, offsets = self._call("encode", text, special_tokens, length=len(text))
        return list(map(int, ids)), [(int(start), int(end)) for start, end in offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Raises:
            ScopeError: the tokenizer fails on these ids, or takes too long.
        """
        return str(self._call("decode", list(ids), length=len(ids)))

    def _call(self, name: str, *arguments: Any, length: int) -> Any:
        try:
            return self._worker.call(name, *arguments, seconds=PATIENCE + length / RATE)
        except CallError as error:
            raise failed(error) from error


def worker_for(tokenizer: Any) -> TokenizerWorker | None:
    """Return a worker for a tokenizer that must run in a child process; None if it may run here."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or shipped(Path(str(tokenizer.name_or_path))) or plain(backend):
        return None
    if type(tokenizer)._encode_plus.__qualname__ != "TokenizersBackend._encode_plus":
        return None  # it tokenizes with its own code
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    return TokenizerWorker(backend, split_special_tokens=split)


def failed(error: BaseException) -> ScopeError:
    """Return the error for a tokenizer that fails on a text."""
    return ScopeError(
        f"the tokenizer fails on this text: {error_line(error)}",
        f"token ids instead of text: {option('ids')}",
    )

"""Foreign tokenizers: tried in a child process before they load here, and run in it if need be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.models.tokenizer.parts import plain, plain_file
from llmscope.models.tokenizer.token_offsets import Span
from llmscope.sandbox import MIB, CallError, FunctionError, Worker
from llmscope.text import told

CHILD = "llmscope.models.tokenizer.child"
PATIENCE = 2.0
"""Seconds that a text may take, and one more for each RATE characters."""
RATE = 100_000
MEMORY = 768 * MIB
"""Bytes of address space for the child, and FACTOR more for each byte of the tokenizer's file."""
FACTOR = 16
VALUES = 5_000_000
"""Values that a tokenizer.json may hold; Gemma 3's has 1.3 million. Each takes some 400 bytes."""
LOADING = 10.0
"""Seconds that a tokenizer may take to load, and one more for each MiB of its file."""
INSTEAD = "token ids instead of text: --ids"


def load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """Return transformers' tokenizer of a folder.

    Raises:
        CallError: it holds too many values, or its parts take too long, need too much memory or
            crash.
        Exception: whatever else a damaged one makes transformers raise.
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
            # An ordinary error is safe to meet here, where transformers adds to what it says.
        finally:
            trial.close()
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise CallError(told(error)) from None  # a panic of Rust


def shipped(folder: Path) -> bool:
    """Whether a folder is one of the models that come with llmscope."""
    return Path(__file__).parents[2] / "builtin" in folder.parents


class TokenizerWorker:
    """A tokenizer whose parts have no bounded cost, run in a child process.

    Args:
        backend: a `tokenizers.Tokenizer`.
        split_special_tokens: cut the special tokens of a text as any other text.
    """

    def __init__(self, backend: Any, *, split_special_tokens: bool = False) -> None:
        text = backend.to_str()
        self._worker = Worker(
            CHILD,
            memory=MEMORY + FACTOR * len(text),
            setup=("load", text, split_special_tokens),
            seconds=LOADING + len(text) / MIB,
        )

    def encode(self, text: str, special_tokens: bool) -> tuple[list[int], list[Span]]:
        """Return the ids of a text, and the places that the tokenizer gives them.

        Raises:
            ScopeError: it fails on this text, or was given up.
        """
        ids, offsets = self._call("encode", text, special_tokens, length=len(text))
        return list(map(int, ids)), [(int(start), int(end)) for start, end in offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Raises:
            ScopeError: it fails on these ids, or was given up.
        """
        return str(self._call("decode", list(ids), length=len(ids)))

    def _call(self, name: str, *arguments: Any, length: int) -> Any:
        try:
            return self._worker.call(name, *arguments, seconds=PATIENCE + length / RATE)
        except CallError as error:
            raise failed(error) from error


def worker_for(tokenizer: Any) -> TokenizerWorker | None:
    """Return a worker for a tokenizer that has to run in a child; None: it may run here."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or shipped(Path(str(tokenizer.name_or_path))) or plain(backend):
        return None
    if type(tokenizer)._encode_plus.__qualname__ != "TokenizersBackend._encode_plus":
        return None  # it cuts a text with code of its own
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    return TokenizerWorker(backend, split_special_tokens=split)


def failed(error: BaseException) -> ScopeError:
    """Return what to say of a tokenizer that fails on a text."""
    return ScopeError(f"the tokenizer fails on this text: {told(error)}", INSTEAD)

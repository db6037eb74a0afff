"""Check the kinds and sizes of the files in a model's folder before any library opens them.

Reading a pipe or a device in place of a file hangs forever, and libraries read a whole text file
whatever its size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.files.json_file import CONFIG_BYTES, INDEX_BYTES, read_json
from llmscope.support.text import display_text

VOCABULARY_BYTES = 128 << 20
"""Largest tokenizer.json, vocab.json, merges.txt or tokenizer.model; Gemma 3 has 33 MB."""
FILES = 20_000
"""Most files that a folder may contain."""
_TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_VOCABULARIES = ("tokenizer.json", "vocab", "merges", "tekken")
_LOG = "trainer_state.json"  # grows with every training step, and is never read
_TEMPLATES = "additional_chat_templates"


def check_files(folder: Path, named: str) -> None:
    """Refuse a folder with a pipe, a device, or a text file larger than any model needs.

    Args:
        folder: the model's folder.
        named: the model's name in the error.

    Raises:
        ScopeError: for the first such file, or the folder cannot be read or has too many files.
    """
    try:
        paths = [Path(entry.path) for entry in _entries(folder)]
        if (folder / _TEMPLATES).is_dir():
            paths += [Path(entry.path) for entry in _entries(folder / _TEMPLATES)]
    except OSError as error:
        raise ScopeError(
            f"{display_text(str(folder))} cannot be read: {error.strerror}", "another folder"
        ) from error
    if len(paths) > FILES:
        raise ScopeError(f"{display_text(named)} has more than {FILES} files", "another folder")
    for path in paths:
        trouble = _trouble(path)
        if trouble:
            raise ScopeError(
                f"{display_text(path.name)} of {display_text(named)} cannot be read: {trouble}",
                "another copy of the model",
            )


def check_tokenizer_paths(folder: Path) -> None:
    """Refuse a tokenizer_config.json that names a device or a pipe as a file to read.

    Raises:
        ValueError: a setting names one, or the file is not valid JSON.
        OSError: the file cannot be read.
    """
    file = folder / "tokenizer_config.json"
    settings = read_json(file, INDEX_BYTES) if file.is_file() else {}
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if not key.endswith("_file") or not isinstance(value, str):
            continue
        try:
            mode = os.stat(value).st_mode
        except (OSError, ValueError):  # most name a file on the machine that made them
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError(f"its {key[:40]} is no regular file")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return up to `FILES` + 1 entries of a folder."""
    with os.scandir(folder) as entries:
        return [entry for entry, _ in zip(entries, range(FILES + 1), strict=False)]


def _trouble(path: Path) -> str:
    """Return why a file must not be read; an empty string if it may be read."""
    try:
        status = path.stat()
    except OSError:  # a dangling link: the code that needs the file reports it
        return ""
    if stat.S_ISDIR(status.st_mode):
        return ""
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    name = path.name
    if not name.endswith(_TEXTS) or name == _LOG or status.st_size <= (limit := _limit(name)):
        return ""
    return f"it has more than {limit >> 20} MiB"


def _limit(name: str) -> int:
    """Return the largest size in bytes of a text file with this name."""
    if name.endswith((".txt", ".model", ".tiktoken")) or name.startswith(_VOCABULARIES):
        return VOCABULARY_BYTES
    return CONFIG_BYTES if name.endswith(("config.json", ".jinja")) else INDEX_BYTES

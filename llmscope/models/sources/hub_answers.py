"""Read responses of the hub, with limits on size and validation of their content.

HF_ENDPOINT may name a server that is broken or hostile: a response may have any length, and a
commit or a file name may be a path that leads out of the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from llmscope.models.files.json_file import parse_json

ANSWER_BYTES = 32 << 20
"""Largest response about a repository in bytes; one with 100,000 files takes about 10 MB."""
ERROR_BYTES = 64 << 10
"""Bytes that are read of an error response."""
REDIRECTS = 10
FILES = 100_000
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"\w[\w.:-]{0,254}", re.ASCII)


def repository_files(
    name: str, revision: str | None, timeout: float, kind: str = "model"
) -> tuple[str, list[str]]:
    """Return the commit that a revision means, and the paths of its files.

    Args:
        name: the name of the repository.
        revision: a branch, tag or commit; None means the main branch.
        timeout: seconds to wait for the next bytes.
        kind: the type of the repository: model or space.

    Raises:
        ValueError: the response is not a valid hub response.
        Exception: huggingface_hub's error for a repository that does not exist.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = f"{HfApi().endpoint}/api/{kind}s/{name}"
    if revision is not None:
        url += f"/revision/{quote(revision, safe='')}"
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with streamed(url, headers, timeout) as answer:
        whole = bounded_answer(answer, ANSWER_BYTES if answer.is_success else ERROR_BYTES)
    hf_raise_for_status(whole)
    parsed = parse_json(whole.content)
    if not isinstance(parsed, dict):
        raise ValueError("no repository")
    commit, siblings = parsed.get("sha"), parsed.get("siblings") or []
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ValueError("no commit")
    if not isinstance(siblings, list) or len(siblings) > FILES:
        raise ValueError("no list of files")
    paths = (sibling.get("rfilename") for sibling in siblings if isinstance(sibling, dict))
    return commit, list(dict.fromkeys(str(path) for path in paths if is_inside(path)))


def bounded_answer(answer: Any, limit: int) -> Any:
    """Return a streamed response with at most `limit` bytes of its body.

    Raises:
        ValueError: a success response has a longer body, or is compressed although not requested.
    """
    coding = answer.headers.get("content-encoding", "identity").lower()
    body = b""
    for chunk in answer.iter_raw() if coding == "identity" else ():
        body += chunk
        if len(body) > limit:
            break
    if answer.is_success and (len(body) > limit or coding != "identity"):
        raise ValueError(f"an answer of more than {limit} bytes, or a compressed one")
    headers = {
        key: value
        for key, value in answer.headers.items()
        if key.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    }
    return type(answer)(
        answer.status_code, headers=headers, content=body[:limit], request=answer.request
    )


@contextmanager
def streamed(url: str, headers: Mapping[str, str], timeout: float) -> Iterator[Any]:
    """Yield the response to a GET after redirects, with its body not read yet.

    httpx would read the whole body of a redirect.

    Raises:
        ValueError: there are more than `REDIRECTS` redirects.
        Exception: the HTTP library's error if there is no response.
    """
    from huggingface_hub.utils import get_session

    session = get_session()
    request = session.build_request("GET", url, headers=dict(headers), timeout=timeout)
    for _ in range(REDIRECTS):
        answer = session.send(request, stream=True, follow_redirects=False)
        if answer.next_request is None:
            break
        answer.close()
        request = answer.next_request
    else:
        raise ValueError("it redirects without end")
    try:
        yield answer
    finally:
        answer.close()


def is_inside(path: Any) -> bool:
    """Return whether a file name stays inside its parent folder on every operating system."""
    if not isinstance(path, str) or not 0 < len(path) <= 1000 or not path.isprintable():
        return False
    plain = not any(char in path for char in "\\:") and not path.startswith("/")
    return plain and not {"", ".", ".."} & set(path.split("/"))


def is_etag(etag: str) -> bool:
    """Return whether an ETag can be used as a file name."""
    return _ETAG.fullmatch(etag) is not None

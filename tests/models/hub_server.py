"""The hub, as a small server on this machine that speaks as much of its protocol as is needed.

Weights are kept as on the real one: the hub redirects to another host, and tells their SHA-256.
"""

import hashlib
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".bin", ".gguf", ".pt")


@dataclass
class Fault:
    """What happens to the bytes of files whose names end so, and how often.

    Attributes:
        after: the connection is cut after so many bytes; None: never.
        pace: seconds between two blocks of 4 kB.
        body: sent instead, under the headers of the file.
        times: so often; -1 for ever.
    """

    suffix: str
    after: int | None = None
    pace: float = 0.0
    body: bytes | None = None
    times: int = -1


@dataclass
class Asked:
    """A request: what came with it, and how many bytes of a body went out."""

    method: str
    path: str
    range: str | None
    token: str | None
    host: str
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def file(self):
        return unquote(urlsplit(self.path).path).rsplit("/", 1)[1]


class Hub:
    """What a test puts on the hub, what goes wrong there, and what was asked of it."""

    def __init__(self):
        self.repos = {}
        self.refs = {}
        self.commits = {}
        self.refused = {}
        self.status = {}
        self.faults = []
        self.asked = []
        self.port = 0
        self.ranges = True

    def put(self, name, folder, **more):
        """A repository with the files of a folder; a space's name begins with `spaces/`."""
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        self.status.pop(name, None)
        self.repos[name] = files | {path.replace("__", "/"): b"x" for path in more.values()}

    def commit(self, name, commit, folder, *refs):
        """A commit of a repository, to which branches or tags point."""
        self.put(name, folder)
        self.commits[name, commit] = self.repos[name]
        self.refs |= {(name, ref): commit for ref in refs}

    def refuse(self, name, status, headers, suffix=""):
        """From now on answer so when files of a repository that end so are asked for."""
        self.refused[name] = (suffix, (status, headers, b"\x1b[31mno"))

    def fetched(self):
        """The files that were downloaded."""
        return {ask.file for ask in self.asked if ask.method == "GET" and "/resolve/" in ask.path}

    def sent(self, suffix):
        """(range asked for, bytes sent) of each GET that gave bytes of a file.

        A client may have read the last byte before the server's thread has counted it: waits
        for the answers' ends.
        """
        answers = [ask for ask in self.asked if ask.file.endswith(suffix)]
        for answer in answers:
            assert answer.ended.wait(20), f"{answer.path} is still being sent"
        return [(answer.range, answer.sent) for answer in answers if answer.sent]

    def fault(self, path):
        """What shall go wrong with this answer."""
        for fault in self.faults:
            if path.endswith(fault.suffix) and fault.times:
                fault.times -= 1
                return fault
        return Fault("")

    def answer(self, path):
        """(status, headers, body) for a path."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[0] == "cdn":
            return 200, {}, self._content(parts[1])
        if parts[:2] == ["api", "models"]:
            return self._api("", parts[2:])
        if parts[:2] == ["api", "spaces"]:
            return self._api("spaces/", parts[2:])
        long = 2 + (parts[0] == "spaces")
        if parts[long : long + 1] != ["resolve"]:
            return 404, {}, b""
        name, revision, file = "/".join(parts[:long]), parts[long + 1], "/".join(parts[long + 2 :])
        suffix, refusal = self.refused.get(name, ("", None))
        if refusal is not None and file.endswith(suffix):
            return refusal
        files = self.commits.get((name, revision), self.repos.get(name, {}))
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return self._resolved(file, files[file], revision)

    def _resolved(self, file, content, revision):
        commit = {"X-Repo-Commit": revision}
        if not file.endswith(_LARGE):
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return 200, {"ETag": f'"{git}"'} | commit, content
        digest = hashlib.sha256(content).hexdigest()
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        where = f"http://localhost:{self.port}/cdn/{digest}/{file}"
        return 302, {"Location": where} | linked | commit, b""

    def _api(self, kind, parts):
        name = kind + "/".join(parts[:2])
        if name in self.status:
            return self.status[name]
        if name not in self.repos:
            return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        revision = "/".join(parts[3:]) or "main"
        commit = self.refs.get((name, revision), COMMIT if revision == "main" else revision)
        if commit != COMMIT and (name, commit) not in self.commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files = self.commits.get((name, commit), self.repos[name])
        if parts[2:3] == ["tree"]:
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                for path, content in files.items()
            ]
            return 200, {}, json.dumps(tree).encode()
        siblings = [{"rfilename": path} for path in files]
        return 200, {}, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()

    def _content(self, digest):
        every = [*self.repos.values(), *self.commits.values()]
        contents = (content for files in every for content in files.values())
        return next(c for c in contents if hashlib.sha256(c).hexdigest() == digest)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub, begin, token = self.server.hub, self.headers["Range"], self.headers["Authorization"]
        asked = Asked(self.command, self.path, begin, token, self.headers["Host"])
        hub.asked.append(asked)
        try:
            self._answer(hub, asked, begin)
        finally:
            asked.ended.set()

    def _answer(self, hub, asked, begin):
        hub.port = self.server.server_port
        status, headers, body = hub.answer(self.path)
        fault = hub.fault(self.path) if self.command == "GET" and status == 200 else Fault("")
        if fault.body is not None:
            body = fault.body
        if begin and status == 200 and hub.ranges:
            start = int(begin.removeprefix("bytes=").rstrip("-"))
            status, headers = 206, {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            body = body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self._send(body, fault, asked)

    do_HEAD = do_GET

    def _send(self, body, fault, asked):
        body, cut = (body, False) if fault.after is None else (body[: fault.after], True)
        block = 4096 if fault.pace else 1 << 20
        try:
            while asked.sent < len(body):
                time.sleep(fault.pace)
                asked.sent += self.wfile.write(body[asked.sent : asked.sent + block])
        except OSError:  # nobody listens any more
            cut = True
        if cut:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)

    def log_message(self, *_):
        pass


class serving:
    """A hub that serves while the block lasts."""

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.hub = Hub()
        self._server.hub.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self._server.hub

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def speak_to(monkeypatch, endpoint):
    """What HF_ENDPOINT would do, had it been set before huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

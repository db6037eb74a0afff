"""`ollama:NAME[:TAG]`: GGUF files that Ollama has on this machine, under Ollama's own names.

Ollama keeps a manifest a model, JSON that names the digests of its layers, and the layers as files
named by their digests. Manifests are data of others: what is no manifest is skipped, and neither
links nor names lead out of Ollama's folder.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.files.json_file import read_json
from llmscope.models.sources.weights import GgufFile, Options, Weights
from llmscope.models.spec import Spec
from llmscope.support.text import display_text

FOLDER = "OLLAMA_MODELS"
"""The environment variable that names Ollama's folder."""
MODEL = "application/vnd.ollama.image.model"
"""The media type of the layer that is the GGUF file."""
PUBLIC = ("registry.ollama.ai", "library")
"""The host and the owner that Ollama leaves out of a name."""
LATEST = "latest"
BYTES = 1 << 20
"""Most bytes of a manifest; they have about one kB."""
MANIFESTS = 10_000
"""Most manifests that are read."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PART = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class OllamaModel:
    """A model of Ollama's.

    Attributes:
        name: what Ollama calls it, with its tag: `llama3.2:1b`.
        path: its GGUF file.
        bytes: the size of that file.
    """

    name: str
    path: Path
    bytes: int


def home() -> Path:
    """Return the folder in which Ollama keeps its models."""
    named = os.environ.get(FOLDER, "")
    return Path(named) if named else Path(os.path.expanduser("~/.ollama/models"))


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the converted weights of a model of Ollama's.

    Raises:
        ScopeError: Ollama has no such model here, or transformers cannot read its file.
    """
    from llmscope.models.sources import gguf  # imports torch, which a list of models does without

    file = locate(spec, options)
    return replace(gguf.converted(file.path, options.progress), name=file.name)


def locate(spec: Spec, options: Options) -> GgufFile:
    """Return the GGUF file of a model of Ollama's.

    Raises:
        ScopeError: Ollama has no such model here.
    """
    models = {model.name: model for model in ollama_models()}
    model = models.get(spec.name)
    if model is None:
        near = next((name for name in models if name.partition(":")[0] in spec.name), "")
        hint = f"ollama:{display_text(near)}" if near else f"ollama pull, or {FOLDER}"
        raise ScopeError(f"Ollama has no {display_text(spec.name)} on this machine", hint)
    return GgufFile(model.path, model.name)


def ollama_models() -> Iterator[OllamaModel]:
    """Yield the models of Ollama's on this machine whose weights are one GGUF file, by name."""
    folder = home()
    for count, (parts, path) in enumerate(_manifests(folder / "manifests", ())):
        if count == MANIFESTS:
            return
        with suppress(OSError, ValueError, TypeError):
            digest = _model_digest(read_json(path, BYTES))
            blob = folder / "blobs" / f"sha256-{digest}"
            status = blob.lstat()
            if stat.S_ISREG(status.st_mode):
                yield OllamaModel(_name(parts), blob, status.st_size)


def _manifests(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield the regular files at `host/owner/name/tag` below a folder, with these four words."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # Ollama is not here, or its folder cannot be read
        return
    for entry in entries:
        below = (*parts, entry.name)
        if not _PART.fullmatch(entry.name):
            continue
        if len(below) == 4 and entry.is_file(follow_symlinks=False):
            yield below, Path(entry.path)
        elif len(below) < 4 and entry.is_dir(follow_symlinks=False):
            yield from _manifests(Path(entry.path), below)


def _model_digest(manifest: object) -> str:
    """Return the digest of the one GGUF file that a manifest names.

    Raises:
        ValueError: it is no manifest, or names none, or several.
    """
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list):
        raise ValueError("it is no manifest")
    digests = [
        layer.get("digest")
        for layer in layers
        if isinstance(layer, dict) and layer.get("mediaType") == MODEL
    ]
    if len(digests) != 1 or not isinstance(digests[0], str):
        raise ValueError("it names no single file of weights")
    match = _DIGEST.fullmatch(digests[0])
    if match is None:
        raise ValueError("its digest has another form than that of SHA-256")
    return match[1]


def _name(parts: tuple[str, ...]) -> str:
    """Return what Ollama calls the model at `host/owner/name/tag`."""
    host, owner, name, tag = parts
    if (host, owner) == PUBLIC:
        return f"{name}:{tag}"
    return f"{owner}/{name}:{tag}" if host == PUBLIC[0] else f"{host}/{owner}/{name}:{tag}"

"""JSON: strict, and safe to print in a terminal."""

from __future__ import annotations

import json
import platform
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from llmscope.engine.events import ModelInfo, Token
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.figure import Figure, Focus
from llmscope.lenses import focus_dict, options
from llmscope.version import __version__, installed

SCHEMA = 1

_UNUSUAL = re.compile(r"[^\x20-\x7e\n]")


def json_text(record: Any) -> str:
    r"""Return the record as one line of strict JSON (RFC 8259).

    Letters of all scripts stay readable. Characters that could control a terminal or be invisible
    (control and format characters, lone surrogates) are escaped as `\uXXXX`.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(record, allow_nan=False, ensure_ascii=False)
    return _UNUSUAL.sub(_escape_character, text) + "\n"


def _escape_character(match: re.Match[str]) -> str:
    char = match[0]
    if unicodedata.category(char)[0] not in "CZ":
        return char
    return json.dumps(char)[1:-1] if ord(char) != 0x7F else "\\u007f"


def snapshot_dict(
    info: ModelInfo,
    prompt: str | None,
    tokens: Sequence[Token],
    focus: Focus,
    figures: Iterable[Figure],
    whatif: EditsCaption = PLAIN,
) -> dict[str, Any]:
    """Return the record of a snapshot: the metadata of `about_dict`, and the figures."""
    about = about_dict(info, prompt, tokens, focus, whatif)
    return {**about, "figures": [figure.to_dict() for figure in figures]}


def snapshot_schema() -> dict[str, Any]:
    """Return the JSON Schema of a snapshot, with the options that all lenses declare."""
    text = (files("llmscope.export") / "snapshot.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    declared = schema["properties"]["focus"]["properties"]
    for name, option in options().items():
        declared.setdefault(name, option.schema())
    return schema


def about_dict(
    info: ModelInfo,
    prompt: str | None,
    tokens: Sequence[Token],
    focus: Focus,
    whatif: EditsCaption = PLAIN,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the metadata of a snapshot: model, versions, prompt, tokens and focus.

    An edited pass adds `edits`, a prompt B adds its text as `versus_prompt`, a second model adds
    `model_b`, and `provenance` is added unless None.

    Versions are read from the installed packages' metadata, without importing them.
    """
    return {
        "schema": SCHEMA,
        "llmscope": __version__,
        "model": _model_dict(info),
        **({} if info.versus is None else {"model_b": _model_dict(info.versus)}),
        "versions": {
            "torch": installed("torch"),
            "transformers": installed("transformers"),
            "python": platform.python_version(),
        },
        "prompt": prompt,
        "tokens": [{"position": t.position, "id": t.id, "text": t.text} for t in tokens],
        **whatif.to_dict(),
        "focus": focus_dict(focus),
        **({} if provenance is None else {"provenance": dict(provenance)}),
    }


def _model_dict(info: ModelInfo) -> dict[str, Any]:
    return {
        "spec": info.spec,
        "architecture": info.architecture,
        "layers": info.layers,
        "heads": info.heads,
        **({"maps": list(info.maps)} if info.maps else {}),
        "width": info.width,
        "vocabulary": info.vocabulary,
        "parameters": info.parameters,
        "dtype": info.dtype,
        "device": info.device,
        "revision": info.revision,
        "adapter": info.adapter,
    }

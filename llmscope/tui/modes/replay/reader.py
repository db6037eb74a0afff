"""Read a snapshot file as the prompt, the model and the figures that the app shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmscope.edits import Edit, parse
from llmscope.engine.events import ModelInfo, Token
from llmscope.errors import ScopeError
from llmscope.export.bounds import LONGEST_NOTE, LONGEST_TEXT, MOST_TOKENS, short
from llmscope.export.read import SidecarError, Snapshot, read
from llmscope.figure import Figure, Focus
from llmscope.lenses import options
from llmscope.lenses.options import FIELDS
from llmscope.models.tokenizer.token_offsets import align, join
from llmscope.support.text import display_line, display_text
from llmscope.tui.modes.replay.normalize import HINT, check, restore_extra

MOST_LAYERS, MOST_FIGURES = 10_000, 45
"""Maximum that the app can show; nine pages of five figures."""
_MAYBE = (int, type(None))
_KEPT: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("layer", "head", "position"), (int,)),
    **dict.fromkeys(("neuron", "step"), _MAYBE),
    "mode": (str,),
    "change": (bool,),
}
"""The entries of a snapshot's focus that the app uses, and their allowed types."""
FAR = 100
"""Maximum distance in characters to search for a token, because common letters match anywhere."""
_STRAY = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Recorded:
    """The content of a snapshot file.

    Attributes:
        path: the file.
        about: the metadata of the snapshot, unchanged.
        info: the model, as far as the file describes it.
        text: the prompt; if only its ids are known, the joined texts of its tokens.
        tokens: of the prompt, with their offsets in the text.
        focus: of the snapshot.
        figures: in order.
        edits: of the pass.
        other: prompt B, or a placeholder if only its ids are known; None if the file has no
            prompt B.
    """

    path: Path
    about: Mapping[str, Any]
    info: ModelInfo
    text: str
    tokens: tuple[Token, ...]
    focus: Focus
    figures: tuple[Figure, ...]
    edits: tuple[Edit, ...] = ()
    other: str | None = None


def read_snapshot(path: Path) -> Recorded:
    """Read a snapshot: json, npz, safetensors, or the sidecar of safetensors.

    Raises:
        ScopeError: the file cannot be read, is not a snapshot of a prompt, or has a figure that
            cannot be drawn.
    """
    try:
        snapshot = read(path)
    except SidecarError as error:
        if not error.arrays.is_file():
            raise
        snapshot = read(error.arrays)
    return read_recorded(path, snapshot)


def read_recorded(path: Path, snapshot: Snapshot) -> Recorded:
    """Return the content of a snapshot that was read from a file.

    Raises:
        ScopeError: it is not a snapshot of a prompt, or has a figure that cannot be drawn.
    """
    named = display_line(path.name)
    try:
        return _read_content(path, snapshot)
    except ScopeError as error:
        raise error.at(f"{named} cannot be replayed") from error
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        reason = display_text(" ".join(str(error).split()))[:200]
        raise ScopeError(f"{named} cannot be replayed: {reason}", HINT) from error


def _read_content(path: Path, snapshot: Snapshot) -> Recorded:
    about = snapshot.about
    if "tokens" not in about or "model" not in about:
        raise ScopeError(
            "it holds figures alone, without the prompt and the model they are of", HINT
        )
    if not snapshot.figures:
        raise ScopeError("it holds no figure", HINT)
    if len(snapshot.figures) > MOST_FIGURES:
        raise ScopeError(
            f"it holds more than {MOST_FIGURES} figures", "fewer lenses, layers or heads"
        )
    figures = tuple(map(restore_extra, snapshot.figures))
    info = _info(about["model"])
    if "model_b" in about:
        info = replace(info, versus=_info(about["model_b"]))
    ids, labels = _tokens(about["tokens"])
    text, tokens = _place_tokens(about.get("prompt"), ids, labels, figures)
    focus = _focus(about.get("focus", {}), info, len(tokens))
    check(figures, len(tokens), focus)
    versus = about.get("versus_prompt")
    other = _text(versus, "ids alone", LONGEST_NOTE) if "versus_prompt" in about else None
    edits = about.get("edits", [])
    if not isinstance(edits, list) or not all(isinstance(edit, str) for edit in edits):
        raise ValueError("its edits are no list of text")
    return Recorded(
        path,
        about,
        info,
        text,
        tokens,
        focus,
        figures,
        tuple(map(parse, edits)),
        other,
    )


def _info(model: Any) -> ModelInfo:
    """Return the description of the model."""
    if not isinstance(model, dict):
        raise ValueError("its model is no JSON object")
    layers = _count(model.get("layers"), "layers", MOST_LAYERS)
    numbers = ("heads", "width", "vocabulary", "parameters")
    heads, width, vocabulary, parameters = (_count(model.get(name), name) for name in numbers)
    if not layers:
        raise ValueError("its model has no layers")
    maps = model.get("maps", [])
    if not isinstance(maps, list) or len(maps) not in (0, layers):
        raise ValueError("its model has no number of maps for each layer")
    spec = _text(model.get("spec"), "a model without a name")
    adapter = model.get("adapter")
    return ModelInfo(
        spec=spec,
        name=spec if adapter is None else f"{spec} + {_text(adapter)}",
        architecture=_text(model.get("architecture")),
        layers=layers,
        heads=heads,
        maps=tuple(_count(count, "maps") for count in maps),
        width=width,
        neurons=0,
        vocabulary=vocabulary,
        context=None,
        parameters=parameters,
        dtype=_text(model.get("dtype")),
        device=_text(model.get("device")),
        revision=None if model.get("revision") is None else _text(model["revision"]),
        adapter=None if adapter is None else _text(adapter),
    )


def _tokens(records: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the ids and labels of the tokens."""
    if not isinstance(records, list) or not 0 < len(records) <= MOST_TOKENS:
        raise ValueError("it has no list of tokens, or one that no screen could show")
    for place, record in enumerate(records):
        if not isinstance(record, dict) or record.get("position") != place:
            raise ValueError(f"token {place} is missing or not in its place")
        if not isinstance(record.get("text"), str) or type(record.get("id")) is not int:
            raise ValueError(f"token {place} lacks its id or its text")
    return tuple(record["id"] for record in records), tuple(record["text"] for record in records)


def _place_tokens(
    prompt: Any, ids: Sequence[int], labels: Sequence[str], figures: Sequence[Figure]
) -> tuple[str, tuple[Token, ...]]:
    """Return the text, and the tokens with their offsets in it."""
    known = (tuple(figure.extra.get("special", ())) for figure in figures)
    special = next((flags for flags in known if len(flags) == len(ids)), (False,) * len(ids))
    encoded = [_bytes(label) for label in labels]
    if isinstance(prompt, str) and prompt:
        text = prompt
        spans = align(text, encoded, special) if _is_whole(text) else None
        spans = _search_offsets(text, labels) if spans is None else spans
    else:
        text, spans = join(encoded)
    return text, tuple(
        Token(position, token, label, *span, bool(marked))
        for position, (token, label, span, marked) in enumerate(
            zip(ids, labels, spans, special, strict=True)
        )
    )


def _search_offsets(text: str, labels: Sequence[str]) -> list[tuple[int, int]]:
    """Find the offsets of tokens whose joined labels differ from the text, such as unknown tokens.

    Each token is searched for after the previous one, ignoring white space. Tokens that are not
    found get the text before the next token that is found.
    """
    spans: list[tuple[int, int]] = []
    place = lost = 0
    for label in labels:
        bare = label.strip() or label
        begins = text.find(bare, place, place + len(bare) + FAR) if bare else -1
        gap = text[place:begins] if begins >= 0 else ""
        if begins < 0 or (gap.strip() and not lost):
            spans.append((place, place))
            lost += 1
            continue
        start = place + len(gap.rstrip()) if label[:1].isspace() else begins
        for at in range(len(spans) - lost, len(spans)):
            spans[at] = (place, start) if gap.strip() else (place, place)
        place, lost = begins + len(bare), 0
        spans.append((start, place))
    return spans


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _bytes(label: str) -> bytes:
    r"""Return a label in UTF-8; `\xe2` in it is one byte of a character split between tokens."""
    pieces = _STRAY.split(label)
    return b"".join(
        bytes.fromhex(piece) if at % 2 else piece.encode("utf-8", "surrogatepass")
        for at, piece in enumerate(pieces)
    )


def _focus(record: Any, info: ModelInfo, length: int) -> Focus:
    """Return the focus of the snapshot, resolved for the model and the prompt of the file."""
    if not isinstance(record, dict):
        raise ValueError("its focus is no JSON object")
    known = {name: record[name] for name in _KEPT if name in record}
    for name, value in known.items():
        if type(value) not in _KEPT[name]:
            raise ValueError(f"its focus has an invalid {name}")
    focus = Focus(**known)
    for option in options().values():
        if option.name in record and option.name not in FIELDS:
            try:
                value = option.checked(record[option.name], info.vocabulary)
            except (TypeError, ValueError):
                raise ValueError(f"its focus has an invalid {option.name}") from None
            focus = option.set(focus, value)
    heads = info.heads_at(focus.layer)
    return focus.resolve(layers=info.layers, heads=heads, positions=length)


def _count(value: Any, what: str, limit: int = 1 << 62) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"its model has no number of {what}")
    return value


def _text(value: Any, otherwise: str = "", limit: int = LONGEST_TEXT) -> str:
    return short(value, "a text", limit) if isinstance(value, str) and value else otherwise

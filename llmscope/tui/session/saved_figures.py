"""The figures that were on screen, so that the next start shows them while the model is loaded.

Arrays, tuples and whole numbers as keys are written so that they come back as a lens made them,
which plain JSON would not do.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.edits import Edit, parse
from llmscope.tui.session.codec import decode, encode
from llmscope.tui.session.state_folder import content, state_folder, write
from llmscope.version import __version__

if TYPE_CHECKING:
    from llmscope.engine.events import ModelInfo, Token
    from llmscope.figure import Figure
    from llmscope.tui.host import Host
    from llmscope.tui.state.figure_store import Shown

FIGURES = "figures.json"
LARGEST = 2_000_000
"""The most bytes of the file; figures that do not fit are left out, the least important first."""
_KINDS = "biuf"
"""The kinds of arrays, as numpy calls them: truth values, whole numbers and floating point."""


@dataclass(frozen=True)
class SavedFigures:
    """The figures of an earlier session.

    Attributes:
        info: the model.
        tokens: the tokens of the prompt.
        shown: the figures by the keys of their panes.
    """

    info: ModelInfo
    tokens: tuple[Token, ...]
    shown: dict[str, Shown]


def save_figures(host: Host) -> None:
    """Write the current figures of the panes on screen; without any, keep the stored file."""
    figures, info = host.figures, host.state.info
    tokens = figures.shown("tokens")
    if info is None or tokens is None or not tokens.of(host.state):
        return
    keys = dict.fromkeys(("tokens", host.grid.workspace.spine, *host.grid.on_screen))
    panes: dict[str, Any] = {}
    left = LARGEST
    for key in keys:
        result = figures.shown(key)
        if result is None or result.saved or figures.stale(key) or not result.of(host.state):
            continue
        with suppress(TypeError):  # a lens of another package may return anything
            pane = {"want": _plain(result.want), "figure": _plain(result.figure)}
            left -= (size := len(encode(pane)))
            if left < 0:
                left += size
            else:
                panes[key] = pane
    if host.grid.workspace.spine not in panes or "tokens" not in panes:
        return
    record = {
        "llmscope": __version__,
        "pass": pass_of(host),
        "info": _plain(replace(info, adapters=(), taught=())),
        "request": _plain(replace(tokens.request, wants=(), draw=None)),
        "tokens": _plain(tokens.tokens),
        "panes": panes,
    }
    with suppress(ValueError, TypeError):
        write(FIGURES, encode(record))


def saved_figures(host: Host) -> SavedFigures | None:
    """Return the figures of the last session; None if they are of another pass, or damaged."""
    from llmscope.engine.events import ModelInfo, Request, Token
    from llmscope.tui.state.figure_store import Shown

    try:
        path = state_folder() / FIGURES
        if path.stat().st_size > 2 * LARGEST:
            return None
        record = decode(content(path), dict[str, Any])
        if record["llmscope"] != __version__ or record["pass"] != pass_of(host):
            return None
        tokens = tuple(Token(*token) for token in _lively(record["tokens"]))
        fields = _lively(record["request"])
        edits = tuple(map(parse, fields.pop("edits")))
        request = replace(_convert(fields, Request), edits=edits)
        results = {
            key: Shown(_figure(pane["figure"]), _want(pane["want"]), tokens, request, saved=True)
            for key, pane in record["panes"].items()
        }
        info = _convert(_lively(record["info"]), ModelInfo)
    except Exception:  # the file may be damaged in any way
        return None
    return SavedFigures(info, tokens, results)


def pass_of(host: Host) -> list[Any]:
    """Return what the figures depend on, besides the cursor: the model, the prompts, the edits."""
    state, session = host.state, host.user.session
    adapter = state.adapter if state.info is not None or session is None else session.adapter
    source = host.source
    return [
        source.spec,
        list(source.flags),
        list(source.adapters),
        adapter,
        host.text,
        host.figures.special_tokens,
        list(map(str, state.in_force)),
        state.versus_prompt,
    ]


def _plain(value: Any) -> Any:
    """Return a value as JSON types: a container by its kind and content.

    Raises:
        TypeError: the value holds something else than numbers, texts, arrays and containers.
    """
    if hasattr(value, "tobytes"):  # an array or a number of numpy
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"an array of {value.dtype}")
        data = b64encode(value.tobytes()).decode()
        return {"array": [value.dtype.str, list(value.shape), data]}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Edit):
        return str(value)
    if isinstance(value, tuple):
        return {"tuple": [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return {"set": sorted(map(_plain, value))}
    if isinstance(value, Mapping):
        return {"map": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if hasattr(value, "__dataclass_fields__"):
        fields = value.__dataclass_fields__
        return {"fields": {name: _plain(getattr(value, name)) for name in fields}}
    raise TypeError(f"a {type(value).__name__}")


def _lively(value: Any) -> Any:
    """Return the value that `_plain` made JSON types of; a dataclass as a dict of its fields."""
    if isinstance(value, list):
        return [_lively(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    match kind:
        case "float":
            return float(inside)
        case "array":
            return _array(*inside)
        case "tuple":
            return tuple(_lively(item) for item in inside)
        case "set":
            return frozenset(_lively(item) for item in inside)
        case "map":
            return {_lively(key): _lively(item) for key, item in inside}
        case "fields":
            return {name: _lively(item) for name, item in inside.items()}
    raise ValueError(f"unknown kind {kind!r}")


def _array(kind: str, shape: list[int], data: str) -> Any:
    import numpy as np

    dtype = np.dtype(kind)
    if dtype.kind not in _KINDS:
        raise ValueError(f"an array of {kind!r}")
    array = np.frombuffer(b64decode(data), dtype).reshape(shape).copy()
    return array if shape else array[()]


def _convert(fields: dict[str, Any], kind: type[Any]) -> Any:
    """Return a dataclass of the screen's messages, its types checked."""
    import msgspec

    return msgspec.convert(fields, kind, strict=True)


def _want(value: Any) -> Any:
    from llmscope.engine.events import Want
    from llmscope.figure import Focus

    fields = _lively(value)
    return Want(fields["key"], fields["lens"], Focus(**fields["focus"]))


def _figure(value: Any) -> Figure:
    from llmscope.figure import Axis, Figure, Verdict

    fields = _lively(value)
    axes = tuple(Axis(**axis) for axis in fields.pop("axes"))
    return Figure(**fields | {"axes": axes, "verdict": Verdict(**fields["verdict"])})

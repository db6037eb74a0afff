"""The options of the lens `features`."""

from __future__ import annotations

from os.path import expanduser, isdir, isfile
from typing import Any

from llmscope.lenses.options import LensOption


def _unreadable(names: Any, allow_pickle: bool) -> str | None:
    """Return why a dictionary cannot be read; None if it may be, before a model is loaded."""
    for name in names:
        path = expanduser(name) if isinstance(name, str) else ""
        if isfile(path) and path.endswith((".pt", ".pth", ".bin")):
            return f"{name} is a pickle, and no dictionary is read from one"
        if path.startswith((".", "/")) and not isdir(path) and not isfile(path):
            return f"there is no folder {name}"
    return None


FEATURES = LensOption[tuple[Any, ...]](
    *("features", "dictionaries", ()),
    "A sparse dictionary (an autoencoder or transcoder): a folder of SAELens or Gemma Scope, one "
    "with several, or org/name:path. Repeat for several.",
    "FOLDER|ORG/NAME:PATH",
    shown="those that ship with the model",
    problem=_unreadable,
)
PLACE = LensOption(
    *("place", "text", ""),
    "Which dictionary of the layer, where there are several: resid_pre, resid_mid, resid_post, "
    "attn_out, mlp_in, mlp_out, z or mlp_act.",
    "PLACE",
    shown="the first of the layer",
)
FEATURE = LensOption[int | None](
    *("feature", "integer", None, "Index of a feature, from 0."),
    shown="the strongest at the position",
)
QUERY = LensOption(
    *("query", "text", ""),
    "For the mode `find`: a part of a label, or a token with its space.",
    "TEXT",
)

"""The tensors of a layer that a dictionary of features may read or predict."""

from __future__ import annotations

from typing import Literal, get_args

PlaceKind = Literal[
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_in",
    "mlp_normed",
    "mlp_out",
    "z",
    "mlp_act",
]
PLACE_KINDS: tuple[PlaceKind, ...] = get_args(PlaceKind)

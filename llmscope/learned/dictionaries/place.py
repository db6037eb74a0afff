"""Where in a model a dictionary reads, and where it writes.

Names are those of TransformerLens (`blocks.7.hook_resid_post`), and of transformers' modules
(`model.layers.7.mlp`, with `.input` or `.output` behind).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmscope.edits import PlaceKind
from llmscope.support.text import one_line

TITLES: dict[PlaceKind, str] = {
    "resid_pre": "stream before layer",
    "resid_mid": "stream within layer",
    "resid_post": "stream after layer",
    "attn_out": "attention output of layer",
    "mlp_in": "MLP input of layer",
    "mlp_normed": "MLP input before its gain of layer",
    "mlp_out": "MLP output of layer",
    "z": "head outputs of layer",
    "mlp_act": "neurons of layer",
}
STREAMS: tuple[PlaceKind, ...] = ("resid_pre", "resid_mid", "resid_post")
WRITES: tuple[PlaceKind, ...] = ("attn_out", "mlp_out")
"""What is added to the residual stream."""

_BY_HOOK: dict[str, PlaceKind] = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "attn.hook_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_out": "mlp_out",
    "hook_mlp_in": "resid_mid",
    "mlp.hook_in": "mlp_in",
    "ln2.hook_normalized": "mlp_normed",
    "attn.hook_z": "z",
    "mlp.hook_post": "mlp_act",
}
"""By the name of TransformerLens behind `blocks.N.`; `hook_mlp_in` is before the norm there."""
_OUTPUTS = {"attn.hook_out": "attn", "mlp.hook_out": "mlp"}
"""Hooks of TransformerLens on what a module itself returns, before a norm behind it."""
LAYER = "output"
"""What a place names as its module that is the output of a whole layer."""
_ATTENTION = r"self_attn|attn|attention|self_attention"
_MLP = r"mlp|feed_forward|ffn"
_MODULE = re.compile(
    r"(?:[A-Za-z_]\w*\.)*?(?:layers|h|blocks|block)\.(?P<layer>[0-9]{1,6})"
    rf"(?:\.(?:(?P<attention>{_ATTENTION})|(?P<mlp>{_MLP})"
    r"|(?P<before>pre_feedforward_layernorm)|(?P<after>post_feedforward_layernorm)"
    rf"|(?P<z>(?:{_ATTENTION})\.(?:o_proj|c_proj|out_proj|dense))))?"
    r"(?:\.(?P<end>input|output))?",
    re.ASCII,
)


@dataclass(frozen=True, order=True)
class Place:
    """A tensor of a layer.

    Attributes:
        layer: the layer, from 0.
        kind: which tensor of the layer.
        head: the head, for the output of a single one; None: all heads in a row.
        module: the name in the layer of the module whose input or output it is, such as
            `self_attn.o_proj`. Its output is read before a norm or factor behind it; empty: a write
            is what is added to the stream.
    """

    layer: int
    kind: PlaceKind
    head: int | None = None
    module: str = ""

    def __str__(self) -> str:
        name = f"{self.layer}.{self.kind}"
        return name if self.head is None else f"{name}.{self.head}"

    @property
    def title(self) -> str:
        """Name it for a title: `stream after layer 7`."""
        if self.head is not None:
            return f"output of head {self.layer}.{self.head}"
        if self.kind == "mlp_normed":
            return f"normed MLP input of layer {self.layer}"
        return f"{TITLES[self.kind]} {self.layer}"

    @property
    def after(self) -> int:
        """The layer after which it is known, for the order of the model; -1: the embedding."""
        return self.layer - 1 if self.kind == "resid_pre" else self.layer

    @classmethod
    def parse(cls, name: str, head: int | None = None) -> Place:
        """Return the place that a config names.

        Args:
            name: the name of a hook or module.
            head: the head that the config gives beside it; None: all.

        Raises:
            ValueError: no place of the list above has that name.
        """
        block, _, rest = name.partition(".")
        layer, _, hook = rest.partition(".")
        if name == "hook_embed":
            return cls(0, "resid_pre")
        if block == "blocks" and layer.isascii() and layer.isdecimal() and hook in _BY_HOOK:
            kind = _BY_HOOK[hook]
            number = head if kind == "z" else None
            return cls(int(layer[:7]), kind, number, _OUTPUTS.get(hook, ""))
        match = _MODULE.fullmatch(name)
        if match is None:
            raise ValueError(f"it is for {one_line(name)!r}, which is no place that can be shown")
        at, entering = int(match["layer"]), match["end"] == "input"
        groups = ("attention", "mlp", "before", "after", "z")
        module = next((match[group] for group in groups if match[group]), "")
        if match["attention"] and not entering:
            return cls(at, "attn_out", module=module)
        if match["z"] and entering:
            return cls(at, "z", head, module)
        if match["after"] and entering:
            raise ValueError(f"it is for {one_line(name)!r}, which is no place that can be shown")
        if match["z"] or match["after"]:
            return cls(at, "attn_out" if match["z"] else "mlp_out", module=module)
        if match["mlp"] or match["before"]:
            inside = entering if match["mlp"] else not entering
            kind = "mlp_in" if inside else "mlp_out" if match["mlp"] else "resid_mid"
            return cls(at, kind, module=module)
        if match["attention"]:
            raise ValueError(f"it is for {one_line(name)!r}, which is no place that can be shown")
        return cls(at, "resid_pre") if entering else cls(at, "resid_post", module=LAYER)

"""The tensors of a pass that can be changed."""

from __future__ import annotations

from typing import Literal

from torch import nn

from llmscope.learned.dictionaries.place import Place
from llmscope.models.anatomy import Layer
from llmscope.support.text import one_line

Site = Literal[
    "stream",
    "heads",
    "neurons",
    "attention_write",
    "mixer_write",
    "mlp_write",
    "embedded_write",
    "mlp_input",
    "norm",
    "attention_module",
    "mlp_module",
    "edge",
    "mixing",
    "routing",
]
"""The changed tensor: the stream before a layer, the heads' outputs (input of the output
projection; of a recurrence, what its function gives, before any gate, norm or projection), the
neurons' activations (input of the down projection), a part's write to the stream, the MLP's input,
a norm's output, or what the attention or the MLP gives to the norm behind it. An edge is no tensor
of its own: one part reads a stream that no other part reads. The mixing is what tokens read from
earlier ones, which a knockout takes away; the routing is a router's choice of experts."""


class NoPlace(ValueError):  # noqa: N818 - a finding
    """The model has no such tensor; the text says why."""


WRITTEN: dict[str, Site] = {"attn_out": "attention_write", "mlp_out": "mlp_write"}
"""The site of a write, by the kind of its place."""


def write_site(parts: Layer, place: Place) -> tuple[Site, float]:
    """Return the site of what attention or MLP writes, and the factor of its tensor at the place.

    A place that names a module is that module's output: the write before the layer's scale, or
    what goes into the norm behind the module.

    Args:
        parts: the layer.
        place: of the kind attn_out or mlp_out.

    Raises:
        NoPlace: the output of the named module is not computed by itself.
    """
    attends, site = place.kind == "attn_out", WRITTEN[place.kind]
    if not place.module:
        return site, parts.scale(site)
    write = parts.attention_write if attends else parts.mlp_write
    if attends:
        inner = tuple(part for part in (parts.attention, parts.attention_out) if part is not None)
    else:
        # With an activation of its own, a layer holds the two projections without an MLP around.
        inner = () if parts.mlp_input_module is None else (parts.mlp_input_module,)
        inner = inner if parts.activation is None else ()
    module = named_module(parts, place) or (inner[0] if inner else write)
    if write is None:
        return site, 1.0
    if not attends and parts.mlp_parallel is not None:
        raise NoPlace(f"{_describe_place(place)} is one of two MLPs whose outputs are added")
    if module is write:
        return site, 1.0
    if module in inner and write not in set(module.modules()):
        if attends and parts.attention_out is None:
            raise NoPlace(f"layer {place.layer} has no output projection that was found")
        if write in inner:  # the projection of an attention that returns what it gives
            return site, 1.0
        return ("attention_module" if attends else "mlp_module"), 1.0
    if attends and module is parts.attention_out and write is parts.attention:
        return site, 1.0
    raise NoPlace(f"what {_describe_place(place)} returns is not what it writes, and is not kept")


def named_module(parts: Layer, place: Place) -> nn.Module | None:
    """Return the module that a place names; None if the layer has none of that name."""
    try:
        return parts.module.get_submodule(place.module)
    except AttributeError:
        return None


def check_entry(parts: Layer, place: Place) -> None:
    """Check that the module that a place names reads the heads' outputs, or what the MLP reads.

    Raises:
        NoPlace: it reads another tensor.
    """
    module = named_module(parts, place) if place.module else None
    if module is None:
        return
    if place.kind == "z" and parts.heads_norm is not None and module is parts.attention_out:
        raise NoPlace(f"{_describe_place(place)} reads the heads' outputs behind a norm")
    reader = parts.attention_out if place.kind == "z" else parts.mlp_input_module
    if module is not reader:
        raise NoPlace(
            f"{_describe_place(place)} is another module than the one that was found to read it"
        )


def _describe_place(place: Place) -> str:
    return f"{one_line(place.module)} of layer {place.layer}"

"""Edits along features made by hand: formulas and hooks written out here, on a plain model.

A pass without the edit shows the tensor that the dictionary reads; another one adds what the edit
adds to it. That is the same, because a tensor does not depend on what is made of it.
"""

from __future__ import annotations

import torch

from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.place import Place
from tests.record.by_hand import Plain

FEATURES = 96
ENTRIES = {"opt": "fc1", "jamba": "feed_forward"}
"""The module whose input the MLP's is, where it is not `mlp`."""


def dictionary_for(
    reads,
    width,
    writes=None,
    out_width=None,
    activation="relu",
    seed=3,
    skip=False,
    size=1.0,
    **header,
):
    """A dictionary with random weights; half of its features are active at a token or so.

    Args:
        size: the largest magnitude of what it reads, which its encoder divides by.
    """
    chance = torch.Generator().manual_seed(seed)
    writes, out_width = writes or reads, out_width or width

    def some(*shape):
        return torch.randn(*shape, generator=chance)

    told = DictionaryHeader(
        *("", "", reads, writes, width, out_width, FEATURES, activation),
        **{"k": 12 if activation == "topk" else 0, **header},
    )
    return Dictionary(
        told,
        encoder=some(width, FEATURES) / width**0.5 / size,
        decoder=some(FEATURES, out_width) * size / out_width**0.5 * 2,
        bias=0.1 * size * some(out_width),
        encoder_bias=0.1 * some(FEATURES),
        threshold=0.2 + 0.1 * some(FEATURES).abs() if activation == "jumprelu" else None,
        magnitude=(
            (some(FEATURES) * 0.2).exp(),
            0.3 + 0.1 * some(FEATURES),
        )
        if activation == "gated"
        else None,
        skip=0.1 * some(out_width, width) if skip else None,
    )


def encoded(dictionary, inputs):
    """All activations in float64, by the formulas. [row, feature]"""
    header, x = dictionary.header, inputs.double()
    if header.rescaling == "layer_norm":
        x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
    elif header.rescaling == "constant_norm_rescale":
        x = x * header.width**0.5 / x.norm(dim=-1, keepdim=True)
    if header.subtracts:
        x = x - dictionary.bias.double()
    product = x @ dictionary.encoder.double()
    before = product + dictionary.encoder_bias.double()
    if header.activation == "gated":
        factor, bias = (one.double() for one in dictionary.magnitude)
        return (product * factor + bias).clamp(min=0) * (before > 0)
    if header.activation == "jumprelu":
        return before.clamp(min=0) * (before > dictionary.threshold.double())
    if header.activation == "topk":
        if header.by_norm:
            before = before * dictionary.decoder.double().norm(dim=-1)
        best = before.sort(dim=-1, descending=True).values[:, header.k - 1 : header.k]
        return before.clamp(min=0) * (before >= best)
    return before.clamp(min=0)


def moved(dictionary, feature, inputs, new):
    """What a reconstruction changes by if the activation becomes `new(f)`. [row, out width]"""
    header, x = dictionary.header, inputs.double()
    active = encoded(dictionary, inputs)[:, feature]
    row = dictionary.decoder[feature].double()
    if header.by_norm:
        row = row / row.norm()
    change = (new(active) - active)[:, None] * row
    if header.reads != header.writes:
        return change
    if header.rescaling == "layer_norm":
        change = change * x.std(-1, keepdim=True)
    elif header.rescaling == "constant_norm_rescale":
        change = change * x.norm(dim=-1, keepdim=True) / header.width**0.5
    return change


class Places(Plain):
    """A plain model, and the tensors of its layers that dictionaries are for."""

    def __init__(self, family, model=None):
        super().__init__(family, model)
        self.family = family
        config = self.model.config.get_text_config()
        self.scale = getattr(config, "residual_multiplier", 1.0)

    def place(self, site, layer):
        """The module, and whether what goes in is meant."""
        if site == "entry":
            return self.layers[layer].get_submodule(ENTRIES.get(self.family, "mlp")), True
        return super().place(site, layer)

    def site(self, place):
        """Where a tensor is changed: site, layer, columns, factor of the site's own tensor."""
        layer, columns = place.layer, slice(None)
        if place.kind in ("resid_pre", "resid_post"):
            return "stream", layer + (place.kind == "resid_post"), columns, 1.0
        if place.kind in ("resid_mid", "attn_out"):
            return "attention", layer, columns, self.scale
        if place.kind == "mlp_out":
            return "mlp", layer, columns, self.scale
        if place.kind == "z":
            columns = columns if place.head is None else self.head(place.head)
            return "heads", layer, columns, 1.0
        return ("neurons" if place.kind == "mlp_act" else "entry"), layer, columns, 1.0

    def tensor(self, ids, place, *alterations):
        """A tensor of a pass with alterations. [row, width]"""
        if place.kind in ("resid_mid", "mlp_normed"):
            caught = []

            def keep(rows, inputs):
                caught.append((inputs.clone(), rows.clone()))
                return rows

            self.run(ids, *alterations, ("mlp norm", place.layer, keep))
            inputs, rows = caught[0]
            if place.kind == "resid_mid":
                return inputs
            weight, bias = self._gain(place.layer)
            normed = (rows.double() - bias) / weight
            # What alterations have added to what the MLP reads, before the gain.
            now, then = (
                self.seen(ids, "entry", place.layer, *some)
                for some in (alterations, self._without_entry(alterations))
            )
            return normed + (now - then).double() / weight
        site, layer, columns, factor = self.site(place)
        return self.seen(ids, site, layer, *alterations)[:, columns] * factor

    def _without_entry(self, alterations):
        return [one for one in alterations if one[0] != "entry"]

    def _gain(self, layer):
        module, _ = self.place("mlp norm", layer)
        weight = module.weight.detach().double()
        bias = getattr(module, "bias", None)
        return (
            weight + 1 if "Gemma" in type(module).__name__ else weight,
            0.0 if bias is None else bias.detach().double(),
        )

    def edit(self, ids, dictionary, feature, new, rows, *alterations, centred=False):
        """The alteration that an edit along a feature makes after other alterations."""
        header = dictionary.header
        inputs = self.tensor(ids, header.reads, *alterations)
        if centred:
            inputs = inputs - inputs.mean(-1, keepdim=True)
        change = moved(dictionary, feature, inputs, new)
        site, layer, columns, factor = self.site(header.writes)
        if header.writes.kind == "mlp_normed":
            change = change * self._gain(layer)[0]
        change = change / factor

        def alter(tensor):
            own = tensor[rows, columns].double() + change[rows]
            tensor[rows, columns] = own.to(tensor.dtype)
            return tensor

        return site, layer, alter

    def width(self, place):
        """The width of a tensor."""
        return self.tensor([1, 2], place).shape[-1]


def feature_for(dictionary, inputs):
    """A feature that is active at many of some tokens, but not at all."""
    active = encoded(dictionary, inputs)
    share = (active > 0).double().mean(0)
    fitting = torch.where((share >= 0.3) & (share < 1), active.sum(0), -1.0)
    assert float(fitting.max()) > 0
    return int(fitting.argmax())


def place(text):
    """`1.z.2` as a place."""
    layer, kind, *head = text.split(".")
    return Place(int(layer), kind, int(head[0]) if head else None)

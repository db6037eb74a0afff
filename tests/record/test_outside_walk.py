"""A walk of random changes of wrapped models between calls, each compared with plain forwards.

Hooks, closures, attributes, classes, configs, functions and code that minds the length come, change
and go; prompts grow, shrink and change. A number under "verified" is that of the model as it is.
"""

import random

import numpy as np
import pytest
import torch
from torch import nn

import llmscope
from llmscope.errors import ScopeError
from llmscope.record.capture import recorder as recorder_module
from llmscope.record.derive.tensors import logits_after
from tests.families import small_model

PLACES = {  # the layers, and within each the attention and the MLP
    "llama": ("model.layers", "self_attn", "mlp"),
    "gemma2": ("model.layers", "self_attn", "mlp"),
    "mistral": ("model.layers", "self_attn", "mlp"),
    "qwen2": ("model.layers", "self_attn", "mlp"),
    "gpt2": ("transformer.h", "attn", "mlp"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp"),
}
WRITES = {"gemma2": "post_feedforward_layernorm"}
"""The module whose output the MLP adds to the stream, where that is not the MLP itself.

An edit of an MLP changes what it writes: with code from outside on this norm, that is not what the
norm makes of a changed MLP.
"""
CLOSE = 3e-5
"""Largest difference, relative to the largest magnitude of the logits."""


def after_last(recording):
    """Logits after the last token. [token]"""
    return logits_after(recording, len(recording) - 1)


class Holder:
    """What hooks read."""

    def __init__(self, size):
        self.size, self.vector, self.table = size, torch.full((1,), size), {"size": [size]}

    def change(self, kind, size):
        if kind == "attribute":
            self.size = size
        elif kind == "tensor":
            self.vector.data.fill_(size)
        else:
            self.table["size"][0] = size

    @property
    def total(self):
        return self.size + float(self.vector) + self.table["size"][0]


class Walk:
    """A wrapped model, and the changes that were made to it."""

    def __init__(self, family, seed):
        self.random = random.Random(seed)
        self.model = (
            small_model(family, num_hidden_layers=3)
            if family != "gpt2"
            else small_model(family, n_layer=3)
        )
        layers, self.attention, self.mlp = PLACES[family]
        self.write = WRITES.get(family, self.mlp)
        self.layers = self.model.get_submodule(layers)
        self.scope = llmscope.wrap(self.model)
        self.handles, self.holders, self.undo = [], [], []
        self.old = None
        self.counts = {"verified": 0, "refused": 0, "other": 0, "reused": 0}

    def plain(self, ids):
        with torch.no_grad():
            return self.model(torch.tensor([ids]), use_cache=False).logits[0].float()

    def part(self):
        """A module: an attention or MLP, or any other that runs once in a pass."""
        layer = self.random.choice(list(self.layers))
        if self.random.random() < 0.6:
            return getattr(layer, self.random.choice((self.attention, self.mlp)))
        around = [self.model.get_input_embeddings(), self.model.get_output_embeddings(), layer]
        inner = [one for one in layer.modules() if one is not layer and list(one.parameters())]
        norms = [one for name, one in self.layers_parent().named_children() if "norm" in name]
        return self.random.choice((*around, *inner, *norms))

    def layers_parent(self):
        return next(one for one in self.model.modules() if self.layers in one.children())

    # Changes.

    def add_hook(self):
        holder = Holder(self.random.choice((0.2, 0.5, 1.0)))
        row = self.random.choice((0, 3, 7, 15, 20, -1, -5, -13))
        kind = self.random.choice(("all", "row", "mean", "length", "first", "keep", "closure"))
        kept, scale = [], self.random.choice((0.3, 0.6))

        def hook(_module, _args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            count = hidden.shape[1]
            changed = hidden.clone()
            if kind == "all":
                changed += holder.total
            elif kind == "row" and -count <= row < count:
                changed[:, row] += holder.total
            elif kind == "mean" and count > 9:
                changed += hidden.mean(1, keepdim=True)
            elif kind == "length":
                changed *= 1.0 + 0.01 * holder.total * (count > 12)
            elif kind == "first":
                changed[0] += holder.total
            elif kind == "keep":
                kept[:] = [hidden.detach().clone()]
                changed *= 1.1
            elif kind == "closure":
                changed *= scale
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        def other_scale():
            nonlocal scale
            scale = self.random.choice((0.2, 0.4, 0.9))

        self.handles.append(self.part().register_forward_hook(hook))
        self.holders.append((holder, other_scale))

    def remove_hook(self):
        if self.handles:
            self.handles.pop(self.random.randrange(len(self.handles))).remove()

    def change_value(self):
        if not self.holders:
            return
        holder, other_scale = self.random.choice(self.holders)
        if self.random.random() < 0.3:
            other_scale()
        else:
            kind = self.random.choice(("attribute", "tensor", "table"))
            holder.change(kind, self.random.choice((0.1, 0.7, 1.3)))

    def change_weight(self):
        weight = self.random.choice([one for one in self.model.parameters() if one.dim() == 2])
        row, column = map(self.random.randrange, weight.shape)
        part = self.random.choice((weight.data, weight.data[row], weight.data[:, column]))
        part.mul_(self.random.choice((0.5, 1.1)))

    def change_class(self):
        layer = self.random.choice(list(self.layers))
        mlp = getattr(layer, self.mlp)
        kind, limit = type(mlp), self.random.choice((6, 14, 30))

        class Own(kind):
            def forward(self, *args, **options):
                out = super().forward(*args, **options)
                return out * (1.5 if args[0].shape[1] > limit else 0.8)

        mlp.__class__ = Own
        self.undo.append(lambda: setattr(mlp, "__class__", kind))

    def change_forward(self):
        module, size = self.part(), self.random.choice((0.7, 1.4))
        inner = module.forward

        def forward(*args, **options):
            out = inner(*args, **options)
            return (out[0] * size, *out[1:]) if isinstance(out, tuple) else out * size

        module.forward = forward
        self.undo.append(lambda: vars(module).pop("forward", None))

    def change_module(self):
        layer = self.random.choice(list(self.layers))
        mlp = getattr(layer, self.mlp)
        setattr(layer, self.mlp, nn.Sequential(mlp, nn.Dropout(0.0)))
        self.undo.append(lambda: setattr(layer, self.mlp, mlp))

    def change_functional(self):
        name = self.random.choice(("silu", "gelu", "softmax", "layer_norm"))
        standard, size = getattr(nn.functional, name), self.random.choice((0.9, 1.2))
        setattr(nn.functional, name, lambda *args, **more: standard(*args, **more) * size)
        self.undo.append(lambda: setattr(nn.functional, name, standard))

    def change_number(self):
        modules = [one for one in self.model.modules() if hasattr(one, "eps")]
        modules += [one for one in self.model.modules() if hasattr(one, "variance_epsilon")]
        module = self.random.choice(modules)
        name = "eps" if hasattr(module, "eps") else "variance_epsilon"
        setattr(module, name, self.random.choice((1e-6, 1e-3, 1e-2)))

    def undo_one(self):
        if self.undo:  # the latest first: one may be on top of another
            self.undo.pop()()

    def close(self):
        """Leave the model without code from outside: then it reuses rows again."""
        while self.undo:
            self.undo.pop()()
        while self.handles:
            self.handles.pop().remove()

    # Comparisons.

    def ids(self):
        before = [] if self.old is None else list(self.old.prompt.ids)
        vocabulary = self.model.get_input_embeddings().num_embeddings - 6
        kind = self.random.choice(("new", "longer", "longer", "shorter", "middle", "same"))
        token = self.random.randrange(5, vocabulary)
        if kind == "longer" and 0 < len(before) < 44:
            return (*before, token)
        if kind == "shorter" and len(before) > 4:
            return tuple(before[:-2])
        if kind == "middle" and before:
            before[len(before) // 2] = token
            return tuple(before)
        if kind == "same" and before:
            return tuple(before)
        return tuple(
            self.random.randrange(5, vocabulary) for _ in range(self.random.randint(4, 40))
        )

    def near(self, value, truth, what):
        value, truth = np.asarray(value, np.float64), np.asarray(truth, np.float64)
        assert np.abs(value - truth).max() <= CLOSE * max(1.0, np.abs(truth).max()), what

    def compare(self):
        ids = self.ids()
        logits = self.plain(ids)
        old = self.old
        if old is not None and self.random.random() < 0.3:
            self.compare_old(old)
        fresh = self.random.random() < 0.2
        recording = self.old = self.scope.record(ids, fresh=fresh)
        self.counts["reused"] += recording.reused > 0
        self.near(after_last(recording), logits[-1], "the next token")
        tokens = self.scope.look("tokens")
        if self.counted(tokens):
            scores = torch.log_softmax(logits[:-1].double(), -1)
            scores = scores[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
            self.near(tokens.values[1:], -scores / np.log(2), "surprisal")
        layer = self.random.randrange(3)
        way = self.random.choice(("edit", "ablation", "batch", "lens"))
        if way == "edit":
            self.compare_edit(ids, layer, fresh)
        elif way == "ablation":
            self.compare_ablation(ids, layer, logits)
        elif way == "batch":
            others = [ids, ids[: len(ids) // 2 + 1]]
            for each, prompt in zip(self.scope.record(others), others, strict=True):
                self.near(after_last(each), self.plain(prompt)[-1], "a batch")
        else:
            lens = self.scope.look("logit-lens", mode="target", target=7)
            if self.counted(lens) and "probability" in lens.unit:
                truth = torch.softmax(logits.double(), -1)[:, 7]
                self.near(lens.values[-1], truth, "the logit lens of the last layer")

    def counted(self, figure):
        kind = figure.verdict.status if figure.verdict.status in self.counts else "other"
        self.counts[kind] += 1
        return kind == "verified"

    def cut(self, ids, layer):
        """Logits without what a layer's MLP writes."""
        write = getattr(self.layers[layer], self.write)
        handle = write.register_forward_hook(lambda _m, _a, out: out * 0.0)
        try:
            return self.plain(ids)[-1]
        finally:
            handle.remove()

    def compare_edit(self, ids, layer, fresh):
        try:
            edited = self.scope.record(ids, edits=[f"zero mlp {layer}"], fresh=fresh)
        except ScopeError:
            self.counts["refused"] += 1
            return
        self.near(after_last(edited), self.cut(ids, layer), "an edit")

    def compare_ablation(self, ids, layer, logits):
        figure = self.scope.look("ablation", mode="parts", target=7)
        if self.counted(figure) and np.isfinite(figure.values[layer, 1]):
            truth = float(self.cut(ids, layer)[7] - logits[-1, 7])
            self.near(figure.values[layer, 1], truth, "ablation")

    def compare_old(self, recording):
        """An older recording is refused, or the model is still the one that it is of."""
        now = self.plain(recording.prompt.ids)
        figure = self.scope.look("ablation", recording=recording, mode="parts", target=7)
        if self.counted(figure):
            self.near(after_last(recording), now[-1], "an older recording")
            truth = float(self.cut(recording.prompt.ids, 1)[7] - now[-1, 7])
            if np.isfinite(figure.values[1, 1]):
                self.near(figure.values[1, 1], truth, "ablation of an older recording")

    def step(self):
        changes = (
            *((self.add_hook, 4), (self.remove_hook, 3), (self.change_value, 6)),
            *((self.change_weight, 2), (self.change_class, 1), (self.change_forward, 1)),
            *((self.change_module, 1), (self.change_functional, 1), (self.change_number, 1)),
            *((self.undo_one, 5), (self.close, 1), (lambda: None, 6)),
        )
        ways, weights = zip(*changes, strict=True)
        self.random.choices(ways, weights)[0]()
        self.compare()


@pytest.mark.few(2)
@pytest.mark.parametrize("family", PLACES)
@pytest.mark.parametrize("steps", [25, pytest.param(300, marks=pytest.mark.slow)])
def test_a_walk_of_changes_shows_no_wrong_number(family, steps, monkeypatch):
    monkeypatch.setattr(recorder_module, "CHUNK", 16)
    walk = Walk(family, seed=steps + len(family))
    try:
        for _ in range(steps):
            walk.step()
    finally:
        walk.close()
    assert walk.counts["verified"] > steps / 3, walk.counts
    if steps > 100:  # a short walk may have code from outside all the time
        assert walk.counts["reused"] > 0, walk.counts

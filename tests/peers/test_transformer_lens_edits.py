"""TransformerLens on the same random GPT-2: ablation and patching give the same within 1e-4.

The sweeps of patching are its own; it needs the extra `bench`.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformer_lens")

from transformer_lens import patching

from tests.lenses.hooks import scope_of
from tests.peers.test_transformer_lens import HEADS, IDS, LAYERS, TARGET, VERSUS, alike, bridged

OTHER = [5, 17, 31, 60, 17, 42, 8, 44, 33, 17, 70, 2]
NAMES = ("attn.hook_z", "hook_attn_out", "hook_mlp_out")


@pytest.fixture(scope="module")
def both():
    """The two, after the same tokens."""
    scope, bridge = scope_of("gpt2"), bridged()
    scope.record(IDS)
    return SimpleNamespace(scope=scope, bridge=bridge)


def said(logits):
    """LD after the last token, and how likely all tokens are. `[1, position, token]`"""
    last = logits[0, -1].double()
    return float(last[TARGET] - last[VERSUS]), last.log_softmax(-1)


def run(both, name, change):
    """Their run with a hook. `change(activation) -> activation`"""
    hooks = [(name, lambda activation, hook: change(activation.clone()))]
    return said(both.bridge.run_with_hooks(torch.tensor([IDS]), fwd_hooks=hooks).detach())


def replaced(mean, some):
    """Zero, or the mean over the prompt, in the place of what `some` picks."""

    def change(activation):
        own = activation.mean(1, keepdim=True) if mean else torch.zeros_like(activation)
        activation[some] = own.expand_as(activation)[some]
        return activation

    return change


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("kl", [False, True])
def test_ablation_of_heads(both, mean, kl):
    own, spoken = said(both.bridge(torch.tensor([IDS])).detach())
    theirs = np.empty((LAYERS, HEADS))
    for layer, head in np.ndindex(LAYERS, HEADS):
        change = replaced(mean, np.s_[:, :, head])  # [batch, position, head, head width]
        moved, other = run(both, f"blocks.{layer}.attn.hook_z", change)
        theirs[layer, head] = (spoken.exp() * (spoken - other)).sum() if kl else moved - own
    mode = "heads" + "-mean" * mean + "-kl" * kl
    alike(both.scope.look("ablation", mode=mode, target=TARGET, versus=VERSUS).values, theirs)


@pytest.mark.parametrize("mean", [False, True])
def test_ablation_of_parts(both, mean):
    own, _ = said(both.bridge(torch.tensor([IDS])).detach())
    change = replaced(mean, np.s_[:])
    theirs = [
        [run(both, f"blocks.{layer}.{name}", change)[0] - own for name in NAMES[1:]]
        for layer in range(LAYERS)
    ]
    mode = "parts-mean" if mean else "parts"
    figure = both.scope.look("ablation", mode=mode, target=TARGET, versus=VERSUS)
    assert figure.axes[1].labels == ("attention", "MLP", "layer")
    alike(figure.values[:, :2], theirs)


def swept(both, sweep):
    """Their own sweep: shares of prompt B's difference, carried into this prompt."""
    here, there = (torch.tensor([ids]) for ids in (IDS, OTHER))
    logits, cache = both.bridge.run_with_cache(there)
    own, other = said(both.bridge(here).detach())[0], said(logits.detach())[0]

    def share(patched):
        last = patched[0, -1]
        return (last[TARGET] - last[VERSUS] - own) / (other - own)

    return sweep(both.bridge, here, cache, share).detach()


@pytest.mark.parametrize(
    ("mode", "sweep", "rows"),
    [
        ("stream", patching.get_act_patch_resid_pre, slice(LAYERS)),
        ("attention", patching.get_act_patch_attn_out, slice(None)),
        ("mlp", patching.get_act_patch_mlp_out, slice(None)),
        ("heads", patching.get_act_patch_attn_head_out_all_pos, slice(None)),
    ],
)
def test_patching(both, mode, sweep, rows):
    figure = both.scope.look(
        "patching", mode=mode, target=TARGET, versus=VERSUS, versus_prompt=tuple(OTHER)
    )
    alike(figure.values[rows], swept(both, sweep))

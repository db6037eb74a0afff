"""Run by torchrun: each model of a folder, split over the processes, against the whole one.

Rank 0 loads the whole model as transformers does, with eager attention, hooks it by hand, and
writes by how much llmscope's numbers of the split one differ. [family][what] -> share of the
largest number.
"""

import json
import sys
from itertools import count
from pathlib import Path

import torch

import llmscope
from llmscope.cli.ranks import begin
from llmscope.models.anatomy import find
from llmscope.support.sandbox import Cancelled
from tests.family_matrix import IDS

OTHERS = [9, 2, 33, 7, 21]


def whole(folder):
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return plain.eval()


def by_hand(plain, ids):
    """Return streams, activations, patterns and logits of the whole model, by name."""
    kept, hooks, tokens = {}, [], torch.tensor([ids], device=plain.device)
    for at, layer in enumerate(find(plain).layers):

        def stream(_, __, output, at=at):
            kept[f"layers.{at}.resid_post"] = (output if torch.is_tensor(output) else output[0])[0]

        hooks.append(layer.module.register_forward_hook(stream))
        if layer.down is not None and layer.experts is None:

            def acts(_, given, at=at):
                kept[f"layers.{at}.mlp_act"] = given[0][0]

            hooks.append(layer.down.register_forward_pre_hook(acts))
    try:
        with torch.no_grad():
            output = plain(input_ids=tokens, output_attentions=True, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    for at, one in enumerate(output.attentions or ()):
        if one is not None:
            kept[f"layers.{at}.pattern"] = one[0]
    return kept | {"logits": output.logits[0]}


def share(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def without_head(plain, layer, head, ids):
    """Return the logits after the last token while a head writes nothing."""
    anatomy = find(plain)
    out = anatomy.layers[layer].attention_out
    size = out.in_features // anatomy.heads

    def zero(_, given):
        rows = given[0].clone()
        rows[..., head * size : (head + 1) * size] = 0
        return (rows, *given[1:])

    hook = out.register_forward_pre_hook(zero)
    try:
        with torch.no_grad():
            return plain(
                input_ids=torch.tensor([ids], device=plain.device), use_cache=False
            ).logits[0, -1]
    finally:
        hook.remove()


def gradient(plain, layer, ids, token):
    """Return d logit / d stream after a layer. [position, width]"""
    kept = []

    def keep(_, __, output):
        stream = output if torch.is_tensor(output) else output[0]
        kept.append(stream)
        stream.retain_grad()

    hook = find(plain).layers[layer].module.register_forward_hook(keep)
    try:
        embedded = (
            plain.get_input_embeddings()(torch.tensor([ids], device=plain.device))
            .detach()
            .requires_grad_()
        )
        plain(inputs_embeds=embedded, use_cache=False).logits[0, -1, token].backward()
    finally:
        hook.remove()
    return kept[0].grad[0]


def differences(folder):
    scope = llmscope.load(str(folder), dtype="float32")
    plain = whole(folder).to(scope.loaded_model.device)
    split = [one for one in scope.model.parameters() if one.is_meta]
    found = {"split": sum(one.numel() for one in split)}
    recording = scope.record(IDS)
    cache, theirs = recording.cache(), by_hand(plain, IDS)
    for kind in ("resid_post", "mlp_act", "pattern", "logits"):
        names = [name for name in theirs if name.endswith(kind) and name in cache]
        if names:
            found[kind] = max(share(cache[name], theirs[name]) for name in names)
    # A pass that is given up, as while the user types, leaves the others waiting for the next.
    asked = count()
    try:
        scope.recorder.record(scope.prompt(OTHERS), cancelled=lambda: next(asked) > 1)
    except Cancelled:
        found["given up"] = 0.0
    # An edit in the middle, and a few tokens more, which reuse what is cached.
    for ids in (IDS[:5] + OTHERS, IDS[:5] + OTHERS + IDS):
        after = scope.record(ids)
        found["reuse"] = share(after.logits, by_hand(plain, ids)["logits"][-1])
    recording = scope.record(IDS)
    target = int(recording.logits.argmax())
    before = by_hand(plain, IDS)["logits"][-1]
    ablated = scope.look("ablation", target=target)
    if ablated.verdict.status != "refused":
        change = without_head(plain, 1, 2, IDS)[target] - before[target]
        ours = float(ablated.values[1][2])
        found["ablation"] = abs(ours - float(change)) / float(before.abs().max())
    try:
        name = "layers.1.resid_post"
        ours = scope.gradients(lambda logits: logits[target], name, recording=recording)[name]
    except llmscope.ScopeError as error:
        found["no gradients"] = str(error)
    else:
        found["gradients"] = share(ours, gradient(plain, 1, IDS, target))
    several = scope.record([IDS, OTHERS, IDS[:7]])
    found["batch"] = max(
        share(one.logits, by_hand(plain, ids)["logits"][-1])
        for one, ids in zip(several, (IDS, OTHERS, IDS[:7]), strict=True)
    )
    return found


def main(folder, out):
    begin()  # the other ranks end within
    found = {path.name: differences(path) for path in sorted(Path(folder).iterdir())}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

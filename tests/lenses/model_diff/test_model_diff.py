"""The lens `model-diff` against plain transformers, hooks by hand and numpy, in float64."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import llmscope
from llmscope.errors import ScopeError
from llmscope.lenses.model_diff.parts import NAMED
from tests.families import CLOSELY, small_model
from tests.models.loading.test_adapters import LLAMA, make_adapter, make_base
from tests.models.vocabularies import byte_level, characters

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = (3, 17, 42, 8, 90, 11, 3, 55)
NOISE = 0.05


def noisy(model: nn.Module, seed: int = 1) -> nn.Module:
    """Return a copy of a model whose weights all differ a little."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight += NOISE * weight.abs().mean() * torch.randn(weight.shape, generator=generator)
    return other


def compared(a: nn.Module, b: nn.Module) -> llmscope.Scope:
    scope = llmscope.wrap(a)
    scope.compare(llmscope.wrap(b))
    scope.record(IDS)
    return scope


def plain(model: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return a model's logits and the inputs of its layers and the last output, in float64."""
    layers = next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) > 1)
    seen: list[torch.Tensor] = []

    def first(args: Any, kwargs: Any) -> torch.Tensor:
        found = args[0] if args else kwargs["hidden_states"]
        return found[0].detach().double()

    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(first(args, kwargs)), with_kwargs=True
        )
        for layer in layers
    ]
    handles.append(
        layers[-1].register_forward_hook(
            lambda _, __, out: seen.append(
                (out[0] if isinstance(out, tuple) else out).detach().double().reshape(len(IDS), -1)
            )
        )
    )
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0].double()
    for handle in handles:
        handle.remove()
    return logits, seen


def kl(p: torch.Tensor, q: torch.Tensor) -> np.ndarray:
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    found: np.ndarray = (p.exp() * (p - q)).sum(-1).numpy()
    return found


@pytest.mark.parametrize("family", CLOSELY)
def test_predictions_and_streams_are_those_of_plain_models(family: str) -> None:
    a = small_model(family)
    b = noisy(a)
    scope = compared(a, b)
    (ours, streams_a), (theirs, streams_b) = plain(a), plain(b)
    expected = kl(ours, theirs)
    found = scope.look("model-diff", mode="kl")
    assert expected.max() > 1e-4
    assert found.values == pytest.approx(expected, rel=1e-3, abs=1e-6)
    same = (ours.argmax(-1) == theirs.argmax(-1)).numpy()
    assert (found.extra["same_top"] == same).all()
    assert found.extra["mean"] == pytest.approx(expected.mean(), rel=1e-3, abs=1e-6)

    side = scope.look("model-diff", mode="next", position=4, top_k=5)
    p, q = ours[4].softmax(-1), theirs[4].softmax(-1)
    assert side.values[:, 0] == pytest.approx(p[side.extra["ids"]].numpy(), rel=1e-3)
    assert side.values[:, 1] == pytest.approx(q[side.extra["ids"]].numpy(), rel=1e-3)
    assert {int(p.argmax()), int(q.argmax())} <= set(side.extra["ids"].tolist())

    ratio = scope.look("model-diff", mode="log-ratio")
    after = torch.tensor(IDS[1:])[:, None]
    gap = ours.log_softmax(-1)[:-1].gather(1, after) - theirs.log_softmax(-1)[:-1].gather(1, after)
    assert np.isnan(ratio.values[0])
    assert ratio.values[1:] == pytest.approx(gap[:, 0].numpy(), rel=1e-3, abs=1e-5)

    apart = scope.look("model-diff", mode="difference")
    alike = scope.look("model-diff", mode="streams", position=4)
    for layer, (x, y) in enumerate(zip(streams_a, streams_b, strict=True)):
        relative = ((x - y).norm(dim=-1) / x.norm(dim=-1)).numpy()
        assert apart.values[layer] == pytest.approx(relative, rel=1e-3, abs=1e-6)
        cosine = torch.cosine_similarity(x, y, dim=-1).numpy()
        assert alike.values[0, layer] == pytest.approx(cosine[4], abs=1e-5)
        assert alike.values[1, layer] == pytest.approx(np.median(cosine), abs=1e-5)
        assert alike.values[2, layer] == pytest.approx(cka(x.numpy(), y.numpy()), abs=1e-4)
    assert apart.extra["parting"] == "embed"


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return linear CKA by its definition, with the centring matrix."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_the_logit_lenses_are_those_of_hooks_on_plain_models() -> None:
    a = small_model("llama")
    b = noisy(a)
    scope = compared(a, b)
    streams_a, streams_b = plain(a)[1], plain(b)[1]
    found = scope.look("model-diff", mode="lens", position=4, layer=1)
    assert found.values.shape == (4, len(IDS))
    for layer, (x, y) in enumerate(zip(streams_a, streams_b, strict=True)):
        with torch.no_grad():
            p, q = (m.lm_head(m.model.norm(s.float())).double() for m, s in ((a, x), (b, y)))
        assert found.values[layer] == pytest.approx(kl(p, q), rel=1e-3, abs=1e-6)
    assert found.values[-1] == pytest.approx(
        scope.look("model-diff", mode="kl").values, rel=1e-4, abs=1e-6
    )


def test_the_parts_are_those_of_a_layer_at_a_time_by_hand() -> None:
    a = small_model("llama")
    b = noisy(a)
    found = compared(a, b).look("model-diff", mode="parts")
    assert found.axes[1].labels == ("0", "1", "2", "3", "attention", "MLP")
    streams = plain(a)[1]
    for at, (mine, its) in enumerate(zip(a.model.layers, b.model.layers, strict=True)):
        ours, theirs = (attention_by_hand(m, at, streams[at]) for m in (a, b))
        whole = ours[0].norm(dim=-1)
        expected = ((theirs[0] - ours[0]).norm(dim=-1) / whole).mean()
        assert found.values[at, 4] == pytest.approx(float(expected), rel=1e-3)
        by_head = [
            torch.stack([z[:, h] @ w[:, h].T for h in range(4)], 1)
            for z, w in (
                (
                    one[1].view(-1, 4, 16),
                    m.self_attn.o_proj.weight.detach().double().view(48, 4, 16),
                )
                for one, m in ((ours, mine), (theirs, its))
            )
        ]
        change = ((by_head[1] - by_head[0]).norm(dim=-1) / whole[:, None]).mean(0)
        assert found.values[at, :4] == pytest.approx(change.detach().numpy(), rel=1e-3)
        middle = streams[at] + ours[0]
        with torch.no_grad():
            x, y = (m.mlp(m.post_attention_layernorm(middle.float())).double() for m in (mine, its))
        expected = ((y - x).norm(dim=-1) / x.norm(dim=-1)).mean()
        assert found.values[at, 5] == pytest.approx(float(expected), rel=1e-3)
    with torch.no_grad():
        x, y = (m.model.embed_tokens(torch.tensor(IDS)).double() for m in (a, b))
        expected = ((y - x).norm(dim=-1) / x.norm(dim=-1)).mean()
        assert found.extra["embedding"] == pytest.approx(float(expected), rel=1e-3)
        x, y = (m.lm_head(m.model.norm(streams[-1].float())).double() for m in (a, b))
        x, y = (one - one.mean(-1, keepdim=True) for one in (x, y))
        expected = ((y - x).norm(dim=-1) / x.norm(dim=-1)).mean()
        assert found.extra["readout"] == pytest.approx(float(expected), rel=1e-3)


def attention_by_hand(
    model: Any, layer: int, stream: torch.Tensor, ids: tuple[int, ...] = IDS
) -> tuple[torch.Tensor, ...]:
    """Return what a layer's attention writes for a stream, and the projection's input."""
    seen: dict[str, torch.Tensor] = {}
    module = model.model.layers[layer]

    def put(_: Any, args: Any, kwargs: Any) -> Any:
        return (stream[None].float(), *args[1:]), kwargs

    handles = [
        module.register_forward_pre_hook(put, with_kwargs=True),
        module.self_attn.register_forward_hook(lambda _, __, out: seen.update(write=out[0][0])),
        module.self_attn.o_proj.register_forward_pre_hook(
            lambda _, args: seen.update(z=args[0][0])
        ),
    ]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return seen["write"].double(), seen["z"].double()


def changed_parts(scope: llmscope.Scope) -> list[str]:
    found = scope.look("model-diff", mode="parts")
    (line, _) = found.extra["caption"]
    return [word.strip() for word in line.partition(":")[2].split(",")]


@pytest.mark.parametrize("family", CLOSELY)
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (2, 3)])
@pytest.mark.few(4)
def test_one_changed_head_is_found_and_no_other_part(family: str, layer: int, head: int) -> None:
    a = small_model(family)
    b = copy.deepcopy(a)
    other = llmscope.wrap(b)
    project = other.loaded_model.anatomy.layers[layer].attention_out
    assert project is not None
    inputs = 1 if isinstance(project, nn.Linear) else 0  # a Conv1D is [input, output]
    size = project.weight.shape[inputs] // other.loaded_model.anatomy.heads
    with torch.no_grad():
        project.weight.narrow(inputs, head * size, size).mul_(1.5)
    scope = llmscope.wrap(a)
    scope.compare(other)
    scope.record(IDS)
    found = scope.look("model-diff", mode="parts")
    lit = np.argwhere(found.values[:, : other.loaded_model.anatomy.heads] > found.extra["bound"])
    assert lit.tolist() == [[layer, head]]
    assert (np.argwhere(found.values[:, -1] > found.extra["bound"])).size == 0
    assert found.extra["embedding"] == found.extra["readout"] == 0
    parts = changed_parts(scope)[:2]  # attention as a whole may have changed more than its head
    assert any(part.startswith(f"head {layer}.{head} ") for part in parts)
    assert scope.look("model-diff", mode="difference").extra["parting"] == str(layer)


def test_a_changed_mlp_embedding_or_norm_is_found_alone() -> None:
    a = small_model("llama")
    for change, name in (
        (lambda m: m.model.layers[1].mlp.up_proj.weight.mul_(1.1), "MLP 1"),
        (lambda m: m.model.embed_tokens.weight.mul_(1.1), "embedding"),
        (lambda m: m.model.norm.weight[::2].mul_(1.1), "readout"),
        (lambda m: m.model.layers[2].self_attn.q_proj.weight[16:32].mul_(1.5), "head 2.1"),
    ):
        b = copy.deepcopy(a)
        with torch.no_grad():
            change(b)
        (found,) = changed_parts(compared(a, b))
        assert found.rpartition(" ")[0] == name
    # Two heads share the keys of one key head, and together change more than each.
    b = copy.deepcopy(a)
    with torch.no_grad():
        b.model.layers[0].self_attn.k_proj.weight[16:].mul_(1.5)
    named = {one.rpartition(" ")[0] for one in changed_parts(compared(a, b))}
    assert named == {"attention 0", "head 0.2", "head 0.3"}


def test_the_summary_of_an_adapter_begins_with_the_parts_that_changed_most(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "poet", base, LLAMA["lora"])
    scope = llmscope.load(str(base))
    scope.compare(llmscope.load(str(adapter)))
    scope.record(IDS)
    figure = scope.look("model-diff", mode="parts")
    parts = {"embedding": figure.extra["embedding"], "readout": figure.extra["readout"]}
    for layer, changes in enumerate(figure.values.tolist()):
        names = [f"head {layer}.{head}" for head in range(len(changes) - 2)]
        parts |= dict(zip([*names, f"attention {layer}", f"MLP {layer}"], changes, strict=True))
    ranked = sorted(parts, key=parts.__getitem__, reverse=True)
    assert ranked[0].startswith("attention ")
    assert max(figure.values[:, :-2].max(axis=1) / figure.values[:, -2]) < 1
    summary, _ = figure.extra["caption"]
    words = [word.strip() for word in summary.partition(": ")[2].partition(" and ")[0].split(",")]
    assert [word.rpartition(" ")[0] for word in words] == ranked[:NAMED]
    for word in words:
        assert float(word.rpartition(" ")[2]) == pytest.approx(
            parts[word.rpartition(" ")[0]], rel=0.05
        )
    changed = sum(change > figure.extra["bound"] for change in parts.values())
    assert summary.endswith(f" and {changed - NAMED} smaller ones")


@pytest.mark.few(2)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox"])
def test_a_letter_runs_one_row_and_gives_the_numbers_of_a_fresh_pass(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = small_model(family)
    b = noisy(a)
    ran: list[int] = []
    words, plain_embedding = (
        [model.get_input_embeddings().weight for model in (a, b)],
        nn.functional.embedding,
    )

    def counted(ids: torch.Tensor, weight: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        if any(weight is one for one in words):
            ran.append(ids.numel())
        return plain_embedding(ids, weight, *more, **named)

    monkeypatch.setattr(nn.functional, "embedding", counted)  # before the model is first seen
    scope = compared(a, b)
    modes = ("kl", "lens", "difference", "parts")
    for mode in modes:
        scope.look("model-diff", mode=mode)
    scope.record((*IDS, 7))  # the first letter measures which lengths are alike
    for mode in modes:
        scope.look("model-diff", mode=mode)
    ran.clear()
    scope.record((*IDS, 7, 21))
    typed = {mode: scope.look("model-diff", mode=mode) for mode in modes}
    assert ran == [1, 1, 1], "A, B, and B on A's inputs"
    fresh = llmscope.wrap(a)
    fresh.compare(llmscope.wrap(b))
    fresh.record((*IDS, 7, 21))
    for mode, figure in typed.items():
        whole = fresh.look("model-diff", mode=mode)
        assert figure.values == pytest.approx(whole.values, rel=1e-3, abs=2e-6, nan_ok=True)


def test_every_lens_shows_a_minus_b_by_change() -> None:
    a = small_model("llama")
    b = noisy(a)
    scope = compared(a, b)
    found = scope.look("attention", layer=1, head=2, change=True)
    patterns = []
    for model in (a, b):
        model.set_attn_implementation("eager")
        with torch.no_grad():
            out = model(torch.tensor([IDS]), output_attentions=True)
        patterns.append(out.attentions[1][0, 2].double().numpy())
    seen = np.isfinite(found.values)
    assert found.values[seen] == pytest.approx((patterns[0] - patterns[1])[seen], abs=1e-6)
    assert np.abs(found.values[seen]).max() > 1e-5
    ours, theirs = plain(a)[0], plain(b)[0]
    scope.record(IDS)  # the attention function was changed above
    following = scope.look("next-token", change=True)
    gap = (ours[-1].softmax(-1) - theirs[-1].softmax(-1))[following.extra["ids"].copy()]
    assert following.values == pytest.approx(gap.numpy(), abs=1e-6)
    # Scores of heads on random tokens belong to the model, and so differ between two.
    scores = scope.look("heads", mode="induction", change=True)
    assert scores.verdict.status == "verified"
    assert np.abs(scores.values).max() > 0
    assert scope.look("model-diff", change=True).verdict.status == "refused"
    scope.compare(None)
    with pytest.raises(ValueError, match="there is nothing to compare with"):
        scope.look("residual", change=True)


def test_models_of_other_depth_are_aligned_by_depth() -> None:
    a, b = small_model("llama"), small_model("llama", num_hidden_layers=6)
    scope = compared(a, b)
    found = scope.look("model-diff", mode="difference")
    assert found.extra["depths"] == (0, 2, 4, 6)
    x, y = plain(a)[1], plain(b)[1]
    for layer, there in enumerate((0, 2, 4, 6)):
        relative = ((x[layer] - y[there]).norm(dim=-1) / x[layer].norm(dim=-1)).numpy()
        assert found.values[layer] == pytest.approx(relative, rel=1e-3)
    assert "A has 3 layers and B 6" in found.extra["caption"][-1]
    refused = scope.look("model-diff", mode="parts")
    assert refused.verdict.status == "refused"
    assert "A has 3 layers, B 6" in refused.verdict.reason


def test_streams_of_other_widths_have_a_cka_and_no_cosine() -> None:
    a, b = small_model("llama"), small_model("llama", hidden_size=64, head_dim=16)
    scope = compared(a, b)
    found = scope.look("model-diff", mode="streams")
    assert np.isnan(found.values[:2]).all()
    x, y = plain(a)[1], plain(b)[1]
    expected = [cka(one.numpy(), other.numpy()) for one, other in zip(x, y, strict=True)]
    assert found.values[2] == pytest.approx(expected, abs=1e-4)
    refused = scope.look("model-diff", mode="difference")
    assert "48 and 64 dimensions" in refused.verdict.reason
    assert scope.look("model-diff", mode="lens").values[-1] == pytest.approx(
        kl(plain(a)[0], plain(b)[0]), rel=1e-3
    )


def test_a_padded_vocabulary_is_compared_over_the_tokens_that_both_have() -> None:
    a, b = small_model("llama"), small_model("llama", vocab_size=128)
    with pytest.raises(ScopeError, match="96 and 128 tokens"):
        compared(a, b)
    scope = llmscope.wrap(a, characters())  # B has no tokenizer, and is given the ids of A's
    scope.compare(llmscope.wrap(b))
    scope.record(IDS)
    found = scope.look("model-diff", mode="kl")
    assert found.values == pytest.approx(kl(plain(a)[0], plain(b)[0][:, :96]), rel=1e-3)


def test_a_change_of_b_in_memory_is_seen() -> None:
    a = small_model("llama")
    b = copy.deepcopy(a)
    scope = compared(a, b)
    for mode in ("kl", "parts"):
        assert scope.look("model-diff", mode=mode).values.max() < 1e-6
    with torch.no_grad():
        b.model.layers[1].mlp.down_proj.weight.mul_(2.0)
    assert scope.look("model-diff", mode="kl").values == pytest.approx(
        kl(plain(a)[0], plain(b)[0]), rel=1e-3, abs=1e-6
    )
    assert changed_parts(scope)[0].startswith("MLP 1 ")


def test_without_a_second_model_it_says_how_to_give_one() -> None:
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    figure = scope.look("model-diff")
    assert figure.missing == "second model"
    assert "scope.compare(llmscope.load(OTHER))" in figure.verdict.reason
    with pytest.raises(ValueError, match="cannot be compared with itself"):
        scope.compare(scope)
    with pytest.raises(TypeError, match="must be a Scope"):
        scope.compare(scope.model)  # type: ignore[arg-type]


def test_models_of_other_tokens_are_refused_with_the_first_difference() -> None:
    model = small_model("llama", vocab_size=512)
    one, other = (llmscope.wrap(model, cut()) for cut in (byte_level, characters))
    with pytest.raises(ScopeError, match=r"do not read the same tokens: token \d+ is ‹.* in A"):
        one.compare(other)
    one.compare(llmscope.wrap(copy.deepcopy(model), byte_level()))


def test_an_edited_pass_is_refused() -> None:
    a = small_model("llama")
    scope = compared(a, noisy(a))
    scope.record(IDS, edits=["zero head 1.2"])
    assert scope.look("model-diff").verdict.status == "refused"

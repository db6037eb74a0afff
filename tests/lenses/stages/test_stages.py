"""Stages against peft's own merge, numpy's singular values and a loop on plain transformers."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

import llmscope
from llmscope.record.compare import depths, pair
from llmscope.record.compare.weight_delta import WeightDelta, changes
from tests.families import small_model
from tests.lenses.model_diff.test_model_diff import attention_by_hand
from tests.models.chats import CHATML
from tests.models.loading.test_adapters import CASES, IDS, make_adapter, make_base, plain, shelf
from tests.models.vocabularies import byte_level

__all__ = ["shelf"]


def matrices(model):
    """Every matrix of a plain model, by the module's name."""
    return {
        name.removesuffix(".weight"): weight.detach().double().numpy()
        for name, weight in model.named_parameters(remove_duplicate=False)
        if name.endswith(".weight") and weight.ndim == 2
    }


def look(scope, mode, **focus):
    return scope.look("stages", recording=scope.record(IDS), mode=mode, **focus)


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.few(2)
def test_each_matrix_is_changed_as_peft_merges_it(shelf, family, kind):
    base, adapter = shelf(family), shelf(family, kind)
    scope = llmscope.load(str(adapter))
    *_, found = changes(scope.loaded_model)
    names = {module: name for name, module in scope.base.module.named_modules()}
    before = matrices(AutoModelForCausalLM.from_pretrained(base))
    after = matrices(plain(base, adapter).merge_and_unload())
    seen, changed = set(), 0
    for one in found:
        layer = scope.base.module if one.layer is None else scope.base.anatomy.layers[one.layer]
        module = getattr(layer, "module", layer).get_submodule(one.name)
        name = names[module]
        seen.add(name)
        spectrum = np.linalg.svd(after[name] - before[name], compute_uv=False)
        apart = np.pad(one.spectrum, (0, len(spectrum) - len(one.spectrum))) - spectrum
        assert np.abs(apart).max() <= 1e-4 * max(spectrum.max(), 1e-6), name
        assert one.before == pytest.approx(np.linalg.norm(before[name]), rel=1e-6)
        changed += len(one.spectrum) > 0
    # Tied matrices have two names and are one module's weight each.
    assert {name for name in before if names_a_module(scope, name)} == seen
    assert changed


def names_a_module(scope, name):
    return hasattr(scope.base.module.get_submodule(name), "weight")


@pytest.mark.parametrize("rank", [1, 3])
def test_a_lora_has_its_rank_in_each_matrix_that_it_adapts_and_none_elsewhere(tmp_path, rank):
    base = make_base(tmp_path / "base")
    wanted = LoraConfig(r=rank, target_modules=["q_proj", "down_proj"])
    scope = llmscope.load(str(make_adapter(tmp_path / "lora", base, wanted)))
    figure = look(scope, "rank")
    columns = figure.axes[1].labels
    adapted = [columns.index(name) for name in ("q", "down")]
    ranks = figure.extra["rank"]
    assert (ranks[:, adapted] == rank).all()
    assert (np.delete(ranks, adapted, axis=1) == 0).all()
    assert (np.delete(figure.values, adapted, axis=1) == 0).all()
    assert ((figure.values[:, adapted] > 0.999) & (figure.values[:, adapted] <= rank + 1e-3)).all()
    assert f"rank {rank};" in figure.extra["caption"][0]


def test_equal_directions_count_each():
    """Singular values that are equal make the effective rank the rank; one alone makes it 1."""

    def change(*spectrum):
        return WeightDelta(0, "q_proj", 2.0, np.array(spectrum, dtype=float))

    assert change(3, 3, 3, 3).effective_rank == pytest.approx(4)
    assert change(3, 3, 3, 3).stable_rank == pytest.approx(4)
    assert change(5, 0, 0).effective_rank == pytest.approx(1)
    assert change(5, 0, 0).rank == 1
    assert change(0.5, 0.25, 0.25).effective_rank == pytest.approx(2**1.5)  # entropy 1.5 bits
    assert change(3, 4).relative == pytest.approx(2.5)
    assert change().rank == change().effective_rank == change().stable_rank == 0


def test_a_matrix_whose_singular_values_are_known(tmp_path):
    """Weights are set to have them, and the adapter is read back."""
    base = make_base(tmp_path / "base")
    known = torch.tensor([4.0, 2.0, 1.0])
    folder = make_adapter(
        tmp_path / "lora", base, LoraConfig(r=3, lora_alpha=3, target_modules=["q_proj"])
    )
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" not in name:
                continue
            square = torch.randn(max(weight.shape), 3, generator=generator)
            basis = torch.linalg.qr(square).Q
            weight.copy_(basis.T if "lora_A" in name else basis * known)
    model.save_pretrained(folder)
    scope = llmscope.load(str(folder))
    *_, found = changes(scope.loaded_model)
    (first, *_) = [one for one in found if one.name == "self_attn.q_proj"]
    assert np.abs(first.spectrum - known.numpy()).max() <= 1e-4
    share = known.numpy() / 7
    effective = np.exp(-(share * np.log(share)).sum())
    figure = look(scope, "rank")
    assert figure.values[0, figure.axes[1].labels.index("q")] == pytest.approx(effective, 1e-4)


def test_kl_is_that_of_a_loop_on_plain_models(shelf):
    base, adapter = shelf("llama"), shelf("llama", "lora")
    figure = look(llmscope.load(str(adapter)), "kl", position=4, top_k=5)
    with torch.no_grad():
        q, p = (
            torch.log_softmax(model(torch.tensor([IDS])).logits[0].double(), -1)
            for model in (AutoModelForCausalLM.from_pretrained(base), plain(base, adapter))
        )
    for row in range(len(IDS)):
        wanted = sum(float(p[row, t].exp() * (p[row, t] - q[row, t])) for t in range(p.shape[1]))
        assert figure.values[row] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert figure.extra["total"] == pytest.approx(float(figure.values.sum()), rel=1e-5)
    shares = torch.stack([p[4], q[4]]).exp().numpy()
    largest = np.argsort(-np.abs(shares[0] - shares[1]))[:5]
    assert list(figure.extra["changed_ids"]) == list(largest)
    assert np.abs(figure.extra["changed_probability"] - shares[:, largest]).max() < 1e-5


@pytest.mark.parametrize("mode", ["kl", "reward"])
def test_the_context_is_left_out(shelf, mode):
    """But for the prediction after its last token, which is the answer's first."""
    scope = llmscope.load(str(shelf("llama", "lora")))
    every = look(scope, f"{mode}-all")
    some = look(scope, mode, context=6)
    first = {"kl": 5, "reward": 6}[mode]
    assert np.isnan(some.values[:first]).all()
    assert np.isfinite(some.values[first:]).all()
    assert (some.values[first:] == every.values[first:]).all()
    assert np.isfinite(every.values[1:]).all()
    assert (some.extra["left_out"], every.extra["left_out"]) == (first, 0)
    assert f"question left out: {first} tokens ({mode}-all)" in some.extra["caption"]
    assert "left out" not in " ".join(every.extra["caption"])
    assert (look(scope, mode).values[1:] == every.values[1:]).all(), "no question is known"


def test_what_b_begins_with_as_well_is_left_out_of_kl_too(shelf):
    scope = llmscope.load(str(shelf("llama", "lora")))
    values = look(scope, "kl", versus_prompt=(*IDS[:4], 70, 71)).values
    assert np.flatnonzero(np.isfinite(values)).tolist() == [3, 4, 5, 6, 7, 8]
    same = look(scope, "kl", versus_prompt=IDS).values
    assert np.isfinite(same).all(), "B is this prompt"


CHAT = "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
TURNS = [
    (CHAT, []),
    (CHAT + "hello", ["hello"]),
    (CHAT + "hello world<|im_end|>\n", ["hello world<|im_end|>"]),
    (
        CHAT + "hello<|im_end|>\n<|im_start|>user\nthen<|im_end|>\n<|im_start|>assistant\nthree",
        ["hello<|im_end|>", "three"],
    ),
]


@pytest.mark.few(2)
@pytest.mark.parametrize(("text", "answers"), TURNS)
def test_in_a_chat_the_assistants_words_alone_are_shown(tmp_path, text, answers):
    scope = chatting(tmp_path)
    recording = scope.record(text, special_tokens=False)
    kl = scope.look("stages", recording=recording, mode="kl")
    reward = scope.look("stages", recording=recording, mode="reward")
    labels = recording.prompt.labels
    said = np.zeros(len(labels), dtype=bool)
    at = 0
    for label_at, label in enumerate(labels):  # by hand, from where each answer stands in the text
        places = [(text.rindex(one), text.rindex(one) + len(one)) for one in answers]
        said[label_at] = any(start <= at < end for start, end in places)
        at += len(label)
    after = text.endswith("assistant\n") or said[-1]
    assert np.array_equal(np.isfinite(kl.values), np.append(said[1:], after))
    if answers:
        assert np.array_equal(np.isfinite(reward.values), said)
        assert reward.extra["left_out"] == (~said).sum()
    else:
        assert reward.verdict.status == "refused"
        assert "reward-all" in reward.verdict.reason


def test_a_chat_without_an_answer_says_so(tmp_path):
    scope = chatting(tmp_path)
    recording = scope.record("<|im_start|>user\nthe cat", special_tokens=False)
    figure = scope.look("stages", recording=recording, mode="kl")
    assert figure.verdict.status == "refused"
    assert "kl-all" in figure.verdict.reason
    every = scope.look("stages", recording=recording, mode="kl-all")
    assert np.isfinite(every.values).all()


def chatting(folder):
    """A model whose tokenizer has a chat template, and a LoRA on it."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    small_model("llama", vocab_size=len(tokenizer)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = make_adapter(folder / "lora", folder / "base", LoraConfig(target_modules=["q_proj"]))
    return llmscope.load(str(lora))


def streams_of(model):
    """The stream before the first layer and after each, by hooks on a plain model. [layer + 1]"""
    inner = getattr(model, "base_model", model)
    inner = getattr(inner, "model", inner)  # out of peft
    inner = getattr(inner, "model", inner)  # the decoder
    seen = []
    hooks = [
        inner.layers[0].register_forward_pre_hook(
            lambda _, args, named: seen.append((args or (named["hidden_states"],))[0].clone()),
            with_kwargs=True,
        )
    ]
    hooks += [
        layer.register_forward_hook(
            lambda _, args, out: seen.append((out[0] if isinstance(out, tuple) else out).clone())
        )
        for layer in inner.layers
    ]
    with torch.no_grad():
        model(torch.tensor([IDS]))
        for hook in hooks:
            hook.remove()
        return [model.get_output_embeddings()(inner.norm(stream))[0].double() for stream in seen]


def test_the_lens_is_that_of_hooks_on_plain_models(shelf):
    base, adapter = shelf("llama"), shelf("llama", "lora")
    scope = llmscope.load(str(adapter))
    figure = look(scope, "lens", layer=1, position=4)
    tuned, plain_base = (
        streams_of(model)
        for model in (plain(base, adapter), AutoModelForCausalLM.from_pretrained(base))
    )
    assert figure.values.shape == (4, len(IDS)) == (len(tuned), len(IDS))
    for layer, (one, other) in enumerate(zip(tuned, plain_base, strict=True)):
        p, q = one.log_softmax(-1), other.log_softmax(-1)
        for at in range(len(IDS)):
            kl = sum(float(p[at, t].exp() * (p[at, t] - q[at, t])) for t in range(p.shape[1]))
            assert figure.values[layer, at] == pytest.approx(kl, rel=1e-3, abs=1e-6)
            if layer:  # where the embedding is the same, nothing differs most
                most = int((p[at].exp() - q[at].exp()).abs().argmax())
                assert figure.extra["ids"][layer, at] == most
                assert figure.extra["tuned"][layer, at] == pytest.approx(
                    float(p[at, most].exp()), abs=1e-5
                )
                assert figure.extra["base"][layer, at] == pytest.approx(
                    float(q[at, most].exp()), abs=1e-5
                )
    assert (figure.values[0] == 0).all(), "the embedding is not adapted"
    assert figure.values[1:].max() > 0.01
    # Its last row is what the mode kl says.
    assert figure.values[-1] == pytest.approx(look(scope, "kl").values, rel=1e-4, abs=1e-6)
    said = figure.extra["names"][int(figure.extra["ids"][2, 4])]
    assert f"after layer 1 at ‹{IDS[4]}›" in figure.extra["caption"][0]
    assert f"most ‹{said}›" in figure.extra["caption"][0]


def test_the_lens_comes_column_by_column_and_is_kept(shelf, monkeypatch):
    from llmscope.figure import Focus

    scope = llmscope.load(str(shelf("llama", "lora")))
    recording = scope.record(IDS)
    figures = list(scope.figures("stages", recording, Focus(mode="lens", position=4)))
    shown = [np.isfinite(one.values).any(0).sum() for one in figures]
    assert shown == [1, 3, 7, 9]
    assert np.isfinite(figures[0].values[:, 4]).all(), "that of the cursor comes first"
    asked = []
    monkeypatch.setattr(
        depths, "_read", lambda *at, own=depths._read: asked.extend(at[1]) or own(*at)
    )
    longer = scope.look("stages", recording=scope.record((*IDS, 7)), mode="lens")
    assert asked == [(layer, len(IDS)) for layer in range(4)]
    assert np.isfinite(longer.values).all()


def plain_matrices(folder):
    """Of layer 1 of a plain model, as [output, input], by the module's name."""
    model = folder if isinstance(folder, torch.nn.Module) else None
    model = model or AutoModelForCausalLM.from_pretrained(folder)
    layer = model.model.layers[1]
    found = {
        name.removesuffix(".weight"): one.detach().double().numpy()
        for name, one in layer.named_parameters()
        if one.ndim == 2
    }
    return model, layer, found


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["lora", "dora", "rank-stabilised"])
def test_directions_are_those_of_an_svd_by_hand(shelf, kind):
    base, adapter = shelf("llama"), shelf("llama", kind)
    scope = llmscope.load(str(adapter))
    figure = look(scope, "directions", layer=1, top_k=5)
    plain_base, layer, before = plain_matrices(base)
    _, _, after = plain_matrices(plain(base, adapter).merge_and_unload())
    embeddings = plain_base.get_input_embeddings().weight.detach().double()
    unembedding = plain_base.get_output_embeddings().weight.detach().double().numpy()
    gain = plain_base.model.norm.weight.detach().double().numpy()
    norms = {"self_attn": layer.input_layernorm, "mlp": layer.post_attention_layernorm}
    seen = []
    for index, module in enumerate(figure.extra["modules"]):
        at = figure.extra["modules"][:index].count(module)
        u, sigma, v = np.linalg.svd(after[module] - before[module])
        assert figure.values[index] == pytest.approx(sigma[at], rel=1e-4)
        share = sigma[at] ** 2 / (sigma**2).sum()
        assert figure.extra["share"][index] == pytest.approx(share, rel=1e-3)
        if module.endswith(("o_proj", "down_proj")):
            side, scores = "writes", unembedding @ (gain * u[:, at]) * sigma[at]
        else:
            norm = norms[module.partition(".")[0]]
            with torch.no_grad():
                side, scores = "reads", norm(embeddings.float()).double().numpy() @ v[at]
        scores *= np.sign(scores[np.abs(scores).argmax()])
        top = np.argsort(-scores)[:5]
        assert figure.extra["sides"][index] == side
        assert list(figure.extra["token_ids"][index]) == top.tolist()
        assert figure.extra["token_scores"][index] == pytest.approx(scores[top], rel=1e-3)
        assert f"‹{top[0]}›" in figure.extra["beside"][index]
        seen.append(module)
    changed = {name for name in after if np.abs(after[name] - before[name]).max() > 1e-6}
    assert set(seen) == changed
    assert max(map(seen.count, changed)) == 4


def test_directions_of_a_conv1d_are_the_right_way_round(shelf):
    """GPT-2 keeps its matrices as [input, output]."""
    base, adapter = shelf("gpt2"), shelf("gpt2", "lora")
    figure = look(llmscope.load(str(adapter)), "directions", layer=1, top_k=3)
    plain_base = AutoModelForCausalLM.from_pretrained(base)
    tuned = plain(base, adapter).merge_and_unload()
    named = {"attn.c_attn": "reads", "attn.c_proj": "writes", "mlp.c_fc": "reads"}
    named["mlp.c_proj"] = "writes"
    assert dict(zip(figure.extra["modules"], figure.extra["sides"], strict=True)) == named_in(
        named, figure
    )
    module = "mlp.c_proj"
    change = [
        model.transformer.h[1].get_submodule(module).weight.detach().double().numpy().T
        for model in (tuned, plain_base)
    ]
    u, sigma, _ = np.linalg.svd(change[0] - change[1])
    gain = plain_base.transformer.ln_f.weight.detach().double().numpy()
    unembedding = plain_base.lm_head.weight.detach().double().numpy()
    scores = unembedding @ (gain * (u[:, 0] - u[:, 0].mean())) * sigma[0]  # of a LayerNorm
    scores *= np.sign(scores[np.abs(scores).argmax()])
    index = figure.extra["modules"].index(module)
    top = np.argsort(-scores)[:3]
    assert list(figure.extra["token_ids"][index]) == top.tolist()
    assert figure.extra["token_scores"][index] == pytest.approx(scores[top], rel=1e-3)


def named_in(named, figure):
    return {name: side for name, side in named.items() if name in figure.extra["modules"]}


def test_directions_of_another_checkpoint_and_of_a_layer_that_was_left(finetuned):
    base, tuned_folder = finetuned
    scope = llmscope.load(str(base), adapters=[str(tuned_folder)])
    figure = look(scope, "directions", layer=1)
    assert figure.axes[0].labels == ("up 1", "up 2"), "the others are rounding"
    assert figure.values == pytest.approx([3, 1], rel=1e-5)
    assert figure.extra["share"][0] == pytest.approx(0.9, rel=1e-5)
    assert "up 1, 90 % of ‖ΔW‖²" in figure.extra["caption"][0]
    left = look(scope, "directions", layer=0)
    assert left.verdict.status == "refused"
    assert "no matrix of layer 0 differs" in left.verdict.reason


def test_what_is_of_the_weights_has_no_difference_between_prompts(shelf):
    scope = llmscope.load(str(shelf("llama", "lora")))
    other = (*IDS[:4], 70, 71)
    for mode in ("weights", "rank", "directions"):
        figure = look(scope, mode, versus_prompt=other, change=True)
        assert figure.verdict.status == "refused"
        assert "same for every prompt" in figure.verdict.reason
    apart = look(scope, "lens", versus_prompt=other, change=True)
    assert (apart.values[:, :4] == 0).all(), "what both begin with"
    assert np.isnan(apart.values[:, -1]).all(), "B has no such token"


def test_a_letter_reads_one_row(shelf, monkeypatch):
    scope = llmscope.load(str(shelf("llama", "lora")))
    before = look(scope, "kl").values
    asked = []
    monkeypatch.setattr(
        pair, "_scores", lambda *at, own=pair._scores: asked.append(at[1]) or own(*at)
    )
    longer = scope.look("stages", recording=scope.record((*IDS, 7)), mode="kl")
    assert asked == [range(len(IDS), len(IDS) + 1)] * 2
    assert (longer.values[: len(IDS)] == before).all()
    fresh = llmscope.load(str(shelf("llama", "lora")))
    whole = fresh.look("stages", recording=fresh.record((*IDS, 7)), mode="kl")
    assert np.abs(whole.values - longer.values).max() < 1e-5


def test_the_base_alone_is_refused(shelf):
    scope = llmscope.load(str(shelf("llama", "lora")))
    scope.use(None)
    for mode in ("weights", "rank", "kl"):
        figure = look(scope, mode)
        assert figure.verdict.status == "refused"
        assert "no adapter is on" in figure.verdict.reason


def test_an_adapter_that_changes_nothing_says_so(tmp_path):
    base = make_base(tmp_path / "base")
    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    from peft import get_peft_model

    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(
        tmp_path / "lora"
    )
    scope = llmscope.load(str(tmp_path / "lora"))
    assert not look(scope, "weights").values.any()
    assert (look(scope, "kl").values == 0).all()


@pytest.fixture
def finetuned(tmp_path):
    """A base, and a checkpoint of it with one matrix moved in two known directions."""
    base = make_base(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    weight = model.model.layers[1].mlp.up_proj.weight
    generator = torch.Generator().manual_seed(3)
    left, right = (
        torch.linalg.qr(torch.randn(size, 2, generator=generator)).Q for size in weight.shape
    )
    with torch.no_grad():
        weight += left @ torch.diag(torch.tensor([3.0, 1.0])) @ right.T
    model.save_pretrained(tmp_path / "tuned")
    return base, tmp_path / "tuned"


def test_another_checkpoint_is_held_against_the_base(finetuned):
    base, tuned_folder = finetuned
    scope = llmscope.load(str(base), adapters=[str(tuned_folder)])
    assert scope.adapters == ("tuned",)
    figure = look(scope, "rank")
    row, column = 1, figure.axes[1].labels.index("up")
    share = np.array([3, 1]) / 4
    effective = np.exp(-(share * np.log(share)).sum())
    assert figure.values[row, column] == pytest.approx(effective, abs=1e-3)  # float32 weights
    assert figure.extra["largest"][row, column] == pytest.approx(3, rel=1e-5)
    assert figure.extra["norm"][row, column] == pytest.approx(10**0.5, rel=1e-5)
    others = figure.values.copy()
    others[row, column] = 0
    assert (others == 0).all()
    with torch.no_grad():
        p, q = (
            torch.log_softmax(
                AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([IDS])).logits[0], -1
            ).double()
            for folder in (tuned_folder, base)
        )
    kl = look(scope, "kl").values
    assert np.abs(kl - (p.exp() * (p - q)).sum(-1).numpy()).max() < 1e-5
    scope.use(None)
    assert look(scope, "kl").verdict.status == "refused"


def test_a_chain_ends_in_a_lora_on_the_tuned_checkpoint(finetuned, tmp_path):
    """Held against the base, the last stage differs by both: the fine-tune and the adapter."""
    base, tuned_folder = finetuned
    config = LoraConfig(r=1, target_modules=["up_proj"])
    merged = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tuned_folder),
        make_adapter(tmp_path / "lora", tuned_folder, config),
    ).merge_and_unload()
    merged.save_pretrained(tmp_path / "aligned")
    scope = llmscope.load(str(base), adapters=[str(tuned_folder), str(tmp_path / "aligned")])
    found = {}
    for name in scope.adapters:
        scope.use(name)
        *_, of = changes(scope.loaded_model)
        found[name] = {(one.layer, one.name): one.rank for one in of}
    assert found["tuned"][0, "mlp.up_proj"] == 0
    assert found["tuned"][1, "mlp.up_proj"] == 2
    assert found["aligned"][1, "mlp.up_proj"] == 3


def log_probabilities(model, ids):
    with torch.no_grad():
        rows = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return [float(rows[at, token]) for at, token in enumerate(ids[1:])]


def test_the_reward_is_what_plain_models_say_of_each_token(shelf):
    base, adapter = shelf("llama"), shelf("llama", "lora")
    figure = look(llmscope.load(str(adapter)), "reward")
    reference = log_probabilities(AutoModelForCausalLM.from_pretrained(base), IDS)
    policy = log_probabilities(plain(base, adapter), IDS)
    wanted = np.array(policy) - np.array(reference)
    assert np.isnan(figure.values[0])
    assert np.abs(figure.values[1:] - wanted).max() < 1e-4
    assert figure.extra["total"] == pytest.approx(wanted.sum(), abs=1e-3)


def test_the_margin_is_of_the_answers_alone(shelf):
    base, adapter = shelf("llama"), shelf("llama", "lora")
    scope = llmscope.load(str(adapter))
    question, chosen, rejected = IDS[:5], (7, 8, 9), (70, 71)
    figure = scope.look(
        "stages",
        recording=scope.record((*question, *chosen)),
        mode="reward",
        versus_prompt=(*question, *rejected),
    )
    reference, policy = AutoModelForCausalLM.from_pretrained(base), plain(base, adapter)
    sums = []
    for answer in (chosen, rejected):
        ids = (*question, *answer)
        ratio = np.array(log_probabilities(policy, ids)) - log_probabilities(reference, ids)
        sums.append(ratio[len(question) - 1 :].sum())
    assert np.isnan(figure.values[:5]).all()
    assert figure.extra["total"] == pytest.approx(sums[0], abs=1e-3)
    assert figure.extra["versus_total"] == pytest.approx(sums[1], abs=1e-3)
    assert figure.extra["margin"] == pytest.approx(sums[0] - sums[1], abs=1e-3)
    # And of the base, whose recorder has seen B meanwhile, nothing else is said than before.
    again = scope.look("stages", recording=scope.record((*question, *chosen)), mode="reward")
    assert (again.values[5:] == figure.values[5:]).all()


@pytest.mark.parametrize(
    ("family", "name"),
    [("llama", "model.layers.1.input_layernorm.weight"), ("mixtral", "experts.down_proj")],
)
def test_what_is_no_matrix_is_named_when_it_changed(tmp_path, family, name):
    """A checkpoint that differs in a norm, or in experts in one tensor, is not called the same."""
    base = make_base(tmp_path / "base", family)
    model = AutoModelForCausalLM.from_pretrained(base)
    changed = [one for one, _ in model.named_parameters() if one.endswith(name)][:1]
    with torch.no_grad():
        model.get_parameter(changed[0]).mul_(1.5)
    model.save_pretrained(tmp_path / "tuned")
    scope = llmscope.load(str(base), adapters=[str(tmp_path / "tuned")])
    figure = look(scope, "weights")
    assert not np.nan_to_num(figure.values).any()
    assert list(figure.extra["others"]) == changed
    assert changed[0] in figure.extra["caption"][0]
    assert look(scope, "kl").values.max() > 0


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_heads_are_those_of_the_base_on_the_tuned_models_input_by_hand(shelf, kind):
    base, adapter = shelf("llama"), shelf("llama", kind)
    figure = look(llmscope.load(str(adapter)), "heads")
    tuned = plain(base, adapter).merge_and_unload()
    bare = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    assert [axis.name for axis in figure.axes] == ["layer", "head"]
    streams = inputs_of_layers(tuned)
    for layer, stream in enumerate(streams):
        writes = []
        for model in (tuned, bare):
            attention, heads = attention_by_hand(model, layer, stream, IDS)
            weight = model.model.layers[layer].self_attn.o_proj.weight.detach().double()
            count, width = figure.values.shape[1], weight.shape[0]
            inputs, columns = heads.view(len(IDS), count, -1), weight.view(width, count, -1)
            by_head = torch.stack(
                [inputs[:, head] @ columns[:, head].T for head in range(count)], 1
            )
            writes.append((attention, by_head))
        (whole, ours), (other, theirs) = writes
        size = whole.norm(dim=-1)
        change = ((theirs - ours).norm(dim=-1) / size[:, None]).mean(0)
        assert figure.values[layer] == pytest.approx(change.numpy(), rel=1e-3, abs=1e-6)
        change = ((other - whole).norm(dim=-1) / size).mean()
        assert figure.extra["attention"][layer] == pytest.approx(float(change), rel=1e-3, abs=1e-6)
    assert figure.values.max() > figure.extra["bound"]
    assert figure.extra["caption"][0].startswith("changed by more than rounding")


def inputs_of_layers(model):
    """Return what each layer reads, in float64. [row, width] a layer"""
    caught = []
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: caught.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(torch.tensor([IDS]))
    for handle in handles:
        handle.remove()
    return [stream[0].double() for stream in caught]


def test_heads_without_an_adapter_are_refused(shelf):
    figure = look(llmscope.load(str(shelf("llama"))), "heads")
    assert figure.verdict.status == "refused"
    assert "no adapter is on" in figure.verdict.reason

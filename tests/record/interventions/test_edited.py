"""Each kind of edit against hooks written by hand on plain transformers, in many families."""

import pytest
import torch
from safetensors.torch import save_file

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive import tensors
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.record.by_hand import PLACES, A, B, Plain, becomes, held, plus, times
from tests.thinned import thinned

EACH = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3_moe", "bloom", "falcon", "opt", "granite")
MORE = ("olmo2", "deepseek_v3", "gemma3_text", "mistral", "mixtral")
HYBRID = ("mamba", "jamba")
LATER = (
    *("bloom", "falcon", "opt", "granite", "olmo2", "deepseek_v3", "gemma3_text", "mistral"),
    "mixtral",
)
"""Families whose layers are laid out as those of others above, where edits are concerned."""
ALL = slice(None)


def most(*families):
    """Return families for `parametrize`, the later ones marked slow."""
    return thinned(families, lambda family: family not in LATER)


def scope_for(model, tokens=None):
    parameter = next(model.parameters())
    return Scope(
        LoadedModel("test", "test", model, tokens, find(model), parameter.device, parameter.dtype)
    )


@pytest.fixture(scope="module")
def made():
    """A scope and a plain model of a family, made once."""
    kept = {}

    def of(family):
        if family not in kept:
            kept[family] = scope_for(small_model(family)), Plain(family)
        return kept[family]

    return of


def near(found, own, bound=1e-5):
    """Within the bound, relative to the largest magnitude."""
    assert found.shape == own.shape
    assert torch.isfinite(found).all()
    assert float((found - own).abs().max()) <= bound * float(own.abs().max())


def holds(scope, own, *edits, ids=A, versus=B, matters=True):
    """The recording's logits are those that were made by hand, and not those of the base."""
    recording = scope.record(ids, edits=edits, versus_prompt=versus)
    found = tensors.logits(recording, 0, len(ids))
    near(found, own)
    near(tensors.logits_after(recording, len(ids) - 1), own[-1])
    if matters:
        base = tensors.logits(recording.base, 0, len(ids))
        assert float((base - own).abs().max()) > 1e-4 * float(own.abs().max())
    return recording


PARTS = {"head": "heads", "neuron": "neurons", "attention": "attention", "mlp": "mlp"}
FAMILY_PARTS = thinned(
    [
        (family, part)
        for family in (*EACH, *MORE)
        for part in PARTS
        # Neurons of experts: `tests/record/test_expert_neurons.py`.
        if part != "neuron" or PLACES[family]["neurons"] is not None
    ],
    lambda case: case[0] not in LATER,
)


def part_of(plain, part):
    """How an edit names it, and where it is by hand: (words, site, columns)."""
    if part == "head":
        return "head 1.2", "heads", plain.head(2)
    if part == "neuron":
        return "neuron 1.30", "neurons", slice(30, 31)
    return f"{part} 1", part, ALL


WHERES = [
    ("", ALL),
    ("@2", slice(2, 3)),
    ("@-1", slice(12, 13)),
    ("@2..4", slice(2, 5)),
    ("@..3", slice(0, 4)),
    ("@-4..", slice(9, 13)),
]


@pytest.mark.parametrize(("family", "part"), FAMILY_PARTS)
@pytest.mark.few(2)
def test_what_a_part_writes_is_switched_off_averaged_scaled_and_patched(made, family, part):
    scope, plain = made(family)
    words, site, columns = part_of(plain, part)
    mine, theirs = (plain.seen(ids, site, 1)[:, columns] for ids in (A, B))
    matters = part != "neuron"
    for where, rows in WHERES:
        ways = {
            f"zero {words} {where}": becomes(rows, columns, 0.0),
            f"mean {words} {where}": becomes(rows, columns, mine.mean(0)),
            f"scale {words} -1.5 {where}": times(rows, columns, -1.5),
            f"patch {words} {where} from B": becomes(rows, columns, theirs[rows]),
            f"patch {words} {where} from B @3": becomes(rows, columns, theirs[3]),
        }
        for edit, alter in ways.items():
            holds(scope, plain.run(A, (site, 1, alter)), edit, matters=matters)


def test_a_neuron_of_a_layer_before_those_with_experts_is_switched_off(made):
    scope, _ = made("deepseek_v3")
    plain = Plain("deepseek_v3")
    plain.places = {**plain.places, "neurons": "mlp.down_proj"}
    own = plain.run(A, ("neurons", 0, becomes(ALL, slice(30, 31), 0)))
    holds(scope, own, "zero neuron 0.30", matters=False)


@pytest.mark.parametrize("family", most(*EACH, *MORE))
def test_a_layer_is_all_that_it_writes(made, family):
    scope, plain = made(family)
    parts = ("attention", "mlp")
    # What the unedited attention makes the MLP write is patched with it.
    theirs = {part: plain.seen(B, part, 1) for part in parts}
    mine = {part: plain.seen(A, part, 1) for part in parts}
    for where, rows in WHERES[:4]:
        own = plain.run(A, *((part, 1, becomes(rows, ALL, 0.0)) for part in parts))
        recording = holds(scope, own, f"zero layer 1 {where}")
        after, before = (recording.rows("stream", at)[rows] for at in (2, 1))
        assert torch.equal(after, before)
        own = plain.run(A, *((part, 1, becomes(rows, ALL, mine[part].mean(0))) for part in parts))
        holds(scope, own, f"mean layer 1 {where}")
        own = plain.run(A, *((part, 1, times(rows, ALL, 2.0)) for part in parts))
        holds(scope, own, f"scale layer 1 2 {where}")
        own = plain.run(A, *((part, 1, becomes(rows, ALL, theirs[part][rows])) for part in parts))
        holds(scope, own, f"patch layer 1 {where} from B")


@pytest.mark.parametrize("family", most(*EACH, *MORE, *HYBRID))
@pytest.mark.few(1)
def test_a_stream_is_patched_and_steered(made, family, tmp_path):
    scope, plain = made(family)
    width = plain.model.config.get_text_config().hidden_size
    vector = torch.randn(width, generator=torch.Generator().manual_seed(3))
    one, several = tmp_path / "one.safetensors", tmp_path / "several.safetensors"
    save_file({"v": vector}, one)
    save_file({"x": vector + 1, "joy": vector[None]}, several)
    unembedding = plain.model.get_submodule(plain.places["unembed"]).weight[17].detach()
    for layer, at in (("embed", 0), ("0", 1), ("1", 2), ("-1", 3)):
        theirs = plain.seen(B, "stream", at)
        for where, rows in WHERES[:5]:
            ways = {
                f"patch stream {layer} {where} from B": becomes(rows, ALL, theirs[rows]),
                f"patch stream {layer} {where} from B @5": becomes(rows, ALL, theirs[5]),
                f"steer {layer} token id:17 2.5 {where}": plus(rows, 2.5 * unembedding),
                f"steer {layer} {one} -3 {where}": plus(rows, -3 * vector),
                f"steer {layer} {several}:joy -3 {where}": plus(rows, -3 * vector),
            }
            for edit, alter in ways.items():
                holds(scope, plain.run(A, ("stream", at, alter)), edit)


@pytest.mark.parametrize("norm", ["attention", "mlp", "final"])
@pytest.mark.parametrize("family", most(*EACH, *MORE, "jamba"))
@pytest.mark.few(2)
def test_a_norm_keeps_the_scale_of_the_unedited_pass(made, family, norm):
    scope, plain = made(family)
    name, layer = ("final", 3) if norm == "final" else (f"1.{norm}", 1)
    if norm != "final" and not plain.places["norms"]:
        with pytest.raises(ScopeError, match="is not the output of a norm alone"):
            scope.record(A, edits=[f"freeze norm {name}"])
        return
    vector = 3 * plain.model.get_submodule(plain.places["unembed"]).weight[17].detach()
    module, _ = plain.place(f"{norm} norm", layer)
    caught = []
    hook = module.register_forward_hook(lambda _, args, output: caught.append(args[0].clone()))
    plain.run(A)
    hook.remove()
    before = caught[0].reshape(len(A), -1)
    steer = ("stream", 1, plus(ALL, vector))
    loose = plain.run(A, steer)
    for where, rows in WHERES:
        own = plain.run(A, steer, (f"{norm} norm", layer, held(module, before, rows)))
        # It changes what the steering does.
        assert float((own - loose).abs().max()) > 1e-4 * float(own.abs().max())
        for edits in (
            ["steer 0 token id:17 3", f"freeze norm {name} {where}"],
            [f"freeze norm {name} {where}", "steer 0 token id:17 3"],
        ):
            holds(scope, own, *edits)
        alone = scope.record(A, edits=[f"freeze norm {name} {where}"])
        near(tensors.logits(alone, 0, len(A)), plain.run(A))

"""SAELens on the same files and tensors: features and reconstructions are the same within 1e-5.

Its newest versions need TransformerLens 3, the other peers 4: .ci/all tries it beside them.
"""

import json
from dataclasses import fields

import pytest
import torch

from llmscope.learned.dictionaries.catalog import headers_at
from llmscope.learned.dictionaries.reader import read_dictionary
from llmscope.record.features.active import applied, features_of, reconstruction
from tests.families import small_model
from tests.lenses.test_experts import scope_on

pytest.importorskip("sae_lens", exc_type=ImportError)

import sae_lens
from sae_lens.registry import get_sae_class
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformer_lens.model_bridge.sources import build_bridge_from_module

pytestmark = pytest.mark.filterwarnings("ignore")

WIDTH, FEATURES, ROWS = 24, 96, 50
CLOSE = 1e-5
IDS = [5, 17, 3, 60, 17, 42, 8, 91, 33, 17, 42, 2]
AUTOENCODERS = ("standard", "topk", "jumprelu", "gated")
TRANSCODERS = (
    *("transcoder", "skip_transcoder"),
    *("jumprelu_transcoder", "jumprelu_skip_transcoder"),
)
RESCALINGS = ("none", "layer_norm", "constant_norm_rescale")
FAMILIES = ("gpt2", "llama", "gemma2", "mistral", "opt", "gpt_neox", "qwen2", "mixtral")
CENTRED = ("gpt2", "opt", "gpt_neox")
HOOKS = {
    "hook_resid_pre": "topk",
    "hook_resid_mid": "standard",
    "hook_resid_post": "jumprelu",
    "hook_attn_out": "gated",
    "hook_mlp_out": "standard",
    "attn.hook_z": "topk",
    "mlp.hook_post": "jumprelu",
}
"""The kind of autoencoder that is tried at each place."""


def made(architecture, hook="blocks.1.hook_resid_post", width=WIDTH, out=None, seed=0, **changes):
    """A random dictionary of SAELens."""
    sae_class, config_class = get_sae_class(architecture)
    transcoder = "transcoder" in architecture
    told = {"hook_name": hook, "model_name": "tiny"}
    told["model_from_pretrained_kwargs"] = {"center_writing_weights": False}
    if transcoder:
        told["hook_name_out"] = "blocks.1.hook_mlp_out"
        changes = {"d_out": width if out is None else out, "apply_b_dec_to_input": False} | changes
    if architecture == "topk":
        changes = {"k": 7} | changes
    if hook.endswith("hook_z"):
        changes = {"reshape_activations": "hook_z"} | changes
    told |= changes.pop("told", {})
    names = {one.name for one in fields(config_class)}
    assert changes.keys() <= names
    whole = {"d_in": width, "d_sae": FEATURES, "metadata": SAEMetadata(**told), **changes}
    return randomized(sae_class(config_class(**whole)), seed)


def randomized(sae, seed=0):
    """The dictionary with random weights, and thresholds that some features reach."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sae.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * (weight.shape[0] ** -0.5 if weight.dim() > 1 else 0.3))
            if name == "threshold":
                weight.abs_()
    return sae.eval()


def inputs(width=WIDTH, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(1, width, generator=generator)
    return torch.randn(ROWS, width, generator=generator) * 2 + shift


def ours(folder):
    (header,) = headers_at(str(folder))
    return read_dictionary(header)


def dense(active):
    found = torch.zeros(len(active), FEATURES)
    for row, one in enumerate(active):
        found[row, one.ids] = one.values
    return found


def close(one, other):
    """Equal within 1e-5 of the largest magnitude, where there is something to tell apart."""
    assert one.shape == other.shape
    most = float(other.abs().max())
    assert most > 1e-2
    assert float((one - other).abs().max()) < CLOSE * max(1.0, most)


@torch.no_grad()
def compare(folder, sae, given):
    """Compare what both make of some tensors."""
    read = ours(folder)
    active = read.encode(given)
    features = sae.encode(given)
    close(dense(active), features)
    close(read.activations(given), features)
    assert 0 < sum(map(len, active)) < active[0].ids.new_tensor(features.shape).prod()
    assert [len(one) for one in active] == (features != 0).sum(-1).tolist()
    close(read.decode(active, given), sae(given))


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("rescaling", RESCALINGS)
@pytest.mark.parametrize("architecture", AUTOENCODERS)
def test_autoencoders(tmp_path, architecture, rescaling, subtracts):
    own = {"normalize_activations": rescaling, "apply_b_dec_to_input": subtracts}
    sae = made(architecture, **own)
    sae.save_model(tmp_path)
    compare(tmp_path, sae, inputs())


@pytest.mark.parametrize("rescaling", RESCALINGS)
@pytest.mark.parametrize("architecture", TRANSCODERS)
def test_transcoders(tmp_path, architecture, rescaling):
    sae = made(architecture, "blocks.1.hook_mlp_in", out=16, normalize_activations=rescaling)
    sae.save_model(tmp_path)
    compare(tmp_path, sae, inputs())


@pytest.mark.parametrize("rescaling", RESCALINGS)
def test_topk_by_the_norms_of_the_decoder(tmp_path, rescaling):
    own = {"normalize_activations": rescaling, "rescale_acts_by_decoder_norm": True}
    sae = made("topk", **own)
    sae.save_model(tmp_path)
    compare(tmp_path, sae, inputs())


@pytest.mark.parametrize("by_norm", [False, True])
@pytest.mark.parametrize("exported", [False, True])
def test_batchtopk_as_exported_and_as_a_checkpoint(tmp_path, by_norm, exported):
    told = SAEMetadata(hook_name="blocks.1.hook_resid_post")
    config = BatchTopKTrainingSAEConfig(
        *(WIDTH, FEATURES), k=7, rescale_acts_by_decoder_norm=by_norm, metadata=told
    )
    sae = randomized(BatchTopKTrainingSAE(config))
    sae.topk_threshold.fill_(0.4)
    inference = tmp_path / "inference"
    sae.save_inference_model(inference)
    sae.save_model(tmp_path / "checkpoint")
    folder = inference if exported else tmp_path / "checkpoint"
    compare(folder, sae_lens.SAE.load_from_disk(inference), inputs())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 9}},
        {"activation_fn": "topk", "activation_fn_kwargs": {"k": 9}},
        {"normalize_activations": "layer_norm"},
        {"normalize_activations": False},
        {"normalize_activations": True},
        {"normalize_activations": None, "apply_b_dec_to_input": False},
        {"architecture": "jumprelu", "activation_fn_str": "relu"},
        {"architecture": "gated"},
    ],
)
def test_configs_before_version_6(tmp_path, changes):
    architecture = changes.get("architecture", "standard")
    sae = made(architecture)
    sae.save_model(tmp_path)
    told = {
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "dtype": "torch.float32",
        "device": "cpu",
        "model_name": "tiny",
        "hook_point": "blocks.1.hook_resid_pre",
        "hook_point_layer": 1,
        "activation_fn_str": "relu",
        "prepend_bos": True,
        "sae_lens_version": "3.5.0",
        **changes,
    }
    if "activation_fn" in changes:
        del told["activation_fn_str"]
    (tmp_path / "cfg.json").write_text(json.dumps(told))
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.hook_name == "blocks.1.hook_resid_pre"
    compare(tmp_path, theirs, inputs())
    assert ours(tmp_path).header.reads.kind == "resid_pre"


def test_what_a_release_tells_apart_from_its_files(tmp_path):
    """SAELens makes a config for Gemma Scope from names alone; ours is the same."""
    from sae_lens.loading.pretrained_sae_loaders import (
        get_gemma_2_config_from_hf,
        get_gemma_2_transcoder_config_from_hf,
    )

    from llmscope.learned.dictionaries.config import header_of
    from tests.learned.dictionaries.files import put_archive

    for kind in ("res", "mlp", "att", "transcoders"):
        repository, folder = f"google/gemma-scope-9b-it-{kind}", "layer_7/width_16k/average_l0_60"
        put_archive(tmp_path / repository / folder)
        (header,) = headers_at(str(tmp_path / repository / folder))
        maker = get_gemma_2_transcoder_config_from_hf if kind == "transcoders" else None
        told = (maker or get_gemma_2_config_from_hf)(repository, folder, "cpu")
        theirs = header_of(told, name="", path="")
        assert (header.reads, header.writes) == (theirs.reads, theirs.writes)
        assert header.model == theirs.model == "gemma-2-9b-it"
        assert (header.activation, header.subtracts) == (theirs.activation, theirs.subtracts)


@pytest.mark.parametrize("affine", [False, True])
def test_gemma_scope_2(tmp_path, monkeypatch, affine):
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.loading.pretrained_sae_loaders import gemma_3_sae_huggingface_loader

    from tests.learned.dictionaries.files import put_second

    name = "transcoder/layer_1_width_16k_l0_small" + "_affine" * affine
    told = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-270m-pt",
        "hf_hook_point_in": "model.layers.1.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.1.post_feedforward_layernorm.output",
        "affine_connection": affine,
    }
    skip = {"affine_skip_connection": torch.randn(12, 12)} if affine else {}
    tensors = put_second(tmp_path / name, told, **skip)

    def download(repo_id, filename, subfolder="", **_):
        return str(tmp_path / subfolder / filename)

    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes)
    config, state, _ = gemma_3_sae_huggingface_loader("google/gemma-scope-2-270m-pt", name)
    sae_class, config_class = get_sae_class(config["architecture"])
    config["metadata"] = {}
    sae = sae_class(config_class.from_dict(config))
    sae.load_state_dict(state)
    given = inputs(12)
    (header,) = headers_at(str(tmp_path / name))
    assert (header.reads.kind, header.writes.kind) == ("mlp_in", "mlp_out")
    read = read_dictionary(header)
    with torch.no_grad():
        close(read.activations(given), sae.encode(given))
        close(read.decode(read.encode(given), given), sae(given))


@pytest.fixture(scope="module", params=FAMILIES)
def both(request):
    """A recording of a small model, and what TransformerLens keeps of a run of the same."""
    scope = scope_on(request.param)
    scope.record(IDS)
    return request.param, scope.latest, cache(bridged(request.param))


def bridged(family):
    model = small_model(family).requires_grad_(False)
    return build_bridge_from_module(model, type(model).__name__, hf_config=model.config)


def cache(bridge):
    found = bridge.run_with_cache(torch.tensor([IDS]))[1]
    return {name: tensor for name, tensor in found.items() if tensor is not None}


@torch.no_grad()
def compare_on(recording, folder, sae, given, aim):
    """Compare features, reconstruction, FVU and L0 of a recording, with those of SAELens."""
    way = applied(ours(folder), recording)
    rows = range(len(recording))
    active = features_of(way, recording, rows)
    features = sae.encode(given)
    close(dense(active), features)
    assert sum(map(len, active)) == int((features != 0).sum())
    predicted = reconstruction(way, recording, rows)
    theirs = sae(given).reshape(predicted.shape)
    close(predicted, theirs)
    close(way.outputs(recording, rows), aim)
    unexplained = [
        float((one - aim).square().sum() / (aim - aim.mean(0)).square().sum())
        for one in (predicted, theirs)
    ]
    assert unexplained[0] == pytest.approx(unexplained[1], rel=CLOSE)
    return way


def tried(tmp_path, recording, kept, architecture, hook, **changes):
    """Compare a random dictionary of a place in layer 1."""
    given = kept[f"blocks.1.{hook}"]
    given = given.reshape(len(IDS), 4, -1) if hook == "attn.hook_z" else given.flatten(0, -2)
    aim = kept["blocks.1.hook_mlp_out"].flatten(0, -2) if "transcoder" in architecture else given
    width = given[0].numel()
    sae = made(architecture, f"blocks.1.{hook}", width, aim[0].numel(), **changes)
    sae.save_model(tmp_path)
    aim = aim.reshape(len(IDS), -1)
    return compare_on(recording, tmp_path, sae, given, aim)


@pytest.mark.parametrize(("hook", "architecture"), HOOKS.items())
def test_places(both, tmp_path, hook, architecture):
    family, recording, kept = both
    if hook == "hook_resid_mid" and family == "gpt_neox":
        pytest.skip("attention and MLP are parallel")
    if hook == "mlp.hook_post" and family == "mixtral":
        pytest.skip("its experts have no neurons of the layer")
    tried(tmp_path, recording, kept, architecture, hook, normalize_activations="layer_norm")


@pytest.mark.parametrize(
    ("hook", "theirs"), [("ln2.hook_normalized", "ln2.hook_normalized"), ("mlp", "mlp.hook_in")]
)
@pytest.mark.parametrize("architecture", TRANSCODERS[1:])
def test_transcoders_of_models(both, tmp_path, architecture, hook, theirs):
    _, recording, kept = both
    name = f"blocks.1.{theirs}"
    if name not in kept:
        pytest.skip("TransformerLens keeps no such tensor")
    told = {} if hook.startswith("ln2") else {"hf_hook_name": "model.layers.1.mlp.input"}
    given, aim = (kept[one].flatten(0, -2) for one in (name, "blocks.1.hook_mlp_out"))
    sae = made(architecture, name, given.shape[1], aim.shape[1], told=told)
    sae.save_model(tmp_path)
    compare_on(recording, tmp_path, sae, given, aim)


@pytest.mark.parametrize("hook", ["hook_resid_pre", "hook_resid_post", "hook_mlp_out"])
@pytest.mark.parametrize("family", CENTRED)
def test_centred_streams(tmp_path, family, hook):
    """The config asks for centred weights, as those of GPT-2's dictionaries do."""
    kept = cache(centred(family))
    assert float(kept[f"blocks.1.{hook}"].mean(-1).abs().max()) < 1e-5
    scope = scope_on(family)
    scope.record(IDS)
    told = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    assert tried(tmp_path, scope.latest, kept, "standard", hook, told=told).centred


@pytest.mark.parametrize("family", CENTRED)
def test_a_transcoder_of_centred_weights_predicts_a_centred_output(tmp_path, family):
    kept = cache(centred(family))
    scope = scope_on(family)
    scope.record(IDS)
    told = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    hook = "ln2.hook_normalized"
    assert tried(tmp_path, scope.latest, kept, "transcoder", hook, told=told).centred


def centred(family):
    bridge = bridged(family)
    bridge.enable_compatibility_mode(
        fold_ln=True, center_writing_weights=True, center_unembed=False, fold_value_biases=False
    )
    return bridge

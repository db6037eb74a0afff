"""Features and reconstructions against plain numpy; wide and half-precision dictionaries."""

import numpy as np
import psutil
import pytest
import torch

from llmscope.learned.dictionaries.dictionary import Active, Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.place import Place
from llmscope.learned.dictionaries.reader import read_dictionary, read_header
from tests.learned.dictionaries import plain
from tests.learned.dictionaries.files import FEATURES, WIDTH, config, put, weights

RESCALINGS = ("none", "layer_norm", "constant_norm_rescale")
CLOSE = 1e-5


def inputs(rows=30, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, WIDTH, generator=generator) * 2 + 0.5


def read(folder):
    return read_dictionary(read_header(folder, str(folder)))


def dense(active, features=FEATURES):
    found = np.zeros((len(active), features))
    for row, one in enumerate(active):
        assert one.ids.tolist() == sorted(set(one.ids.tolist()))
        found[row, one.ids.numpy()] = one.values.numpy()
    return found


def compare(folder, told, close=CLOSE, **options):
    tensors = put(folder, told, **options)
    dictionary, given = read(folder).on(torch.device("cpu")), inputs()
    active = dictionary.encode(given)
    wanted = plain.features(told, tensors, given)
    found = dense(active)
    assert 0 < (wanted > 0).mean() < 1
    assert np.abs(found - wanted).max() < close * max(1, np.abs(wanted).max())
    aim = plain.reconstruction(told, tensors, given, found)
    assert np.abs(dictionary.decode(active, given).numpy() - aim).max() < close * np.abs(aim).max()
    some = [3, 0, FEATURES - 1]
    assert dictionary.activations(given, some).numpy() == pytest.approx(found[:, some], abs=close)
    return dictionary, active, given


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("rescaling", RESCALINGS)
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "gated", "batchtopk"])
def test_autoencoders(tmp_path, architecture, rescaling, subtracts):
    own = {"normalize_activations": rescaling, "apply_b_dec_to_input": subtracts}
    compare(tmp_path, config(architecture, **own))


@pytest.mark.parametrize("rescaling", RESCALINGS)
@pytest.mark.parametrize("kind", ["", "skip_"])
@pytest.mark.parametrize("jump", ["", "jumprelu_"])
def test_transcoders(tmp_path, kind, jump, rescaling):
    told = config(f"{jump}{kind}transcoder", normalize_activations=rescaling, d_out=7)
    dictionary, *_ = compare(tmp_path, told)
    assert dictionary.header.transcoder
    assert dictionary.header.out_width == 7


def test_topk_by_norm(tmp_path):
    compare(tmp_path, config("topk", rescale_acts_by_decoder_norm=True))


def test_a_change_of_activations(tmp_path):
    told = config("topk", rescale_acts_by_decoder_norm=True, normalize_activations="layer_norm")
    dictionary, active, given = compare(tmp_path, told)
    ids, changes = [2, 30], torch.tensor([[1.5, 0.0], [-0.5, 2.0]])
    given = given[:2]
    before, after = dense(active[:2]), dense(active[:2])
    after[:, ids] += changes.numpy()
    tensors = {"W_dec": dictionary.decoder, "b_dec": dictionary.bias}
    aim = [plain.reconstruction(told, tensors, given, one) for one in (before, after)]
    assert dictionary.written(ids, changes, given).numpy() == pytest.approx(
        aim[1] - aim[0], abs=1e-5
    )


def test_active_features_of_a_token():
    one = Active(torch.tensor([2, 5, 9]), torch.tensor([0.5, 1.0, 2.0]))
    assert [one.of(feature) for feature in (0, 2, 5, 7, 9, 10)] == [0.0, 0.5, 1.0, 0.0, 2.0, 0.0]
    assert len(one) == 3
    empty = Active(torch.tensor([], dtype=torch.long), torch.tensor([]))
    assert empty.of(3) == 0.0


@pytest.mark.parametrize("architecture", ["jumprelu", "gated"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_other_dtypes(tmp_path, dtype, architecture):
    told = config(architecture, dtype=str(dtype))
    compare(tmp_path, told, dtype=dtype)
    kept = read(tmp_path)
    assert kept.encoder.dtype == dtype
    placed = kept.on(torch.device("cpu"))
    assert placed.encoder.dtype == torch.float32
    assert kept.on(torch.device("cpu")) is placed


@pytest.mark.parametrize("architecture", ["jumprelu", "gated"])
def test_a_file_of_several_dtypes(tmp_path, architecture):
    told = config(architecture)
    tensors = {
        name: tensor if tensor.dim() > 1 else tensor.to(torch.float64 if at % 2 else torch.bfloat16)
        for at, (name, tensor) in enumerate(weights(told).items())
    }
    dictionary, *_ = compare(tmp_path, told, tensors=tensors)
    assert dictionary.bias.dtype == dictionary.encoder_bias.dtype == torch.float32


def test_a_token_with_no_active_feature(tmp_path):
    told = config("jumprelu")
    tensors = put(tmp_path, told)
    put(tmp_path, told, tensors | {"threshold": torch.full((FEATURES,), 1e6)})
    dictionary, given = read(tmp_path), inputs(3)
    active = dictionary.encode(given)
    assert [len(one) for one in active] == [0, 0, 0]
    assert torch.equal(dictionary.decode(active, given), tensors["b_dec"].expand(3, -1))
    assert dictionary.encode(given[:0]) == []
    assert dictionary.decode([], given[:0]).shape == (0, WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_wide_dictionaries_stay_sparse(rows):
    """262,144 features of 2,000 tokens: dense they would take 2 GB."""
    features, width = 1 << 18, 64
    generator = torch.Generator().manual_seed(0)
    place = Place(0, "resid_post")
    header = DictionaryHeader("", "", place, place, width, width, features, "jumprelu")
    encoder = torch.randn(width, features, generator=generator) / 8
    wide = Dictionary(
        header,
        *(encoder, encoder.T.contiguous(), torch.zeros(width), torch.zeros(features)),
        threshold=torch.full((features,), 3.5),
    )
    given = torch.randn(rows, width, generator=generator)
    wide.encode(given[:50])
    before, peak = psutil.Process().memory_info().rss, 0
    whole = wide.activations

    def watched(block):
        nonlocal peak
        found = whole(block)
        peak = max(peak, psutil.Process().memory_info().rss)
        return found

    object.__setattr__(wide, "activations", watched)
    active = wide.encode(given)
    assert len(active) == rows
    entries = sum(map(len, active))
    assert 10 * rows < entries < 200 * rows
    assert peak - before < 200 << 20
    assert active[7].ids.tolist() == (whole(given[7:8])[0] > 0).nonzero()[:, 0].tolist()
    # What stays in memory is what is active, and nothing of the blocks.
    stored = sum(one.ids.untyped_storage().nbytes() for one in active)
    assert stored == 8 * entries
    before = psutil.Process().memory_info().rss
    wide.decode(active, given)
    assert psutil.Process().memory_info().rss - before < 300 << 20

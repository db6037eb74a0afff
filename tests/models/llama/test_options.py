"""Which backend runs a GGUF file, the types of its KV cache, and a second model in another."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, LlamaFileType, dequantize, quantize

import llmscope
from llmscope.cli.options.loading import Loader
from llmscope.cli.options.versus import VersusModelOptions, VersusOptions, versus_loader
from llmscope.errors import ScopeError
from llmscope.models.llama.cache_types import CACHE_TYPES, hadamard
from llmscope.models.llama.load import load_gguf
from llmscope.models.llama.process import SequenceRun
from llmscope.models.loaded_model import RowMemory
from llmscope.models.loading import backend
from llmscope.models.loading.token_memory import model_memory
from llmscope.models.sources import Options
from llmscope.record.derive.tensors import pattern
from llmscope.scope.scope import Scope
from llmscope.tui.features.copy.repro_command import ModelSource
from tests.models import ggufs
from tests.models.test_pypi import index, write_wheel

pytest.importorskip("llama_cpp_py_sync")

__all__ = ["index"]  # a fixture
IDS = [3, 4, 5, 14, 15, 16, 7, 8]
QUANTISED = {"q8_0": GGMLQuantizationType.Q8_0, "q4_0": GGMLQuantizationType.Q4_0}


@pytest.fixture
def file(tmp_path, empty_cache):
    """A file whose heads are as wide as a quantised cache needs them."""
    path = tmp_path / "wide.gguf"
    model = ggufs.made("llama", head_dim=64)
    ggufs.write(path, "llama", model, more={"general.file_type": LlamaFileType.ALL_F32.value})
    return path


@pytest.fixture
def free(monkeypatch):
    """Sets the bytes of memory that are free."""

    def set_free(size):
        monkeypatch.setattr(backend, "available", lambda device: size)

    return set_free


@pytest.mark.fast
@pytest.mark.parametrize("name", QUANTISED)
def test_a_cache_rounds_as_gguf_quantises(name):
    rows = torch.randn(7, 3, 64, generator=torch.Generator().manual_seed(0))
    rows[0, 0, :32] = 0
    kind = QUANTISED[name]
    truth = dequantize(quantize(rows.numpy(), kind), kind)
    assert np.array_equal(CACHE_TYPES[name].rounded(rows).numpy(), truth)
    turned = CACHE_TYPES[name].rounded(rows, 64)
    matrix = np.ones((1, 1))
    for _ in range(6):
        matrix = np.kron([[1, 1], [1, -1]], matrix)
    matrix /= 8
    stored = dequantize(quantize((rows.numpy() @ matrix).astype(np.float32), kind), kind)
    assert np.allclose(turned.numpy(), stored @ matrix, atol=1e-6)


@pytest.mark.fast
def test_a_row_is_turned_to_the_same_bits_however_many_there_are():
    rows = torch.randn(33, 128, generator=torch.Generator().manual_seed(1))
    assert torch.equal(hadamard(rows, 64)[5:6], hadamard(rows[5:6], 64))


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_cache_is_told_and_its_patterns_are_those_of_llama(file, name):
    scope = Scope(load_gguf(file, str(file), threads=1, cache_type=name))
    exact = Scope(load_gguf(file, str(file), threads=1, cache_type="f32"))
    assert scope.info().dtype == f"llama.cpp, F32, cache {name}"
    assert scope.model.backend.process.rotations == {"key": 64, "value": 64}
    for capability in ("readout", "writes", "patterns", "activations"):
        assert scope.verdicts(capability).status == "verified"
    verdict = scope.verdicts("patterns")
    assert verdict.discrepancy < 1e-3
    recording, other = scope.record(IDS), exact.record(IDS)
    assert float((pattern(recording, 1) - pattern(other, 1)).abs().max()) > 1e-3
    # Attention over the cache as it is read, by hand: what llama.cpp's own kernel gave.
    process, names = scope.model.backend.process, scope.model.backend.names
    wanted = [names.of(part, 0) for part in ("query", "key", "value", "joined")]
    rows = process.decode([SequenceRun(7, 7, 0, IDS)], wanted, names.bytes_per_token)
    query, key, value, joined = (rows[part].view(len(IDS), -1, 64).double() for part in wanted)
    kind, matrix = QUANTISED[name], torch.tensor([[1.0]], dtype=torch.float64)
    for _ in range(6):
        matrix = (
            torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)]) / 2**0.5
        )

    def read(part, kind):
        turned = (part @ matrix).float().numpy()
        return torch.from_numpy(dequantize(quantize(turned, kind), kind)).double() @ matrix

    group = query.shape[1] // key.shape[1]
    query = read(query, GGMLQuantizationType.Q8_0)
    key, value = (read(part, kind).repeat_interleave(group, 1) for part in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) / 8
    hidden = torch.ones(len(IDS), len(IDS), dtype=torch.bool).triu(1)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    truth = torch.einsum("hqk,khd->qhd", weights, value)
    assert float((joined - truth).abs().max() / truth.abs().max()) < 2e-3


def test_edits_of_heads_over_a_quantised_cache(file):
    scope = Scope(load_gguf(file, str(file), threads=1, cache_type="q8_0"))
    exact = Scope(load_gguf(file, str(file), threads=1, cache_type="f32"))
    ours, theirs = (each.record(IDS, edits=["zero head 1.1"]) for each in (scope, exact))
    near = float((ours.logits - theirs.logits).abs().max())
    assert near < 0.05 * float(theirs.logits.abs().max())
    assert float((ours.logits - scope.record(IDS).logits).abs().max()) > 2 * near
    before = scope.record(IDS)
    letter = scope.record([*IDS, 9])
    assert (before.ran + before.reused, letter.ran) == (len(IDS), 1)


def test_heads_that_no_block_divides_are_refused_in_llamas_words(tmp_path, empty_cache):
    path = tmp_path / "narrow.gguf"
    ggufs.write(path, "llama", ggufs.made("llama"))
    with pytest.raises(ScopeError, match="block size 32"):
        llmscope.load(path, backend="llama.cpp", cache_type="q8_0")


@pytest.mark.parametrize(
    ("options", "reason", "hint"),
    [
        ({"cache_type": "q8_0"}, "is of llama.cpp's KV cache", "llama.cpp"),
        ({"cache_type": "q8_0", "backend": "auto"}, "is of llama.cpp's KV cache", "llama.cpp"),
        ({"cache_type": "q5", "backend": "llama.cpp"}, "no such type", "f32, f16, q8_0 or q4_0"),
        ({"backend": "onnx"}, "no such backend", "auto, transformers or llama.cpp"),
    ],
)
def test_what_does_not_apply_is_refused(file, options, reason, hint):
    with pytest.raises(ScopeError, match=reason) as caught:
        llmscope.load(file, **options)
    assert hint in caught.value.hint


def test_auto_is_llama_where_memory_asks_for_it(file, free, monkeypatch):
    size = 4 * sum(parameter.numel() for parameter in ggufs.made("llama", head_dim=64).parameters())
    free(int(size / backend.room(100) * 100) + 1000)
    assert not llmscope.load(file, backend="auto").loaded_model.backend
    path = file.with_name("halves.gguf")
    model = ggufs.made("llama", head_dim=64, hidden_size=64)  # of whole blocks
    ggufs.write(path, "llama", model, quantised=GGMLQuantizationType.Q4_0)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    free(int(0.9 * size))
    scope = llmscope.load(path, backend="auto")
    assert scope.loaded_model.backend.startswith("llama.cpp")
    assert "llama.cpp runs the file as it is: dequantised" in scope.info().notices[0]
    assert not llmscope.load(path, backend="auto", dtype="bfloat16").loaded_model.backend
    with monkeypatch.context() as without:
        without.setattr(backend, "BINDING", "no_such_package")
        assert not llmscope.load(path, backend="auto").loaded_model.backend
    free(path.stat().st_size)  # not even the file fits
    assert backend._if_memory_asks(backend.GgufFile(path, "halves")) is None


def test_auto_runs_other_models_in_transformers(empty_cache, free):
    free(0)
    assert not llmscope.load("builtin:town", backend="auto").loaded_model.backend


def test_a_file_in_a_package_or_of_the_hub(file, index, hub, tmp_path):
    write_wheel(index, files=[("m/wide.gguf", file.read_bytes())])
    scope = llmscope.load("pypi:tiny-model", backend="llama.cpp")
    assert scope.info().dtype == "llama.cpp, F32"
    assert (scope.info().spec, scope.info().name) == ("pypi:tiny-model", "wide")
    hub.put("org/name", tmp_path)
    scope = llmscope.load("org/name:wide.gguf", backend="llama.cpp")
    assert (scope.info().dtype, scope.info().name) == ("llama.cpp, F32", "wide")
    with pytest.raises(ScopeError, match="builtin:town is no GGUF file"):
        llmscope.load("builtin:town", backend="llama.cpp")


def test_the_doctors_memory_is_that_of_the_file_or_of_its_weights(file):
    def memory(name):
        return model_memory(
            str(file),
            device="cpu",
            dtype="auto",
            backend=name,
            cache_type=None,
            adapters=(),
            memory=RowMemory(),
            options=Options(),
        )

    model = ggufs.made("llama", head_dim=64)
    count = sum(parameter.numel() for parameter in model.parameters())
    told = memory("llama.cpp")
    assert (told.backend, told.weights) == ("llama.cpp", file.stat().st_size)
    assert (told.file, told.dequantised) == (file.stat().st_size, 4 * count)
    config = model.config
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * 64
    assert told.token.cache == numbers * (4 + 2)
    assert told.context == config.max_position_embeddings
    plain = memory("transformers")
    assert (plain.backend, plain.weights, plain.file) == (
        "transformers",
        4 * count,
        file.stat().st_size,
    )


FIRST = Loader("a.gguf", "cpu", "bfloat16")


@pytest.mark.fast
def test_a_second_model_in_another_backend():
    second = versus_loader(FIRST, None, VersusOptions(versus_backend="llama.cpp"))
    assert (second.model, second.backend, second.dtype) == ("a.gguf", "llama.cpp", "auto")
    first = Loader("a.gguf", backend="llama.cpp", cache_type="q8_0")
    same = versus_loader(first, None, VersusOptions(versus_cache_type="q4_0"))
    assert (same.backend, same.cache_type) == ("llama.cpp", "q4_0")
    plain = versus_loader(first, None, VersusOptions(versus_backend="transformers"))
    assert (plain.backend, plain.cache_type) == ("transformers", None)
    checkpoint = versus_loader(first, "folder", VersusOptions())
    assert (checkpoint.backend, checkpoint.cache_type) == ("transformers", None)
    assert VersusOptions(versus_backend="llama.cpp").given
    assert VersusOptions(versus_cache_type="q8_0").given


@pytest.mark.fast
def test_the_copied_command_names_the_second_backend():
    given = VersusModelOptions(versus_backend="llama.cpp", versus_cache_type="q4_0")
    source = ModelSource.of("a.gguf", given.onto(Loader("a.gguf")))
    assert source.versus_options == {
        "versus_model": "a.gguf",
        "versus_backend": "llama.cpp",
        "versus_cache_type": "q4_0",
    }
    back = VersusModelOptions(versus_backend="transformers")
    source = ModelSource.of("a.gguf", back.onto(Loader("a.gguf", backend="llama.cpp")))
    assert source.versus_options["versus_backend"] == "transformers"


def test_two_engines_on_one_text(file):
    """An F32 file in both engines differs by float rounding, and by more with a coarser cache."""
    scope = llmscope.load(file)
    runs = {}
    for name in ("f32", "q4_0"):
        scope.compare(llmscope.load(file, backend="llama.cpp", cache_type=name))
        scope.record(IDS)
        figure = scope.look("model-diff", mode="difference")
        runs[name] = float(np.nanmax(figure.values))
        kl = scope.look("model-diff", mode="kl")
        assert kl.verdict.status == "verified"
    assert runs["f32"] < 1e-4
    assert runs["q4_0"] > 1e-2
    parts = scope.look("model-diff", mode="parts")
    assert parts.verdict.status in ("verified", "partial")
    assert float(parts.values[:, -1].max()) < 1e-4  # an MLP reads no cache
    assert float(parts.values[:, -2].max()) > 1e-2

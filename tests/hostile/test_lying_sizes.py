"""Configs and headers that ask for more than the weights beside them could fill: one line each."""

import json
import os
import shutil
import struct

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.files.sizes import bounded
from llmscope.models.files.weight_headers import folder_headers
from llmscope.models.hidden_states import read_hidden_states
from llmscope.models.loading.load import load_model
from tests.families import FAMILIES, small_model
from tests.hostile.forks import limited, refused
from tests.models import ggufs
from tests.models.checkpoints import edit_config, save_model

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model", "vocab_size", "intermediate_size")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Folders of small models, made when they are asked for."""
    root = tmp_path_factory.mktemp("shelf")

    def take(family):
        folder = root / family
        if not folder.exists():
            save_model(folder, family)
        return folder

    return take


@pytest.fixture
def copy(shelf, tmp_path):
    """A copy of such a folder that may be changed."""
    return lambda family="llama": shutil.copytree(shelf(family), tmp_path / "model")


def opened(folder, **options):
    return load_model(str(folder), **options).name


@pytest.mark.few(8)
@pytest.mark.parametrize("count", [10**4, 10**6, 10**9, 10**30, 1e6])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "mpt", "jamba"])
def test_layers_that_no_weights_are_there_for(copy, family, count):
    folder = copy(family)
    config = json.loads((folder / "config.json").read_text())
    key = next(key for key in LAYERS if key in config)
    edit_config(folder, **{key: count, "layer_types": None, "layers_block_type": None})
    refused(lambda: opened(folder), memory=1 << 29)


@pytest.mark.parametrize("count", [40, 300, 3000])
def test_layers_beyond_those_of_the_weights_are_never_filled(copy, count):
    folder = copy("gpt2")
    edit_config(folder, n_layer=count)
    refused(lambda: opened(folder), memory=1 << 29)


@pytest.mark.few(15)
@pytest.mark.parametrize("size", [5000, 10**6, 10**12])
@pytest.mark.parametrize("key", WIDTHS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_sizes_that_no_tensor_has(copy, family, key, size):
    folder = copy(family)
    if key not in json.loads((folder / "config.json").read_text()):
        pytest.skip("the family has no such key")
    edit_config(folder, **{key: size})
    refused(lambda: opened(folder), memory=1 << 29)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mixtral", {"num_local_experts": 10**5}),
        ("qwen3_moe", {"num_experts": 10**7}),
        ("gpt2", {"n_positions": 10**6}),
        ("gpt_neo", {"max_position_embeddings": 10**5}),
        ("llama", {"max_position_embeddings": 10**12}),
        ("mpt", {"max_seq_len": 10**12}),
        ("xglm", {"max_position_embeddings": 10**8}),
        ("mamba2", {"chunk_size": 10**8}),
        ("llama", {"num_attention_heads": 10**9}),
        ("mamba", {"state_size": 10**9}),
    ],
)
@pytest.mark.few(3)
def test_experts_contexts_and_states(copy, family, changes):
    folder = copy(family)
    edit_config(folder, **changes)
    refused(lambda: opened(folder), memory=1 << 29)


def test_an_ordinary_length_is_no_size(copy):
    folder = copy()
    changes = {"max_position_embeddings": 10_485_760, "eos_token_id": 10**9, "rope_theta": 10**9}
    edit_config(folder, **changes, pretraining_tokens=10**13)
    assert limited(lambda: opened(folder)).error is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_a_family_needs_less_than_half_of_what_it_may_build(shelf, family, monkeypatch):
    monkeypatch.setattr("llmscope.models.files.sizes.PARAMETERS", 0)
    monkeypatch.setattr("llmscope.models.files.sizes.MODULES", 50)
    monkeypatch.setattr("llmscope.models.files.sizes.MODULES_EACH", 2)
    monkeypatch.setattr("llmscope.models.files.sizes.BUFFERS", 1 << 18)
    monkeypatch.setattr("llmscope.models.files.sizes.TIMES", 2.6)
    load_model(str(shelf(family)))


def test_what_other_threads_build_is_not_counted(shelf):
    import threading

    headers = folder_headers(shelf("llama"))
    errors = []

    def build():
        try:
            torch.nn.Linear(10**6, 10**6, device="meta")
        except ScopeError as error:
            errors.append(error)

    with bounded(headers, "llama"):
        other = threading.Thread(target=build)
        other.start()
        other.join()
        assert not errors
        with pytest.raises(ScopeError, match="more parameters"):
            torch.nn.Linear(10**6, 10**6, device="meta")
    torch.nn.Linear(10**6, 10**6, device="meta")


def test_a_tensor_of_millions_of_dimensions_is_refused_before_they_are_multiplied(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[' + b"3," * 5_000_000 + b'3],"data_offsets":[0,4]}}'
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(lambda: read_hidden_states(file, (0,)), "x.safetensors")


HEADERS = {
    "longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "a list": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
    "empty": b"",
}
ENTRIES = {
    "beyond the file": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]},
    "fewer bytes than numbers": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 16]},
    "of an unknown dtype": {"dtype": "X", "shape": [10**9], "data_offsets": [0, 16]},
    "negative": {"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]},
    "of truth values": {"dtype": "F32", "shape": [True], "data_offsets": [False, 4]},
    "backwards": {"dtype": "F32", "shape": [0], "data_offsets": [16, 0]},
    "no object": [1, 2, 3],
    "10^4300": {"dtype": "F32", "shape": [10**4200, 0], "data_offsets": [0, 0]},
}


def header(entries):
    content = json.dumps(entries).encode()
    return struct.pack("<Q", len(content)) + content + bytes(16)


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "content",
    [*HEADERS.values(), *(header({"a": entry}) for entry in ENTRIES.values())],
    ids=[*HEADERS, *ENTRIES],
)
def test_heads_of_safetensors(copy, content):
    folder = copy()
    (folder / "model.safetensors").write_bytes(content)
    refused(lambda: opened(folder), memory=1 << 29)


def test_a_tensor_without_numbers_bears_out_no_size(copy):
    folder = copy()
    tensors = {"a": {"dtype": "F32", "shape": [0, 10**12], "data_offsets": [0, 0]}}
    (folder / "model.safetensors").write_bytes(header(tensors)[:-16])
    edit_config(folder, hidden_size=10**9)
    refused(lambda: opened(folder), "hidden_size")


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"num_hidden_layers": ' + b"9" * 100_000 + b"}",
        b'{"model_type": "llama", "vocab_size": ' + b"9" * 4000 + b"}",
        b'{"model_type": "llama", "hidden_size": NaN}',
        b'{"model_type": "llama", "hidden_size": 1e400}',
        b"\xff\xfe{}",
        b" " * (9 << 20),
        b'{"model_type": "' + b"x" * 1_000_000 + b'"}',
        b'{"model_type": "llama", "num_hidden_layers": -5}',
    ],
    ids=["deep", "dicts", "digits", "4000 digits", "NaN", "1e400", "UTF-16", "9 MB", "name", "-5"],
)
def test_configs_that_are_none(copy, content):
    folder = copy()
    (folder / "config.json").write_bytes(content)
    refused(lambda: opened(folder), memory=1 << 29)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "name", ["generation_config.json", "tokenizer.json", "chat_template.jinja"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_files_that_never_end(copy, name, kind):
    folder = copy()
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        with (folder / name).open("wb") as file:
            file.truncate(200 << 20)
    refused(lambda: opened(folder), name)


def gguf_head(tensors=0, entries=b"", count=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + entries + bytes(64)


def entry(key, kind, value):
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


GGUFS = {
    "tensors": gguf_head(tensors=1 << 62),
    "entries": gguf_head(count=1 << 62),
    "array": gguf_head(entries=entry(b"a", 9, struct.pack("<IQ", 0, 1 << 60)), count=1),
    "texts": gguf_head(entries=entry(b"a", 9, struct.pack("<IQ", 8, 1 << 60)), count=1),
    "arrays": gguf_head(entries=entry(b"a", 9, struct.pack("<IQIQ", 9, 1, 9, 1)), count=1),
    "text": gguf_head(entries=entry(b"a", 8, struct.pack("<Q", 1 << 60)), count=1),
    "key": gguf_head(entries=struct.pack("<Q", 1 << 63), count=1),
    "kind": gguf_head(entries=entry(b"a", 99, b""), count=1),
    "version": gguf_head(version=77),
    "alignment": gguf_head(entries=entry(b"general.alignment", 4, struct.pack("<I", 0)), count=1),
    "dimensions": gguf_head(1, struct.pack("<Q", 1) + b"a" + struct.pack("<I", 1 << 31)),
    "overflow": gguf_head(
        1, struct.pack("<Q", 1) + b"a" + struct.pack("<I4QIQ", 4, *[1 << 32] * 4, 0, 0)
    ),
    "offset": gguf_head(1, struct.pack("<Q", 1) + b"a" + struct.pack("<IQIQ", 1, 4, 0, 1 << 63)),
    "quantisation": gguf_head(1, struct.pack("<Q", 1) + b"a" + struct.pack("<IQIQ", 1, 4, 999, 0)),
    "nothing": b"GGUF",
}


@pytest.mark.parametrize("content", GGUFS.values(), ids=GGUFS)
@pytest.mark.few(4)
def test_heads_of_gguf(tmp_path, empty_cache, content):
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    refused(lambda: opened(file), "a.gguf", memory=1 << 29)


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    ggufs.write(file, "llama", ggufs.made("llama"))
    return file


@pytest.mark.parametrize("count", [200, 10**4, 2**31 - 1])
@pytest.mark.parametrize(
    "key", ["block_count", "embedding_length", "attention.head_count", "feed_forward_length"]
)
@pytest.mark.few(3)
def test_sizes_of_gguf(small_gguf, tmp_path, empty_cache, key, count):
    file = tmp_path / "lying.gguf"
    content = small_gguf.read_bytes()
    at = content.index(f"llama.{key}".encode()) + len(f"llama.{key}") + 4
    file.write_bytes(content[:at] + struct.pack("<I", count) + content[at + 4 :])
    refused(lambda: opened(file), "lying.gguf", memory=1 << 29)


def test_an_ordinary_reward_model_and_checkpoint_are_bounded_too(copy, shelf):
    folder = copy()
    edit_config(folder, num_hidden_layers=10**6)
    base = str(shelf("llama"))
    refused(lambda: opened(base, adapters=(str(folder),)), "num_hidden_layers")
    refused(lambda: opened(base, reward=str(folder)), "num_hidden_layers")


def test_small_models_open(shelf):
    assert small_model("llama").config.num_hidden_layers == 3
    assert limited(lambda: opened(shelf("llama"))).value == "llama"

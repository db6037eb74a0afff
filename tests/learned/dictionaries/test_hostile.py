"""Files that are broken or made to harm: refused in one line, before memory is taken."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from llmscope.errors import ScopeError
from llmscope.learned.dictionaries import reader
from llmscope.learned.dictionaries.catalog import headers_at
from llmscope.learned.dictionaries.reader import read_dictionary
from tests.learned.dictionaries.files import (
    FEATURES,
    WIDTH,
    config,
    put,
    put_archive,
    put_second,
    weights,
)

SCOPE = "gemma-scope-2b-pt-res/layer_20/x"
MANY = 10**9


def read(path):
    (found,) = headers_at(str(path))
    return read_dictionary(found)


def refusal(path):
    """The message of the refusal, one line as its hint is; little memory was taken for it."""
    tracemalloc.start()
    try:
        with pytest.raises(ScopeError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    found = caught.value
    assert found.hint
    for text in (found.message, found.hint):
        assert text.isprintable()
        assert len(text) < 1000
    return found.message


def with_metadata(**told):
    whole = config()
    whole["metadata"] |= told
    return whole


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (config(d_sae=MANY), "1000000000 features"),
        (config(d_in=MANY), "the config says"),
        (config(d_sae=-1), "d_sae"),
        (config(d_sae=0), "d_sae"),
        (config(d_sae=True), "d_sae"),
        (config(d_sae="40"), "d_sae"),
        (config(d_sae=40.0), "d_sae"),
        (config(d_sae=None), "d_sae"),
        (config(d_sae=[40]), "d_sae"),
        (config(d_sae=41), "W_enc is (12, 40)"),
        (config(d_in=13), "W_enc is (12, 40)"),
        (config("topk", k=41), "more than its 40 features"),
        (config("topk", k=0), "its k is"),
        (config("topk", k=None), "its k is"),
        (config("topk", k=MANY), "its k is"),
        (config("jumprelu"), "threshold"),
        (config("gated"), "b_gate"),
        (config("temporal"), "architecture 'temporal' is not known"),
        (config("matching_pursuit"), "is not known"),
        (config("\x1b[31m\n"), "is not known"),
        (config("x" * 100_000), "is not known"),
        (config(["standard"]), "is not known"),
        (config(architecture={"a": 1}), "is not known"),
        (config(activation_fn_str="tanh-relu"), "'tanh-relu' is not known"),
        (config("gated", activation_fn_str="topk"), "'topk' is not known"),
        (config(normalize_activations="covariance_whitening"), "normalize_activations"),
        (config(normalize_activations=["none"]), "normalize_activations"),
        (config(normalize_activations=2), "normalize_activations"),
        (with_metadata(hook_name="blocks.1.attn.hook_q"), "hook_q"),
        (with_metadata(hook_name="blocks.-1.hook_resid_pre"), "no place"),
        (with_metadata(hook_name="\x1b]0;x\x07\n" * 1000), "no place"),
        (with_metadata(hook_name=None), "no place"),
        (with_metadata(hook_head_index="x"), "hook_head_index"),
        (with_metadata(hook_head_index=-1), "hook_head_index"),
        (config(metadata=[1, 2]), "cannot be read"),
        (config(metadata="x"), "cannot be read"),
        ({}, "hook_name"),
        ([], "no JSON object"),
        ("x", "no JSON object"),
        (7, "no JSON object"),
    ],
)
def test_configs(tmp_path, told, said):
    put(tmp_path, told, weights(config()))
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"{",
            b"\xff\xfe",
            b"\x00" * 100,
            b"[" * 100_000,
            b'{"a":' * 5000 + b"1" + b"}" * 5000,
        ),
        b'{"d_in": 1e999, "hook_name": "blocks.0.hook_resid_pre", "d_sae": NaN}',
        b'{"d_in": ' + b"9" * 10_000 + b"}",
        b'{"a": "' + b"x" * (9 << 20) + b'"}',
    ],
)
def test_files_that_are_no_config(tmp_path, text):
    put(tmp_path)
    (tmp_path / "cfg.json").write_bytes(text)
    assert "cannot be read" in refusal(tmp_path)


def test_a_config_that_is_missing_or_no_file(tmp_path):
    put(tmp_path)
    (tmp_path / "cfg.json").unlink()
    refusal(tmp_path)
    (tmp_path / "cfg.json").mkdir()
    refusal(tmp_path)
    (tmp_path / "cfg.json").rmdir()
    os.mkfifo(tmp_path / "cfg.json")
    refusal(tmp_path)
    (tmp_path / "cfg.json").unlink()
    (tmp_path / "cfg.json").symlink_to("/dev/zero")
    refusal(tmp_path)
    (tmp_path / "cfg.json").unlink()
    (tmp_path / "cfg.json").symlink_to("cfg.json")
    refusal(tmp_path)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_dec", "b_enc"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "holds NaN or infinity"),
        (float("inf"), "holds NaN or infinity"),
        ("large", "holds NaN or infinity"),
        (None, "has no"),
        ("int", "is of torch.int64"),
        ("complex", "is of torch.complex64"),
        ("flat", "the config says"),
        ("empty", "the config says"),
        ("transposed", "the config says"),
    ],
)
def test_tensors(tmp_path, name, value, said):
    told = config()
    tensors = weights(told)
    if isinstance(value, float):
        tensors[name].view(-1)[-1] = value
    elif value is None:
        del tensors[name]
    else:
        one = tensors[name]
        change = {
            "int": one.long(),
            "large": one.double() * 1e300,
            "complex": one.to(torch.complex64),
            "flat": one.reshape(-1)[:-1].contiguous(),
            "empty": one[:0],
            "transposed": one.T.contiguous() if one.dim() > 1 else one[None].contiguous(),
        }
        tensors[name] = change[value]
    put(tmp_path, told, tensors)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("threshold", torch.zeros(FEATURES - 1)),
        ("threshold", torch.zeros(1, FEATURES)),
        ("threshold", torch.full((FEATURES,), float("nan"))),
        ("scaling_factor", torch.ones(3)),
        ("scaling_factor", torch.full((FEATURES,), float("inf"))),
        ("W_skip", torch.ones(3, 3)),
    ],
)
def test_other_tensors(tmp_path, name, tensor):
    told = config("jumprelu_skip_transcoder")
    put(tmp_path, told, weights(told) | {name: tensor})
    assert name in refusal(tmp_path)


def header(entries, length=None):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"x",
            b"\x80\x04]\x94.",
            struct.pack("<Q", 1 << 62),
            struct.pack("<Q", 50) + b"{" * 50,
        ),
        header({"W_enc": {"dtype": "F32", "shape": [12, 40], "data_offsets": [0, 1920]}}),
        header({"W_enc": {"dtype": "F32", "shape": [MANY, MANY], "data_offsets": [0, 4]}})
        + b"1234",
        header({"W_enc": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 0]}}),
        header({"W_enc": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}) + b"1234",
        header({"W_enc": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + b"1234",
        header({}, length=1 << 40),
    ],
)
def test_headers_that_lie(tmp_path, content):
    put(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(content)
    refusal(tmp_path)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("/tmp/llmscope-trap",)


def test_pickles_are_never_run(tmp_path):
    folder = tmp_path / SCOPE
    folder.mkdir(parents=True)
    arrays = {name: one.numpy() for name, one in weights(config("jumprelu")).items()}
    np.savez(folder / "params.npz", **arrays, trap=np.array([Trap()], dtype=object))
    assert "pickled" in refusal(folder)
    np.savez(folder / "params.npz", **arrays | {"W_enc": np.array([Trap()], dtype=object)})
    assert "pickled" in refusal(folder)
    (folder / "params.npz").write_bytes(pickle.dumps(Trap()))
    refusal(folder)
    torch.save({"W_enc": Trap()}, folder / "params.npz")
    refusal(folder)
    put(tmp_path / "other")
    torch.save({"W_enc": Trap()}, tmp_path / "other" / "sae_weights.safetensors")
    refusal(tmp_path / "other")
    torch.save({"W_enc": Trap()}, tmp_path / "other" / "sae.pt")
    (tmp_path / "other" / "sae_weights.safetensors").unlink()
    assert "no dictionary" in refusal(tmp_path / "other")
    assert not os.path.exists("/tmp/llmscope-trap")


def npy(shape, dtype="<f4", body=b"", **options):
    """An array whose header tells what it likes."""
    told = {"descr": dtype, "fortran_order": False, "shape": shape, **options}
    text = repr(told).encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def archive(path, members, level=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", level) as written:
        for name, content in members.items():
            written.writestr(name, content)


@pytest.mark.parametrize(
    "content",
    [
        npy((12, MANY)),
        npy((12, 40), body=b"x" * 7),
        npy((-3, 4)),
        npy("x"),
        npy((12, 40), dtype="|O"),
        npy((2, 2), dtype="<i8", body=b"\x00" * 32),
        npy((12, 40), dtype="nothing"),
        npy((12, 40), extra=__import__),
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"x" * 200,
        b"\x93NUMPY\x09\x00",
        b"",
        b"nothing at all",
    ],
)
def test_archives_that_lie(tmp_path, content):
    arrays = {}
    for name, one in weights(config("jumprelu")).items():
        buffer = io.BytesIO()
        np.save(buffer, one.numpy())
        arrays[f"{name}.npy"] = buffer.getvalue()
    archive(tmp_path / SCOPE / "params.npz", arrays | {"W_enc.npy": content})
    refusal(tmp_path / SCOPE)


def test_archives_that_are_large_unpacked(tmp_path, monkeypatch):
    """A bomb: 100 kB that unpack to 128 MB, on a machine with less."""
    side = 4096
    members = {
        "W_enc.npy": npy((side, side), body=b"\x00" * (4 * side * side)),
        "W_dec.npy": npy((side, side)),
    }
    archive(tmp_path / SCOPE / "params.npz", members)
    assert (tmp_path / SCOPE / "params.npz").stat().st_size < 1 << 20
    assert "is not as large as it tells" in refusal(tmp_path / SCOPE)
    small = {name: npy((side,), body=b"\x00" * 4 * side) for name in ("b_enc", "threshold")}
    members = {f"{name}.npy": content for name, content in small.items()} | {
        "b_dec.npy": small["b_enc"],
        "W_enc.npy": members["W_enc.npy"],
        "W_dec.npy": members["W_enc.npy"],
    }
    archive(tmp_path / SCOPE / "params.npz", members)
    monkeypatch.setattr(reader, "available", lambda _: 64 << 20)
    assert "0.1 GiB of memory, and 0.1 GiB are free" in refusal(tmp_path / SCOPE)


def test_archives_of_other_kinds(tmp_path):
    archive(tmp_path / SCOPE / "params.npz", {f"{at}.npy": b"" for at in range(100)})
    assert "it holds 100 arrays" in refusal(tmp_path / SCOPE)
    archive(tmp_path / SCOPE / "params.npz", {})
    refusal(tmp_path / SCOPE)
    (tmp_path / SCOPE / "params.npz").write_bytes(b"PK\x03\x04" + b"\x00" * 100)
    refusal(tmp_path / SCOPE)
    put_archive(tmp_path / "unnamed")
    assert "nothing tells what" in refusal(tmp_path / "unnamed")
    nan = torch.full((FEATURES,), float("nan"))
    put_archive(tmp_path / "gemma-scope-2b-pt-res/layer_1", threshold=nan)
    assert "NaN" in refusal(tmp_path / "gemma-scope-2b-pt-res/layer_1")


def test_memory_is_looked_at_before_it_is_taken(tmp_path, monkeypatch):
    told = config(d_in=512, d_sae=4096)
    put(tmp_path, told)
    asked = []
    monkeypatch.setattr(reader, "available", lambda device: asked.append(device) or 1 << 20)
    monkeypatch.setattr(reader, "_tensors", lambda *_: pytest.fail("it was read"))
    assert "takes 0.0 GiB of memory" in refusal(tmp_path)
    assert len(asked) == 2  # once more after the dictionaries in memory were dropped


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_memory_that_a_dictionary_takes(tmp_path, dtype):
    put(tmp_path, config(d_in=64, d_sae=512), dtype=dtype)
    file = tmp_path / "sae_weights.safetensors"
    single = 4 * 2 * 64 * 512
    wanted = single if dtype == torch.float32 else single + file.stat().st_size
    assert reader._memory(file, 2 * 64 * 512) == wanted


def test_cross_layer_transcoders(tmp_path):
    told = {"architecture": "jump_relu", "hf_hook_point_in": "model.layers.0.output"}
    put_second(tmp_path / "clt", told, w_dec=torch.zeros(FEATURES, 3, WIDTH))
    assert "cross-layer transcoder" in refusal(tmp_path / "clt")
    whole = config("transcoder")
    put(tmp_path / "other", whole, weights(whole) | {"W_dec": torch.zeros(FEATURES, 3, WIDTH)})
    assert "cross-layer transcoder" in refusal(tmp_path / "other")


@pytest.mark.parametrize("told", [[], {}, {"architecture": "topk"}, {"architecture": "jump_relu"}])
def test_configs_of_gemma_scope_2(tmp_path, told):
    put_second(tmp_path / "x", {"hf_hook_point_out": 3} | told if told else {})
    (tmp_path / "x" / "config.json").write_text(json.dumps(told))
    refusal(tmp_path / "x")


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("empty", "file", "loop", "none", "x" * 300, "x" * 5000, "a\0b", "\x1b[31m"):
        refusal(f"{tmp_path}/{path}")
    for path in ("", "~nobody-at-all/x", "C:\\x", ":", "x:"):
        refusal(path)


def test_names_with_control_characters(tmp_path):
    folder = tmp_path / "a\x1b[31m\nb"
    put(folder, config("nothing"), weights(config()))
    refusal(folder)
    save_file({"x": torch.ones(1)}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config()))
    refusal(folder)


def test_a_link_to_the_weights_elsewhere(tmp_path):
    """As in the hub's cache."""
    put(tmp_path / "blobs")
    (tmp_path / "x").mkdir()
    for name in ("cfg.json", "sae_weights.safetensors"):
        (tmp_path / "x" / name).symlink_to(tmp_path / "blobs" / name)
    assert read(tmp_path / "x").encoder.shape == (WIDTH, FEATURES)

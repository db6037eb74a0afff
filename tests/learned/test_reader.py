"""Files of learned lenses: what is read, what is refused, and that nothing in a file runs."""

import json
import pickle
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from llmscope.errors import ScopeError
from llmscope.learned.lenses import pickled, reader
from llmscope.learned.lenses.held_out import HeldOut, HeldOutReadings
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.reader import HEADER, read_lens
from llmscope.learned.lenses.writer import write_lens
from llmscope.models.loading.memory import GIB

WIDTH = 4


def matrices(*layers, dtype=torch.float16, width=WIDTH):
    generator = torch.Generator().manual_seed(1)
    return {layer: torch.randn(width, width, generator=generator).to(dtype) for layer in layers}


def saved(path, **content):
    torch.save(content, path)
    return path


def refusal(path, **options):
    with pytest.raises(ScopeError) as caught:
        read_lens(str(path), **options)
    found = caught.value
    assert found.hint
    assert "\n" not in found.message + found.hint
    assert "\x1b" not in found.message + found.hint
    return found.message


class TestPublished:
    def test_the_format_of_the_reference(self, tmp_path):
        given = matrices(0, 1, 2)
        path = saved(
            tmp_path / "gpt2_jacobian_lens.pt",
            J=given,
            n_prompts=1000,
            source_layers=[0, 1, 2],
            d_model=WIDTH,
        )
        lens = read_lens(str(path))
        assert (lens.kind, lens.width, lens.layers) == ("jacobian", WIDTH, None)
        assert lens.about == {"n_prompts": 1000}
        assert lens.held_out is None
        assert lens.source == str(path)
        assert len(lens.digest) == 64
        for layer, matrix in given.items():
            own = lens.maps[layer + 1]
            assert torch.equal(own.weight, matrix)
            assert (own.bias, own.adds) == (None, False)
        x = torch.randn(3, WIDTH)
        torch.testing.assert_close(lens.maps[2](x), x @ given[1].float().T)
        assert read_lens(str(path)) is lens

    def test_a_checkpoint_is_averaged(self, tmp_path):
        sums = matrices(0, 1, dtype=torch.float32)
        path = saved(tmp_path / "c.pt", jacobian_sum=sums, n_done=8, n_prompts=100)
        lens = read_lens(str(path))
        assert lens.about["n_prompts"] == 8
        for layer, total in sums.items():
            torch.testing.assert_close(lens.maps[layer + 1].weight, total / 8)

    def test_what_it_tells_of_itself(self, tmp_path):
        path = saved(
            tmp_path / "l.pt",
            J=matrices(0, 1),
            model_name="org/a",
            target_layer=2,
            metadata={"model_name": "org/b", "n_layers": 3, "seeds": (1, 2), "by": {5: None}},
        )
        lens = read_lens(str(path))
        assert lens.layers == 3
        assert (lens.model, lens.about["target_layer"]) == ("org/b", 2)
        assert (lens.about["seeds"], lens.about["by"]) == ([1, 2], {"5": None})
        json.dumps(lens.about)

    def test_layers_by_their_names_and_stacked_matrices(self, tmp_path):
        stacked = torch.randn(2, WIDTH, WIDTH)
        path = saved(tmp_path / "l.pt", J={"0": stacked[0], "1": stacked[1].T})
        assert torch.equal(read_lens(str(path)).maps[2].weight, stacked[1].T)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"other": 1}, "no matrices J"),
            ({"J": {}}, "no matrices"),
            ({"J": [torch.eye(WIDTH)]}, "no matrices"),
            ({"J": torch.eye(WIDTH)}, "no matrices"),
            ({"J": {0: 1.5}}, ""),
            ({"J": {0: torch.tensor(1.0)}}, ""),
            ({"J": {0: 1.5}, "d_model": WIDTH}, "shapes"),
            ({"J": matrices(0), "d_model": 5}, "shapes"),
            ({"J": matrices(0) | matrices(1, width=5)}, "shapes"),
            ({"J": {0: torch.zeros(WIDTH, 5)}}, "shapes"),
            ({"J": {0: torch.zeros(WIDTH)}}, "shapes"),
            ({"J": {0: torch.full((WIDTH, WIDTH), float("nan"))}}, "NaN"),
            ({"J": {0: torch.full((WIDTH, WIDTH), float("inf")).half()}}, "NaN"),
            ({"J": {0: torch.ones(WIDTH, WIDTH, dtype=torch.int64)}}, "int64"),
            ({"J": {"first": torch.eye(WIDTH)}}, "first"),
            ({"J": {(0, 1): torch.eye(WIDTH)}}, "a key is tuple"),
            ({"J": {0.5: torch.eye(WIDTH)}}, "a key is float"),
            ({"J": {-1: torch.eye(WIDTH)}}, "a layer below 0"),
            ({"J": {0: torch.eye(WIDTH), "0": torch.eye(WIDTH)}}, "twice"),
            ({"J": matrices(0), "n_prompts": "many"}, "many"),
            ({"J": matrices(0), "metadata": {"x": torch.ones(2)}}, "metadata holds Tensor"),
            ({"J": matrices(0), "metadata": {"x": [[torch.ones(2)]]}}, "metadata holds Tensor"),
            ({"J": matrices(0), "metadata": [1]}, "metadata is no dictionary"),
            ({"J": matrices(0), "corpus": torch.ones(2)}, "metadata holds Tensor"),
            ({"J": matrices(0), "metadata": {"x": [0] * 200_000}}, "too many values"),
            ({"J": matrices(0), "metadata": {"n_layers": "3"}}, "layers"),
            ({"J": matrices(0, 5), "metadata": {"n_layers": 3}}, "layers"),
            ({"J": matrices(0), "metadata": {"n_layers": 3, "held_out": {}}}, ""),
            ({"J": matrices(0), "x": {1, 2}}, "set"),
            ({"J": matrices(0), "x": torch.float16}, "torch float16"),
            ({"J": matrices(0), "x": complex(1)}, "complex"),
            ({"jacobian_sum": matrices(0), "n_done": 0}, "no prompt yet"),
            ({"jacobian_sum": matrices(0)}, "no prompt yet"),
            ({"jacobian_sum": {}, "n_done": 3}, "no matrices"),
            ({"jacobian_sum": {0: torch.ones(4, 4, dtype=torch.int32)}, "n_done": 3}, "int32"),
        ],
    )
    def test_what_is_no_lens(self, tmp_path, content, said):
        assert said in refusal(saved(tmp_path / "l.pt", **content))

    def test_no_dictionary(self, tmp_path):
        torch.save(torch.eye(3), tmp_path / "l.pt")
        assert "not a dictionary" in refusal(tmp_path / "l.pt")

    def test_a_view_that_repeats_a_number_is_no_matrix_of_its_size(self, tmp_path):
        huge = torch.zeros(1).as_strided((1_000_000, 1_000_000), (0, 0))
        assert "larger than the file" in refusal(saved(tmp_path / "l.pt", J={0: huge}))

    def test_one_matrix_for_many_layers(self, tmp_path):
        one = torch.eye(64)
        path = saved(tmp_path / "l.pt", jacobian_sum=dict.fromkeys(range(500), one), n_done=2)
        assert "larger than the file" in refusal(path)

    def test_lists_that_hold_each_other(self, tmp_path):
        nested = [0]
        for _ in range(60):
            nested = [nested] * 10
        path = saved(tmp_path / "l.pt", J=matrices(0), metadata={"nested": nested})
        assert "too many values" in refusal(path)
        lens = read_lens(str(saved(tmp_path / "other.pt", J=matrices(0), unread=nested)))
        assert lens.maps.keys() == {1}
        endless = []
        endless.append(endless)
        path = saved(tmp_path / "e.pt", J=matrices(0), metadata={"endless": endless})
        assert "too many values" in refusal(path)


def literal(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def long(text):
    return b"\x8d" + struct.pack("<Q", len(text)) + text.encode()


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def traps(command):
    """Pickles that run a command, each hiding the name that it calls in another way."""
    call = short(command) + b"\x85R."
    harmless = short("torch") + short("FloatStorage")
    named = short("posix") + b"\x94" + short("system") + b"\x94"
    return {
        **{f"protocol {one}": pickle.dumps(Trap(command), protocol=one) for one in range(6)},
        "short strings": b"\x80\x04" + short("posix") + short("system") + b"\x93" + call,
        "long strings": b"\x80\x04" + long("posix") + long("system") + b"\x93" + call,
        "old strings": b"\x80\x04Vposix\nVsystem\n\x93" + call,
        "byte strings": b"\x80\x04S'posix'\nS'system'\n\x93" + call,
        # Memoised, then fetched after a harmless pair was pushed and popped.
        "memo": b"\x80\x04" + named + b"00h\x00h\x01" + harmless + b"00\x93" + call,
        "long memo": (b"\x80\x04" + named + b"00j\0\0\0\0j\1\0\0\0" + harmless + b"00\x93" + call),
        "put": (
            b"\x80\x02" + literal("posix") + b"q\x00" + literal("system") + b"q\x01" + b"00"
            b"g0\ng1\n" + literal("torch") + literal("FloatStorage") + b"00\x93" + call
        ),
        "duplicate": (
            b"\x80\x04" + short("posix") + short("system") + b"20" + harmless + b"00\x93" + call
        ),
        "pair between": (
            b"\x80\x04" + short("posix") + short("system") + b"(" + harmless + b"1\x93" + call
        ),
        "inst": b"(" + literal(command) + b"iposix\nsystem\n.",
        "obj": b"(cposix\nsystem\n" + literal(command) + b"o.",
        "newobj": b"\x80\x02cposix\nsystem\n" + literal(command) + b"\x85\x81.",
        "harmless first": b"\x80\x02ccollections\nOrderedDict\n0cposix\nsystem\n" + call,
        "getattr": b"\x80\x02c__builtin__\ngetattr\n" + call,
        "dotted": b"\x80\x04ctorch\n_utils.os.system\n" + call,
        "extension": b"\x80\x02\x82\x01" + call,
    }


NAMES = sorted(traps(""))


def archive(path, content, **more):
    """A file as torch.save lays it out, with any bytes as its pickle."""
    with zipfile.ZipFile(path, "w", **more) as written:
        written.writestr("archive/data.pkl", content)
        written.writestr("archive/byteorder", "little")
        written.writestr("archive/version", "3\n")
    return path


class TestHostile:
    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_runs(self, tmp_path, name, monkeypatch):
        mark = tmp_path / "ran"
        content = traps(f"touch {mark}")[name]
        path = archive(tmp_path / "l.pt", content)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
            message = refusal(path)
        assert "wants to call" in message
        assert "nothing of it was run" in message
        assert not mark.exists()
        path = archive(tmp_path / "params.pt", content)
        (tmp_path / "config.json").write_text('{"num_hidden_layers": 1, "d_model": 4}')
        assert "wants to call" in refusal(tmp_path, allow_pickle=True)
        assert not mark.exists()

    def test_the_traps_would_run(self, tmp_path):
        """Else the tests above would show nothing."""
        ran = 0
        for number, name in enumerate(NAMES):
            mark = tmp_path / str(number)
            try:
                pickle.loads(traps(f"touch {mark}")[name])
            except Exception:  # some need more to run: what matters is that most do
                continue
            ran += mark.exists()
        assert ran >= 14

    def test_a_pickle_inside_the_metadata(self, tmp_path):
        mark = tmp_path / "ran"
        saved(tmp_path / "l.pt", J=matrices(0), metadata=Trap(f"touch {mark}"))
        assert "wants to call posix system" in refusal(tmp_path / "l.pt")
        assert not mark.exists()

    def test_names_that_torch_would_allow_but_no_lens_needs(self, tmp_path):
        model = torch.nn.Parameter(torch.eye(WIDTH))
        assert "_rebuild_parameter" in refusal(saved(tmp_path / "l.pt", J={0: model}))

    def test_a_compressed_archive(self, tmp_path):
        with zipfile.ZipFile(saved(tmp_path / "l.pt", J=matrices(0, 1))) as plain:
            files = {one: plain.read(one) for one in plain.namelist()}
        with zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        assert "it is compressed" in refusal(tmp_path / "c.pt")

    def test_two_archives_in_one_file(self, tmp_path):
        """zipfile finds the last one, and torch the first, whose table is as long."""
        one = saved(tmp_path / "l.pt", J={0: torch.zeros(4, 4)}).read_bytes()
        other = saved(tmp_path / "l.pt", J={1: torch.zeros(4, 4)}).read_bytes()
        assert len(one) == len(other)
        (tmp_path / "l.pt").write_bytes(one + other)
        assert "begins inside the file" in refusal(tmp_path / "l.pt")

    def test_another_pickle_than_was_looked_through(self, tmp_path, monkeypatch):
        path = saved(tmp_path / "l.pt", J=matrices(0))

        class Other:
            def __init__(self, _):
                pass

            def get_record(self, _):
                return b"another"

        monkeypatch.setattr(torch._C, "PyTorchFileReader", Other)
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
        assert "inside another" in refusal(path)

    def test_two_pickles(self, tmp_path):
        path = saved(tmp_path / "l.pt", J=matrices(0))
        with zipfile.ZipFile(path, "a") as more:
            more.writestr("other/data.pkl", b"N.")
        assert "2 pickles" in refusal(path)

    def test_a_pickle_that_is_too_long(self, tmp_path):
        path = saved(tmp_path / "l.pt", J=matrices(0), text="x" * pickled.LARGEST_PICKLE)
        assert "its pickle has" in refusal(path)

    def test_a_file_that_ends_anywhere(self, tmp_path):
        content = saved(tmp_path / "l.pt", J=matrices(0, 1)).read_bytes()
        for length in {0, 1, 4, 30, 100, len(content) // 2, len(content) - 1}:
            path = tmp_path / f"{length}.pt"
            path.write_bytes(content[:length])
            refusal(path)

    def test_a_file_with_any_byte_changed(self, tmp_path):
        """It is refused, or read; nothing else is raised."""
        content = saved(tmp_path / "l.pt", J=matrices(0, 1)).read_bytes()
        pickle_at = content.index(b"\x80\x02}")
        for at in (*range(pickle_at, pickle_at + 250), *range(0, len(content), 17)):
            path = tmp_path / "changed.pt"
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x5F]) + content[at + 1 :])
            reader._read.cache_clear()
            with suppress(ScopeError):
                read_lens(str(path))

    @pytest.mark.parametrize("name", ["l.pt", "l.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", b"\xff" * 200, b"<html>"])
    def test_other_files(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)

    def test_a_pickle_without_an_archive(self, tmp_path):
        mark = tmp_path / "ran"
        for number, content in enumerate(traps(f"touch {mark}").values()):
            path = tmp_path / f"{number}.pt"
            path.write_bytes(content)
            assert "no file of tensors" in refusal(path)
        torch.save({"J": matrices(0)}, path, _use_new_zipfile_serialization=False)
        assert "no file of tensors" in refusal(path)
        assert not mark.exists()

    @pytest.mark.parametrize(
        "name", ["", "none.pt", "~nobody-of-this-name/l.pt", "x" * 5000, "a\0b.pt", "\x1b[31m.pt"]
    )
    def test_names_that_lead_nowhere(self, tmp_path, name, monkeypatch):
        monkeypatch.chdir(tmp_path)
        refusal(name)

    def test_another_suffix(self, tmp_path):
        assert "is no lens" in refusal(saved(tmp_path / "l.bin", J=matrices(0)))


class TestLarge:
    """Sparse files of ten gigabytes, where one is free."""

    SIDE = 73_728
    BYTES = 2 * SIDE * SIDE

    @pytest.fixture(autouse=True)
    def little_memory(self, monkeypatch):
        monkeypatch.setattr(reader, "available", lambda _: GIB)
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
        monkeypatch.setattr(safetensors, "safe_open", lambda *_, **__: pytest.fail("read"))

    def check(self, path):
        assert path.stat().st_size > 10e9
        message = refusal(path)
        assert "20.3 GiB of memory, and 1.0 GiB are free" in message

    def test_safetensors(self, tmp_path):
        told = json.dumps({"kind": "jacobian", "width": self.SIDE, "layers": 3})
        header = {
            "__metadata__": {HEADER: told},
            "1.weight": {
                "dtype": "F16",
                "shape": [self.SIDE, self.SIDE],
                "data_offsets": [0, self.BYTES],
            },
        }
        head = json.dumps(header).encode()
        path = tmp_path / "l.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(head)) + head)
            file.truncate(8 + len(head) + self.BYTES)
        self.check(path)

    def sparse(self, path):
        """A zip of torch with one more entry, all of it a hole."""
        saved(path, J=matrices(0))
        with zipfile.ZipFile(path, "a") as more:
            more.writestr("l/data/9", b"")
            hole = more.filelist[-1]
            hole.file_size = hole.compress_size = self.BYTES
            more.start_dir += self.BYTES
        return path

    def test_pickled(self, tmp_path):
        self.check(self.sparse(tmp_path / "l.pt"))

    def test_a_tuned_folder(self, tmp_path):
        (tmp_path / "config.json").write_text('{"num_hidden_layers": 1, "d_model": 4}')
        self.sparse(tmp_path / "params.pt")
        assert "GiB are free" in refusal(tmp_path, allow_pickle=True)
        (tmp_path / "params.safetensors").touch()
        with (tmp_path / "params.safetensors").open("wb") as file:
            file.truncate(self.BYTES)
        assert "GiB are free" in refusal(tmp_path)


def readings(streams, start):
    numbers = tuple(start + number / 8 for number in range(streams))
    return HeldOutReadings(numbers, numbers, tuple((number, 0.5) for number in numbers))


def measured(streams=4):
    parts = (readings(streams, start) for start in (0.0, 1.0, 2.0))
    return HeldOut(100, 7, *parts, "other layers' matrices")


def made(kind="jacobian", held_out=None, layers=3, **about):
    weights = matrices(1, 2, dtype=torch.float32) | (
        matrices(0, dtype=torch.float32) if kind == "tuned" else {}
    )
    adds = kind == "tuned"
    bias = torch.randn(WIDTH) if adds else None
    maps = {at: AffineMap(weight, bias, adds) for at, weight in weights.items()}
    return LearnedLens(kind, maps, WIDTH, layers, about, held_out=held_out)


class TestRoundTrip:
    @pytest.mark.parametrize("held_out", [None, measured()])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
    @pytest.mark.parametrize(
        ("kind", "suffix"),
        [("jacobian", ".pt"), ("jacobian", ".safetensors"), ("tuned", ".safetensors")],
    )
    def test_what_was_written_is_read(self, tmp_path, kind, suffix, dtype, held_out):
        about = {"model_name": "org/name", "n_prompts": 12, "corpus": {"name": "text", "seed": 1}}
        given = made(kind, held_out, **about, positions=(1, 2))
        path = tmp_path / "new" / f"lens{suffix}"
        write_lens(given, path, dtype)
        lens = read_lens(str(path))
        assert (lens.kind, lens.width, lens.layers) == (kind, WIDTH, 3)
        assert about.items() <= lens.about.items()
        assert lens.about["positions"] == [1, 2]
        assert lens.held_out == held_out
        assert sorted(lens.maps) == sorted(given.maps)
        for at, own in given.maps.items():
            found = lens.maps[at]
            assert torch.equal(found.weight, own.weight.to(getattr(torch, dtype)))
            assert found.adds == own.adds
            assert (found.bias is None) == (own.bias is None)
            if own.bias is not None:
                assert torch.equal(found.bias, own.bias)
        write_lens(lens, path.with_stem("again"), dtype)
        again = read_lens(str(path.with_stem("again")))
        assert (again.about, again.held_out) == (lens.about, lens.held_out)
        assert again.digest == lens.digest

    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_without_the_number_of_layers(self, tmp_path, suffix):
        write_lens(made(layers=None), tmp_path / f"l{suffix}")
        assert read_lens(str(tmp_path / f"l{suffix}")).layers is None

    def test_a_changed_file_is_read_anew(self, tmp_path):
        path = tmp_path / "l.pt"
        write_lens(made(n_prompts=1), path)
        first = read_lens(str(path))
        write_lens(made(n_prompts=2), path)
        assert (first.about["n_prompts"], read_lens(str(path)).about["n_prompts"]) == (1, 2)
        assert torch.isfinite(first.maps[1].weight).all()

    def test_what_cannot_be_written(self, tmp_path):
        with pytest.raises(ScopeError, match="no name for a lens"):
            write_lens(made("tuned"), tmp_path / "l.pt")
        with pytest.raises(ScopeError, match="no name for a lens"):
            write_lens(made(), tmp_path / "l.bin")
        large = replace(made(), maps={1: AffineMap(torch.full((4, 4), 1e6))})
        with pytest.raises(ScopeError, match="does not fit in float16"):
            write_lens(large, tmp_path / "l.pt")
        embedding = replace(made(), maps={0: AffineMap(torch.eye(4))})
        with pytest.raises(ScopeError, match="for the embedding"):
            write_lens(embedding, tmp_path / "l.pt")
        (tmp_path / "file").touch()
        with pytest.raises(ScopeError, match="cannot write"):
            write_lens(made(), tmp_path / "file" / "l.pt")
        assert [one.name for one in tmp_path.iterdir()] == ["file"]


TENSORS = {"1.weight": torch.eye(WIDTH), "2.weight": torch.eye(WIDTH)}
TOLD = {"kind": "jacobian", "width": WIDTH, "layers": 3, "about": {}, "held_out": None}


class TestSafetensors:
    @pytest.mark.parametrize(
        ("header", "tensors"),
        [
            (None, {}),
            ([], {}),
            ({"kind": "other"}, {}),
            ({"width": 5}, {}),
            ({"width": None}, {}),
            ({"layers": 2}, {}),
            ({"layers": -1}, {}),
            ({"about": [1]}, {}),
            ({"about": "text"}, {}),
            ({"held_out": {}}, {}),
            ({"held_out": measured(3).to_dict()}, {}),
            ({}, {"x.weight": torch.eye(WIDTH)}),
            ({}, {"-1.weight": torch.eye(WIDTH)}),
            ({}, {"1.weight": torch.eye(WIDTH).int()}),
            ({}, {"1.weight": torch.eye(WIDTH) * float("nan")}),
            ({}, {"1.weight": torch.eye(5)}),
            ({}, {"1.bias": torch.ones(5)}),
            ({}, {"1.bias": torch.ones(WIDTH).int()}),
            ({}, {"1.bias": torch.ones(WIDTH) * float("inf")}),
        ],
    )
    def test_what_is_no_lens(self, tmp_path, header, tensors):
        header = TOLD | header if isinstance(header, dict) else header
        path = tmp_path / "l.safetensors"
        save_file(TENSORS | tensors, path, metadata={HEADER: json.dumps(header)})
        assert "cannot be read" in refusal(path)

    def test_another_header(self, tmp_path):
        path = tmp_path / "l.safetensors"
        save_file(TENSORS, path)
        assert "tells of no lens" in refusal(path)
        save_file(TENSORS, path, metadata={HEADER: "[" * 100_000})
        refusal(path)


class TestTunedFolders:
    @pytest.mark.parametrize(
        ("config", "tensors"),
        [
            ({}, {"0.weight": torch.eye(5)}),
            ({}, {"0.bias": torch.ones(5)}),
            ({}, {"0.bias": torch.ones(WIDTH) * float("nan")}),
            ({}, {"0.weight": torch.eye(WIDTH).int()}),
            ({"num_hidden_layers": 3}, {}),
            ({"num_hidden_layers": 0}, {}),
            ({"num_hidden_layers": 10**9}, {}),
            ({"num_hidden_layers": None}, {}),
            ({"d_model": "wide"}, {}),
            (None, {}),
        ],
    )
    @pytest.mark.parametrize("safe", [False, True])
    def test_what_is_no_lens(self, tmp_path, config, tensors, safe):
        told = {"num_hidden_layers": 1, "d_model": WIDTH}
        written = [] if config is None else told | config
        (tmp_path / "config.json").write_text(json.dumps(written))
        state = {"0.weight": torch.eye(WIDTH), "0.bias": torch.ones(WIDTH)} | tensors
        if safe:
            save_file(state, tmp_path / "params.safetensors")
        else:
            torch.save(state, tmp_path / "params.pt")
        assert "cannot be read" in refusal(tmp_path, allow_pickle=True)


COMMIT = "0" * 40
MODEL = {"layers": 3, "width": WIDTH, "names": ("org/name", "name"), "revision": COMMIT}


class TestMisfit:
    @pytest.mark.parametrize("kind", ["jacobian", "tuned"])
    @pytest.mark.parametrize(
        "about",
        [
            {},
            {"model_name": "other/Name"},
            {"model_name": "name"},
            {"model_revision": COMMIT},
            {"model_revision": "main"},
            {"model_revision": "f" * 64},
            {"target_layer": 2},
            {"target_layer": -1},
            {"processing": {"weight_basis": "raw_huggingface"}},
            {"processing": "none"},
        ],
    )
    def test_lenses_that_fit(self, kind, about):
        assert made(kind, **about).misfit(**MODEL) == ""
        assert made(kind, **about).misfit(**MODEL | {"revision": None}) == ""

    @pytest.mark.parametrize(
        ("lens", "said"),
        [
            (replace(made(), width=5), "streams of width 5, and the model's have 4"),
            (made(layers=4), "for 4 layers, and the model has 3"),
            (made(target_layer=1), "maps to layer 1, and the model's last is 2"),
            (made(target_layer="\x1b[31m"), r"maps to layer \x1b[31m, and"),
            (made(model_name="org/other"), "for the model org/other"),
            (made(model_name="\x1b\n" * 500), "for the model"),
            (made(model_revision="1" * 40), "for revision 1111"),
            (made(processing={"weight_basis": "folded"}), "for other activations: folded"),
        ],
    )
    def test_lenses_of_another_model(self, lens, said):
        found = lens.misfit(**MODEL)
        assert said in found
        assert len(found) < 500
        assert "\x1b" not in found
        assert "\n" not in found

    def test_a_lens_that_ends_at_another_depth(self):
        lens = made(layers=None)
        assert lens.misfit(**MODEL) == ""
        deeper = lens.misfit(**MODEL | {"layers": 5})
        assert deeper == "the lens ends at layer 1, so its model has 3 layers, and this one has 5"
        assert "has a matrix for layer 1" in lens.misfit(**MODEL | {"layers": 2})
        assert "has a matrix for layer 2" in made("tuned", layers=None).misfit(
            **MODEL | {"layers": 2}
        )


def test_a_lens_is_better_only_if_neither_figure_says_otherwise():
    def ways(top1, gain):
        return HeldOutReadings((top1,), (1.0,), ((gain, 0.1),))

    own = HeldOutReadings((0.5,), (1.0,), ((0.0, 0.0),))
    for logit, baseline, said in (
        (ways(0.2, 0.5), ways(0.2, 0.5), ""),
        (ways(0.2, 0.15), ways(0.2, 0.5), "the logit lens"),
        (ways(0.2, 0.5), ways(0.2, -1.0), "others"),
        (ways(0.7, 0.5), ways(0.2, 0.5), "the logit lens"),  # right more often
        (ways(0.52, 0.5), ways(0.2, 0.5), ""),  # within two standard errors
        (ways(0.7, 0.5), ways(0.2, 0.1), "the logit lens or others"),
    ):
        held = HeldOut(400, 4, own, logit, baseline, "others")
        assert held.no_better(0) == said

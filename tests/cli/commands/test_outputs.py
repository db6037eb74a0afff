"""`llmscope snapshot` with several --out, --out at URLs, and --layer all."""

import json
import os
from xml.etree import ElementTree

import fsspec
import numpy as np
import pytest

import llmscope
from llmscope.cli.output import snapshot_build
from llmscope.export import snapshot_schema
from tests.cli.running import failure, record, run

ASK = ("snapshot", "--prompt", "CABACB", "--lens", "attention")


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def loads(monkeypatch):
    """The specs of the models that are loaded."""
    found = []
    from llmscope.cli.options.loading import Loader

    before = Loader.__call__

    def counted(self, *arguments, **settings):
        found.append(self.model)
        return before(self, *arguments, **settings)

    monkeypatch.setattr(Loader, "__call__", counted)
    return found


def written(folder):
    return sorted(path.name for path in folder.iterdir())


def outs(folder, *names):
    return [word for name in names for word in ("--out", folder / name)]


class TestSeveral:
    def test_are_written_from_one_load_as_if_alone(self, tmp_path, loads):
        names = ("a.json", "b.svg", "c.txt", "e.safetensors")
        result = run(*ASK, *outs(tmp_path, *names), "--out", "-", "--format", "txt")
        assert (result.exit_code, result.stderr) == (0, "")
        assert len(loads) == 1
        assert written(tmp_path) == sorted((*names, "e.json"))
        assert result.stdout == (tmp_path / "c.txt").read_text()
        alone = tmp_path / "alone"
        alone.mkdir()
        for name in names:
            assert run(*ASK, "--out", alone / name).exit_code == 0
        for name in written(alone):
            assert (alone / name).read_bytes() == (tmp_path / name).read_bytes(), name

    def test_are_of_one_pass(self, tmp_path, monkeypatch):
        passes = []
        before = llmscope.Scope.record

        def counted(self, *arguments, **settings):
            passes.append(arguments)
            return before(self, *arguments, **settings)

        monkeypatch.setattr(llmscope.Scope, "record", counted)
        assert run(*ASK, *outs(tmp_path, "a.json", "b.svg", "c.txt")).exit_code == 0
        assert len(passes) == 1

    def test_the_screen_is_drawn_for_each_look(self, tmp_path, loads):
        ask = ("snapshot", "--prompt", "CAB", "--lens", "screen", "--size", "80x24")
        names = ("a.svg", "b.html", "c.txt", "d.json")
        assert run(*ask, *outs(tmp_path, *names)).exit_code == 0
        assert len(loads) == 1
        assert len((tmp_path / "c.txt").read_text().splitlines()) == 24
        assert len(json.loads((tmp_path / "d.json").read_text())["figures"]) == 5
        assert run(*ask, "--out", tmp_path / "alone.svg").exit_code == 0
        assert (tmp_path / "alone.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()

    def test_a_paper_look_is_of_its_pictures(self, tmp_path):
        pytest.importorskip("matplotlib")
        names = ("a.pdf", "b.svg", "c.json")
        assert run(*ASK, "--look", "paper", *outs(tmp_path, *names)).exit_code == 0
        assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
        ElementTree.parse(tmp_path / "b.svg")
        line = json.loads((tmp_path / "c.json").read_text())["provenance"]["command"]
        assert line.endswith("--format json --look terminal")
        assert "html" in failure(*ASK, "--look", "paper", *outs(tmp_path, "x.pdf", "x.html"))
        numbers = outs(tmp_path, "y.json", "y.npz")
        assert "--look" in failure(*ASK, "--look", "paper", *numbers, code=2)

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("a.json", "a.json"),
            ("a.json", "./a.json"),
            ("a.safetensors", "a.json"),
            ("-", "-"),
            ("memory://x/a.json", "memory://x/a.json"),
        ],
    )
    def test_none_is_written_twice(self, tmp_path, monkeypatch, loads, first, second):
        monkeypatch.chdir(tmp_path)
        assert "twice" in failure(*ASK, "--out", first, "--out", second, code=2)
        assert not loads
        assert written(tmp_path) == []

    def test_a_format_is_of_stdout(self, tmp_path):
        told = failure(*ASK, *outs(tmp_path, "a.json", "b.svg"), "--format", "txt", code=2)
        assert "suffix" in told
        assert written(tmp_path) == []

    def test_a_scale_is_of_those_that_scale(self, tmp_path):
        names = outs(tmp_path, "a.json", "b.svg")
        assert run(*ASK, *names, "--scale", "2").exit_code == 0
        line = json.loads((tmp_path / "a.json").read_text())["provenance"]["command"]
        assert "--scale 1" in line
        again = outs(tmp_path, "a.json", "a.npz")
        assert "--scale" in failure(*ASK, *again, "--scale", "2", "--force", code=2)

    def test_all_are_checked_before_the_model_loads(self, tmp_path, loads):
        (tmp_path / "there.svg").touch()
        for name in ("there.svg", "no/such/folder.svg", "x.unknown"):
            failure(*ASK, *outs(tmp_path, "a.json", name))
        assert not loads
        assert written(tmp_path) == ["there.svg"]

    def test_none_is_written_if_one_cannot_be(self, tmp_path, monkeypatch):
        monkeypatch.setattr("llmscope.export.png.MOST", 1000)
        names = outs(tmp_path, "a.json", "b.png")
        told = failure(*ASK, *names, "--out", "-", "--format", "json")
        assert "png" in told or "font" in told
        assert written(tmp_path) == []

    def test_a_batch_takes_one(self, tmp_path):
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("CAB\n")
        ask = ("snapshot", "--prompts", prompts, "--lens", "tokens")
        assert "one folder" in failure(*ask, *outs(tmp_path, "a", "b"), code=2)
        assert "a folder" in failure(*ask, code=2)


class TestUrls:
    def test_a_file_is_written_at_a_url(self, memory, tmp_path):
        result = run(*ASK, "--out", "memory://folder/in/a.json", *outs(tmp_path, "a.svg"))
        assert (result.exit_code, result.stderr) == (0, "")
        assert json.loads(memory.cat("/folder/in/a.json")) == record(*ASK[1:])
        assert written(tmp_path) == ["a.svg"]

    def test_a_pair_is_two_files_there(self, memory):
        assert run(*ASK, "--out", "memory://x/a.safetensors").exit_code == 0
        assert sorted(memory.ls("/x", detail=False)) == ["/x/a.json", "/x/a.safetensors"]

    def test_a_file_there_is_not_replaced(self, memory, loads):
        memory.pipe("/x/a.json", b"{}")
        assert "exists" in failure(*ASK, "--out", "memory://x/a.json")
        assert "exists" in failure(*ASK, "--out", "memory://x/a.safetensors")
        assert not loads
        assert run(*ASK, "--out", "memory://x/a.json", "--force").exit_code == 0
        assert json.loads(memory.cat("/x/a.json"))["schema"] == 1

    def test_a_file_url_is_a_file_here(self, tmp_path):
        assert run(*ASK, "--out", f"file://{tmp_path}/a.json").exit_code == 0
        assert "exists" in failure(*ASK, "--out", f"file://{tmp_path}/a.json")

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("missing://bucket/a.json", "needs no_such_package (try: pip install no_such_package)"),
            ("nothing://bucket/a.json", "nothing"),
            ("memory://folder/", "is a folder"),
            ("memory://folder/a", "names no format"),
        ],
    )
    def test_others_are_refused_before_the_model_loads(
        self, tmp_path, monkeypatch, loads, url, told
    ):
        from fsspec.registry import known_implementations

        entry = {"class": "no_such_package.System", "err": "install it"}
        monkeypatch.setitem(known_implementations, "missing", entry)
        monkeypatch.chdir(tmp_path)
        assert told in failure(*ASK, "--out", url)
        assert not loads
        assert written(tmp_path) == []

    @pytest.mark.parametrize(
        "command",
        [
            ("fit", "jacobian", "--prompts", "p.txt", "--out", "s3://x/lens.safetensors"),
            ("fit", "tuned", "--prompts", "p.txt", "--out", "s3://x/lens.safetensors"),
            ("fit", "merge", "p.txt", "p.txt", "--out", "s3://x/lens.safetensors"),
            ("examples", "--prompts", "p.txt", "--neuron", "0:1", "--out", "s3://x/y"),
            ("compare", "builtin:sort", "builtin:town", "--prompts", "p.txt", "--out", "s3://x/y"),
            ("bake", "--prompt", "A", "--context-file", "p.txt", "--out", "s3://x/y"),
            ("watch", "builtin:town-run", "--export", "s3://x/y"),
            ("diff", "a.json", "b.json", "--out", "missing://x/y.svg"),
        ],
    )
    def test_no_command_makes_a_folder_of_a_scheme(self, tmp_path, monkeypatch, command):
        from fsspec.registry import known_implementations

        entry = {"class": "no_such_package.System", "err": "install it"}
        monkeypatch.setitem(known_implementations, "missing", entry)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "p.txt").write_text("CAB\n")
        result = run(*command)
        assert result.exit_code in (1, 2), result.output
        assert "//x" in result.stderr
        assert written(tmp_path) == ["p.txt"]


class TestAll:
    def test_a_figure_for_each_layer_and_head(self):
        found = record(*ASK[1:], "--lens", "tokens", "--layer", "all", "--head", "all")
        scope = llmscope.load("builtin:sort")
        layers, heads = scope.info().layers, scope.info().heads
        figures = found["figures"]
        assert [one["lens"] for one in figures] == ["attention"] * layers * heads + ["tokens"]
        recording = scope.record("CABACB")
        for place, figure in enumerate(figures[:-1]):
            layer, head = divmod(place, heads)
            own = scope.look("attention", recording=recording, layer=layer, head=head)
            values = np.array(figure["values"], dtype=np.float32)
            assert np.allclose(values, own.values, atol=1e-6, equal_nan=True)
            assert f"layer {layer} head {head}" in figure["title"]
            assert (figure["extra"]["layer"], figure["extra"]["head"]) == (layer, head)

    def test_a_figure_of_all_heads_is_not_repeated(self):
        scope = llmscope.load("builtin:sort")
        found = record(*ASK[1:], "--mode", "mean", "--layer", "all", "--head", "all")
        assert len(found["figures"]) == scope.info().layers

    def test_the_record_fits_the_schema(self):
        jsonschema = pytest.importorskip("jsonschema")
        found = record(*ASK[1:], "--layer", "all", "--head", "all")
        jsonschema.validate(found, snapshot_schema())
        assert isinstance(found["focus"]["layer"], int)

    def test_pictures_are_stacked(self, tmp_path):
        scope = llmscope.load("builtin:sort")
        names = outs(tmp_path, "a.txt", "a.svg")
        assert run(*ASK, "--head", "all", *names).exit_code == 0
        text = (tmp_path / "a.txt").read_text()
        assert text.count("╭") == scope.info().heads
        assert "layer 2 head 1" in text
        ElementTree.parse(tmp_path / "a.svg")

    def test_a_layer_is_a_number_or_all(self):
        assert "all" in failure(*ASK, "--layer", "every", code=2)
        assert "screen" in failure(
            *("snapshot", "--prompt", "A", "--lens", "screen", "--layer", "all"), code=2
        )

    def test_too_many_figures_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(snapshot_build, "MOST_DRAWN", 2)
        names = outs(tmp_path, "a.json", "a.svg")
        told = failure(*ASK, "--layer", "all", "--head", "all", *names)
        assert "too many for a picture" in told
        assert written(tmp_path) == []
        assert run(*ASK, "--layer", "all", "--head", "all", "--out", os.devnull).exit_code == 1
        names = outs(tmp_path, "b.json")
        assert run(*ASK, "--layer", "all", "--head", "all", *names).exit_code == 0
        assert "identical" not in run("diff", *names[1:], *names[1:]).stderr


def test_a_batch_in_which_all_prompts_fail_exits_with_1(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": 1}\n{"id": 2}\n')
    ask = ("snapshot", "--prompts", prompts, "--lens", "tokens", "--out", tmp_path / "out")
    assert "all prompts failed" in failure(*ask)
    prompts.write_text('{"prompt": 1}\n{"prompt": "CAB"}\n')
    ask = (*ask[:-1], tmp_path / "other")
    assert run(*ask).exit_code == 0

import io
import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from pyarrow import parquet

from llmscope.lenses import names
from tests.cli.running import failure, fresh, record, run
from tests.models.checkpoints import edit_config, save_model

ASK = ("snapshot", "--prompt", "CABACB", "--lens")


def test_the_record_says_all_that_was_looked_at():
    found = record("--prompt", "CABACB", "--lens", "next-token")
    assert found["schema"] == 1
    assert found["model"]["spec"] == "builtin:sort"
    assert found["model"]["parameters"] == 85_584
    assert found["prompt"] == "CABACB"
    assert found["tokens"][0] == {"position": 0, "id": 2, "text": "C"}
    assert found["focus"]["position"] == 5
    (figure,) = found["figures"]
    assert figure["axes"][0]["labels"][0] == "A"
    assert figure["values"][0] > 0.99
    assert figure["verdict"]["status"] == "verified"
    assert math.isclose(sum(figure["values"]), 1, abs_tol=1e-6)


def test_figures_come_in_the_order_of_the_lenses():
    lenses = [*reversed(names())]
    ask = ("--prompt", "CAB", "--versus-prompt", "BAC")  # one of them is of two prompts
    found = record(*ask, *(word for name in lenses for word in ("--lens", name)))
    assert [figure["lens"] for figure in found["figures"]] == lenses


def test_two_snapshots_are_the_same_bytes():
    arguments = (*ASK, "residual", "--lens", "attention")
    assert run(*arguments).stdout == run(*arguments).stdout


def test_the_focus_reaches_the_lens():
    found = record(
        *("--prompt", "CABACB", "--lens", "attention:no-sink", "--lens", "next-token"),
        *("--layer", "-3", "--head", "1", "--position", "2", "--top-k", "2"),
        *("--temperature", "2", "--target", "id:1"),
    )
    focus = found["focus"]
    assert (focus["layer"], focus["head"], focus["position"]) == (0, 1, 2)
    assert focus["target"] == 1
    assert found["figures"][0]["extra"]["mode"] == "no-sink"
    assert len(found["figures"][1]["values"]) == 2
    assert found["figures"][1]["extra"]["temperature"] == 2


def test_a_part_of_a_prompt_and_blocks_of_it():
    ask = ("--prompt", "CABACB", "--lens", "attention")
    whole, part, blocks = (
        np.array(record(*ask, *more)["figures"][0]["values"], dtype=np.float32)
        for more in ((), ("--span", "2,4"), ("--pool", "3"))
    )
    assert np.allclose(part, whole[2:4], atol=1e-6, equal_nan=True)
    assert blocks.shape == (2, 2)
    assert blocks[1, 0] == pytest.approx(np.nanmax(whole[3:, :3]), abs=1e-6)
    assert np.isnan(blocks[0, 1])


def test_a_target_is_text_too():
    found = record("--prompt", "CAB", "--lens", "next-token", "--target", "C")
    assert found["focus"]["target"] == 2
    versus = record("--prompt", "CAB", "--lens", "attribution", "--target", "C", "--versus", "A")
    assert versus["focus"]["versus"] == 0
    (figure,) = versus["figures"]
    assert (figure["extra"]["target"], figure["extra"]["versus"]) == ("C", "A")
    assert math.isclose(sum(figure["values"]), figure["extra"]["logit"], rel_tol=1e-5)
    assert "not one token" in failure(*ASK, "next-token", "--versus", "CA")
    assert "not one token" in failure(*ASK, "next-token", "--target", "CA")
    assert "id:0 to id:2" in failure(*ASK, "next-token", "--target", "id:3")


def test_dropped_letters_are_noted_beside_the_data():
    result = run("snapshot", "--prompt", "CAxB", "--lens", "tokens")
    assert len(json.loads(result.stdout)["tokens"]) == 3
    assert result.stderr == "note: dropped 1 character that this tokenizer does not know: x\n"


def test_a_checkpoint_without_tokenizer_takes_ids(tmp_path):
    folder = tmp_path / "model"
    save_model(folder)
    found = record(folder, "--ids", "5, 6,7", "--lens", "next-token", "--lens", "tokens")
    assert found["prompt"] is None
    assert [token["id"] for token in found["tokens"]] == [5, 6, 7]
    assert "--ids" in failure("snapshot", folder, "--prompt", "x", "--lens", "tokens")
    assert "id:" in failure(
        "snapshot", folder, "--ids", "5", "--lens", "next-token", "--target", "x"
    )
    assert "96" in failure("snapshot", folder, "--ids", "5,96", "--lens", "tokens")


def test_a_prompt_may_come_from_files_and_stdin(tmp_path):
    context, rest = tmp_path / "context", tmp_path / "rest"
    context.write_bytes(b"CA\r\n")
    rest.write_bytes(b"BA\n")
    ask = ("--lens", "tokens")
    assert record("--prompt-file", rest, *ask)["prompt"] == "BA\n"
    assert record("--prompt-file", "-", *ask, stdin="BAC")["prompt"] == "BAC"
    assert record("--context-file", context, "--prompt", "B", *ask)["prompt"] == "CA\r\nB"
    assert record("--context-file", context, *ask)["prompt"] == "CA\r\n"


@pytest.mark.parametrize("kind", ["txt", "ansi", "svg", "png", "npz"])
def test_pictures_and_arrays_go_to_files(tmp_path, kind):
    path = tmp_path / f"picture.{kind}"
    size = ("--size", "50x12") if kind != "npz" else ()
    result = run(*ASK, "attention", "--lens", "tokens", "--out", path, *size)
    if kind == "png" and "font" in result.stderr:
        pytest.skip("a bare machine has no font to draw with")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    content = path.read_bytes()
    if kind == "txt":
        assert len(content.decode().splitlines()) == 24
    elif kind == "ansi":
        assert content.count(b"\n") == 24
        assert b"\x1b[" in content
    elif kind == "svg":
        assert ElementTree.fromstring(content).tag.endswith("svg")
    elif kind == "png":
        assert content.startswith(b"\x89PNG")
    else:
        assert np.load(io.BytesIO(content))["0.attention.values"].shape == (6, 6)


def test_the_format_goes_before_the_suffix(tmp_path):
    path = tmp_path / "x.svg"
    assert run(*ASK, "tokens", "--out", path, "--format", "json").exit_code == 0
    assert json.loads(path.read_text())["schema"] == 1


@pytest.mark.parametrize("kind", ["txt", "svg"])
def test_the_whole_screen(tmp_path, kind):
    path = tmp_path / "screen"
    result = run(*ASK, "screen", "--format", kind, "--size", "90x28", "--out", path)
    assert (result.exit_code, result.stderr) == (0, "")
    text = path.read_text()
    assert "CABACB" in text or kind == "svg"
    assert len(text.splitlines()) == 28 or kind == "svg"
    assert "verified" in text


def test_what_a_model_cannot_show_is_a_refused_figure(tmp_path):
    """A readout that is not what the config says: the numbers would look right and be wrong."""
    folder = tmp_path / "model"
    save_model(folder, "gemma2")
    edit_config(folder, architectures=None)
    from llmscope.models import anatomy

    found = anatomy._readout
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "_readout", lambda *parts: broken(found(*parts)))
        result = run("snapshot", folder, "--ids", "5,6", "--lens", "logit-lens")
        assert result.exit_code == 0
        figure = json.loads(result.stdout)["figures"][0]
        assert figure["verdict"]["status"] == "refused"
        assert figure["verdict"]["reason"]
        assert figure["values"] is None
        picture = run("snapshot", folder, "--ids", "5", "--lens", "logit-lens", "--format", "txt")
        assert picture.exit_code == 0
        assert "refused" in picture.stdout


def broken(readout):
    from dataclasses import replace

    from torch import nn

    return replace(readout, norm=nn.Identity())


class TestBadInput:
    """Each a clear line, and nothing else happens."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--lens", "nope"), "next-token"),
            (("--lens", "tokens", "--lens", "screen"), "combined"),
            (("--lens", "tokens", "--mode", "mean"), "--mode"),
            (("--lens", "tokens", "--format", "pdf"), "svg"),
            (("--lens", "tokens", "--size", "12"), "120x40"),
            (("--lens", "walkthrough:values", "--cell", "5"), "ROW,COLUMN"),
            (("--lens", "attention", "--span", "5"), "FIRST,END"),
            (("--lens", "attention", "--span", "5,5"), "one after it"),
            (("--lens", "tokens", "--size", "0x4"), "120x40"),
            (("--lens", "tokens", "--temperature", "0"), "--temperature"),
            (("--lens", "tokens", "--top-k", "0"), "--top-k"),
            (("--lens", "tokens", "--ids", "1"), "one prompt"),
            (("--lens", "tokens", "--prompt-file", "-"), "one prompt"),
        ],
    )
    def test_wrong_usage(self, arguments, said):
        # The model does not exist: whatever is said was found before one was looked for.
        assert said in failure("snapshot", "./nope", "--prompt", "CAB", *arguments, code=2)

    @pytest.mark.parametrize("ids", ["x", "1,-2", "1;2", "1.5"])
    def test_ids_that_are_no_numbers(self, ids):
        assert "--ids" in failure("snapshot", "--lens", "tokens", "--ids", ids, code=2)

    def test_no_prompt(self):
        assert "--prompt" in failure("snapshot", "--lens", "tokens", code=2)

    @pytest.mark.parametrize("arguments", [("--prompt", ""), ("--ids", ""), ("--prompt", "xyz")])
    @pytest.mark.parametrize("lens", ["tokens", "screen"])
    def test_an_empty_prompt(self, arguments, lens):
        if lens == "screen" and "--ids" in arguments:
            assert "text" in failure("snapshot", "--lens", lens, *arguments, code=2)
        else:
            assert "prompt is empty" in failure("snapshot", "--lens", lens, *arguments)

    @pytest.mark.parametrize("lens", ["tokens", "screen"])
    def test_a_prompt_longer_than_the_context(self, lens):
        said = failure("snapshot", "--prompt", "ABC" * 4, "--lens", lens)
        assert "12 tokens" in said
        assert "11" in said

    @pytest.mark.parametrize("option", ["--layer", "--head", "--position"])
    @pytest.mark.parametrize("lens", ["attention", "screen"])
    def test_an_index_out_of_range(self, option, lens):
        lens = "next-token" if (lens, option) == ("attention", "--position") else lens
        for value in ("9", "-9"):
            assert f"{option[2:]} {value} is out of range" in failure(*ASK, lens, option, value)

    @pytest.mark.parametrize(
        "arguments",
        [("--device", "tpu"), ("--dtype", "int8"), ("--theme", "nope", "--format", "svg")],
    )
    def test_a_choice_that_does_not_exist(self, arguments):
        assert arguments[1] in failure(*ASK, "tokens", *arguments)

    def test_a_model_that_does_not_exist(self):
        assert "hub cannot be reached" in failure("snapshot", "gpt2", *ASK[1:], "tokens")
        assert "\x1b" not in failure("snapshot", "\x1b[31m", *ASK[1:], "tokens")

    def test_files_that_cannot_be_read(self, tmp_path):
        ask = ("snapshot", "--lens", "tokens", "--prompt-file")
        assert "No such file" in failure(*ask, tmp_path / "nope")
        (tmp_path / "latin").write_bytes(b"CAB\xe9")
        assert "not UTF-8" in failure(*ask, tmp_path / "latin")

    def test_files_that_cannot_be_written(self, tmp_path):
        ask = ("snapshot", "./nope", "--prompt", "CAB", "--lens", "tokens", "--out")
        old = tmp_path / "old.json"
        old.write_text("old")
        assert "--force" in failure(*ask, old)
        assert "is a folder" in failure(*ask, tmp_path)
        assert "no such folder" in failure(*ask, tmp_path / "nope" / "x.json")
        assert "names no format" in failure(*ask, tmp_path / "x.doc")
        assert old.read_text() == "old"
        assert run(*ASK, "tokens", "--out", old, "--force").exit_code == 0
        assert json.loads(old.read_text())["schema"] == 1


def test_nothing_but_data_on_stdout_and_nothing_else_without_a_terminal():
    result = fresh(*ASK, "tokens")
    assert result.returncode == 0
    assert result.stderr == ""
    assert json.loads(result.stdout)["figures"]


def test_debug_shows_where_it_happened():
    result = fresh("snapshot", "./nope", "--prompt", "x", "--lens", "tokens", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: there is no ./nope")


def test_the_screen_as_numbers_has_the_figures_that_it_shows():
    record = json.loads(
        run("snapshot", "--prompt", "CABACB", "--lens", "screen", "--format", "json").stdout
    )
    lenses = [figure["lens"] for figure in record["figures"]]
    assert lenses == ["tokens", "residual", "next-token", "attention", "mlp"]
    assert record["figures"][2]["axes"][0]["labels"][0] == "A"


def test_a_pool_needs_a_lens_that_has_one():
    ask = ("builtin:sort", "--prompt", "CABACB", "--pool", "2", "--lens", "tokens")
    assert "--pool" in failure("snapshot", *ask, code=2)
    tokens, blocks = record(*ask, "--lens", "attention")["figures"]
    assert len(tokens["values"]) == 6
    assert len(blocks["values"]) == 3


def test_each_lens_in_a_mode_of_its_own(tmp_path):
    found = record(
        *ASK[1:], "attribution:heads", "--lens", "attribution:layers", "--lens", "tokens"
    )
    assert [figure["extra"].get("mode") for figure in found["figures"]] == ["heads", "layers", None]
    alone = record(*ASK[1:], "attribution", "--mode", "layers")["figures"][0]
    assert found["figures"][1]["values"] == alone["values"]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "CAB"}\n')
    ask = ("--prompts", prompts, "--out", tmp_path / "out", "--lens", "attribution:heads")
    run("snapshot", *ask, "--lens", "residual:cosine")
    path = tmp_path / "out" / "attribution" / "shard-00000.parquet"
    columns = set(parquet.read_table(path).column_names)
    assert {"layer", "head", "contribution", "sum"} <= columns


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("attribution:heds",), "attribution has no mode 'heds': parts, heads, layers, neurons"),
        (("tokens:heads",), "tokens has no mode 'heads': it has none"),
        (
            ("attribution", "--lens", "tokens", "--mode", "heads"),
            "tokens has no mode 'heads': it has none; give it to the lens that has it: "
            "attribution:heads",
        ),
        (("tokens", "--top-k", "3"), "none of these lenses has it"),
        (("next-token", "--layer", "1"), "none of these lenses has it"),
        (("patching", "--layers", "3-1"), "a range ascends"),
    ],
)
def test_a_mode_or_an_option_that_does_not_fit_is_refused(arguments, reason):
    said = " ".join(failure(*ASK, *arguments, code=2).split())
    assert reason in said

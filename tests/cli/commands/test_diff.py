"""`llmscope diff`: against snapshots that are the same, nearly the same, and not."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from llmscope.lenses import lens, names
from tests.cli.running import failure, fresh, run
from tests.cli.test_start import HEAVY, WITNESS

ASK = ("snapshot", "builtin:sort")
OF_TWO = {name for name in names() if lens(name).reads_prompt_b}


def taken(path, *lenses, prompt="CABACB", options=()):
    words = [word for lens in lenses for word in ("--lens", lens)]
    words += ["--versus-prompt", "BACABC"] if OF_TWO & {*lenses} else []
    result = run(*ASK, "--prompt", prompt, *words, *options, "--out", path)
    assert result.exit_code == 0, result.output
    return path


def told(*arguments, code):
    result = run("diff", *arguments, "--format", "json")
    assert result.exit_code == code, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def changed(path, change):
    """A copy of a JSON snapshot that was changed."""
    found = json.loads(path.read_text())
    change(found)
    copy = path.with_name("changed.json")
    copy.write_text(json.dumps(found))
    return copy


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A snapshot of every lens in each format."""
    folder = tmp_path_factory.mktemp("whole")
    places = [folder / name for name in ("a.json", "b.npz", "c.safetensors")]
    return [taken(place, *names()) for place in places]


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (1, 2), (2, 0)])
def test_a_format_changes_nothing(whole, pair):
    a, b = (whole[index] for index in pair)
    found = told(a, b, "--tolerance", "0", code=0)
    assert found["same"]
    assert found["faults"] == found["notes"] == []
    assert [one["lens"] for one in found["figures"]] == [*names()]
    assert {one["largest"] for one in found["figures"]} <= {0, None}
    assert run("diff", a, b).stdout.endswith("\nthe same within 1e-05\n")


def test_the_largest_difference_is_found_where_it_is(tmp_path):
    a = taken(tmp_path / "a.npz", "attention", "residual", options=("--layer", "1"))
    b = taken(tmp_path / "b.json", "attention", "residual", prompt="CABACC")
    with np.load(a) as file:
        ours = file["1.residual.values"]
        labels = json.loads(str(file["1.residual.figure"]))["axes"]
    theirs = np.array(json.loads(b.read_text())["figures"][1]["values"])
    apart = np.abs(ours - theirs)
    at = np.unravel_index(apart.argmax(), apart.shape)
    found = told(a, b, code=1)
    assert not found["same"]
    assert found["faults"] == ["token 5: 'B' (id 1) / 'C' (id 2)"]
    one = found["figures"][1]
    assert one["largest"] == pytest.approx(apart.max())
    assert [place["place"] for place in one["where"]] == [*at]
    assert [place["label"] for place in one["where"]] == [
        axis["labels"][index] for axis, index in zip(labels, at, strict=True)
    ]
    assert "position 5: 'B' / 'C'" in one["faults"]
    assert 'prompt: "CABACB" / "CABACC"' in found["notes"]
    assert "focus.layer: 1 / 2" in found["notes"]
    table = run("diff", a, b).stdout
    assert re.search(rf"^residual +{apart.max():.3g}  layer {at[0]} .*differs$", table, re.M)
    assert "2 of 2 figures differ" in table


@pytest.mark.parametrize(("tolerance", "code"), [("1e-5", 1), ("0.01", 1), ("0.02", 0)])
def test_the_tolerance_decides(tmp_path, tolerance, code):
    a = taken(tmp_path / "a.json", "attention")

    def moved(found):
        found["figures"][0]["values"][3][2] += 0.015

    b = changed(a, moved)
    assert told(a, b, "--tolerance", tolerance, code=code)["figures"][0]["where"] == [
        {"axis": "query", "place": 3, "label": "A"},
        {"axis": "key", "place": 2, "label": "B"},
    ]


def wrong(name, value):
    return lambda found: found["figures"][0].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong("verdict", {"status": "partial", "reason": ""}), "verdict: verified / partial"),
        (wrong("unit", "bits"), "unit: probability / bits"),
        (wrong("lens", "other"), "only in A"),
        (wrong("axes", [{"name": "token", "labels": ["A", "B", "x"]}]), "token 2: 'C' / 'x'"),
        (wrong("axes", [{"name": "rank", "labels": ["A", "B", "C"]}]), "shape: token 3 / rank 3"),
        (wrong("values", [0.5, None, 0.1]), "values: 1 in one alone"),
        (lambda found: found["figures"][0]["extra"].update(ids=[0, 2, 1]), "ids: 2 of 3 differ"),
        (lambda found: found["figures"][0]["extra"].pop("logits"), "logits: only in A"),
        (lambda found: found["figures"][0]["extra"].update(logits=[1.0]), "logits: shape"),
        (lambda found: found["figures"][0]["extra"].update(entropy=9), "entropy: 9 beyond"),
    ],
)
@pytest.mark.few(3)
def test_what_else_may_differ(tmp_path, change, said):
    a = taken(tmp_path / "a.json", "next-token")
    found = told(a, changed(a, change), "--tolerance", "0.1", code=1)
    assert any(fault.startswith(said) for fault in found["figures"][0]["faults"]), found


def test_the_picture_is_b_less_a(tmp_path):
    lenses = ("attention", "residual", "next-token", "logit-lens")
    a = taken(tmp_path / "a.npz", *lenses)
    b = taken(tmp_path / "b.json", *lenses, prompt="CABACC")
    result = run("diff", a, b, "--out", tmp_path / "c.txt")
    assert (result.exit_code, result.stderr) == (1, "")
    drawn = (tmp_path / "c.txt").read_text()
    norms = [json.loads(b.read_text())["figures"][1]["values"][-1][-1]]
    with np.load(a) as file:
        norms.append(float(file["1.residual.values"][-1][-1]))
    assert f"{norms[0] - norms[1]:.3f}" in drawn
    assert "Next token after ‹C› · B − A · verified" in drawn
    assert "they show different tokens" in drawn
    back = run("diff", b, a, "--out", tmp_path / "d.txt")
    assert back.exit_code == 1
    assert f"{norms[1] - norms[0]:.3f}" in (tmp_path / "d.txt").read_text()


def test_every_lens_can_be_drawn_from_each_format(whole, tmp_path):
    a, b, c = whole
    for number, (x, y) in enumerate([(a, b), (b, c), (c, a)]):
        path = tmp_path / f"{number}.html"
        assert run("diff", x, y, "--out", path).exit_code == 0
        assert "Attention" in path.read_text()


def test_where_no_picture_can_go(tmp_path):
    a = taken(tmp_path / "a.json", "tokens")
    failure("diff", a, a, "--out", tmp_path / "b.json", code=2)
    failure("diff", a, a, "--out", "-", code=2)
    assert "exists" in failure("diff", a, a, "--out", taken(tmp_path / "b.svg", "tokens"), code=2)


def test_what_cannot_be_drawn_is_one_line(tmp_path):
    a = taken(tmp_path / "a.json", "attention")
    b = changed(a, lambda found: found["figures"][0].update(extra={"heads": "x", "special": 3}))
    assert "cannot be drawn" in failure("diff", b, b, "--out", tmp_path / "c.svg", code=2)
    assert not (tmp_path / "c.svg").exists()


def test_foreign_text_is_harmless(tmp_path):
    a = taken(tmp_path / "a.json", "next-token")
    nasty = ["\x1b[31m", "[/nope]\n", "\u202e"]
    b = changed(a, wrong("axes", [{"name": "\x1b]0;x\x07", "labels": nasty}]))
    c = changed(a, lambda found: found["tokens"][0].update(text="\x1b[2J\n"))
    for path in (b, c):
        text = run("diff", a, path).stdout + run("diff", a, path, "--format", "json").stdout
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f‪-‮]", text)


def test_what_cannot_be_compared_is_one_line(tmp_path):
    a = taken(tmp_path / "a.json", "next-token")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
    for name, wanted in (("gone.json", "cannot read"), ("b.npz", "b.npz is no snapshot")):
        line = failure("diff", a, tmp_path / name, code=2)  # 1 says that the two differ
        assert wanted in line
        assert line.startswith("error: ")
        assert line.count("\n") == 1


def test_of_many_differences_the_first_are_listed(tmp_path):
    a = taken(tmp_path / "a.json", "next-token")
    more = {f"key {place}": "long" * 1000 for place in range(10_000)}
    b = changed(a, lambda found: found.update(provenance=more))
    result = run("diff", a, b)
    assert result.exit_code == 0
    assert len(result.stdout) < 50_000
    assert re.search(r"99\d\d more", result.stdout)


@pytest.mark.parametrize(
    "options", [(), ("--tolerance", "-1"), ("--tolerance", "nan"), ("--format", "xml")]
)
def test_wrong_usage(tmp_path, options):
    words = (tmp_path, tmp_path) if options else (tmp_path,)
    failure("diff", *words, *options, code=2)


def test_it_needs_no_torch_and_ends_with_its_code(tmp_path):
    a = taken(tmp_path / "a.safetensors", "next-token")
    b = taken(tmp_path / "b.npz", "next-token", prompt="CAA")
    same, other = (fresh("diff", str(a), str(path), code=WITNESS) for path in (a, b))
    assert (same.returncode, other.returncode) == (0, 1)
    for result in (same, other):
        modules = {name.partition(".")[0] for name in json.loads(result.stderr)}
        assert not modules & HEAVY
    assert "figures differ" in other.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    a = taken(tmp_path / "a.json", "next-token")
    code = "from llmscope.cli import main; main()"
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-c", code, "diff", str(a), str(a)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert result.returncode == 1
    assert result.stderr == ""

"""`llmscope diff` of vLLM's hidden states: against other ones, and against a snapshot."""

import json

import numpy as np
import pytest
import torch

from tests.cli.running import failure, run
from tests.vllm_files import write

IDS = [1, 2, 0]
LAYERS = ("--layer-ids", "0,2,3")


def numbers(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 8, generator=generator).to(dtype) for _ in range(3)]


def told(*arguments, code):
    result = run("diff", *arguments, "--format", "json")
    assert (result.exit_code, result.stderr) == (code, ""), result.output
    return json.loads(result.stdout)


@pytest.fixture
def pair(tmp_path):
    """Two files; the second differs in one number of the second layer."""
    ours = numbers()
    theirs = [one.clone() for one in ours]
    theirs[1][2, 5] += 0.25
    return [
        write(tmp_path / name, IDS, found)
        for name, found in (("a.safetensors", ours), ("b.safetensors", theirs))
    ]


def test_the_layer_that_differs(pair):
    found = told(*pair, *LAYERS, code=1)
    assert [one["lens"] for one in found["figures"]] == [
        "layer id 0",
        "layer id 2",
        "layer id 3",
    ]
    assert [one["same"] for one in found["figures"]] == [True, False, True]
    one = found["figures"][1]
    assert one["largest"] == pytest.approx(0.25, abs=1e-6)
    assert [place["place"] for place in one["where"]] == [2, 5]
    ours = numbers()[1].double().numpy()
    share = 0.25 / np.linalg.norm(ours[2])
    moved = ours[2] + 0.25 * (np.arange(8) == 5)
    cosine = ours[2] @ moved / np.linalg.norm(ours[2]) / np.linalg.norm(moved)
    said = f"0 in the median of the tokens, {share:.3g} at most; cosine {cosine:.6g} at least"
    assert said in one["faults"][1]
    assert told(*pair, *LAYERS, "--tolerance", "0.3", code=0)["same"]
    table = run("diff", *pair, *LAYERS).stdout
    assert 'position 2 "0", dimension 5' in table
    assert "1 of 3 figures differ" in table


def test_another_text_and_another_dtype(tmp_path):
    a = write(tmp_path / "a.safetensors", IDS, numbers())
    other = [one[:2] for one in numbers()]
    b = write(tmp_path / "b.safetensors", [1, 3], other)
    found = told(a, b, *LAYERS, code=1)
    assert found["faults"] == ["tokens: 3 / 2", "token 1: '2' (id 2) / '3' (id 3)"]
    half = write(tmp_path / "c.safetensors", IDS, [one.bfloat16() for one in numbers()])
    found = told(a, half, *LAYERS, "--tolerance", "0.02", code=0)
    assert found["notes"] == ["dtype: float32 / bfloat16"]


def test_the_picture_is_the_share_that_differs(pair, tmp_path):
    result = run("diff", *pair, *LAYERS, "--out", tmp_path / "x.txt")
    assert result.exit_code == 1
    share = 0.25 / float(numbers()[1][2].norm())
    drawn = (tmp_path / "x.txt").read_text()
    assert f"{share:.3f}" in drawn
    assert "‖A − B‖ / ‖A‖" in drawn


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """The norms of a model as llmscope has them, and the streams that they are of."""
    import llmscope

    path = tmp_path_factory.mktemp("own") / "own.json"
    scope = llmscope.load("builtin:sort")
    recording = scope.record("CABACB", fresh=True)
    words = ("builtin:sort", "--prompt", "CABACB", "--lens", "residual", "--out", path)
    assert run("snapshot", *words).exit_code == 0
    streams = [recording.rows("stream", layer) for layer in range(recording.layers + 1)]
    return path, list(recording.prompt.ids), streams


def test_against_a_snapshot_of_the_model(snapshot, tmp_path):
    own, ids, streams = snapshot
    last = len(streams) - 1
    path = write(tmp_path / "a.safetensors", ids, streams, [0, last])
    for files in ((path, own), (own, path)):
        found = told(*files, "--layer-ids", f"0,{last}", code=0)
        assert [one["lens"] for one in found["figures"]] == ["residual"]
        assert found["faults"] == found["notes"] == []
    streams = [one.clone() for one in streams]
    streams[last][3] *= 1.5
    path = write(tmp_path / "b.safetensors", ids, streams, [0, last])
    found = told(own, path, "--layer-ids", f"0,{last}", code=1)
    where = found["figures"][0]["where"]
    assert [place["label"] for place in where] == [str(last - 1), "A"]
    size = float(streams[last][3].norm())
    assert found["figures"][0]["largest"] == pytest.approx(size / 3, rel=1e-4)
    assert run("diff", own, path, "--layer-ids", f"0,{last}", "--out", tmp_path / "x.txt").exit_code
    drawn = (tmp_path / "x.txt").read_text()
    assert f"{size / 3:.3f}" in drawn
    assert "B − A · unverified" in drawn


def test_a_snapshot_of_another_prompt(snapshot, tmp_path):
    own, ids, streams = snapshot
    path = write(tmp_path / "a.safetensors", [*ids[:2], 2, *ids[3:]], streams, [0, 1])
    found = told(own, path, "--layer-ids", "0,1", code=1)
    assert found["faults"] == ["token 2: 'B' (id 1) / '2' (id 2)"]


def test_what_cannot_be_compared_is_one_line(pair, snapshot, tmp_path):
    a, b = pair
    own, ids, streams = snapshot
    other = tmp_path / "other.json"
    assert run(*("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "tokens"), "--out", other)
    wide = write(tmp_path / "wide.safetensors", IDS, [one.repeat(1, 2) for one in numbers()])
    deep = write(tmp_path / "deep.safetensors", ids, streams[:2])
    for words, said in (
        ((a, b), "does not name its 3 layers"),
        ((a, b, "--layer-ids", "1,2"), "2 are named, and"),
        ((a, b, "--layer-ids", "3,2,1"), "are not sorted"),
        ((a, wide, *LAYERS), "width 8, and wide.safetensors of 16"),
        ((a, other, *LAYERS), "the snapshot holds no norms of the stream"),
        ((deep, own, "--layer-ids", "0,99"), "the snapshot has no layer 98"),
        ((a, tmp_path / "none", *LAYERS), "cannot read"),
    ):
        result = run("diff", *words)
        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert failure("diff", own, own, "--layer-ids", "1", code=2)
    for wrong in ("x", "", "1,", "2..1", "1;2", "99999"):
        result = run("diff", a, b, "--layer-ids", wrong)
        assert result.exit_code == 2
        assert "--layer-ids" in result.stderr


def test_a_range_of_layers(pair):
    assert run("diff", pair[0], pair[0], "--layer-ids", "0..2").exit_code == 0
    assert run("diff", pair[0], pair[0], "--layer-ids", "0,4..5").exit_code == 0

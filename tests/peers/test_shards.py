"""The shards of a batch as pandas and datasets read them."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from llmscope.scope import load
from tests.cli.running import run

datasets = pytest.importorskip("datasets")
pandas = pytest.importorskip("pandas")

PROMPTS = [f"{first}{second}" for first in "ABC" for second in ("", "C", "BA", "CAB")]
ODD = "a\u00e9 \U0001f999 \u202e"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    home = tmp_path_factory.mktemp("batch")
    names = [ODD, *map(str, range(1, len(PROMPTS)))]
    lines = [{"prompt": one, "id": name} for one, name in zip(PROMPTS, names, strict=True)]
    source = home / "prompts.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--lens", "next-token", "--lens", "logit-lens", "--shard-size", "5")
    result = run(
        *("snapshot", "builtin:sort", "--prompts", source, *options, "--out", home / "out"),
    )
    assert result.exit_code == 0, result.stderr
    return home / "out"


def check(rows, folder):
    """Each row says where its arrays are, and they are those of a look at its prompt."""
    scope = load("builtin:sort")
    assert [row["prompt"] for row in rows] == PROMPTS
    assert rows[0]["id"] == ODD
    for row in rows:
        assert pandas.isna(row["error"])
        scope.record(row["prompt"], fresh=True)
        with safe_open(folder / row["shard"], "numpy") as shard:
            for place, name in enumerate(("next-token", "logit-lens")):
                own = scope.look(name)
                start = f"{row['line']}.{place}.{name}"
                assert f"{start}.values" in list(row["arrays"])
                values = shard.get_tensor(f"{start}.values")
                np.testing.assert_allclose(values, own.values, atol=1e-5)
                ids = shard.get_tensor(f"{start}.ids")
                np.testing.assert_array_equal(ids, own.extra["ids"])


def test_datasets(results, tmp_path):
    files = sorted(map(str, results.glob("*.parquet")))
    assert len(files) == 3
    found = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path)
    )
    check(list(found), results)
    streamed = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    assert [row["line"] for row in streamed] == [row["line"] for row in found]


def test_pandas(results):
    files = sorted(results.glob("*.parquet"))
    frame = pandas.concat(map(pandas.read_parquet, files), ignore_index=True)
    check(frame.to_dict("records"), results)

"""`datasets` reads the tables of a batch, with the types that they have."""

import pandas
import pytest

from tests.jobs.snapshots.test_questions import animals  # noqa: F401 - a fixture

datasets = pytest.importorskip("datasets")


def test_datasets_reads_it(animals, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.chdir(animals)
    found = datasets.load_dataset(
        "parquet", data_files="animals/tokens/*.parquet", split="train", cache_dir=str(tmp_path)
    )
    assert found.num_rows == len(pandas.read_parquet("animals/tokens"))
    assert found.features["surprisal"].dtype == "float32"
    assert found.features["gold"].dtype == "string"
    assert found[0]["gold"].startswith(" ")
    streamed = datasets.load_dataset(
        "parquet", data_files="animals/tokens/*.parquet", split="train", streaming=True
    )
    assert [row["surprisal"] for row in streamed] == found["surprisal"][:]

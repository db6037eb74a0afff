"""Parquet files that hold far more than they weigh, or that never end."""

import os

import pyarrow
import pyarrow.parquet as parquet
import pytest

from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptSource
from llmscope.corpus.records.transcripts.reader import TranscriptFile
from llmscope.errors import ScopeError
from llmscope.figure.tables import parquet as bounded
from llmscope.report.reader import BatchTables
from tests.cli.running import failure
from tests.hostile.limits import small_memory

__all__ = ["small_memory"]

TEXT = 4_000_000
ROWS = 1_000


def repeated(value, rows=ROWS):
    """A column of one value in each row, which is stored once."""
    return pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * rows, pyarrow.int32()), pyarrow.array([value])
    )


def stored(path, **columns):
    """Write columns as plain ones: without the schema that Arrow adds, they are read dense."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns)
    parquet.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 400_000
    return path


def read_all(path):
    source = PromptSource(str(path))
    InputColumns.of(source)
    return sum(1 for _ in source)


@pytest.mark.parametrize("wide", ["prompt", "extra"])
def test_a_kilobyte_of_gigabytes_is_a_line(tmp_path, small_memory, wide):
    columns = {"prompt": repeated("a"), wide: repeated("a" * TEXT)}
    path = stored(tmp_path / "p.parquet", **columns)
    with pytest.raises(ScopeError, match=r"p\.parquet: it needs more than 1280 MB") as caught:
        read_all(path)
    assert caught.value.hint


def test_a_cell_that_is_longer_than_any_line_may_be_is_an_error_of_its_row(tmp_path):
    path = stored(tmp_path / "p.parquet", prompt=repeated("a" * ((1 << 24) + 1), 2))
    assert [line.error for line in PromptSource(str(path))] == ["it is longer than 16 MB"] * 2


def test_thousands_of_columns_are_refused(tmp_path):
    names = {f"c{at}": repeated(1, 1) for at in range(bounded.MOST_COLUMNS)}
    table = pyarrow.table({"prompt": repeated("a", 1), **names})
    parquet.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(ScopeError, match=r"it has 2,001 columns, more than 2,000"):
        read_all(tmp_path / "p.parquet")


def batch_folder(folder, **columns):
    """A folder of a batch with one shard, whose table of a lens has these columns."""
    for name in ("prompts", "verdicts"):
        (folder / name).mkdir(parents=True)
    parquet.write_table(
        pyarrow.table({"line": [1], "prompt": ["a"], "n_tokens": [1]}),
        folder / "prompts" / "shard-00000.parquet",
    )
    stored(folder / "lens" / "shard-00000.parquet", **columns)
    (folder / "manifest.json").write_text("{}")
    return BatchTables(str(folder))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"value": ("a" * TEXT, ROWS)}, "take|needs more than"),
        ({"value": (1.5, 30_000_000)}, "it has 30,000,000 rows, more than 16,777,216"),
    ],
    ids=["one value of gigabytes", "thirty million rows"],
)
def test_a_table_over_its_limit_is_a_line(tmp_path, small_memory, columns, said):
    made = {}
    for name, (value, rows) in columns.items():
        indices = pyarrow.nulls(rows, pyarrow.int32()).fill_null(0)
        made |= {
            name: pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([value])),
            "line": pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([1])),
        }
    folder = batch_folder(tmp_path / "b", **made)
    with pytest.raises(ScopeError, match=said) as caught:
        folder.read("lens/shard-00000.parquet", ("line", "value"))
    assert "shard-00000.parquet" in caught.value.message
    assert folder.prompts.lines.tolist() == [1]


def test_a_wide_column_that_is_not_asked_for_costs_nothing(tmp_path, small_memory):
    wide = repeated("a" * TEXT, ROWS)
    folder = batch_folder(
        tmp_path / "b", line=repeated(1), value=repeated(0.5), extra=wide, other=wide
    )
    table = folder.read("lens/shard-00000.parquet", ("line", "value"))
    assert table.column("value").to_pylist() == [0.5] * ROWS


def test_a_wide_column_that_no_transcript_has_is_not_read(tmp_path, small_memory):
    path = stored(tmp_path / "t.parquet", text=repeated("hello"), other=repeated("a" * TEXT))
    transcript, others = TranscriptFile(str(path)).transcript(900)
    assert transcript.turns[0].content == "hello"
    assert others


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.timeout(60)
class TestPipes:
    """Opening a pipe waits until something writes to it."""

    @pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "parquet"])
    def test_prompts(self, tmp_path, suffix):
        os.mkfifo(tmp_path / f"p.{suffix}")
        with pytest.raises(ScopeError, match="no regular file"):
            PromptSource(str(tmp_path / f"p.{suffix}"))

    @pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
    def test_transcripts(self, tmp_path, suffix):
        os.mkfifo(tmp_path / f"t.{suffix}")
        with pytest.raises(ScopeError, match="no regular file"):
            TranscriptFile(str(tmp_path / f"t.{suffix}")).transcript()

    @pytest.mark.few(3)
    @pytest.mark.parametrize(
        "name",
        [
            *("manifest.json", "prompts/shard-00000.parquet"),
            *("verdicts/shard-00000.parquet", "lens/shard-00000.parquet"),
        ],
    )
    @pytest.mark.parametrize("command", ["report", "resumed"])
    def test_a_batch(self, tmp_path, name, command):
        batch_folder(tmp_path / "b", line=repeated(1), value=repeated(0.5))
        (tmp_path / "b" / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / "b" / name)
        if command == "report":
            said = failure("report", tmp_path / "b")
        else:
            (tmp_path / "p.txt").write_text("CAB\n")
            words = ("--prompts", tmp_path / "p.txt", "--lens", "next-token")
            said = failure("snapshot", "builtin:sort", *words, "--out", tmp_path / "b")
        assert said.startswith("error: ")

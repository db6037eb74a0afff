"""The SQL of docs/batch.md gives the same in DuckDB, polars and pandas, and what the page tells."""

import json
import re
import sqlite3
from pathlib import Path

import duckdb
import pandas
import polars
import pytest

from demo.many_prompts import lines
from tests.jobs.snapshots.test_batch import batch

PAGE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text("utf-8")
QUESTIONS = re.findall(r"```sql\n(.*?)```\n\n((?:\|[^\n]*\n)+)", PAGE, re.S)
LENSES = ("tokens", "logit-lens", "next-token", "ablation")
READ = re.compile(r"read_parquet\('animals/([\w-]+)/\*\.parquet'\)")


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animals")
    prompts = folder / "animals.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines()))
    batch(
        prompts,
        folder / "animals",
        model="builtin:town",
        lenses=[word for name in LENSES for word in ("--lens", name)],
    )
    return folder


def in_duckdb(sql):
    return duckdb.sql(sql).df()


def in_polars(sql):
    return polars.sql(sql).collect().to_pandas()


def in_pandas(sql):
    """The statement in SQLite, on data frames that pandas read."""
    memory = sqlite3.connect(":memory:")
    for name in READ.findall(sql):
        pandas.read_parquet(Path("animals", name)).to_sql(name, memory, index=False)
    return pandas.read_sql_query(READ.sub(r'"\1"', sql), memory)


def told(table):
    """The header and the numbers of a table of the page."""
    header, _, *rows = (
        [cell.strip() for cell in row.split("|")[1:-1]] for row in table.split("\n")
    )
    return header, [row for row in rows if row]


@pytest.mark.slow
@pytest.mark.parametrize(("sql", "table"), QUESTIONS)
def test_each_question_is_one_statement(sql, table, animals, monkeypatch):
    monkeypatch.chdir(animals)
    found = [ask(sql) for ask in (in_duckdb, in_polars, in_pandas)]
    header, rows = told(table)
    for frame in found:
        assert list(frame.columns) == header
        assert len(frame) == len(rows)
        for row, (_, mine) in zip(rows, frame.iterrows(), strict=True):
            for cell, value in zip(row, mine, strict=True):
                if re.fullmatch(r"-?[\d.]+", cell):
                    places = len(cell.partition(".")[2])
                    assert abs(float(value) - float(cell)) < 1.01 * 10**-places, (row, mine)
                else:
                    assert value == cell


def test_there_are_four_questions():
    assert len(QUESTIONS) == 4


@pytest.mark.slow
def test_the_table_that_was_asked_for_reads_with_nothing_else_known(animals, monkeypatch):
    monkeypatch.chdir(animals)
    statement = (
        "SELECT layer, avg(p_target) AS p FROM 'animals/logit-lens/*.parquet' "
        "GROUP BY layer ORDER BY layer"
    )
    found = duckdb.sql(statement).df()
    frame = pandas.read_parquet("animals/logit-lens")
    expected = frame.groupby("layer")["p_target"].mean()
    assert list(found["layer"]) == list(range(-1, 6)) == list(expected.index)
    assert abs(found["p"].to_numpy() - expected.to_numpy()).max() < 1e-6
    lazy = polars.scan_parquet("animals/logit-lens/*.parquet")
    assert lazy.select(polars.len()).collect().item() == len(frame)

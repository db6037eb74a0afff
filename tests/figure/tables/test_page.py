"""docs/tables.md, and what `llmscope lenses NAME` says of a table."""

import re
import shlex

import pytest

from demo.tables import PAGE, page
from llmscope.lenses import lens, names
from tests.cli.running import run


def test_the_page_is_what_the_lenses_declare():
    assert PAGE.read_text("utf-8") == page(), "python -m demo.tables writes it again"


@pytest.mark.parametrize("name", names())
def test_a_lens_tells_the_columns_of_its_table(name):
    told = run("lenses", name).stdout
    below = told[told.index("Its table in a batch") :]
    rows = [line.split() for line in below.splitlines()[1:] if not line.startswith(" ")]
    for mode in lens(name).modes or ("",):
        for one in lens(name).table(mode):
            assert [one.name, one.role, one.type] in [row[:3] for row in rows]
    assert max(map(len, told.splitlines())) <= 79


@pytest.mark.slow
def test_its_command_and_its_questions_run(tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    house = "lives in the red house.\\nWho lives in the red house?"
    (tmp_path / "prompts.jsonl").write_text(
        f'{{"prompt": "Tom {house}", "label": "Tom"}}\n{{"prompt": "Anna {house}"}}\n'
    )
    (command,) = re.findall(r"^```sh\nllmscope (.*)\n```", PAGE.read_text("utf-8"), re.M)
    result = run(*shlex.split(command))
    assert result.exit_code == 0, result.stderr
    (block,) = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    questions = [one for one in block.split(";") if one.strip()]
    layers, classes, heads = (duckdb.sql(one).fetchall() for one in questions)
    assert [layer for layer, _ in layers] == list(range(-1, 6))
    assert {name for name, *_ in classes} <= {"word", "special", "punctuation", "continuation"}
    assert len(heads) == 24
    named = duckdb.sql("SELECT DISTINCT label FROM 'town/tokens/*.parquet'").fetchall()
    assert set(named) == {("Tom",), (None,)}

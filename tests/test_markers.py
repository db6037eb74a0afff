"""What a script makes goes between its markers, and nothing else changes."""

import sys

import pytest

from demo.markers import inserted, markers, parts, write_or_check

BEGIN, END = markers("a.py")


def test_only_what_is_between_the_markers_is_replaced():
    text = f"before\n{BEGIN}old\n{END}after\n"
    assert inserted(text, "a.py", "new\n") == f"before\n{BEGIN}new\n{END}after\n"
    assert parts(text, "a.py") == ("before\n", "old\n", "after\n")


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", "".join(markers("b.py"))])
def test_a_page_without_both_markers_is_refused(text):
    with pytest.raises(ValueError, match="needs these two lines first"):
        inserted(text, "a.py", "new\n")


def test_check_writes_nothing(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["a.py", "--check"])
    assert write_or_check(page, "new", "python a.py") == 1
    assert not page.exists()
    page.write_text("old")
    assert write_or_check(page, "new", "python a.py") == 1
    assert page.read_text() == "old"
    assert capsys.readouterr().out == "run python a.py\n" * 2
    assert write_or_check(page, "old", "python a.py") == 0
    monkeypatch.setattr(sys, "argv", ["a.py"])
    assert write_or_check(page, "new", "python a.py") == 0
    assert page.read_text() == "new"

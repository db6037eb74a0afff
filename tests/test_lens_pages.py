"""The pages of the lenses say what the lenses declare, and their commands run."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from demo import lens_pages
from llmscope.lenses import Lens, lens
from tests.cli.running import run

NAMES = lens_pages.built_in()
SMALL = 60_000
"""Bytes that a picture may have."""


def metadata(name):
    """Return the provenance that a picture holds."""
    text = (lens_pages.PICTURES / f"{name}.svg").read_text("utf-8")
    (found,) = re.findall(r"<metadata>(.*?)</metadata>", text, re.S)
    return json.loads(found.replace("&quot;", '"').replace("&gt;", ">").replace("&amp;", "&"))


def options(words):
    """Return the options of a command with their values, without where its output goes."""
    pairs = [word.split("=", 1) for word in words]
    found = {
        pair[0]: pair[1] if len(pair) > 1 else words[at + 1]
        for at, pair in enumerate(pairs)
        if pair[0].startswith("--")
    }
    return {name: value for name, value in found.items() if name != "--out"}


def test_the_pages_are_what_the_lenses_declare(capsys):
    assert lens_pages.main(["--check"]) == 0, capsys.readouterr().out


def test_a_page_that_differs_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lens_pages, "ROOT", tmp_path)
    monkeypatch.setattr(lens_pages, "PAGES", tmp_path / "lenses")
    assert lens_pages.main([]) == 0
    assert lens_pages.main(["--check"]) == 0
    page = tmp_path / "lenses" / "heads.md"
    page.write_text(page.read_text("utf-8").replace("induction", "induktion"), "utf-8")
    assert lens_pages.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("lenses/heads.md differs: ")


def test_there_is_a_page_and_a_picture_for_each_lens_and_no_other():
    assert {path.stem for path in lens_pages.PAGES.glob("*.md")} == {"index", *NAMES}
    assert {path.stem for path in lens_pages.PICTURES.iterdir()} == set(NAMES)
    assert set(lens_pages.commands()) == set(NAMES)
    nav = (lens_pages.ROOT / "mkdocs.yml").read_text("utf-8")
    assert re.findall(r"^      - (\S+): lenses/\1\.md$", nav, re.M) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small_and_was_made_by_the_command_of_the_page(name):
    assert (lens_pages.PICTURES / f"{name}.svg").stat().st_size < SMALL
    made = options(shlex.split(metadata(name)["command"]))
    shown = options(shlex.split(lens_pages.commands()[name]["run"][-1]))
    assert shown["--lens"] == name
    assert made.items() >= shown.items()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_page_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in lens_pages.prepared(name, tmp_path):
        if words[:2] == ["-m", "llmscope"]:
            result = run(*words[2:])
            assert result.exit_code == 0, result.stderr
        else:
            subprocess.run([sys.executable, *words], check=True, timeout=120)
    drawn = (tmp_path / f"{name}.svg").read_text("utf-8").partition("</metadata>")[2]
    assert "refused" not in drawn
    assert "verified" in drawn


@pytest.mark.parametrize("name", NAMES)
def test_a_lens_says_what_it_is_evidence_for(name):
    """In a terminal too, and what each of its modes shows."""
    chosen = lens(name)
    told = " ".join(re.sub(r"-\n +", "-", run("lenses", name).stdout).split())
    assert [begin for begin, _ in chosen.evidence] == [
        "It establishes",
        "It does not establish",
        "Next check:",
    ]
    for begin, rest in chosen.evidence:
        assert f"{begin} {rest}" in told
        assert rest[-1] in ".?"
    assert set(chosen.shows) == set(chosen.modes)
    for mode, shown in chosen.shows.items():
        assert f" {mode} {shown}" in told
    for line in (*chosen.formula.splitlines(), chosen.sources):
        assert line in told


def test_a_lens_without_evidence_is_explained_by_its_help():
    one = Lens("place", "Where?", lambda *_: None, help="A number.\n")
    assert one.evidence == ()
    assert one.explanation == "A number."


def test_a_mode_that_is_described_must_exist():
    with pytest.raises(TypeError, match="describes 'last', which is no mode"):
        Lens("place", "Where?", lambda *_: None, modes=("first",), shows={"last": "the end"})

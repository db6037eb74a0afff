"""docs/gallery.md shows every picture, with the command that the picture itself holds."""

import html
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from demo import gallery, pictures
from demo.markers import DOCS, PICTURES
from llmscope.draw import theme_names
from llmscope.runs.reader import RunReader
from llmscope.runs.shipped import run_folder
from llmscope.tui.modes.run.run_view import RunView
from llmscope.tui.modes.run.screen import watch_app
from llmscope.tui.state.workspaces import FIRST, WORKSPACES

BAR = 12
"""The rows of a picture among which the tabs are."""
TEXT = re.compile(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>')
MADE = [*pictures.SHOTS, *(f"theme-{name}" for name in theme_names())]


def options(command: list[str]) -> set[tuple[str, str]]:
    """Return the options of a call of snapshot with their values, without those for its file."""
    words = iter(command)
    found = {("MODEL", next(words))}
    for word in words:
        flag, equals, value = word.partition("=")
        found.add((flag, value if equals else next(words)))
    return {one for one in found if one[0] not in ("--format", "--out")}


def test_the_page_is_what_the_script_makes():
    done = subprocess.run(
        [sys.executable, "demo/gallery.py", "--check"],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_picture_is_shown_once():
    page = gallery.PAGE.read_text("utf-8")
    for path in PICTURES.glob("*.svg"):
        assert page.count(f"(pictures/{path.name})") == 1, path.name


@pytest.mark.parametrize("name", MADE)
def test_the_command_is_that_of_the_picture(name):
    program, command, *recorded = shlex.split(gallery.recorded(PICTURES / f"{name}.svg"))
    assert (program, command) == ("llmscope", "snapshot")
    assert options(recorded) == options(pictures.arguments(name)[1:])


def test_a_picture_without_a_command_is_named(tmp_path):
    path = tmp_path / "new.svg"
    path.write_text("<svg></svg>")
    with pytest.raises(ValueError, match=r"new\.svg holds no command"):
        gallery.recorded(path)


def test_line_ends_are_quoted_for_a_shell():
    text = "it's\na \\ b"
    line = f"printf %s {gallery._shell([text])}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert "\n" not in line
    assert done.stdout == text


def tabs_in(name: str) -> dict[int, str]:
    """Return the titles of the tabs that a picture shows, by their digits."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in TEXT.findall((PICTURES / f"{name}.svg").read_text("utf-8")):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text)))
    for _, parts in sorted(rows.items())[:BAR]:
        row = " ".join(" ".join(text for _, text in sorted(parts)).replace("▸", " ").split())
        if re.match(r"1 .* 2 .* 3 ", row):  # a prompt may begin with a number, too
            found = re.findall(r"(?<!\S)(\d) (\S.*?)(?= \d | …|$)", row)
            return {int(digit): title for digit, title in found if title != "…"}
    return {}


SCREENS = [name for name in MADE if "screen" in pictures.arguments(name)]
HIDDEN = {"keys"}
"""Pictures in which the help lies over the tabs."""


def test_the_tabs_in_the_pictures_are_those_of_the_program():
    titles = {
        one.name: {re.sub(r"\s+", " ", title) for title in (one.title, one.short)}
        for one in WORKSPACES
    }
    for name in SCREENS:
        tabs = tabs_in(name)
        if name not in HIDDEN:
            assert len(tabs) >= len(FIRST), f"{name} has no row of tabs"
        for digit, title in tabs.items():
            among = [FIRST[digit - 1]] if digit <= len(FIRST) else list(titles)
            expected = set().union(*(titles[workspace] for workspace in among))
            assert title in expected, f"{name}: {title!r} is not tab {digit}: remake the picture"


def test_the_tabs_in_the_pictures_of_a_run_are_those_of_its_screen():
    app = watch_app(RunView([RunReader(run_folder("builtin:town-run"))]))
    titles = [one.title for one in app.mode.workspaces]
    for name in gallery.RUN:
        assert list(tabs_in(name).values()) == titles, f"{name}: remake the picture"


def test_a_renamed_tab_is_noticed(monkeypatch):
    renamed = [
        replace(one, title="Elsewhere") if one.name == "heads" else one for one in WORKSPACES
    ]
    monkeypatch.setattr("tests.test_gallery.WORKSPACES", renamed)
    with pytest.raises(AssertionError, match="'Heads' is not tab 2"):
        test_the_tabs_in_the_pictures_are_those_of_the_program()

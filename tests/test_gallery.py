"""docs/gallery.md shows every picture, with the command that the picture itself holds."""

import shlex
import subprocess
import sys

import pytest

from demo import gallery, pictures
from demo.markers import DOCS, PICTURES
from llmscope.draw import theme_names

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

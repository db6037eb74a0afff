"""`llmscope themes`, and the options that say how things look."""

import io
import json
import re

import pytest

from demo import pictures
from demo.markers import PICTURES, inserted
from llmscope.draw import load_theme, theme_names
from llmscope.draw.color.theme import COLOURS, RAMPS
from tests.cli.running import failure, fresh, run

SHOT = ("snapshot", "builtin:sort", "--prompt", "CABACB", "--lens", "next-token")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    (tmp_path / "themes").mkdir()
    return tmp_path / "themes"


@pytest.fixture
def terminal(monkeypatch):
    """stdout counts as a terminal in full colours."""
    from llmscope.cli.commands import themes as command

    class Sys:
        stdout = Terminal()

    monkeypatch.setattr(command, "sys", Sys)
    for name in ("NO_COLOR", "STY", "WT_SESSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (
        ("TERM", "xterm-256color"),
        ("COLORTERM", "truecolor"),
        ("LC_ALL", "C.UTF-8"),
    ):
        monkeypatch.setenv(name, value)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_names_and_words_without_colour(folder):
    (folder / "plum.toml").write_text('inherits = "light"\ndescription = "mine [/b]\\u001b[31m"')
    result = run("themes")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == [*theme_names(), "plum"]
    assert rows[-1][1:3] == ["light", "mine"]
    assert "\x1b" not in result.stdout
    assert str(folder) in result.stderr


def test_json_holds_every_colour(folder):
    (folder / "plum.toml").write_text('inherits = "dark"\ncolours.accent = "no"')
    found = json.loads(run("themes", "--json").stdout)
    assert found["folder"] == str(folder)
    by_name = {theme["name"]: theme for theme in found["themes"]}
    assert list(by_name) == [*theme_names(), "plum"]
    for name in theme_names():
        theme = load_theme(name)
        record = by_name[name]
        assert record["colours"] == {key: getattr(theme, key) for key in COLOURS}
        assert record["ramps"] == {key: list(getattr(theme, key)) for key in RAMPS}
        assert (record["path"], record["notices"]) == (None, [])
    assert by_name["plum"]["path"] == str(folder / "plum.toml")
    assert len(by_name["plum"]["notices"]) == 1


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize(
    ("color", "code"),
    [("truecolor", "\x1b[38;2;"), ("256", "38;5;"), ("16", "\x1b[1;33m"), ("auto", "\x1b[38;2;")],
)
def test_a_terminal_gets_a_preview_in_its_own_colours(folder, terminal, color, code):
    text = run("themes", "--color", color).stdout
    blocks = plain(text).split("\n\n")
    assert len(blocks) == len(theme_names())
    for name, block in zip(theme_names(), blocks, strict=True):
        lines = block.rstrip("\n").split("\n")
        assert lines[0].split()[0] == name
        assert all(len(line) == 78 for line in lines)
        assert "verified" in lines[1]
    if color != "16":
        assert code in text
    assert ("38;2;" in text) == (color in ("truecolor", "auto"))
    assert ("38;5;" in text) == (color == "256")


def test_ascii_is_ascii(folder, terminal):
    assert run("themes", "--ascii").stdout.isascii()
    assert not run("themes", "--no-ascii").stdout.isascii()


def test_no_color_lists_words_on_a_terminal_too(folder, terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = run("themes").stdout
    assert "38;" not in text
    assert "48;" not in text


def test_what_is_wrong_is_told_once_on_stderr(folder):
    (folder / "plum.toml").write_text('inherits = "dark"\ncolours.acent = "#ffffff"')
    (folder / "dark.toml").write_text('inherits = "light"')
    told = run("themes").stderr
    assert told.count("plum.toml") == 1
    assert "did you mean colours.accent?" in told
    assert "dark.toml never shows" in told


def test_an_unknown_theme_names_the_nearest(folder):
    (folder / "plum.toml").write_text('inherits = "dark"')
    line = failure(*SHOT, "--format", "svg", "--theme", "plumb")
    assert "no theme 'plumb' (try: plum; all: dark, " in line


def test_a_snapshot_takes_a_persons_own_theme_and_tells_its_flaws(folder):
    (folder / "plum.toml").write_text(
        'inherits = "dark"\ncolours.background = "#221122"\ncolours.x = 1'
    )
    result = run(*SHOT, "--format", "svg", "--theme", "plum")
    assert 'fill="#221122"' in result.stdout
    assert result.stderr.count("plum.toml") == 1


@pytest.mark.parametrize("name", theme_names())
def test_every_theme_makes_pictures(folder, name):
    svg = run(*SHOT, "--format", "svg", "--theme", name).stdout
    assert f'rx="8" fill="{load_theme(name).background}"' in svg


def test_the_page_of_terminals_shows_a_picture_of_every_theme():
    page = pictures.THEMES.read_text("utf-8")
    themes = {name: load_theme(name) for name in theme_names()}
    made = pictures.table([(name, theme.description) for name, theme in themes.items()])
    assert inserted(page, pictures.SCRIPT, made) == page, "python demo/pictures.py themes"
    for name, theme in themes.items():
        svg = (PICTURES / f"theme-{name}.svg").read_text("utf-8")
        for colour in (theme.background, theme.accent, theme.success, theme.sequential[-1]):
            assert colour in svg, name


def test_how_many_colours_a_picture_has(folder):
    ansi = run(*SHOT, "--format", "ansi", "--color", "256").stdout
    assert "38;5;" in ansi
    assert "38;2;" not in ansi
    assert "38;2;" in run(*SHOT, "--format", "ansi").stdout
    none = run(*SHOT, "--format", "ansi", "--color", "none").stdout
    assert "38;" not in none
    assert run(*SHOT, "--format", "txt", "--ascii").stdout.isascii()
    assert not run(*SHOT, "--format", "txt").stdout.isascii()


@pytest.mark.parametrize("command", [("themes",), SHOT, ("open",)])
def test_a_number_of_colours_that_there_is_not_is_wrong_usage(command):
    assert "one of auto, truecolor, 256, 16, none" in failure(*command, "--color", "17", code=2)


def opened(monkeypatch, *arguments, **environment):
    """What the screen is opened with, on something that counts as a terminal."""
    import llmscope.tui.run as screen
    from llmscope.cli import launch as command

    class Sys:
        stdin = stdout = Terminal()

    asked = {}

    def taken(load, **settings):
        asked.update(settings)
        return 0

    for name in ("COLORTERM", "COLORFGBG", "NO_COLOR", "STY", "WT_SESSION", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(command, "sys", Sys)
    monkeypatch.setattr(screen, "run", taken)
    result = run("open", *arguments)
    return asked.get("look"), result


def test_the_screen_looks_as_it_is_told_to(folder, monkeypatch):
    look, _ = opened(monkeypatch, "--theme", "vellum", "--color", "256", "--ascii", TERM="xterm")
    assert (look.theme.name, look.tier, look.ascii) == ("vellum", "256", True)


def test_the_theme_is_the_one_given_or_chosen_last_or_that_of_the_ground(folder, monkeypatch):
    from tests.stored import save

    light = {"TERM": "xterm-256color", "COLORFGBG": "0;15"}
    assert opened(monkeypatch, **light)[0].theme.name == "light"
    assert opened(monkeypatch, TERM="xterm-256color", COLORFGBG="15;0")[0].theme.name == "dark"
    assert opened(monkeypatch, TERM="xterm-256color")[0].theme.name == "dark"
    save("theme", "abyss")
    assert opened(monkeypatch, **light)[0].theme.name == "abyss"
    assert opened(monkeypatch, "--theme", "auto", **light)[0].theme.name == "light"
    assert opened(monkeypatch, "--theme", "dark", **light)[0].theme.name == "dark"
    save("theme", "gone")
    look, result = opened(monkeypatch, **light)
    assert look.theme.name == "light"
    assert "note: no theme 'gone', which was chosen last" in result.stderr


def test_a_dumb_terminal_is_told_of_snapshot(folder, monkeypatch):
    look, result = opened(monkeypatch, TERM="dumb")
    assert look is None
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "error: TERM is dumb: this terminal cannot show a screen (try: "
    )
    assert "llmscope snapshot" in result.stderr


@pytest.mark.parametrize(
    ("environment", "colours", "because"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor", "COLORTERM is"),
        ({"TERM": "tmux-256color"}, "256", "TERM is tmux-256color"),
        ({"TERM": "screen"}, "16", "TERM is screen"),
        ({"TERM": "screen", "STY": "1.x", "COLORTERM": "truecolor"}, "16", "TERM is screen"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "none", "NO_COLOR is set"),
        ({"TERM": "vt220"}, "none", "TERM is vt220"),
    ],
)
def test_doctor_says_how_many_colours_and_why(folder, monkeypatch, environment, colours, because):
    for name in ("TERM", "COLORTERM", "NO_COLOR", "STY", "WT_SESSION", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = json.loads(run("doctor", "--json").stdout)
    assert found["terminal"]["colours"] == colours
    assert found["terminal"]["because"].startswith(because)
    assert found["folders"]["config"]["path"] == str(folder.parent)


def test_listing_is_quick():
    code = (
        "import sys; from llmscope.cli import main\n"
        "try: main()\n"
        "finally: print(sorted(sys.modules), file=sys.stderr)"
    )
    result = fresh("themes", code=code)
    assert result.returncode == 0
    for heavy in ("'torch'", "'textual'", "'transformers'"):
        assert heavy not in result.stderr

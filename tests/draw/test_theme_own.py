"""A person's own themes: every mistake costs one colour and is told once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.draw import RenderOptions, load_theme, styles_for, theme_names
from llmscope.draw.color.theme import theme_folder
from llmscope.draw.color.user_themes import hidden_themes, own_theme_names, read_own
from llmscope.errors import ScopeError
from llmscope.support.lines import LIMITS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    (tmp_path / "themes").mkdir()
    return tmp_path / "themes"


def loaded(folder, text, name="mine"):
    """The theme that a file makes, and the notices that it gives."""
    (folder / f"{name}.toml").write_text(text)
    notices = []
    return load_theme(name, notices.append), notices


def test_one_line_is_a_theme(folder):
    theme, notices = loaded(folder, 'inherits = "abyss"\ncolours.accent = "#ffcc00"\n')
    assert theme.accent == "#ffcc00"
    assert theme.name == "mine"
    assert theme.sequential == load_theme("abyss").sequential
    assert notices == []


def test_a_whole_theme_says_nothing_and_is_itself(folder):
    theme, notices = loaded(folder, (theme_folder() / "vellum.toml").read_text())
    assert notices == []
    assert (theme.background, theme.dark) == (load_theme("vellum").background, False)
    assert theme.categorical == load_theme("vellum").categorical


def test_a_bad_colour_is_the_parents_and_told_once(folder):
    text = (theme_folder() / "dark.toml").read_text()
    assert '"#ffb454"' in text
    theme, notices = loaded(folder, text.replace('"#ffb454"', '"purpel"'))
    assert theme.accent == load_theme("dark").accent
    assert theme.text == load_theme("dark").text
    [notice] = notices
    assert "mine.toml" in notice
    assert "colours.accent = 'purpel' is not a colour like #1a2b3c" in notice


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('colours.acent = "#ffffff"', "colours.acent is unknown; did you mean colours.accent?"),
        ('ramps.sequental = ["#000000", "#ffffff"]', "did you mean ramps.sequential?"),
        ('colors.accent = "#ffffff"', "colors is unknown; did you mean colours?"),
        ("colours.accent = 7", "colours.accent = 7 is not a colour"),
        ('ramps.positive = ["#000000", "pinkish"]', "ramps.positive = ['#000000', 'pinkish'] is"),
        ('ramps.positive = ["#000000"]', "is not a list of colours"),
        ('colours = "blue"', "colours = 'blue' is not that"),
        ('native = "yes"', "native = 'yes' is not that"),
        ('zzz = "\\u001b[31m[/nope]"', "zzz is unknown"),
    ],
)
def test_each_mistake_is_one_notice_with_file_key_and_value(folder, line, told):
    theme, notices = loaded(folder, f'inherits = "dark"\n{line}\n')
    [notice] = notices
    assert "mine.toml" in notice
    assert told in notice
    assert "\n" not in notice
    assert "\x1b" not in notice
    assert theme.accent == load_theme("dark").accent


def test_many_mistakes_are_still_one_notice(folder):
    lines = "".join(f'colours.x{n} = "#000000"\n' for n in range(9))
    _, notices = loaded(folder, f'inherits = "dark"\n{lines}')
    [notice] = notices
    assert "and 5 more" in notice


@pytest.mark.parametrize(
    "text", ["= nonsense", 'a = "', "a = 1\na = 2", "[" * 2000, "\x00", "a." * 20_000]
)
def test_broken_toml_is_one_notice_and_the_default_theme(folder, text):
    theme, notices = loaded(folder, text)
    assert theme.background == load_theme("dark").background
    [notice] = notices
    assert "mine.toml" in notice
    assert notice.endswith("dark is shown")


def test_bytes_that_are_no_text_and_files_that_are_no_theme(folder):
    (folder / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "huge.toml").write_bytes(b"#" * (LIMITS["settings"] + 1))
    (folder / "folder.toml").mkdir()
    (folder / "gone.toml").symlink_to(folder / "nowhere")
    assert own_theme_names() == ("bytes", "huge")
    for name in own_theme_names():
        notices = []
        assert load_theme(name, notices.append).text == load_theme("dark").text
        assert len(notices) == 1


def test_what_is_missing_is_told_and_suits_the_ground(folder):
    text = '[colours]\nbackground = "#fffdf5"\ntext = "#111111"\n'
    theme, [notice] = loaded(folder, text)
    light = load_theme("light")
    assert theme.dark is False
    assert theme.sequential == light.sequential
    assert theme.dim == light.dim
    assert "11 keys: light's are used" in notice
    # Zero of a signed scale is the theme's own background.
    assert theme.positive == ("#fffdf5", *light.positive[1:])
    ready = styles_for(RenderOptions(theme))
    assert ready.diverging.styles[len(ready.diverging) // 2].bgcolor == ready.base.bgcolor


def test_an_unknown_parent_is_told(folder):
    theme, [notice] = loaded(folder, 'inherits = "drak"\n')
    assert "inherits = 'drak' is not one of dark," in notice
    assert theme.background == load_theme("dark").background


def test_what_cannot_be_read_on_the_screen_is_told(folder):
    text = 'inherits = "dark"\ncolours.text = "#223344"\nramps.sequential = ["#000000", "#ffffff", '
    theme, [notice] = loaded(folder, text + '"#101010"]\n')
    assert theme.text == "#223344"  # a person may want it
    assert "text on background has a contrast of 1.5, below 4.5" in notice
    assert "ramps.sequential does not go one way in luminance" in notice


def test_a_theme_that_ships_cannot_be_hidden(folder):
    theme, _ = loaded(folder, 'inherits = "light"\n', name="dark")
    assert theme is load_theme("dark")
    assert theme.dark
    assert own_theme_names() == ()
    assert hidden_themes() == (folder / "dark.toml",)


def test_an_unknown_name_lists_the_persons_own_too(folder):
    (folder / "mauve.toml").write_text('inherits = "dark"')
    with pytest.raises(ScopeError) as caught:
        load_theme("mouve")
    assert caught.value.hint.startswith("mauve; all: dark, ")


def test_without_a_folder_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path / "nowhere"))
    assert own_theme_names() == ()
    monkeypatch.delenv("LLMSCOPE_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "llmscope" / "themes").mkdir(parents=True)
    (tmp_path / "llmscope" / "themes" / "plum.toml").write_text('inherits = "dark"')
    assert own_theme_names() == ("plum",)


def test_no_name_leads_out_of_the_folder(folder, tmp_path):
    (tmp_path / "secret.toml").write_text('inherits = "dark"')
    for name in ("../secret", str(tmp_path / "secret"), "", "."):
        with pytest.raises(ScopeError):
            load_theme(name)


keys = st.sampled_from(
    ["inherits", "dark", "native", "colours", "ramps", "colours.text", "ramps.sequential", "x"]
)
values = st.sampled_from(
    [
        '"dark"',
        '"#123456"',
        '"nope"',
        "1",
        "true",
        "[]",
        '["#000000", "#ffffff"]',
        "{}",
        "1979-05-27",
    ]
)


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(st.tuples(keys, values), max_size=5))
def test_whatever_it_holds_it_is_a_theme_that_draws(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines))
    read = read_own(path)
    ready = styles_for(RenderOptions(read.theme))
    assert len(ready.sequential) >= 4
    assert "\n" not in read.notice


def test_every_theme_that_ships_can_be_inherited_whole(folder):
    for name in theme_names():
        theme, notices = loaded(folder, f'inherits = "{name}"\n')
        assert notices == []
        assert theme.sequential == load_theme(name).sequential
        assert theme.native is load_theme(name).native
        assert theme.dark is load_theme(name).dark

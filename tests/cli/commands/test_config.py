"""Flags over the environment over the config file over what ships."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope import config
from llmscope.cli.launch import opening
from llmscope.errors import ScopeError
from llmscope.tui.actions.user_keymap import read_keymap
from tests.cli.running import failure, record, run


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of settings, and an environment without any."""
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    for setting in config.SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    return tmp_path


def write(home, text):
    (home / "config.toml").write_text(text, encoding="utf-8")


LOOK = ("builtin:sort", "--prompt", "CAB", "--lens", "tokens")


def dtype(*more):
    return record(*LOOK, *more)["model"]["dtype"]


def test_a_flag_is_over_the_environment_and_that_over_the_file(home, monkeypatch):
    assert dtype() == "float32"
    write(home, 'dtype = "float16"')
    assert dtype() == "float16"
    monkeypatch.setenv("LLMSCOPE_DTYPE", "bfloat16")
    assert dtype() == "bfloat16"
    assert dtype("--dtype", "float32") == "float32"


def test_the_screen_opens_as_it_was_set(home, monkeypatch):
    """The way that no parser is imported on, and the one on which it is, are one."""
    write(home, 'model = "builtin:sort"\ntheme = "abyss"\nbandwidth = "low"\ncolor = "16"')
    monkeypatch.setenv("LLMSCOPE_ASCII", "yes")
    monkeypatch.setenv("LLMSCOPE_THREADS", "3")
    opened = []
    monkeypatch.setattr("llmscope.cli.commands.open.show", lambda one: opened.append(one) or 0)
    plain = opening(None)
    assert run("open").exit_code == 0
    assert opened == [plain]
    assert (plain.load.model, plain.load.threads) == ("builtin:sort", 3)
    assert (plain.theme, plain.bandwidth, plain.tier, plain.ascii) == ("abyss", "low", "16", True)
    assert opening("gpt2").load.model == "gpt2"
    run("open", "gpt2", "--no-ascii", "--theme", "light", "--color", "auto")
    assert opened[1].load.model == "gpt2"
    assert (opened[1].theme, opened[1].tier, opened[1].ascii) == ("light", None, False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('theem = "dark"', "no setting 'theem' (try: theme, the nearest"),
        ('dtype = "flot32"', "'flot32' is no dtype (try: float32, the nearest"),
        ("threads = 0", "threads = 0 is too small"),
        ('threads = "two"', "'two' is no threads (try: a number)"),
        ("ascii = 1", "'1' is no ascii (try: true or false)"),
        ("device = true", "'True' is no device"),
        ("[key]", "no setting 'key' (try: keys"),
        ("keys = 3", "keys is a section"),
        ("theme", "config.toml: "),
        ('"\\u001b[31m" = 1', "no setting"),
        (f"{'a.' * 20_000}a = 1", "line 1 has more than 64 dotted parts"),
        (f"[{'a.' * 20_000}a]", "line 1 has more than 64 dotted parts"),
        (f"""{'"a".' * 15_000}a = 1""", "line 1 has more than 64 dotted parts"),
        ("#" * 100_001, "it has 100,001 bytes, more than 100,000 bytes"),
    ],
)
def test_what_cannot_be_set_is_an_error_in_one_line(home, text, told):
    write(home, text)
    line = failure(*("snapshot", *LOOK))
    assert told in line
    assert "\x1b" not in line
    assert failure("config") == line
    with pytest.raises(ScopeError):
        opening(None)
    assert run("snapshot", "--help").exit_code == 0, "help is for those whose file is wrong"


def test_so_is_a_variable_that_means_nothing(home, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_DTPYE", "float16")
    assert "LLMSCOPE_DTYPE, the nearest" in failure("snapshot", *LOOK)
    monkeypatch.delenv("LLMSCOPE_DTPYE")
    monkeypatch.setenv("LLMSCOPE_THREADS", "-1")
    assert "LLMSCOPE_THREADS: '-1' is no threads" in failure("snapshot", *LOOK)


def test_without_a_model_the_doctor_looks_at_the_machine(home):
    write(home, 'model = "builtin:nowhere"')
    assert run("doctor").exit_code == 0
    assert "no built-in model" in failure("snapshot", *LOOK[1:])


def test_it_says_what_holds_and_who_said_so(home, monkeypatch):
    write(home, 'device = "cpu"\n[keys]\ncopy = "ctrl+y"')
    monkeypatch.setenv("LLMSCOPE_THEME", "abyss")
    monkeypatch.setenv("LLMSCOPE_DTYPE", "")
    found = json.loads(run("config", "--json").stdout)
    assert found["path"] == str(home / "config.toml")
    assert found["exists"]
    told = {name: (one["value"], one["origin"]) for name, one in found["settings"].items()}
    assert told["device"] == ("cpu", "file")
    assert told["theme"] == ("abyss", "environment")
    assert told["dtype"] == ("auto", "default")
    listed = run("config")
    assert "config.toml" in listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert ["device", "cpu", "file"] in [row[:3] for row in rows]
    assert {row[0] for row in rows[1:]} == set(config.BY_NAME)
    assert read_keymap().chosen["copy"] == ("ctrl+y",)


def test_no_setting_lets_foreign_code_or_other_machines_in(home):
    for name in ("trust-remote-code", "trust_remote_code", "allow-pickle", "allow_pickle", "host"):
        write(home, f"{name} = true")
        assert "there is no setting" in failure("config")


def test_each_is_an_option_of_the_screen_or_of_its_server():
    """So that what the file can say, a command line can say as well."""
    text = run("serve", "--help").output
    for setting in config.SETTINGS:
        assert setting.name == "model" or f"--{setting.name}" in text


def test_the_page_of_settings_lists_every_one():
    done = subprocess.run(
        [sys.executable, "demo/settings.py", "--check"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@given(st.binary(max_size=200))
def test_no_file_ends_in_a_traceback(tmp_path_factory, content):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("config")
        patch.setenv("LLMSCOPE_CONFIG", str(folder))
        (folder / "config.toml").write_bytes(content)
        with contextlib.suppress(ScopeError):
            assert len(config.settings({})) == len(config.SETTINGS)


def test_dots_in_quotes_and_comments_are_no_parts(home):
    write(home, 'model = "a/' + "." * 100 + '"  # ' + "." * 100)
    found = {one.setting.name: one.value for one in config.settings({})}
    assert found["model"] == "a/" + "." * 100

"""What starts, and what that imports."""

import json

import pytest

import llmscope
from llmscope.cli import is_plain
from llmscope.cli.app import command_named
from llmscope.cli.command_table import COMMANDS
from llmscope.edits import parse
from llmscope.models.sampler import Sampler
from tests.cli.running import failure, fresh, record, run

CUT = ("--min-p", "0.1", "--seed", "3")
HEAVY = {"torch", "transformers", "textual"}
WITNESS = """
import atexit, json, sys
from llmscope.cli import main
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
main()
"""


def imported_by(*arguments):
    result = fresh(*arguments, code=WITNESS)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stderr.splitlines()[-1]))


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["open", "--help"],
        ["serve", "--help"],
        ["snapshot", "--help"],
        ["replay", "--help"],
        ["diff", "--help"],
        ["lenses"],
        ["edits"],
        ["models"],
    ],
    ids=" ".join,
)
def test_help_is_quick(arguments):
    assert not imported_by(*arguments) & HEAVY


@pytest.mark.slow
def test_a_snapshot_of_figures_needs_no_screen():
    modules = imported_by("snapshot", "--lens", "tokens", "--prompt", "CAB")
    assert "torch" in modules
    assert "textual" not in modules


def test_version():
    assert run("--version").stdout == f"llmscope {llmscope.__version__}\n"


def test_help_lists_the_commands():
    text = run("--help").stdout
    for name in ("open", "serve", "snapshot", "diff", "lenses", "edits", "models", "doctor"):
        assert f"  {name} " in text


def test_lenses_lists_them_all():
    from llmscope.lenses import names

    listed = [line.split()[0] for line in run("lenses").stdout.splitlines()]
    assert listed == list(names())


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "arguments", [[], ["gpt2"], ["open", "snapshot"], ["--prompt", "x"], ["./x", "--debug"]]
)
def test_any_other_word_is_a_model_to_open(arguments):
    result = fresh(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "error: stdout is no terminal (try: llmscope snapshot" in result.stderr
    assert ("Traceback" in result.stderr) == ("--debug" in arguments)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {"spec": "builtin:sort", "prompt": "", "special_tokens": True}),
        ([], {"sampler": None}),
        (
            [*("--temperature", "0.8", "--sample-top-k", "40", "--top-p", "0.9"), *CUT],
            {"sampler": Sampler(0.8, 40, 0.9, 0.1, 3)},
        ),
        (["gpt2"], {"spec": "gpt2"}),
        (["builtin:town", "--translator", "tuned"], {"spec": "builtin:town"}),
        (["open", "snapshot"], {"spec": "snapshot"}),
        (["--prompt", "snapshot", "x", "--no-special-tokens"], {"special_tokens": False}),
        (["x", "--prompt", "snapshot"], {"prompt": "snapshot"}),
        (["--edit", "zero mlp 1"], {"edits": (parse("zero mlp 1"),), "versus_prompt": None}),
        (
            ["x", "--edit", "patch mlp 1 from B", "--edit", "zero mlp 1", "--versus-prompt", "B"],
            {"edits": (parse("patch mlp 1 from B"), parse("zero mlp 1")), "versus_prompt": "B"},
        ),
    ],
)
def test_on_a_terminal_the_screen_gets_what_was_asked(monkeypatch, arguments, given):
    import llmscope.tui.run as screen
    from llmscope.cli import launch as command

    class Terminal:
        def isatty(self):
            return True

    class Sys:
        stdin = stdout = Terminal()

    asked = {}

    def opened(load, **settings):
        asked.update(settings, load=load)
        return 0

    monkeypatch.setattr(command, "sys", Sys)
    monkeypatch.setattr(screen, "run", opened)
    assert run(*arguments).exit_code == 0
    assert asked.items() >= given.items()
    assert (asked["load"].model or "builtin:sort") == asked["spec"]
    assert asked["load"].translator == ("tuned" if "--translator" in arguments else None)


def test_what_opens_by_default_is_a_language_model_that_ships(monkeypatch):
    monkeypatch.delenv("LLMSCOPE_MODEL")
    asked = record("--prompt", "cat -> kitten, dog -> puppy, cow ->", "--lens", "next-token")
    assert asked["model"]["spec"] == "builtin:town"
    assert asked["figures"][0]["axes"][0]["labels"][0] == " calf"


def test_an_edit_that_cannot_be_read_is_told_before_the_screen_opens():
    assert "head 5.3" in failure("--edit", "zero haed 5.3", code=2)
    assert "--versus-prompt" in failure("gpt2", "--edit", "patch mlp 1 from B", code=2)


@pytest.mark.parametrize("flag", ["--sample-top-k", "--top-p", "--min-p", "--seed"])
def test_a_cut_or_a_seed_alone_would_change_nothing(flag):
    for temperature in ([], ["--temperature", "0"]):
        told = " ".join(failure(*temperature, flag, "1", code=2).split())
        assert "temperature above 0" in told
        assert f"Invalid value for {flag}" in told


def test_wrong_usage_is_exit_code_2():
    for arguments in (["--nope"], ["snapshot", "--nope"], ["gpt2", "two"], ["snapshot"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage: " in result.stderr


def test_each_command_has_a_line_in_the_help_that_is_not_cut():
    assert set(COMMANDS) == {name for name in COMMANDS if command_named(name).name == name}
    for name, line in COMMANDS.items():
        assert len(line) <= 62, name
        assert f"  {name:9} {line}\n" in run("--help").stdout


def test_help_imports_no_command_and_a_call_only_the_one_that_is_named():
    def commands(*arguments):
        names = (name.rpartition("llmscope.cli.commands.") for name in imported_by(*arguments))
        return {command for _, found, command in names if found}

    assert commands("--help") == set()
    assert commands("themes") == {"themes"}


def test_a_model_alone_is_not_parsed(monkeypatch):
    monkeypatch.delenv("_LLMSCOPE_COMPLETE", raising=False)
    for words in ([], ["gpt2"], ["./folder"], ["org/name@main"]):
        assert is_plain(words), words
    for words in (["doctor"], ["--help"], [""], ["gpt2", "--prompt"], ["snapshot", "x"]):
        assert not is_plain(words), words
    monkeypatch.setenv("_LLMSCOPE_COMPLETE", "complete_bash")
    assert not is_plain([])


def test_the_screen_opens_without_the_parser_and_says_why_it_cannot():
    code = (
        "import sys\n"
        "from llmscope.cli import main\n"
        "sys.argv = ['llmscope', 'gpt2']\n"
        "try:\n    main()\n"
        "except SystemExit as left:\n    print(left.code, 'typer' in sys.modules)\n"
    )
    result = fresh(code=code)
    assert result.stdout == "1 False\n"
    assert result.stderr.startswith("error: stdout is no terminal (try: llmscope snapshot")

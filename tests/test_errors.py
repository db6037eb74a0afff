"""One class of errors, and hints in the language of their reader."""

import ast
import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import llmscope
from llmscope import errors
from llmscope.draw import load_theme
from llmscope.errors import Error, WrongTypeError, WrongUseError, WrongValueError, option
from llmscope.runs.training import LensCallback, Run
from tests.cli.running import failure, run

ROOT = Path(__file__).parents[1] / "llmscope"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z0-9]")
SHELL = re.compile(r"\bllmscope (\w|[A-Z])|\bpip install")
"""A whole command, which is one for a shell wherever it is read."""
ELSEWHERE = {
    "cli": "the command line itself",
    "tui": "opened from a shell, it tells which command opens what; it names style classes too",
    "errors.py": "the table of spellings",
    "replay/command.py": "reads a command line",
    "edits/grammar.py": "the help of `llmscope edits`",
    "models/loading/nvidia_smi.py": "calls nvidia-smi",
    "models/sources/pypi.py": "calls pip",
    "training/__init__.py": "documentation",
    "runs/format.py": "names a command",
}
TEXTS = {"help", "not_established", "next_check", "establishes", "sources", "formula"}
"""What a lens says of itself, which pages and screens show."""


def messages(tree):
    """The texts of a module but its docstrings and what lenses say of themselves."""
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr):
                skipped |= set(ast.walk(statement))
        if isinstance(node, ast.keyword) and node.arg in TEXTS:
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and node not in skipped:
            skipped |= set(ast.walk(node))
            yield node.lineno, "".join(part.value for part in flat(node.values))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.lineno, node.value


def flat(parts):
    """The parts of a formatted text, with an ellipsis in place of each value."""
    return [part if isinstance(part, ast.Constant) else ast.Constant("…") for part in parts]


def test_no_message_spells_an_option_for_a_shell_alone():
    spelled = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if any(place == name or place.startswith(f"{name}/") for name in ELSEWHERE):
            continue
        source = path.read_text()
        if "--" not in source:
            continue
        for line, text in messages(ast.parse(source)):
            if OPTION.search(text) and not SHELL.search(text):
                spelled.append(f"{place}:{line}: {text}")
    assert spelled == []


def test_every_option_of_a_message_is_one_of_a_command():
    known = run("--man").stdout
    asked = set(errors.PYTHON)
    for path in ROOT.rglob("*.py"):
        asked |= set(re.findall(r"\boption\(\s*[\"']([a-z0-9-]+)[\"']", path.read_text()))
    words = set(re.findall(r"--([a-z0-9-]+)", known.replace("\\-", "-")))
    assert asked - words == set()


@pytest.mark.parametrize(
    ("name", "value", "python", "shell", "tool"),
    [
        ("force", None, "force=True", "--force", "another name"),
        ("out", None, "path", "--out", "path"),
        ("top-k", None, "top_k", "--top-k", "top_k"),
        ("dtype", "bfloat16", 'dtype="bfloat16"', "--dtype bfloat16", 'open with dtype="bfloat16"'),
        ("threads", 4, "threads=4", "--threads 4", "llmscope mcp --threads 4"),
        ("memory", None, "memory", "--memory", "llmscope mcp --memory"),
        (
            *("translator", None, "scope.translator", "--translator"),
            'options with "translator"',
        ),
        (
            *("features", "FOLDER", "scope.features = [FOLDER]", "--features FOLDER"),
            'options with "features": FOLDER',
        ),
        (
            *("versus-model", "OTHER", "scope.compare(llmscope.load(OTHER))"),
            *("--versus-model OTHER", "compare with versus_model=OTHER"),
        ),
        ("query", " cat", 'query=" cat"', "--query  cat", 'options with "query": " cat"'),
    ],
)
def test_an_option_is_spelled_for_its_reader(name, value, python, shell, tool):
    assert option(name, value) == python
    with errors.read_in("shell"):
        assert option(name, value) == shell
    with errors.read_in("tool"):
        assert option(name, value) == tool
    assert option(name, value) == python


def test_the_language_comes_back_after_a_failure():
    with pytest.raises(RuntimeError), errors.read_in("shell"):
        raise RuntimeError
    assert option("force") == "force=True"


def test_one_error_reads_as_each_door_spells_it(tmp_path):
    path = tmp_path / "figure.json"
    path.write_text("old")
    scope = llmscope.load("builtin:town", device="cpu")
    scope.record("Anna has a red ball.")
    with pytest.raises(llmscope.Error) as caught:
        scope.look("tokens").save(path)
    assert caught.value.hint == "force=True to replace it"
    asked = ("snapshot", "builtin:town", "--prompt", "Anna", "--lens", "tokens", "--out", path)
    assert "(try: --force to replace it)" in failure(*asked)


def test_errors_are_of_one_class():
    for kind in (WrongUseError, WrongValueError, WrongTypeError, errors.OutOfMemory):
        assert issubclass(kind, llmscope.Error)
    assert issubclass(llmscope.ScopeError, llmscope.Error)
    assert issubclass(WrongUseError, ValueError)
    assert issubclass(WrongValueError, ValueError)
    assert issubclass(WrongTypeError, TypeError)


def test_an_error_keeps_its_class_and_hint_where_it_is_placed_copied_or_sent():
    error = WrongUseError("no edit is called x", "zero")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error)), error.at("edits[0]")):
        assert type(other) is WrongUseError
        assert other.hint == "zero"
        assert other.__notes__ == ["try: zero"]
    assert str(error.at("edits[0]")) == "edits[0]: no edit is called x"
    assert error.line == "no edit is called x (try: zero)"
    assert Error("x").line == "x"


def test_a_traceback_shows_the_hint():
    code = "from llmscope.errors import ScopeError; raise ScopeError('it is gone', 'another')"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    ).stderr
    assert told.endswith("ScopeError: it is gone\ntry: another\n")


WRONG = [
    (lambda scope: llmscope.load(3), TypeError),
    (lambda scope: llmscope.load("builtin:sort", threads=0), ValueError),
    (lambda scope: llmscope.load("builtin:sort", dtype="float99"), ValueError),
    (lambda scope: llmscope.load("builtin:sort", memory="much"), ValueError),
    (lambda scope: llmscope.wrap(3), TypeError),
    (lambda scope: scope.record(3), TypeError),
    (lambda scope: scope.record([]), ValueError),
    (lambda scope: scope.record([10**6]), ValueError),
    (lambda scope: scope.record("Anna", edits=["no edit"]), ValueError),
    (lambda scope: scope.record("Anna", edits="zero head 0.0"), TypeError),
    (lambda scope: scope.record("Anna", edits=["zero head 99.0"]), ValueError),
    (lambda scope: scope.record("Anna", edits=[("no place", 1)]), ValueError),
    (lambda scope: scope.look("no lens"), ValueError),
    (lambda scope: scope.look("attention", mode="no mode"), ValueError),
    (lambda scope: scope.look("attention", layer=99), ValueError),
    (lambda scope: scope.look("attention", layer="x"), ValueError),
    (lambda scope: scope.look("attention", layer=1.5), TypeError),
    (lambda scope: scope.look("attention", no_option=1), TypeError),
    (lambda scope: scope.look("tokens", pool=3), ValueError),
    (lambda scope: scope.look("next-token", target="not one token"), ValueError),
    (lambda scope: scope.look("tokens", recording=3), TypeError),
    (lambda scope: scope.use("no adapter"), ValueError),
    (lambda scope: scope.token("not one token"), ValueError),
    (lambda scope: scope.words(""), ValueError),
    (lambda scope: scope.compare(3), TypeError),
    (lambda scope: scope.gradients(3, "*"), TypeError),
    (lambda scope: scope.save_activations(["Anna"], ["nothing"], "x"), (ValueError, KeyError)),
    (lambda scope: scope.save_activations("Anna", ["logits"], "x"), TypeError),
    (lambda scope: scope.fit_lens(["Anna"], "no kind"), ValueError),
    (lambda scope: scope.activation_difference(3), TypeError),
    (lambda scope: scope.latest.cache()["nothing"], KeyError),
    (lambda scope: scope.show(3), TypeError),
    (lambda scope: setattr(scope, "features", [3]), TypeError),
    (lambda scope: setattr(scope, "translator", 3), TypeError),
    (lambda scope: llmscope.widget([3]), TypeError),
    (lambda scope: llmscope.Focus(layer=99).resolve(layers=1, heads=1, positions=1), ValueError),
    (lambda scope: scope.look("tokens").save("figure.no-format"), ValueError),
    (lambda scope: scope.look("tokens").save("figure.json", format="no"), ValueError),
    (lambda scope: scope.look("tokens").plot(cmap="no map"), ValueError),
    (lambda scope: scope.look("tokens").plot(font="no font"), ValueError),
    (lambda scope: scope.look("tokens").plot(width=1), ValueError),
    (lambda scope: llmscope.widget([]), ValueError),
    (lambda scope: load_theme("no theme"), ValueError),
    (lambda scope: Run("run", 3, ["Anna"]), TypeError),
    (lambda scope: Run("run", scope, "Anna"), TypeError),
    (lambda scope: Run("run", scope, ["Anna"], lenses=["no lens"]), ValueError),
    (lambda scope: Run("run", scope, []), ValueError),
    (lambda scope: Run(3, scope, ["Anna"]), TypeError),
    (lambda scope: LensCallback(["Anna"], "run", every=0), ValueError),
    (lambda scope: LensCallback("Anna", "run"), TypeError),
    (lambda scope: LensCallback(["Anna"], "run", overwrite="yes"), TypeError),
    (lambda scope: LensCallback(["Anna"], 3), TypeError),
]


@pytest.fixture(scope="module")
def scope():
    scope = llmscope.load("builtin:town", device="cpu")
    scope.record("Anna has a red ball.")
    return scope


@pytest.mark.parametrize("at", range(len(WRONG)))
def test_wrong_use_of_a_public_function_is_an_error_of_ours_and_of_pythons(
    scope, at, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    call, kind = WRONG[at]
    with pytest.raises(llmscope.Error) as caught:
        call(scope)
    assert isinstance(caught.value, kind), caught.value
    assert "\n" not in caught.value.message
    assert not OPTION.search(caught.value.line)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []

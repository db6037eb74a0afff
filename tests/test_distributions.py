"""Distributions that share the environment, and what is said where torch is not installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import llmscope_tui
from llmscope.cli.output.errors import describe
from llmscope.errors import ScopeError
from llmscope.support import distributions
from llmscope.support.distributions import clash, clash_line, left_out, need_torch
from tests.cli.running import fresh


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that makes the metadata of distributions, in the only folder of packages."""
    home = tmp_path / "site-packages"
    home.mkdir()
    monkeypatch.setattr(distributions, "_folders", lambda: [str(home)])

    def put(*names):
        for name in names:
            (home / name).mkdir()

    return put


FULL, LIGHT = "llmscope_tui-0.2.0.dist-info", "llmscope_tui_light-0.2.0.dist-info"
FOREIGN = "llmscope-1.0.dist-info"


@pytest.mark.parametrize(
    "alone",
    [
        *([], [FULL], [LIGHT], [FOREIGN], [FULL, "llmscope_tui-0.1.0.dist-info"]),
        [FULL, "llmscope", "llmscope_tui", "llmscope_tuition-1.0.dist-info"],
        [FULL, "llmscope_lenses-2.dist-info", "llmscope-plugin-1.0.dist-info"],
    ],
    ids=str,
)
def test_one_distribution_is_no_clash(site, alone):
    site(*alone)
    assert clash() is None
    assert clash_line() == ""


@pytest.mark.parametrize(
    ("names", "told", "uninstalled", "again"),
    [
        (
            [FULL, LIGHT],
            "llmscope-tui and llmscope-tui-light are installed",
            "llmscope-tui llmscope-tui-light",
            "llmscope-tui",
        ),
        (
            [FULL, FOREIGN],
            "llmscope and llmscope-tui are installed",
            "llmscope llmscope-tui",
            "llmscope-tui",
        ),
        (
            [LIGHT, "LLMscope-1.0-py3.11.egg-info"],
            "llmscope and llmscope-tui-light are installed",
            "llmscope llmscope-tui-light",
            "llmscope-tui-light",
        ),
        (
            [FULL, LIGHT, FOREIGN],
            "llmscope, llmscope-tui and llmscope-tui-light are installed",
            "llmscope llmscope-tui llmscope-tui-light",
            "llmscope-tui",
        ),
    ],
    ids=str,
)
def test_two_are_told_in_one_line(site, names, told, uninstalled, again):
    site(*names)
    line = clash_line()
    assert line.startswith(f"note: {told}")
    assert line.endswith(f"(try: pip uninstall {uninstalled}, then install {again} again)")
    assert ("llmscope is another project" in line) == any(
        name.lower().startswith("llmscope-") for name in names
    )
    assert "\n" not in line


def test_a_folder_that_cannot_be_read_is_no_clash(tmp_path, monkeypatch):
    monkeypatch.setattr(distributions, "_folders", lambda: [str(tmp_path / "no"), "\0"])
    assert clash() is None


def test_every_start_tells_it(tmp_path):
    home = tmp_path / "site-packages"
    for name in (LIGHT, FOREIGN):
        (home / name).mkdir(parents=True)
    code = f"import sys; sys.path.append({str(home)!r})\nfrom llmscope.cli import main; main()"
    told = fresh("--version", code=code)
    assert told.returncode == 0
    assert told.stdout.startswith("llmscope ")
    assert told.stderr.startswith("note: llmscope")
    assert told.stderr.count("\n") == 1
    assert fresh("--version", code=code, TEXTUAL_DRIVER="a:b").stderr == ""


def test_looking_imports_nothing_of_weight():
    code = (
        "import sys; from llmscope.support.distributions import clash_line, need_torch;"
        "clash_line(); "
        "need_torch('x'); "
        "print(*{'importlib.metadata', 'torch', 'textual', 'typer', 'email'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "pyarrow", "huggingface_hub",
                                      "accelerate", "peft", "gguf", "sentencepiece", "jinja2"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find(name, *more)
"""
"""As in an environment of the light distribution."""
MAIN = WITHOUT + "from llmscope.cli import main; main()"


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["gpt2"],
        ["open", "gpt2", "--prompt", "x"],
        ["snapshot", "--prompt", "x", "--lens", "tokens"],
        ["read", "chat.jsonl"],
        ["fit", "direction", "pairs.jsonl"],
        ["compare", "gpt2", "gpt2"],
        ["examples", "x"],
        ["bake", "x"],
        ["serve", "gpt2"],
        ["doctor", "gpt2"],
        ["watch", "gpt2", "--revisions", "a,b"],
        ["models"],
    ],
    ids=str,
)
def test_what_needs_torch_says_so_in_one_line(words):
    result = fresh(*words, code=MAIN)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert "which is not installed (try: the full distribution: " in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("word", ["config", "themes", "edits", "lenses", "cache", "doctor"])
def test_what_needs_no_torch_works_without(word, empty_cache):
    result = fresh(word, code=MAIN, LLMSCOPE_CACHE=str(empty_cache))
    assert result.returncode == 0, result.stderr
    assert "error" not in result.stderr
    if word == "doctor":
        assert "no model can be opened: this needs PyTorch" in result.stdout


@pytest.mark.parametrize(
    "words", [["open"], ["snapshot"], ["fit"], ["fit", "direction"], ["watch"], ["cache", "prune"]]
)
def test_help_needs_no_torch(words):
    result = fresh(*words, "--help", code=MAIN)
    assert result.returncode == 0, result.stderr
    assert "Usage:" in result.stdout


def test_the_python_package_says_it_too():
    code = f"{WITHOUT}\nimport llmscope\nllmscope.Figure\nllmscope.load"
    result = fresh(code=code)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: llmscope.load: this needs PyTorch")


def test_only_what_is_left_out_is_explained():
    assert left_out(ModuleNotFoundError("x", name="torch.nn")) is not None
    assert left_out(ModuleNotFoundError("x", name="torchvision")) is None
    assert left_out(ModuleNotFoundError("x")) is None
    assert left_out(ImportError("x", name="torch")) is None
    assert "needs PyTorch" in describe(ModuleNotFoundError("x", name="torch"))
    assert "needs PyTorch" not in describe(ModuleNotFoundError("x", name="numpy"))


def test_torch_that_is_there_is_no_error(monkeypatch):
    need_torch("this")
    monkeypatch.setattr(distributions, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(ScopeError, match="this needs PyTorch"):
        need_torch("this")


@pytest.fixture
def overwritten(tmp_path):
    """A function that runs the command where `llmscope/__init__.py` is a foreign one."""

    def start(*names):
        (tmp_path / "llmscope").mkdir()
        (tmp_path / "llmscope" / "__init__.py").write_text("import a_module_of_theirs")
        shutil.copytree(Path(llmscope_tui.__file__).parent, tmp_path / "llmscope_tui")
        for name in names:
            folder = tmp_path / f"{name.replace('-', '_')}-9.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
        code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import llmscope_tui as t; t.main()"
        return subprocess.run(  # no packages but those of the folder
            [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
        )

    return start


def test_a_foreign_package_that_was_installed_last_is_told_in_one_line(overwritten):
    ended = overwritten("llmscope", "llmscope-tui-light")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: llmscope, another project, is installed too and has overwritten files of "
        "llmscope-tui-light (try: pip uninstall llmscope llmscope-tui-light, "
        "then install llmscope-tui-light again)\n"
    )


def test_a_broken_import_without_a_foreign_package_keeps_its_traceback(overwritten):
    ended = overwritten("llmscope-tui")
    assert ended.returncode == 1
    assert "No module named 'a_module_of_theirs'" in ended.stderr
    assert "Traceback" in ended.stderr


def test_the_names_are_those_of_the_package():
    names = (distributions.FOREIGN, distributions.FULL, distributions.LIGHT)
    assert names == (llmscope_tui.FOREIGN, llmscope_tui.FULL, llmscope_tui.LIGHT)

"""What a shell offers after tab: asked as the shell's own script asks, and in the shells."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from llmscope.cli import completion

CODE = "import sys; sys.argv[0] = 'llmscope'; from llmscope.cli import main; main()"


def offered(*words, cwd=None):
    """What bash is answered for the last word."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ
        | {
            "_LLMSCOPE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("llmscope", *words)),
            "COMP_CWORD": str(len(words)),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_models_lenses_modes_themes_and_workspaces(tmp_path):
    assert offered("open", "builtin:s") == offered("serve", "builtin:s") == ["builtin:sort"]
    assert offered("snapshot", "--lens", "log") == ["logit-lens"]
    assert offered("snapshot", "--lens", "scr") == ["screen"]
    assert offered("snapshot", "--lens", "logit-lens", "--mode", "t") == ["top", "target"]
    assert offered("open", "--theme", "ab") == ["abyss"]
    assert offered("serve", "--theme", "ab") == ["abyss"]
    assert offered("snapshot", "--workspace", "what") == ["what-if"]
    assert offered("snapshot", "--layer", "") == offered("snapshot", "--head", "a") == ["all"]


@pytest.mark.slow
def test_a_model_needs_no_word_before_it():
    assert offered("builtin:s") == ["builtin:sort"]
    assert offered("snap") == ["snapshot"]
    assert {"--theme", "--threads"} <= set(offered("--th"))


@pytest.mark.slow
def test_folders_and_gguf_files(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "story.gguf").touch()
    (tmp_path / "story.txt").touch()
    (tmp_path / "s\nbad").mkdir()
    assert offered("open", "./s", cwd=tmp_path) == ["./small/", "./story.gguf"]
    assert completion.models(f"{tmp_path}/sm") == [f"{tmp_path}/small/"]


@pytest.mark.slow
def test_learned_lenses(tmp_path):
    (tmp_path / "a.pt").touch()
    (tmp_path / "a.txt").touch()
    assert offered("open", "--translator", "t") == ["tuned"]
    assert offered("snapshot", "--translator", "t") == ["tuned"]
    assert offered("snapshot", "--second-translator", "j") == ["jacobian"]
    assert completion.translators(f"{tmp_path}/a") == [f"{tmp_path}/a.pt"]


def test_a_wrong_config_file_disturbs_no_shell(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text("theem = 1")
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    assert offered("open", "--theme", "ab") == ["abyss"]


SHELLS = {
    "bash": """
        eval "$(_LLMSCOPE_COMPLETE=source_bash llmscope)"
        COMP_WORDS=(llmscope snapshot --lens logit); COMP_CWORD=3
        _llmscope_completion llmscope; printf '%s\\n' "${COMPREPLY[@]}"
    """,
    # compadd is what zsh's own completion calls with the words to offer, outside of an editor.
    "zsh": """
        compdef() { }; _arguments() { }; _describe() { }
        compadd() { printf '%s\\n' "${@[-1]}" }; words=(llmscope snapshot --lens logit)
        _LLMSCOPE_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="llmscope snapshot --lens logit" \\
            llmscope
        eval "$(_LLMSCOPE_COMPLETE=source_zsh llmscope)"; whence -w _llmscope_completion
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_that_a_shell_takes(shell, tmp_path):
    if which(shell) is None:
        pytest.skip(f"{shell} is not here")
    program = tmp_path / "llmscope"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{CODE}" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [shell, "-c", SHELLS[shell]],
        env=os.environ
        | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "logit-lens" in done.stdout, done.stdout + done.stderr
    if shell == "zsh":
        assert "_llmscope_completion: function" in done.stdout

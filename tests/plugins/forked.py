"""Programs in processes that are forked from one that has imported torch already.

A start of llmscope takes seconds, most of them for libraries. What a package outside of the tree
adds is found after those are imported.
"""

from __future__ import annotations

import multiprocessing
import runpy
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = [
    *("torch", "numpy", "rich.console", "typer", "textual.app", "textual.widgets"),
    *("transformers", "transformers.modeling_utils", "transformers.models.auto.modeling_auto"),
]
"""Imported before the fork: nothing of llmscope, which looks for packages when it is imported."""
CHILD = Path(__file__).with_name("forked_child.py")
"""What runs after the fork. It is read as a file: a fresh process cannot import the tests."""


def run(
    words: list[str], code: str | None, path: Path, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run llmscope, or a program, as a process of its own.

    Args:
        words: the arguments.
        code: the program; None runs llmscope.
        path: a folder of packages, as in PYTHONPATH.
        environ: the environment.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        given = {
            "words": words,
            "code": code,
            "path": str(path),
            "environ": dict(environ),
            "out": str(out),
            "err": str(err),
        }
        child = context.Process(target=runpy.run_path, args=(str(CHILD), given))
        child.start()
        child.join()
        assert child.exitcode is not None
        texts = out.read_text(), err.read_text()
        return subprocess.CompletedProcess(words, child.exitcode, *texts)

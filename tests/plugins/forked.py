"""Programs in processes that are forked from one that has imported torch already.

A start of llmscope takes seconds, most of them for libraries. What a package outside of the tree
adds is found after those are imported.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = [
    *("torch", "numpy", "rich.console", "typer", "textual.app", "textual.widgets"),
    *("transformers", "transformers.modeling_utils", "transformers.models.auto.modeling_auto"),
]
"""Imported before the fork: nothing of llmscope, which looks for packages when it is imported."""


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
        child = context.Process(
            target=_child, args=(words, code, str(path), dict(environ), str(out), str(err))
        )
        child.start()
        child.join()
        assert child.exitcode is not None
        texts = out.read_text(), err.read_text()
        return subprocess.CompletedProcess(words, child.exitcode, *texts)


def _child(
    words: list[str],
    code: str | None,
    path: str,
    environ: dict[str, str],
    out: str,
    err: str,
) -> None:
    assert not any(name.split(".")[0] == "llmscope" for name in sys.modules)
    for number, name in enumerate((os.devnull, out, err)):
        handle = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environ)
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    sys.argv = ["-c", *words]
    if code is None:
        sys.argv[0] = "llmscope"
        runpy.run_module("llmscope", run_name="__main__", alter_sys=True)
    else:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})

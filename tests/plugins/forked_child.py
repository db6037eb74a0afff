"""Run llmscope, or a program, in a process that was forked; see `tests.plugins.forked`."""

import importlib
import os
import runpy
import sys

given = globals()
assert not any(name.split(".")[0] == "llmscope" for name in sys.modules)
for number, name in enumerate((os.devnull, given["out"], given["err"])):
    handle = os.open(name, os.O_RDWR | os.O_CREAT)
    os.dup2(handle, number)
    os.close(handle)
sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
os.environ.clear()
os.environ.update(given["environ"])
sys.path.insert(0, given["path"])
importlib.invalidate_caches()
if given["code"] is None:
    sys.argv = ["llmscope", *given["words"]]
    runpy.run_module("llmscope", run_name="__main__", alter_sys=True)
else:
    sys.argv = ["-c", *given["words"]]
    exec(compile(given["code"], "<string>", "exec"), {"__name__": "__main__"})

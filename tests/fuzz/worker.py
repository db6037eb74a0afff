"""A process that runs commands on mutated files, one after another, and tells what they did.

It reads lines of JSON on stdin, each a list of commands, and answers each with one line. What the
commands write is caught at the file descriptors, so that a library's own output is seen as well.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import traceback
from typing import Any

HEADROOM = 3 << 30
"""Bytes of address space that commands may add to the process: a bomb fails in it."""


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDONLY)
    questions = os.fdopen(os.dup(0))
    os.dup2(null, 0)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = os.fdopen(os.dup(1), "w", errors="backslashreplace", buffering=1)
        sys.stderr = os.fdopen(os.dup(2), "w", errors="backslashreplace", buffering=1)
        _warm()
        for line in questions:
            answers.write(json.dumps([_run(words, out, err) for words in json.loads(line)]) + "\n")
            answers.flush()


def _warm() -> None:
    """Import what is slow, and bound the memory from there on."""
    import torch

    torch.set_num_threads(1)
    size = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, size + HEADROOM))


def _status(name: str) -> int:
    """One line of the process's status, in bytes."""
    with open("/proc/self/status") as file:
        found = next(line for line in file if line.startswith(name))
    return int(found.split()[1]) * 1024


def _run(words: list[str], out: Any, err: Any) -> dict[str, Any]:
    """Run one command and return its exit code, what it wrote, its CPU seconds and peak memory."""
    for stream in (out, err):
        os.ftruncate(stream.fileno(), 0)
        os.lseek(stream.fileno(), 0, os.SEEK_SET)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is counted from here
    before, started = _status("VmRSS"), time.process_time()
    code: Any
    try:
        code = OTHERS[words[0]](*words[1:]) if words[0] in OTHERS else _command(words)
    except BaseException:  # a panic of a library is no Exception
        code = "raised"
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    size = os.fstat(err.fileno()).st_size
    return {
        "command": words[0],
        "code": code,
        "error": os.pread(err.fileno(), 20_000, 0).decode(errors="replace"),
        "error_bytes": size,
        "out_bytes": os.fstat(out.fileno()).st_size,
        "seconds": time.process_time() - started,
        "memory": _status("VmHWM") - before,
    }


def _command(words: list[str]) -> Any:
    from llmscope.cli.app import app

    try:
        app(words)
    except SystemExit as end:
        return end.code or 0
    return 0


def _replay(file: str, _: str = "", layers: str | None = None) -> Any:
    """Read a snapshot as `replay` does, and draw every figure at two sizes, without a terminal."""
    from pathlib import Path

    from llmscope.cli.launch import _read_states
    from llmscope.cli.options.layer_ids import read_layer_ids
    from llmscope.cli.output.errors import reported
    from llmscope.draw import RenderOptions, paint

    try:
        with reported(debug=False):
            snapshot = _read_states(Path(file), read_layer_ids(layers), None)
        for figure in snapshot.figures:
            for width, height in ((118, 30), (40, 8)):
                paint(figure, width, height, RenderOptions(), snapshot.focus)
    except SystemExit as end:
        return end.code or 0
    return 0


def _prompts(file: str) -> Any:
    """Read a file of prompts to its end, as a batch does."""
    from llmscope.cli.output.errors import reported
    from llmscope.corpus.records.inputs import InputColumns
    from llmscope.corpus.records.prompts import PromptSource

    try:
        with reported(debug=False):
            source = PromptSource(file)
            columns, _ = InputColumns.of(source)
            for at, line in enumerate(source):
                columns.values(line)
                if at == 5000:  # each would be run
                    break
    except SystemExit as end:
        return end.code or 0
    return 0


def _continue(folder: str, *, overwrite: bool = False) -> Any:
    """Record a step into the folder of a run, as a training does."""
    from pathlib import Path
    from time import perf_counter

    from llmscope.cli.output.errors import reported
    from llmscope.errors import ScopeError
    from llmscope.runs.training.run import reason_of
    from llmscope.runs.writer import RunWriter
    from tests.runs.making import figures, info, line

    def work() -> None:
        writer = RunWriter(Path(folder), info(), overwrite=overwrite)
        if overwrite:
            writer.clear()
        writer.add(figures(50), line(50), began=perf_counter())
        writer.log(51, {"loss": 1.0}, time=1.0)

    try:
        with reported(debug=False):
            try:
                work()
            except OSError as error:  # a training warns with it
                raise ScopeError(reason_of(error), "another folder") from error
    except SystemExit as end:
        return end.code or 0
    return 0


def _overwrite(folder: str) -> Any:
    """Replace the run in a folder."""
    return _continue(folder, overwrite=True)


def _tool(out: str, name: str, arguments: str) -> Any:
    """Call a tool for agents, after a look; an answer that is an error is one line."""
    from pathlib import Path

    from llmscope.agents.files import OutputFolder
    from llmscope.agents.server import _answer
    from llmscope.agents.session import AgentCall, AgentSession, LoadOptions

    session = _SESSIONS.pop() if _SESSIONS else AgentSession(LoadOptions("builtin:sort"), None)  # type: ignore[arg-type]
    session.folder, session.edits, session.versus_prompt = OutputFolder(Path(out)), (), None
    text, failed = _answer(session, "look", {"lens": "next-token", "prompt": "CAB"}, AgentCall())
    assert not failed, text
    text, failed = _answer(session, name, json.loads(arguments), AgentCall())
    if failed:
        sys.stderr.write(f"error: {text[:900]}\n")  # its length is bounded by `clipped`
    if name == "open":  # perhaps another model
        session.release()
    else:
        _SESSIONS.append(session)
    return int(failed)


_SESSIONS: list[Any] = []
"""A session with a loaded model, for the next call."""


def _paste(file: str) -> Any:
    """Read what a terminal sends, as the screen does."""
    os.environ.setdefault("ESCDELAY", "20")  # milliseconds; before Textual is imported
    from tests.fuzz.pastes import read_packets

    return read_packets(file)


OTHERS = {
    "replay": _replay,
    "prompts": _prompts,
    "continue": _continue,
    "overwrite": _overwrite,
    "mcp": _tool,
    "paste": _paste,
}
"""What is run without a command line."""


if __name__ == "__main__":
    main()

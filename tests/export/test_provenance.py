"""Where the numbers came from stands in every file, and the same command writes the same bytes."""

import io
import json
import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from importlib.metadata import version

import numpy as np
import pytest

from llmscope.export import formats, pictures, render
from tests.cli.running import record, run

HOSTILE = {"command": "llmscope --prompt '</metadata>\x1b[31m\x00\ud800\ufffe]]>&amp;'"}
ASK = ("builtin:sort", "--prompt", "CA<B>", "--lens", "tokens", "--lens", "attention")


def in_svg(text):
    return json.loads(ET.fromstring(text).find("{http://www.w3.org/2000/svg}metadata").text)


def in_png(data):
    """The JSON of the text chunk; every chunk's checksum is held against its content."""
    at, found = 8, None
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body, check = data[at + 4 : at + 8 + size], data[at + 8 + size : at + 12 + size]
        assert zlib.crc32(body).to_bytes(4, "big") == check
        if body.startswith(b"iTXtllmscope\0"):
            found = json.loads(body[len(b"iTXtllmscope") + 5 :].decode("utf-8"))
        at += 12 + size
    assert at == len(data)
    return found


def test_every_format_but_bare_text_carries_it(figure):
    about = {"schema": 1, "provenance": HOSTILE}
    assert json.loads(render(figure, "json", about=about))["provenance"] == HOSTILE
    with np.load(io.BytesIO(render(figure, "npz", about=about)), allow_pickle=False) as file:
        assert json.loads(str(file["provenance"])) == HOSTILE
        assert json.loads(str(file["snapshot"])) == {"schema": 1}
    assert in_svg(render(figure, "svg", about=about)) == HOSTILE
    assert "CA</metadata>" not in render(figure, "html", about=about)
    assert "Where it came from" in render(figure, "html", about=about)
    for name in (one.name for one in formats().values() if not one.provenance):
        assert render(figure, name, about=about) == render(figure, name)


def test_a_png_carries_it_and_stays_one(figure):
    pytest.importorskip("resvg_py")
    about = {"provenance": HOSTILE}
    assert in_png(render(figure, "png", about=about)) == HOSTILE
    assert in_png(render(figure, "png")) is None


def test_what_a_snapshot_says():
    said = record(*ASK, "--layer", "0")["provenance"]
    assert said["llmscope"] == version("llmscope-tui")
    for package in ("torch", "transformers"):
        assert said[package] == version(package)
    assert (said["device"], said["dtype"], said["attention"]) == ("cpu", "float32", "sdpa")
    assert len(said["model"]["weights"][0]) == 64
    assert said["verdicts"]["patterns"] == {"status": "verified", "reason": ""}
    assert said["verdicts"]["experts"]["status"] == "refused"
    assert said["seed"] is None


def test_the_command_makes_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_DTYPE", "bfloat16")
    path = tmp_path / "a"
    ask = (*ASK, "--layer", "0", "--edit", "zero head 1.1", "--edit", "scale mlp 2 0.5", "--change")
    assert run("snapshot", *ask, "--format", "json", "--out", path).exit_code == 0
    command = json.loads(path.read_text())["provenance"]["command"]
    assert str(path) not in command
    assert "--dtype bfloat16" in command  # which a variable said
    assert "--temperature" not in command  # which nobody did
    monkeypatch.delenv("LLMSCOPE_DTYPE")
    program, *words = shlex.split(command)
    assert program == "llmscope"
    assert run(*words).stdout == path.read_text()


MANY = """
import sys
from llmscope.cli.app import app
folder, *formats = sys.argv[1:]
ask = ["snapshot", "builtin:sort", "--prompt", "CABACB"]
lenses = ["tokens", "residual", "next-token", "attention", "mlp", "heads", "attribution", "stages"]
for name in formats:
    words = [word for lens in lenses for word in ("--lens", lens)]
    app([*ask, *words, "--out", f"{folder}/{name}.{name}"], standalone_mode=False)
screen = [*ask, "--lens", "screen", "--size", "80x24", "--workspace", "heads"]
app([*screen, "--keys", "right d d", "--out", f"{folder}/screen.svg"], standalone_mode=False)
"""


SCREENS = """
import sys
from llmscope.cli.app import app
folder, *formats = sys.argv[1:]
runs = {
    "overview": ("builtin:town", ""),
    "heads": ("builtin:sort", "down v tab v right"),
    "neurons": ("builtin:town", "tab down down"),
    "answer": ("builtin:town", "v T tab"),
    "context": ("builtin:sort", "v"),
    "what-if": ("builtin:sort", 'x right X type:"scale mlp 2 0.5" enter D'),
    "walkthrough": ("builtin:sort", "down down tab right right f E"),
    "compare": ("builtin:sort", 'W type:"CABBCA" escape down v'),
    "stages": ("builtin:town", "b b v R"),
    "prompt": ("builtin:town", 'e type:" a" escape left left E E u A'),
    "palette": ("builtin:sort", 'ctrl+p type:"zz"'),
    "recall": ("builtin:sort", "ctrl+r down"),
    "jump": ("builtin:sort", ";"),
    "help": ("builtin:sort", "? down"),
    "copy": ("builtin:sort", "y"),
    "find": ("builtin:sort", '/ type:"A"'),
}
for number, (name, (model, keys)) in enumerate(runs.items()):
    prompt = "CABACB" if model == "builtin:sort" else "question: where does Anna live? answer:"
    size = ("120x40", "80x24", "200x60")[number % 3]
    words = ["snapshot", model, "--prompt", prompt, "--lens", "screen", "--size", size]
    words += [] if number > 8 else ["--workspace", name]
    words += ["--keys", keys] if keys else []
    for format in formats if name in ("overview", "heads") else ["svg"]:
        app([*words, "--out", f"{folder}/{name}.{format}"], standalone_mode=False)
"""


@pytest.mark.slow
def test_screens_are_the_same_in_two_processes(tmp_path):
    pytest.importorskip("resvg_py")
    assert len(twice(tmp_path, SCREENS, pictures())) == 16 + 2 * 4


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    # A table in csv or parquet is of one lens.
    chosen = [name for name in formats() if name not in ("png", "csv", "parquet")]
    if pytest.importorskip("resvg_py"):
        chosen.append("png")
    assert len(twice(tmp_path, MANY, chosen)) == len(chosen) + 2  # a sidecar, and a screen


def twice(tmp_path, code, arguments):
    """What a program writes, which is the same in another environment with other hashes.

    NO_COLOR alone holds for files as on a terminal: tests/export/test_pictures.py.
    """
    made = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        other = {"COLORTERM": "", "TERM": "dumb", "LANG": "C", "LLMSCOPE_STATE": str(folder / "x")}
        subprocess.run(
            [sys.executable, "-c", code, str(folder), *arguments],
            env=os.environ | {"PYTHONHASHSEED": seed} | (other if seed == "1" else {}),
            check=True,
            timeout=400,
        )
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        made.append({path.name: path.read_bytes() for path in files})
    assert made[0].keys() == made[1].keys()
    assert [name for name in made[0] if made[0][name] != made[1][name]] == []
    return made[0]

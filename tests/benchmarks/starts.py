"""How long one waits: for help, the first picture, the model, the list of models."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.passes import Tell
from tests.benchmarks.setting import Setting
from tests.benchmarks.terminal import Program
from tests.models.hub_cache import fill_hub

BARE_APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("first paint")
Bare().run()
"""
BARE_MODEL = """
import sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, device = sys.argv[1:]
AutoTokenizer.from_pretrained(folder, local_files_only=True)
AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, local_files_only=True
).eval().to(device)
"""
BARE_ANSWER = (
    BARE_MODEL.replace("AutoTokenizer.from", "tokenizer = AutoTokenizer.from").replace(
        "AutoModelForCausalLM.from_pretrained(\n", "model = AutoModelForCausalLM.from_pretrained(\n"
    )
    + """
with torch.no_grad():
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids.to(device)
    print(tokenizer.decode(model(ids).logits[0, -1].argmax()))
"""
)
LOAD = "import llmscope, sys; llmscope.load(sys.argv[1], device=sys.argv[2], dtype='float32')"
BAR = "Loading"
"""The first word above the bar of a load."""
READY = " layers"
"""A word of the title line that is there once the model is."""
ANSWER = "·Paris"
"""What stands in the pane of the next token once there are figures."""
CACHED = 200
"""Models in the hub's cache when the list of models is opened."""
LISTED = "models ─"
"""What stands under the list once it is complete."""


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """Seconds of each, in turn: `{"llmscope.help": {"seconds": […]}}`."""

    def keep(name: str, **values: Any) -> None:
        for key, value in values.items():
            found.setdefault(name, {}).setdefault(key, []).append(value)

    python = sys.executable
    screen = [python, "-m", "llmscope", setting.spec]
    bare_screen = [python, "-c", BARE_APP]
    tell("starts: once for nothing, which leaves everything compiled and read")
    _run([python, "-c", "import typer"], setting)
    _run([python, "-m", "llmscope", "--help"], setting)
    for command, words in ((bare_screen, "first paint"), (screen, "Prompt")):
        with Program(command, setting.environment) as program:
            program.wait_for(words)
    for number in range(5 if setting.quick else 15):
        tell(f"starts: help, {number + 1}")
        keep("typer.import", seconds=_run([python, "-c", "import typer"], setting))
        keep("llmscope.help", seconds=_run([python, "-m", "llmscope", "--help"], setting))
    app = [python, "-m", "llmscope", setting.spec, "--prompt", "The capital of France is"]
    app += ["--device", setting.device, "--dtype", "float32", "--threads", str(setting.threads)]
    for number in range(3 if setting.quick else 9):
        tell(f"starts: the screen and the model, {number + 1}")
        with Program(bare_screen, setting.environment) as bare:
            keep("textual.paint", seconds=bare.wait_for("first paint"))
        with Program(screen, setting.environment) as ours:
            painted = ours.wait_for("Prompt")
            keep("llmscope.paint", seconds=painted, torch=ours.has_loaded("libtorch"))
            keep("llmscope.bar", seconds=ours.wait_for(BAR))
        with Program(app, setting.environment) as ours:
            keep("llmscope.ready", seconds=ours.wait_for(READY))
            keep("llmscope.answer", seconds=ours.wait_for(ANSWER))
        model = [setting.folder, setting.device]
        keep("transformers.ready", seconds=_run([python, "-c", BARE_MODEL, *model], setting))
        keep("transformers.answer", seconds=_run([python, "-c", BARE_ANSWER, *model], setting))
        load = [python, "-c", LOAD, setting.spec, setting.device]
        keep("llmscope.load", seconds=_run(load, setting))
    with tempfile.TemporaryDirectory() as home:
        fill_hub(Path(home) / "hub", CACHED)
        # A cache of its own: the list reads all that llmscope has stored on this machine.
        caches = {"HF_HOME": home, "LLMSCOPE_CACHE": str(Path(home) / "llmscope")}
        app[app.index(setting.spec)] = str(setting.folder)
        for number in range(3 if setting.quick else 9):
            tell(f"starts: the list of {CACHED} models, {number + 1}")
            with Program(app, setting.environment | caches) as ours:
                ours.wait_for(ANSWER)
                ours.settle()
                pressed = ours.send("\x0f") - ours.begun  # ctrl+o
                keep("llmscope.picker", seconds=ours.wait_for(LISTED) - pressed)


def _run(command: list[str], setting: Setting) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=os.environ | setting.environment, check=True, capture_output=True)
    return time.perf_counter() - begun

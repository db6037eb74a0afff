"""`scope.show()` from a script, pdb and IPython: opened, used, left, and nothing changed."""

import asyncio
import re
import signal
import sys
import threading

import pytest

import llmscope
from llmscope.errors import ScopeError
from tests.ending import ended
from tests.families import small_model
from tests.test_terminal import Terminal

QUIT = "\x11"  # ctrl+q
MODEL = """\
import asyncio, os, random, signal, sys, threading
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
import llmscope

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4
)
model = LlamaForCausalLM(config)
model.train()
scope = llmscope.wrap(model)
"""
STATE = """\
def state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()),
        model.training, dict(os.environ),
        [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        sys.stdout, sys.__stdout__, torch.get_num_threads(), torch.is_grad_enabled(),
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        [one.grad for one in model.parameters()], threading.active_count() > 9,
        asyncio.get_event_loop() is loop,
    )
"""


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*command):
        opened.append(Terminal(tmp_path, command=(sys.executable, list(command))))
        return opened[-1]

    yield start
    for one in opened:
        ended(one.child)


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def test_from_a_script(terminal, script):
    program = terminal(
        script(
            MODEL + STATE + "loop = asyncio.new_event_loop()\nasyncio.set_event_loop(loop)\n"
            'recording = scope.record([5, 17, 3, 60], edits=["zero head 1.1"])\n'
            "before = state()\n"
            "scope.show(recording)\n"
            "after = state()\n"
            "print('SAME', [one == other for one, other in zip(before, after)])\n"
            "print('LAST', scope.latest.prompt.ids, 'EDITS', len(scope.latest.edits))\n"
            "scope.show(prompt='7 8 9')\n"
            "print('AGAIN', scope.latest.prompt.ids)\n"
        )
    )
    program.wait("LlamaForCausalLM", "1 edit", "5 17 3 60", "logit lens · verified")
    program.type(" 42")
    program.wait("5 17 3 60 42", "after ‹42› · verified")
    program.child.send(QUIT)
    program.wait("7 8 9", "after ‹9› · verified")
    assert "edit" not in program.text.splitlines()[0]
    assert program.leave(QUIT) == 0
    told = program.raw.decode()
    assert re.findall(r"SAME (.*)", told) == [f"{[True] * 14}\r"]
    assert "LAST (5, 17, 3, 60, 42) EDITS 1" in told
    assert "AGAIN (7, 8, 9)" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_from_pdb(terminal, script):
    program = terminal(script(MODEL + "breakpoint()\nprint('END', model.training)\n"))
    program.wait("(Pdb)")
    program.child.send("scope.show(prompt='5 17 3')\r")
    program.wait("5 17 3", "after ‹3› · verified")
    program.type(" 60")
    program.wait("after ‹60› · verified")
    program.child.send(QUIT)
    program.wait("(Pdb)")
    program.child.send("p scope.latest.prompt.ids\r")
    program.wait("(5, 17, 3, 60)")
    assert program.leave("c\r") == 0
    assert "END True" in program.text


@pytest.mark.slow
def test_from_ipython(terminal, script):
    pytest.importorskip("IPython")
    program = terminal("-m", "IPython", "--no-banner", "-i", script(MODEL))
    program.wait("In [1]:")
    program.child.send("scope.show(prompt='5 17 3')\r")
    program.wait("5 17 3", "after ‹3› · verified")
    program.child.send(QUIT)
    program.wait("In [2]:")
    program.child.send("scope.latest\r")
    program.wait("Out[2]: <Recording of LlamaForCausalLM: 3 tokens", "In [3]:")
    program.child.send("scope.show()\r")  # the prompt that was on screen last
    program.wait("5 17 3", "after ‹3› · verified")
    program.child.send(QUIT)
    program.wait("In [4]:")
    program.child.send("import asyncio; await asyncio.sleep(0, 'awaited')\r")
    program.wait("Out[4]: 'awaited'")


@pytest.mark.slow
def test_a_signal_reaches_the_program_once_the_screen_is_closed(terminal, script):
    program = terminal(
        script(
            MODEL + "signal.signal(signal.SIGTERM, lambda *_: print('TOLD', flush=True))\n"
            "scope.show(prompt='5 17 3')\nprint('GOES ON')\n"
        )
    )
    program.wait("after ‹3› · verified")
    program.child.kill(signal.SIGTERM)
    program.wait("TOLD", "GOES ON")
    assert program.leave("") == 0


def scope_of_a_model():
    return llmscope.wrap(small_model("llama"))


def test_without_a_terminal_it_says_what_to_do():
    with pytest.raises(ScopeError) as caught:
        scope_of_a_model().show()
    assert "is no terminal" in caught.value.message
    assert 'scope.look("logit-lens").save' in caught.value.hint


def test_in_another_thread_or_beside_a_loop_it_says_so():
    scope, found = scope_of_a_model(), []

    def elsewhere():
        try:
            scope.show()
        except ScopeError as error:
            found.append(error.message)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    async def beside():
        scope.show()

    with pytest.raises(ScopeError, match="an event loop runs in this thread"):
        asyncio.run(beside())
    assert found == ["the screen needs the main thread"]


def test_arguments_that_contradict_are_refused():
    scope = scope_of_a_model()
    recording = scope.record([5, 17, 3])
    with pytest.raises(ValueError, match="give one of them"):
        scope.show(recording, prompt="5")
    patched = scope.record([5, 17, 3], edits=["patch stream 1 from B"], versus_prompt=[5, 18, 3])
    with pytest.raises(ValueError, match="give versus_prompt"):
        scope.show(patched)
    with pytest.raises(TypeError, match="recording must be a recording"):
        scope.show("5 17 3")
    other = scope_of_a_model()
    with pytest.raises(ScopeError, match="another scope"):
        other.show(recording)


@pytest.mark.slow
def test_the_session_of_the_command_line_stays(terminal, script, tmp_path):
    program = terminal("-m", "llmscope", "builtin:sort", "--prompt", "CABA")
    program.wait("after ‹A› · verified")
    assert program.leave(QUIT) == 0
    program = terminal(script(MODEL + "scope.show(prompt='5 17 3')\n"))
    program.wait("after ‹3› · verified")
    assert program.leave(QUIT) == 0
    program = terminal("-m", "llmscope")
    program.wait("CABA", "after ‹A› · verified")
    assert program.leave(QUIT) == 0


def test_a_refused_call_leaves_the_adapter_that_was_in_use():
    scope = llmscope.load("builtin:town")
    recording = scope.record("cow ->", edits=[("mlp 1", 0.0)])
    scope.use(scope.teach("cat -> kitten, dog -> puppy,", " cow ->"))
    adapter = scope.adapter
    with pytest.raises(ValueError, match="edits of your own"):
        scope.show(recording)
    assert scope.adapter == adapter is not None
    with scope.unchanged(), pytest.raises(ScopeError, match=r"within unchanged\(\)"):
        scope.show()

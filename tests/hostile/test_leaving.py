"""The screen on hostile models: it says what is wrong, and every way to leave works at once."""

import time

import psutil
import pytest

from tests.ending import ended
from tests.hostile.test_templates import HOSTILE
from tests.hostile.test_tokenizer_panics import LONG, split, write
from tests.models.chats import chat_tokenizer
from tests.models.checkpoints import save_model
from tests.stored import prompts_in
from tests.test_signals import Program, heeded  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

AT_ONCE = 4.0
"""Seconds to leave in, on a machine that is busy."""


@pytest.fixture
def opened(tmp_path):
    programs = []

    def start(*arguments):
        programs.append(Program(tmp_path, *arguments))
        return programs[-1]

    yield start
    for one in programs:
        ended(one.child)


def leave(program, how):
    """Leave, and how many seconds that took."""
    children = psutil.Process(program.child.pid).children(recursive=True)
    begun = time.monotonic()
    if how.startswith("SIG"):
        program.send(how)
    else:
        program.child.send(how)
    program.ended()
    took = time.monotonic() - begun
    psutil.wait_procs(children, timeout=10)
    assert not any(one.is_running() for one in children)
    return took


@pytest.mark.parametrize("how", ["\x11", "SIGTERM"], ids=["ctrl+q", "SIGTERM"])
@pytest.mark.parametrize("name", ["power", "loops"])
def test_a_template_that_hangs_keeps_nobody(opened, tmp_path, name, how):
    model = tmp_path / "model"
    save_model(model, vocab_size=300)
    chat_tokenizer(HOSTILE[name]).save_pretrained(model)
    program = opened(str(model), "--chat", "--prompt", "Hi")
    program.wait("the chat template did not end within 2 s", "Next token")
    program.child.send("x\x1bc")  # another prompt, and the template once more
    program.read(0.3)
    assert leave(program, how) < AT_ONCE


def test_a_tokenizer_that_panics_keeps_nobody(opened, tmp_path):
    model = tmp_path / "model"
    save_model(model, vocab_size=64, max_position_embeddings=128)
    write(model, **split("(a+)+$"))
    program = opened(str(model), "--prompt", "ab")
    program.wait("Next token", "verified")
    program.child.send(LONG)
    program.wait("the tokenizer fails on this text")
    assert "stack backtrace" not in program.text
    program.child.send("\x15cd")  # another text is looked at as before
    program.wait("reused")
    assert leave(program, "\x11") < AT_ONCE
    assert prompts_in(program.state)

"""`llmscope snapshot` with a lens of many passes: what it takes is told early."""

import pytest

from llmscope.cli.output import progress as module
from llmscope.corpus import progress as clock
from tests.cli.running import run

PROMPT = "anna has a red hat .\n\notto has a blue boat .\n\nnina has a ball .\n\nthe hat is"


@pytest.fixture
def now(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: seconds[0])
    return seconds


def test_steps_are_told_with_the_time_left(now, capsys):
    said = []
    steps = module.StepsLine(lambda words, *_: said.append(words))
    for done in (1, 2, 3):
        now[0] += 4.0
        steps("passages", done, 40)
    now[0] += 1.0
    steps("patching", 1, 4)
    now[0] += 1.0
    steps("patching", 2, 4)
    assert [words for words in said if words] == [
        "passages · step 1 of 40",
        "passages · step 2 of 40 · 3 min left",
        "passages · step 3 of 40 · 2 min left",
        "patching · step 1 of 4",
        "patching · step 2 of 4 · 2 s left",
    ]
    assert capsys.readouterr().err == "note: passages takes 40 steps, about 3 min\n"


def test_the_command_tells_them(monkeypatch):
    words = ("snapshot", "builtin:town", "--lens", "passages", "--prompt", PROMPT, "--format")
    quick = run(*words, "json")
    assert "steps" not in quick.stderr
    monkeypatch.setattr(module, "LONG", 0.0)
    told = run(*words, "json")
    assert "passages takes 6 steps, about" in told.stderr
    assert told.stdout == quick.stdout

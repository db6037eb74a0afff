"""Chat templates that loop, grow or crash cost a line; good ones give transformers' own text."""

import os
import time
from datetime import datetime

import psutil
import pytest

from llmscope.errors import ScopeError
from llmscope.models.tokenizer import chat as chats_module
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.roles import ChatMarks
from tests.cli.running import failure, run
from tests.models.chats import STYLES, chat_tokenizer
from tests.models.checkpoints import save_model

MESSAGES = [
    {"role": "system", "content": 'Be <b>brief</b> & "kind"\n'},
    {"role": "user", "content": "  Hi [x] there é \N{GRINNING FACE}\n"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "Bye"},
]
PAIRS = [(one["role"], one["content"]) for one in MESSAGES]

WELL = {
    "blocks": "  {% if true %}\n  a\n  {% endif %}\n\n{# note #}\n b{{ '\\n' }}\n",
    "tojson": "{{ messages | tojson }}{{ {'b': 1, 'a': 'é<'} | tojson(indent=2, sort_keys=true) }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}!{% endgeneration %}"
    "{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m.content }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "namespace": "{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = n.x + 1 %}"
    "{% endfor %}{{ n.x }}{{ namespace(self=3).self }}",
    "dict": "{{ dict(a=1) }}{{ dict.fromkeys(['x']) }}{{ dict.mro is defined }}",
    "tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token is defined }}",
    "nothing else": "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}",
    "undefined": "{{ nobody }}{{ messages[0].nothing }}{{ messages[0]['content'] }}",
    "filters": "{{ messages[0].content | trim | upper | replace('B', 'x') | e }}",
    "macro": "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(messages[1].role) }}{{ f(1.5) }}",
    "date": "{{ strftime_now('%Y-%m') }}",
}

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "power": "{{ 9**(9**9) }}",
    "power at run time": "{% set x = messages | length + 8 %}{{ x**(x**x) }}",
    "long text": "{{ 'a' * 10**10 }}",
    "long text at run time": "{% set x = messages | length * 10**10 %}{{ 'a' * x }}",
    "list": "{{ range(10**9) | list }}",
    "long list": "{% set x = [0] * (messages | length * 10**9) %}{{ x }}",
    "words": "{% for i in range(9999) %}{{ lipsum(n=99) }}{% endfor %}",
    "loops": ENDLESS,
    "output": "{% for i in range(99999) %}{% for j in range(999) %}{{ 'a' * 99 }}{% endfor %}"
    "{% endfor %}",
    "percent": "{{ '%999999999d' % 1 }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "centre": "{{ 'a' | center(10**10) }}",
    "indent": "{{ ('a\\n' * 10**6) | indent(10**6) }}",
    "join": "{{ range(99999) | join('a' * 10**6) }}",
    "doubled": "{% set n = namespace(x='ab') %}{% for i in range(64) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}{{ n.x }}",
    "replaced": "{{ ('a' * 10**5) | replace('a', 'a' * 10**6) }}",
    "digits": "{{ (10**9999999) | string }}",
    "recursion": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "nested": "{{ " + "(" * 100_000,
    "minus": "{{ " + "-" * 50_000 + "1 }}",
    "wide": "{{ 'a' | wordwrap(1) | length }}{{ ('a ' * 10**7) | wordwrap(1) }}",
    "exception": "{{ raise_exception('a' * 10**8) }}",
    "file": "{% include '/etc/passwd' %}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.fixture(scope="module")
def tokenizer():
    return chat_tokenizer()


@pytest.fixture
def started(monkeypatch):
    """How often a template was rendered."""
    calls = []
    real = chats_module._worker.call
    monkeypatch.setattr(
        chats_module._worker, "call", lambda *a, **k: calls.append(a) or real(*a, **k)
    )
    return calls


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("name", [*WELL, *STYLES])
def test_the_text_is_that_of_apply_chat_template(tokenizer, name, asked):
    tokenizer.chat_template = WELL.get(name) or STYLES[name]
    messages = MESSAGES if name in WELL else MESSAGES[1:]
    own = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asked)
    assert Chat(tokenizer).render(messages, asked) == own
    if name == "date":
        assert own == datetime.now().strftime("%Y-%m")


@pytest.mark.usefixtures("small_memory")
@pytest.mark.few(12)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_costs_a_line(tokenizer, name):
    tokenizer.chat_template = HOSTILE[name]
    begun = time.monotonic()
    with pytest.raises(ScopeError) as caught:
        Chat(tokenizer, patience=0.3).prompt("Hi")
    said = caught.value.message
    assert said.startswith("the chat template ")
    assert said.isprintable()
    assert len(said) < 500
    # The parent grew by none of it: its memory is bounded as well.
    assert time.monotonic() - begun < 10


def test_after_a_hostile_template_the_next_one_works(tokenizer):
    tokenizer.chat_template = HOSTILE["power"]
    with pytest.raises(ScopeError, match=r"did not end within 0.2 s"):
        Chat(tokenizer, patience=0.2).prompt("Hi")
    tokenizer.chat_template = STYLES["chatml"]
    assert Chat(tokenizer).prompt("Hi").endswith("assistant\n")


def test_marks_of_a_template_that_does_not_end_are_given_up_once(tokenizer, started):
    tokenizer.chat_template = "<|user|>" + ENDLESS
    found = Chat(tokenizer, patience=0.1)
    assert found.roles("<|user|>Hi") == ()
    assert found.marks == ChatMarks()
    assert len(started) == 1


@pytest.mark.parametrize("name", STYLES)
def test_only_a_text_that_may_be_in_the_template_runs_it(tokenizer, started, name):
    tokenizer.chat_template = STYLES[name]
    found = Chat(tokenizer)
    text = found.render(MESSAGES[1:], True)
    started.clear()
    for plain in ("The capital of France is", "a == b, or not? Yes: [1]. user system", ""):
        assert found.roles(plain) == ()
    assert not started
    assert found.may_follow(text)
    assert found.roles(text)


def test_a_template_costs_no_more_than_a_round_trip(tokenizer):
    tokenizer.chat_template = STYLES["chatml"]
    found = Chat(tokenizer)
    found.prompt("Hi")  # starts the child
    before = time.process_time()
    for _ in range(50):
        found.prompt("Hi")
    assert (time.process_time() - before) / 50 < 0.005  # seconds of this process


def test_no_child_is_left_behind(tokenizer):
    tokenizer.chat_template = STYLES["chatml"]
    Chat(tokenizer).prompt("Hi")
    chats_module._worker.close()
    children = psutil.Process(os.getpid()).children()
    assert not [
        one for one in children if "llmscope.models.tokenizer.template" in " ".join(one.cmdline())
    ]


@pytest.mark.parametrize(
    "command", [("doctor",), ("snapshot", "--lens", "next-token", "--prompt", "Hi")]
)
def test_what_asks_for_no_chat_runs_no_template(tokenizer, started, tmp_path, command):
    save_model(tmp_path, vocab_size=300)
    tokenizer.chat_template = HOSTILE["power"]
    tokenizer.save_pretrained(tmp_path)
    name, *options = command
    assert run(name, tmp_path, *options).exit_code == 0
    assert not started
    if name == "snapshot":
        said = failure(name, tmp_path, *options, "--chat")
        assert "the chat template did not end within 2 s" in said

"""The chat template of the real model: its ids, its answer, and who speaks."""

import queue
from functools import partial

import pytest

from llmscope.engine import Engine
from llmscope.engine.events import ChatRequest, Loaded, Templated, Working
from llmscope.models.tokenizer.roles import ChatMarks

pytestmark = pytest.mark.xdist_group("smollm2")
QUESTION = "What is the capital of France?"


@pytest.mark.parametrize("system", [None, "You answer with one word."])
def test_the_recorded_ids_are_those_of_apply_chat_template(smollm2, system):
    messages = [{"role": "user", "content": QUESTION}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    text = smollm2.chat.prompt(QUESTION, system)
    recording = smollm2.record(text, special_tokens=False)
    own = smollm2.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert list(recording.prompt.ids) == own
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    said = [(span.role, text[span.start : span.end]) for span in smollm2.chat.roles(text)]
    assert said == [("system", system or default), ("user", QUESTION), ("assistant", "")]


def test_it_answers_in_its_template(smollm2):
    text = smollm2.chat.prompt(QUESTION) + "The capital of France is"
    smollm2.record(text, special_tokens=False)
    assert smollm2.look("next-token", top_k=1).axes[0].labels == (" Paris",)


def test_the_engine_gives_the_template_and_what_it_takes_to_read_it(smollm2):
    events = queue.Queue()
    engine = Engine(lambda _: smollm2, events.put)
    engine.start()
    try:
        loaded = events.get(timeout=60)
        assert isinstance(loaded, Loaded)
        request = ChatRequest(QUESTION)
        engine.ask(request)
        templated = next(
            event
            for event in iter(partial(events.get, timeout=60), None)
            if not isinstance(event, Working)
        )
        text = smollm2.chat.prompt(QUESTION)
        assert templated == Templated(request, text, marks=smollm2.chat.marks)
        assert loaded.info.chat == ChatMarks()  # the template did not run until it was asked for
        assert templated.marks.roles(text) == smollm2.chat.roles(text) != ()
        again = ChatRequest(text)
        engine.ask(again)
        assert events.get(timeout=60) == Templated(again, text, marks=smollm2.chat.marks)
    finally:
        assert engine.close()

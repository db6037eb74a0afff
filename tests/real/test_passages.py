"""The lens `passages` on a real chat: its last turn is the answer, in question where it begins."""

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smollm2")]

TURNS = (
    ("user", "The light on Gull Rock was kept by Marta Lindqvist."),
    ("assistant", "Noted."),
    ("user", "The harbour was full of ice in the winter of 1874."),
    ("assistant", "Noted."),
    ("user", "Who kept the light on Gull Rock?"),
)
ANSWER = "The light on Gull Rock was kept by Marta Lindqvist."


def test_a_chat_that_ends_with_an_answer_is_the_question_and_that_answer(smollm2):
    def said(role, content):
        return f"<|im_start|>{role}\n{content}<|im_end|>\n"

    question = "".join(said(*turn) for turn in TURNS) + "<|im_start|>assistant\n"
    smollm2.record(f"{question}{ANSWER}<|im_end|>\n", special_tokens=False)
    written = smollm2.look("passages")
    smollm2.record(question, special_tokens=False)
    given = smollm2.look("passages", answer=written.extra["answer_ids"])
    assert written.extra["answer_source"] == "prompt"
    assert written.extra["answer"] == ANSWER
    assert written.extra["texts"] == given.extra["texts"]
    assert written.extra["texts"][0].endswith("Marta Lindqvist.<|im_end|>")
    assert written.extra["chosen"] == 0
    assert written.values[0] < -3
    for name in ("kl", "attention", "update"):
        np.testing.assert_allclose(written.extra[name], given.extra[name], atol=1e-4)
    np.testing.assert_allclose(written.values, given.values, atol=1e-4)
    assert written.extra["log_p"] == pytest.approx(given.extra["log_p"], abs=1e-4)

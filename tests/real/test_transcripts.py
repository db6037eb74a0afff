"""A conversation with a tool in the real model's template: its ids, its answer, its turns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from llmscope.corpus.records.transcripts.reader import TranscriptFile
from llmscope.corpus.records.transcripts.rendering import render_transcript

pytestmark = pytest.mark.xdist_group("smollm2")
TALK = [
    {"role": "system", "content": "You answer with one word."},
    {"role": "user", "content": "Look up the capital of France."},
    {
        "role": "assistant",
        "content": "I search.",
        "tool_calls": [{"type": "function", "function": {"name": "search", "arguments": {"q": 1}}}],
    },
    {"role": "tool", "content": "The capital of France is Paris."},
    {"role": "assistant", "content": "Paris."},
]


@pytest.mark.few(2)
@pytest.mark.parametrize(("turn", "asked"), [(2, True), (3, False), (4, True), (5, False)])
def test_the_ids_and_the_prediction_are_those_of_transformers(smollm2, tmp_path, turn, asked):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": TALK}))
    found, _ = TranscriptFile(str(path)).transcript()
    made = render_transcript(found.until(turn), smollm2.chat)
    own = smollm2.tokenizer.apply_chat_template(
        TALK[:turn], add_generation_prompt=asked, return_dict=False
    )
    recording = smollm2.record(made.text, special_tokens=False)
    assert list(recording.prompt.ids) == own
    said = [(one.role, made.text[one.start : one.end]) for one in made.spans]
    wanted = [(one["role"], one["content"]) for one in TALK[:turn]]
    assert said == [*wanted, *([("assistant", "")] if asked else [])]
    with torch.no_grad():
        logits = smollm2.loaded_model.module(torch.tensor([own])).logits[0, -1].double()
    truth = logits.softmax(-1).topk(5)
    figure = smollm2.look("next-token", top_k=5)
    assert [int(one) for one in figure.extra["ids"]] == truth.indices.tolist()
    assert np.abs(np.asarray(figure.values).ravel() - truth.values.numpy()).max() < 1e-4

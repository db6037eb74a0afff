"""These tests say things of the model that sorts, which is not what opens where none is named."""

import pytest


@pytest.fixture(autouse=True)
def sorting(monkeypatch):
    monkeypatch.setenv("LLMSCOPE_MODEL", "builtin:sort")

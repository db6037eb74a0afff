"""These tests say things of the model that sorts, which is not what opens where none is named."""

import pytest

from tests.copies import copied_models


@pytest.fixture(autouse=True)
def sorting(monkeypatch):
    monkeypatch.setenv("LLMSCOPE_MODEL", "builtin:sort")


@pytest.fixture(scope="module", autouse=True)
def copies():
    with copied_models():
        yield

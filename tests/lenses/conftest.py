"""What the tests of lenses share."""

import pytest

from llmscope.record.interventions import sweep


@pytest.fixture
def a_batch_for_each_row(monkeypatch):
    """Rows of a sweep share no batch, as where a layer costs nothing besides its tokens."""
    monkeypatch.setitem(sweep.FIXED, "cpu", 0)

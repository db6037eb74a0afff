"""`memory=` and `spill=` of `llmscope.load`, and `--memory` and `--spill`."""

import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.loaded_model import RowMemory
from llmscope.models.loading.arguments import row_memory
from tests.cli.running import failure


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, 3 << 29),
        (0, 0),
        (12345, 12345),
        ("8GB", 8 << 30),
        ("500 MB", 500 << 20),
        ("1.5GiB", 3 << 29),
        ("64k", 64 << 10),
        ("100", 100),
    ],
)
def test_sizes(given, found):
    assert row_memory(given, None) == RowMemory(found)


@pytest.mark.parametrize("given", ["", "much", "8 apples", "-1GB", "GB", "1e9", "9" * 30 + "GB"])
def test_no_size_is_one_line(given):
    with pytest.raises(ScopeError, match="is no size"):
        row_memory(given, None)


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ScopeError, match="is no folder"):
        row_memory(None, tmp_path / "nowhere")
    assert row_memory("1GB", tmp_path) == RowMemory(1 << 30, tmp_path)


def test_the_recorder_keeps_to_it(tmp_path):
    with llmscope.load("builtin:sort", memory="3MB", spill=tmp_path) as scope:
        assert scope.recorder.budget.limit == 3 << 20
        assert scope.recorder.budget.spill == tmp_path


def test_on_the_command_line(tmp_path):
    asked = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "tokens")
    assert "is no size" in failure(*asked, "--memory", "much")
    assert "is no folder" in failure(*asked, "--spill", tmp_path / "nowhere")

"""What jobs keep on the disk: the state of a sum with its journal, passes, and unfinished files."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmscope.errors import ScopeError
from llmscope.jobs import state as module
from llmscope.jobs.state import JobPasses, JobState, journal_of, open_unfinished
from llmscope.support.fsync import Journal

pytestmark = pytest.mark.fast

ABOUT = {"model": "town", "layers": [1, 2]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sums"


def state_of(path, **about):
    return JobState(path, {**ABOUT, **about}, entry="llmscope_test")


def read(arrays, header):
    return {name: array.tolist() for name, array in arrays.items()}, header["prompts"]


@pytest.fixture
def kept(path, monkeypatch):
    """A state after three prompts, and two prompts after it."""
    state = state_of(path)
    state.append({"row": np.ones(2)}, stage="sum", prompt=3)
    with monkeypatch.context() as patched:
        patched.setattr(module, "SAVED_EVERY", -1.0)
        patched.setattr(module, "SAVING_SHARE", 0.0)
        state.save_if_due(lambda: ({"sum": np.arange(3.0)}, {"prompts": 3}), 24)
    for prompt in (4, 5):
        state.append({"row": np.full(2, prompt)}, stage="sum", prompt=prompt)
    state.append({}, stage="other")
    return path


def test_a_state_is_read_with_what_came_after_it(kept):
    again = state_of(kept)
    assert again.load(read) == ({"sum": [0.0, 1.0, 2.0]}, 3)
    records = [
        (note["prompt"], arrays["row"].tolist()) for note, arrays in again.records(stage="sum")
    ]
    assert records == [(4, [4, 4]), (5, [5, 5])]
    assert [note for note, _ in again.records()][-1] == {"stage": "other"}
    again.remove()
    assert not list(kept.parent.iterdir())
    assert state_of(kept).load(read) is None


def test_a_state_is_written_where_it_is_due(path, monkeypatch):
    state, written = state_of(path), []

    def arrays():
        written.append(1)
        return {"sum": np.zeros(2)}, {}

    state.append({"row": np.zeros(100)}, stage="sum")
    state.save_if_due(arrays, 1000)
    assert not written  # neither late nor is the journal long
    state.save_if_due(arrays, 10)
    assert len(written) == 1
    assert not journal_of(path).stat().st_size
    monkeypatch.setattr(module, "SAVED_EVERY", -1.0)
    monkeypatch.setattr(module, "SAVING_SHARE", 0.0)
    state.save_if_due(arrays, 1000)
    assert len(written) == 2


def test_a_state_of_another_job_or_a_broken_one_is_refused(kept):
    for read_again in (lambda state: state.load(read), lambda state: list(state.records())):
        with pytest.raises(ScopeError, match=r"other options \(model: 'town' there, 'sort' here\)"):
            read_again(state_of(kept, model="sort"))
    with pytest.raises(ScopeError, match=r"the checkpoint .* cannot be read: .*missing"):
        state_of(kept).load(lambda arrays, _: arrays["missing"])
    for broken in (lambda: kept.write_bytes(b"no"), lambda: save_file({"a": np.ones(1)}, kept)):
        broken()
        with pytest.raises(ScopeError, match=r"the checkpoint .* cannot be read") as refused:
            state_of(kept).load(read)
        assert refused.value.hint == "force=True to begin anew"


def test_nothing_is_kept_without_a_file():
    state = JobState(None, ABOUT, entry="llmscope_test")
    state.append({"row": np.ones(2)}, stage="sum")
    state.save_if_due(lambda: pytest.fail("it is kept nowhere"), 0)
    assert state.load(read) is None
    assert list(state.records()) == []
    state.remove()


def test_passes_are_taken_once_at_their_place(path):
    passes = JobPasses(Journal(path, {}), shard=1, texts="abc")
    passes.add([4, 2], {"row": np.ones(2)}, more="so")
    passes.add(range(2), {"row": np.zeros(2)})
    again = JobPasses(Journal(path, {}), shard=1, texts="abc")
    assert again.stored == [(4, 2), (0, 1)]
    note, arrays = again.take([4, 2])
    assert note == {"shard": 1, "texts": "abc", "pass": [4, 2], "more": "so"}
    assert arrays["row"].tolist() == [1.0, 1.0]
    assert again.take([4, 2]) is None
    assert again.stored == [(0, 1)]
    for place in ({"shard": 2, "texts": "abc"}, {"shard": 1, "texts": "other"}):
        assert JobPasses(Journal(path, {}), **place).stored == []
    JobPasses(None, shard=1).add([1], {})


def stopped(out):
    with open_unfinished(out) as partial:
        partial.write_bytes(b"half")
        journal_of(partial).write_bytes(b"more")
        raise KeyboardInterrupt


def test_what_is_unfinished_of_a_file_is_kept_until_it_is_made(tmp_path):
    out = tmp_path / "lens.safetensors"
    with pytest.raises(KeyboardInterrupt):
        stopped(out)
    with open_unfinished(out) as partial:
        assert (partial.read_bytes(), journal_of(partial).read_bytes()) == (b"half", b"more")
        with pytest.raises(ScopeError, match="another process writes to"):
            stopped(out)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        stopped(out)
    with open_unfinished(out, force=True):
        assert not list(tmp_path.glob("lens*"))
    assert not list(tmp_path.iterdir())

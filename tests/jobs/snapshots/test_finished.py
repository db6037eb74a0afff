"""A batch that was stopped keeps each pass that it finished, and says so."""

import pytest

from llmscope.corpus.records.inputs import InputColumns
from llmscope.figure import Focus
from llmscope.jobs.snapshots import BatchOutput, JobShare, PromptJob, PromptSource, run
from llmscope.jobs.snapshots.padded import Together
from llmscope.jobs.snapshots.shards import Tables
from llmscope.scope.scope import load
from llmscope.support.numbers import amount
from llmscope.support.storage import LocalStorage
from tests.jobs.snapshots.test_batch import files, written

PROMPTS = ["CAB", "A", "BACCAB", "AC", "CABACB", "BB", "ABC", "CCA", "B", "ACBA"]
JOB = PromptJob(("next-token", "logit-lens"), Focus())


@pytest.fixture(scope="module")
def sort():
    return load("builtin:sort")


def folder_of(path, source, size=8, tensors=True):
    tables = Tables(JOB, InputColumns.of(source)[0], tensors=tensors)
    return BatchOutput(LocalStorage(path), JobShare(size=size), {}, {}, tables)


def start(scope, source, out, together=None, **more):
    """Run the batch; what it noted."""
    notes = []
    given = {"together": together, "tell": notes.append, "note": notes.append, "total": 10, **more}
    run(scope, source, JOB, folder_of(out, source), **given)
    return notes


class Passes:
    """Counts the passes of prompts, and stops the run before one of them."""

    def __init__(self, monkeypatch, stop, error):
        self.ran, self._stop, self._error = [], stop, error
        for cls, name in ((Together, "record"), (type(load("builtin:sort")), "record")):
            monkeypatch.setattr(cls, name, self._counting(getattr(cls, name)))

    def _counting(self, record):
        def counted(owner, *given, **more):
            if len(self.ran) == self._stop:
                raise self._error
            prompts = given[-1] if isinstance(owner, Together) else [given[0]]
            self.ran.append([getattr(prompt, "ids", prompt) for prompt in prompts])
            return record(owner, *given, **more)

        return counted


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), RuntimeError("broken")])
@pytest.mark.few(3)
def test_a_stopped_batch_goes_on_behind_its_last_pass(
    sort, tmp_path, monkeypatch, size, stop, error
):
    source = PromptSource(str(written(tmp_path / "p.jsonl", PROMPTS)))
    together = None if size == 1 else Together(size)
    with monkeypatch.context() as patched:
        whole = Passes(patched, None, error)
        assert start(sort, source, tmp_path / "whole", together) == []
    with monkeypatch.context() as patched:
        before, notes = Passes(patched, stop, error), []
        with pytest.raises(type(error)):
            start(sort, source, tmp_path / "parts", together, note=notes.append)
    finished = sum(map(len, before.ran))
    shown = LocalStorage(tmp_path / "parts").shown
    assert notes == [
        f"stopped: kept {finished} of 10 prompts in {shown}; the same command goes on from there"
    ]
    with monkeypatch.context() as patched:
        after = Passes(patched, None, error)
        notes = start(sort, source, tmp_path / "parts", together)
    assert notes == [f"going on behind {amount(finished, 'finished prompt')} in {shown}"]
    assert before.ran + after.ran == whole.ran
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_prompts_that_changed_are_run_anew(sort, tmp_path, monkeypatch):
    """What was kept of a prompt counts for it alone, with all of its columns."""
    path = written(tmp_path / "p.jsonl", PROMPTS)
    with monkeypatch.context() as patched:
        Passes(patched, 3, SystemExit())
        with pytest.raises(SystemExit):
            start(sort, PromptSource(str(path)), tmp_path / "o")
    written(path, ["CAB", "C", *PROMPTS[2:]])
    with monkeypatch.context() as patched:
        after = Passes(patched, None, SystemExit())
        start(sort, PromptSource(str(path)), tmp_path / "o")
    assert len(after.ran) == 8
    start(sort, PromptSource(str(path)), tmp_path / "whole")
    assert files(tmp_path / "o") == files(tmp_path / "whole")


def test_nothing_is_noted_where_nothing_is_kept(sort, tmp_path, monkeypatch):
    source = PromptSource(str(written(tmp_path / "p.jsonl", PROMPTS)))
    notes = []
    Passes(monkeypatch, 0, SystemExit())
    with pytest.raises(SystemExit):
        start(sort, source, tmp_path / "o", note=notes.append)
    assert notes == []

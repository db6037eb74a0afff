"""The line of progress of a job: what is finished, its rate, the time left and what is kept."""

import pytest

from llmscope.corpus import progress
from llmscope.corpus.progress import JobProgress
from llmscope.jobs.snapshots.padded import Together

pytestmark = pytest.mark.fast


class HalfRead:
    read = 0.25


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("kept", [0, 40, 600])
@pytest.mark.parametrize("size", [1, 16])
def test_the_rate_is_that_of_the_prompts_of_this_run(clock, kept, size):
    """Neither the checks before the first pass nor what an earlier run did counts."""
    said = []
    job = JobProgress(said.append, 1000)
    job.resumed(kept)
    clock[0] += 90.0  # examines the model
    for _ in range(12):
        clock[0] += size / 4
        job.done(size)
    assert said[0] == f"{kept + size:,} of 1,000 prompts"
    for at, words in enumerate(said[1:], 2):
        left = (1000 - kept - at * size) / 4
        text = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
        assert words == f"{kept + at * size:,} of 1,000 prompts · 4.0/s · {text} left"


def test_the_rate_of_long_and_short_prompts_is_right_from_the_third_pass_on(clock):
    """Passes of one length each: those that ran are like those that have yet to."""
    lengths = [1 + at % 11 for at in range(256)]
    prompts = dict(enumerate(map(range, lengths)))
    job, told = JobProgress(None, 256), []
    seconds = sum(lengths) / 100
    for count, batch in enumerate(Together(16).batches(prompts), 1):
        clock[0] += sum(lengths[index] for index in batch) / 100
        job.done(len(batch))
        if count > 2:
            told.append(job.rate)
    assert all(abs(rate * seconds / 256 - 1) < 0.3 for rate in told), told


def test_the_number_of_prompts_is_estimated_by_what_is_read_of_their_file(clock):
    said, source = [], HalfRead()
    job = JobProgress(said.append, doing="collecting", source=source)
    job.resumed(96)
    job.done(4)
    clock[0], source.read = 10.0, 0.5
    job.done(100)
    job.stage("writing")
    assert said == [
        "collecting · 100 prompts",
        "collecting · 200 prompts · 10.0/s · 20 s left",
        "200 prompts · writing",
    ]
    JobProgress().done(1)  # nobody is told


def test_a_job_that_ends_before_its_file_tells_the_time_until_then(clock):
    said = []
    job = JobProgress(said.append, noun="text", source=HalfRead(), limit=6)
    for _ in range(3):
        clock[0] += 3.0
        job.done(1, about="standard error 5.0%")
    assert said[-1] == "3 texts · standard error 5.0% · 3.0 s a text · 9 s left"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), RuntimeError("broken")])
def test_what_is_kept_is_noted_where_a_job_is_stopped(error):
    notes, job = [], JobProgress()
    for prompts in (0, 3):
        job.resumed(prompts)
        with pytest.raises(type(error)), job.noted_if_stopped(notes.append, " in out"):
            raise error
    job.going_on(notes.append, 2, more=" in out")
    job.going_on(notes.append, 9)
    assert notes == [
        "stopped: kept 3 prompts in out; the same command goes on from there",
        "going on behind 5 finished prompts in out",
    ]

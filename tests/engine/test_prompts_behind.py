"""A file of prompts in the engine: behind all else, and given up for anything that is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from queue import Queue
from typing import Literal

import pytest

import llmscope
from llmscope.engine import Engine, prompts_behind
from llmscope.engine.events import (
    Event,
    Frame,
    Loaded,
    Opened,
    OpenRequest,
    PromptsRead,
    PromptsRequest,
    Request,
    Want,
)
from llmscope.engine.prompt_list import PromptReport
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.scope.scope import Scope

PATIENCE = 60


@dataclass
class Reader:
    """Reads nothing; what it does in a step is told from outside."""

    scope: Scope
    file: File
    report: PromptReport = field(default_factory=lambda: PromptReport("surprisal"))

    def step(self, gives_way: Callable[[], bool]) -> None:
        self.file.steps.put(self)
        self.file.act(self, gives_way)


@dataclass
class File:
    act: Callable[[Reader, Callable[[], bool]], None]
    steps: Queue[Reader] = field(default_factory=Queue)
    readers: list[Reader] = field(default_factory=list)
    kind: Literal["prompts"] = "prompts"
    path: str = "/file"
    name: str = "file"

    def reader(self, scope: Scope) -> Reader:
        self.readers.append(Reader(scope, self))
        return self.readers[-1]


def ends(reader: Reader, _: Callable[[], bool]) -> None:
    reader.report = replace(reader.report, read=reader.report.read + 1, done=True)


def goes_on(reader: Reader, _: Callable[[], bool]) -> None:
    reader.report = replace(reader.report, read=reader.report.read + 1)


@pytest.fixture(scope="module")
def sort() -> Scope:
    return llmscope.load("builtin:sort")


@dataclass
class Heard:
    engine: Engine
    events: Queue[Event]

    def until(self, kind: type) -> Event:
        while not isinstance(event := self.events.get(timeout=PATIENCE), kind):
            pass
        return event


@pytest.fixture
def heard(sort: Scope) -> Iterator[Heard]:
    events: Queue[Event] = Queue()
    engine = Engine(lambda _: sort, events.put)
    engine.start()
    heard = Heard(engine, events)
    heard.until(Loaded)
    yield heard
    assert engine.close(PATIENCE)


def request(serial: int, text: str = "CAB") -> Request:
    return Request(serial, text, (Want("tokens", "tokens", Focus()),))


def test_it_is_read_to_its_end_and_reported(heard: Heard) -> None:
    asked = PromptsRequest(File(ends))
    heard.engine.ask(asked)
    read = heard.until(PromptsRead)
    assert isinstance(read, PromptsRead)
    assert read.request is asked
    assert (read.report.read, read.report.done) == (1, True)


def test_a_request_is_answered_first_and_reading_goes_on(heard: Heard) -> None:
    gave_way = threading.Event()

    def waits(reader: Reader, gives_way: Callable[[], bool]) -> None:
        while not gave_way.is_set():
            if gives_way():
                gave_way.set()
                return
        ends(reader, gives_way)

    file = File(waits)
    heard.engine.ask(PromptsRequest(file))
    file.steps.get(timeout=PATIENCE)  # it is in the middle of a step
    heard.engine.ask(request(1))
    frame = heard.until(Frame)
    assert isinstance(frame, Frame)
    assert frame.serial == 1
    assert gave_way.is_set(), "the step ended for the request"
    read = heard.until(PromptsRead)
    assert isinstance(read, PromptsRead)
    assert read.report.done
    assert len(file.readers) == 1, "it went on where it was"


def test_it_waits_for_a_pause_in_what_is_asked(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts_behind, "PAUSE", PATIENCE)
    file = File(goes_on)
    heard.engine.ask(PromptsRequest(file))
    file.steps.get(timeout=PATIENCE)
    heard.engine.ask(request(1))
    heard.until(Frame)
    while not file.steps.empty():
        file.steps.get()
    heard.engine.ask(request(2, "CABA"))
    heard.until(Frame)
    assert file.steps.empty(), "nothing is read while there are requests"


def test_another_file_replaces_it_and_none_ends_it(heard: Heard) -> None:
    first, second = File(goes_on), File(goes_on)
    heard.engine.ask(PromptsRequest(first))
    first.steps.get(timeout=PATIENCE)
    asked = PromptsRequest(second)
    heard.engine.ask(asked)
    second.steps.get(timeout=PATIENCE)
    heard.engine.ask(PromptsRequest(None))
    heard.engine.ask(request(1))
    heard.until(Frame)
    taken = PromptsRequest(File(ends))
    heard.engine.ask(taken)
    while True:
        read = heard.until(PromptsRead)
        assert isinstance(read, PromptsRead)
        if read.request is taken:
            break
    count = second.steps.qsize()
    heard.engine.ask(request(2, "CABA"))
    heard.until(Frame)
    assert second.steps.qsize() == count, "the one before is not read any more"


@pytest.mark.parametrize("error", [ScopeError("the file is gone", "another"), MemoryError("full")])
def test_an_error_ends_it_and_is_reported(heard: Heard, error: Exception) -> None:
    def fails(reader: Reader, _: Callable[[], bool]) -> None:
        if reader.report.read:
            raise error
        goes_on(reader, _)

    heard.engine.ask(PromptsRequest(File(fails)))
    while True:
        read = heard.until(PromptsRead)
        assert isinstance(read, PromptsRead)
        if read.report.done:
            break
    wanted = "the file is gone (try: another)" if isinstance(error, ScopeError) else "full"
    assert wanted in read.report.error
    assert read.report.read == 1, "what was found before is kept"
    heard.engine.ask(request(1))
    assert isinstance(heard.until(Frame), Frame), "the engine lives on"


def test_another_model_begins_it_anew(heard: Heard) -> None:
    file = File(goes_on)
    heard.engine.ask(PromptsRequest(file))
    file.steps.get(timeout=PATIENCE)
    other = llmscope.load("builtin:sort")
    heard.engine.ask(OpenRequest("other", lambda _: other))
    heard.until(Opened)
    while file.steps.get(timeout=PATIENCE).scope is not other:
        pass
    assert [reader.scope is other for reader in file.readers][-1]
    assert len(file.readers) == 2


def test_the_latest_recording_is_left_as_it_was(heard: Heard, sort: Scope) -> None:
    """A letter after the text on screen still runs one token."""

    def records(reader: Reader, gives_way: Callable[[], bool]) -> None:
        recorder = reader.scope.recorder
        recorder.go_on(None, reader.scope.prompt("BBBCAA"), gives_way)
        ends(reader, gives_way)

    heard.engine.ask(request(1))
    heard.until(Frame)
    heard.engine.ask(PromptsRequest(File(records)))
    heard.until(PromptsRead)
    heard.engine.ask(request(2, "CABA"))
    frame = heard.until(Frame)
    assert isinstance(frame, Frame)
    assert (frame.cost.ran, frame.cost.reused) == (1, 3)

"""Stream a corpus through a model, and write the examples of units to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.corpus.counting import CONTENT, Counting
from llmscope.corpus.progress import JobProgress, Tell, ignore
from llmscope.corpus.records.prompts import digest_of, digested, windows
from llmscope.errors import ScopeError, option
from llmscope.jobs.examples.collector import Collector, Sizes
from llmscope.jobs.examples.entries import Entries
from llmscope.jobs.examples.sources import UnitSource, check_places
from llmscope.jobs.state import JobState, again
from llmscope.jobs.store import other_options
from llmscope.learned.examples.folder import (
    BLOCK,
    INDEX,
    STATE,
    Index,
    file_bytes,
    file_of,
    index_bytes,
    is_file_of_units,
    read_index,
)
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.derive.batching import PromptRunner
from llmscope.support.arguments import LONGEST_TEXT
from llmscope.support.fsync import Arrays, remove_left, remove_plain, replace_file, writing
from llmscope.support.text import display_text, error_line

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope

CHUNK = 64
"""Prompts between two places where a run may go on: passes never span two chunks, so that a run
that goes on has the same passes."""
ENTRY, JOURNAL = "llmscope_examples", ".finished"
"""The name of the header in the metadata of a checkpoint; the file of the passes after it."""
STORED = ("tokens", "units", "values")
"""The arrays of `Entries`."""
EACH, ALL = Sizes(), Sizes(top=5, bottom=2, random=3)
"""What a unit gets that is named, and where all features of a dictionary are asked for."""


@dataclass(frozen=True)
class Collection:
    """What is collected.

    Attributes:
        sizes: how many examples a unit gets.
        sizes_of_all: the same where all features of a dictionary are asked for.
        length: prompts are cut after this many tokens.
        prompts: stop after this many; None: at the end of the corpus.
        every_token: count special tokens and the first one of a prompt too.
        name, size: the name of the corpus and its size in bytes, kept with the examples.
    """

    sizes: Sizes = EACH
    sizes_of_all: Sizes = ALL
    length: int = 128
    prompts: int | None = None
    every_token: bool = False
    name: str = ""
    size: int | None = None

    def sizes_for(self, source: UnitSource) -> Sizes:
        """Return how many examples each unit of a source gets."""
        return self.sizes_of_all if source.group.indices is None else self.sizes


PROMPTS = "prompts_sha256"
"""The digest of all prompts, in the index of examples that are complete."""


def collect(
    scope: Scope,
    lines: Iterable[tuple[int, str]],
    sources: Sequence[UnitSource],
    how: Collection,
    folder: Path,
    progress: JobProgress | None = None,
    note: Tell = ignore,
) -> Index:
    """Write the examples of units over a corpus to a folder, and return its index.

    The same call again goes on where a run stopped, and ends with the same bytes.

    Args:
        scope: the model.
        lines: the prompts, lines ascending.
        sources: the units.
        how: what is collected.
        folder: a new folder, or one that the same call began.
        progress: counts the prompts; None: it is not told.
        note: called with a line on where a collection goes on that was stopped.

    Raises:
        ScopeError: the model lacks a unit, no token of the corpus counts, or the folder holds
            something else.
    """
    check_places(sources)
    progress = progress or JobProgress()
    about = _about(scope, sources, how)
    complete = read_finished_index(folder, about)
    if complete is not None:
        if complete.about.get(PROMPTS) != digest_of(_some(lines, how)):
            raise ScopeError(
                f"{display_text(str(folder))} holds examples of other prompts", again()
            )
        return complete
    state = JobState(folder / STATE, about, entry=ENTRY, journal=folder / JOURNAL)
    with scope.unchanged():
        run = _Run(scope, sources, how, state)
        progress.resumed(run.prompts)
        progress.going_on(note, run.stored_prompts)
        run.add_all(_some(lines, how), progress)
        if not any(collector.statistics.tokens for collector in run.collectors):
            raise ScopeError(
                "no token of any prompt counts", f"longer prompts, or {option('every-token')}"
            )
        progress.stage("writing")
        index = Index(
            model=scope.loaded_model.spec,
            revision=scope.loaded_model.revision,
            corpus=how.name,
            prompts=run.prompts,
            tokens=run.collectors[0].statistics.tokens,
            groups=tuple(source.group for source in sources),
            about={**about, PROMPTS: run.digest},
        )
        _write(folder, run.collectors, sources, scope.loaded_model.label, index)
        state.remove()
    return index


def read_finished_index(folder: Path, about: dict[str, Any]) -> Index | None:
    """Return the index of a folder whose examples are complete; None if there is work to do.

    Raises:
        ScopeError: the folder holds something else.
    """
    printed = display_text(str(folder))
    try:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ScopeError(
            f"cannot read {printed}: {error_line(error)}", f"another {option('out')}"
        ) from error
    index = read_index(folder)
    if index is not None:
        stored = {name: value for name, value in index.about.items() if name != PROMPTS}
        if stored != about:
            raise other_options(printed, stored, about)
    if index is None and names and STATE not in names:
        parts = all(path.match("[0-9]*.*-[0-9]*.jsonl") for path in map(Path, names))
        what = "examples that are not complete" if parts else "other files"
        raise ScopeError(
            f"{printed} holds {what}", again() if parts else f"another {option('out')}"
        )
    for pattern in (f".{STATE}.*", f".{INDEX}.*", ".[0-9]*.jsonl.*"):
        remove_left(folder.glob(pattern))  # of a run that was killed while it wrote
    return index


def remove_examples(folder: Path) -> None:
    """Remove the examples in a folder, and nothing else.

    Raises:
        ScopeError: they cannot be removed.
    """
    try:
        for path in folder.glob("[0-9]*.*-[0-9]*.jsonl"):
            if is_file_of_units(path.name):
                remove_plain(path)
        for name in (INDEX, STATE, JOURNAL):
            remove_plain(folder / name)
    except OSError as error:
        raise ScopeError(
            f"cannot empty {display_text(str(folder))}: {error_line(error)}",
            f"another {option('out')}",
        ) from error


def _about(scope: Scope, sources: Sequence[UnitSource], how: Collection) -> dict[str, Any]:
    """Return everything that the examples depend on, as JSON types."""
    model = scope.loaded_model
    return {
        "model": model.spec,
        "revision": model.revision,
        "adapter": model.adapter,
        "dtype": str(model.dtype).removeprefix("torch."),
        "units": [source.group.to_dict() for source in sources],
        "corpus": how.name,
        "corpus_bytes": how.size,
        "examples": [asdict(how.sizes_for(source)) for source in sources],
        "length": how.length,
        "max_prompts": how.prompts,
        "every_token": how.every_token,
    }


class _Run:
    """Runs prompts and adds what their units do to collectors, from where an earlier run stopped.

    Args:
        scope: the model.
        sources: the units.
        how: what is collected.
        state: keeps each pass and what is collected, and has those of an earlier run.

    Attributes:
        collectors: what is collected, of each source.
        prompts: the prompts that were read.
        digest: of their texts.
    """

    def __init__(
        self, scope: Scope, sources: Sequence[UnitSource], how: Collection, state: JobState
    ) -> None:
        self._scope, self._sources, self._how, self._state = scope, sources, how, state
        self.collectors = [
            Collector(source.kind, source.place, source.indices, how.sizes_for(source))
            for source in sources
        ]
        self.prompts, self.digest = 0, ""
        state.load(self._load)
        self._stored: dict[tuple[int, str], list[tuple[list[int], Arrays]]] = {}
        for note, arrays in state.records():
            if note["before"] >= self.prompts:
                place = note["before"], note["prompts"]
                self._stored.setdefault(place, []).append((note["pass"], arrays))
        self._runner = PromptRunner.of(scope.recorder)
        self._whole = any(source.whole for source in sources)
        self._checked = False
        context = scope.loaded_model.anatomy.context
        self._length = how.length if context is None else min(how.length, context)

    @property
    def stored_prompts(self) -> int:
        """The prompts of the passes that an earlier run finished, and that are not added yet."""
        return sum(len(group) for passes in self._stored.values() for group, _ in passes)

    def add_all(self, lines: Iterable[tuple[int, str]], progress: JobProgress) -> None:
        """Add the prompts of a corpus that no earlier run has added.

        Raises:
            ScopeError: the earlier run had other prompts, or a pass cannot be kept.
        """
        seen, read = sha256(), 0
        for chunk in windows(lines, CHUNK):
            for line in chunk:
                seen.update(digested(line))
            before, read = read, read + len(chunk)
            if read == self.prompts and seen.hexdigest() != self.digest:
                raise _other_prompts()
            if read <= self.prompts and self._checked:
                continue
            prompts = [(line, self._prompt(text)) for line, text in chunk]
            counting = [
                (line, prompt) for line, prompt in prompts if self._counted_tokens(prompt).any()
            ]
            if not self._checked and (read <= self.prompts or self.stored_prompts):
                self._check_first(counting)
            if read <= self.prompts:
                continue
            progress.resumed(len(prompts) - len(counting))
            self._add(counting, (before, digest_of(chunk)), progress)
            self.prompts, self.digest = read, seen.hexdigest()
            if len(chunk) == CHUNK:
                self._state.save_if_due(self._arrays, self._bytes)
        if read < self.prompts or self.stored_prompts:
            raise ScopeError("there are fewer prompts than the checkpoint is of", again())

    def _add(
        self, chunk: Sequence[tuple[int, Prompt]], place: tuple[int, str], progress: JobProgress
    ) -> None:
        """Add the prompts of a chunk; passes that an earlier run finished are not run again.

        Args:
            chunk: the prompts in which a token counts, with their lines.
            place: how many prompts come before the chunk, and the digest of its prompts.
            progress: counts them, pass by pass.

        Raises:
            ScopeError: the earlier run had other prompts, or a pass cannot be kept.
        """
        stored = self._stored.pop(place, [])
        if any(before == place[0] for before, _ in self._stored):
            raise _other_prompts()
        for group in self._runner.passes([len(prompt) for _, prompt in chunk]):
            numbers, arrays = stored.pop(0) if stored else ([], {})
            if numbers == group:
                progress.resumed(len(group))
            else:
                arrays = self._run(group, chunk)
                place_note = {"before": place[0], "prompts": place[1], "pass": group}
                self._state.append(arrays, **place_note)
                progress.done(len(group))
            for number, at in enumerate(group):
                line, prompt = chunk[at]
                for source, collector in enumerate(self.collectors):
                    tokens, units, values = (arrays[f"{number}.{source}.{name}"] for name in STORED)
                    entries = Entries(tokens, units, values, len(collector.indices))
                    collector.add(line, prompt.ids, self._counted_tokens(prompt), entries)

    def _run(self, group: Sequence[int], chunk: Sequence[tuple[int, Prompt]]) -> Arrays:
        """Run a pass, and return what the units of each source do, by prompt and source.

        Raises:
            ScopeError: an activation is no number.
        """
        recordings = self._runner([chunk[at][1] for at in group], whole=self._whole)
        self._check(recordings[0])
        arrays: Arrays = {}
        for number, (at, recording) in enumerate(zip(group, recordings, strict=True)):
            for place, source in enumerate(self._sources):
                entries = source.entries(recording)
                if not np.isfinite(entries.values).all():
                    raise ScopeError(
                        f"line {chunk[at][0]}: an activation is NaN or infinite",
                        option("dtype", "float32"),
                    )
                arrays |= {f"{number}.{place}.{name}": getattr(entries, name) for name in STORED}
        return arrays

    def _check_first(self, chunk: Sequence[tuple[int, Prompt]]) -> None:
        """Check the sources on the recording that an earlier run checked them on."""
        for group in self._runner.passes([len(prompt) for _, prompt in chunk])[:1]:
            self._check(self._runner([chunk[at][1] for at in group], whole=self._whole)[0])

    def _check(self, recording: Recording) -> None:
        """Check the sources on a recording, once.

        Raises:
            ScopeError: the model lacks a unit.
        """
        for source in () if self._checked else self._sources:
            source.check(recording, self._scope.verdicts)
        self._checked = True

    def _prompt(self, text: str) -> Prompt:
        """Return the tokens of a text, cut to the length."""
        tokens, length = self._scope.encode(text[:LONGEST_TEXT]), self._length
        return Prompt(tokens.ids[:length], tokens.pieces[:length], tokens.special[:length])

    def _counted_tokens(self, prompt: Prompt) -> NDArray[np.bool_]:
        """Return which tokens count. [token]"""
        counting = Counting() if self._how.every_token else CONTENT
        mask = np.zeros(len(prompt), dtype=bool)
        mask[counting.places_among(prompt.special)] = True
        return mask

    @property
    def _bytes(self) -> int:
        """The bytes of what is collected."""
        return sum(
            array.nbytes for collector in self.collectors for array in collector.arrays.values()
        )

    def _arrays(self) -> tuple[Arrays, dict[str, Any]]:
        """Return what is collected as arrays, and the header that it is kept with.

        Arrays without numbers, such as those of 0 examples, hold no state.
        """
        arrays = {
            f"{at}.{name}": array
            for at, collector in enumerate(self.collectors)
            for name, array in collector.arrays.items()
            if array.size
        }
        tokens = [collector.statistics.tokens for collector in self.collectors]
        return arrays, {"prompts": self.prompts, "digest": self.digest, "tokens": tokens}

    def _load(self, arrays: Arrays, header: Mapping[str, Any]) -> None:
        """Go on from what `_arrays` gave.

        Raises:
            LookupError, ValueError: it is of other units or sizes.
        """
        for at, (collector, tokens) in enumerate(
            zip(self.collectors, header["tokens"], strict=True)
        ):
            stored = {
                name: arrays[f"{at}.{name}"] if array.size else array
                for name, array in collector.arrays.items()
            }
            collector.load(stored, int(tokens))
        self.prompts, self.digest = int(header["prompts"]), str(header["digest"])


def _other_prompts() -> ScopeError:
    return ScopeError("the prompts are not those that the checkpoint is of", again())


def _some(lines: Iterable[tuple[int, str]], how: Collection) -> Iterator[tuple[int, str]]:
    """Return the prompts that are read: those with a text, as many as were asked for."""
    texts: Iterator[tuple[int, str]] = (line for line in lines if line[1])
    return texts if how.prompts is None else islice(texts, how.prompts)


def _write(
    folder: Path,
    collectors: Sequence[Collector],
    sources: Sequence[UnitSource],
    label: Callable[[int], str],
    index: Index,
) -> None:
    with writing(folder):
        for source, collector in zip(sources, collectors, strict=True):
            ats = range(len(collector.indices))
            while ats:
                name = file_of(source.place, int(collector.indices[ats[0]]))
                of_file = [
                    at
                    for at in ats[:BLOCK]
                    if file_of(source.place, int(collector.indices[at])) == name
                ]
                examples = [
                    collector.examples(at, label, source.label(int(collector.indices[at])))
                    for at in of_file
                ]
                replace_file(folder / name, file_bytes(examples))
                ats = ats[len(of_file) :]
        replace_file(folder / INDEX, index_bytes(index))

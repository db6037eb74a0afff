"""Compare two models over a corpus: stream texts through both, and write a table and a summary."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.corpus.progress import JobProgress, Tell
from llmscope.corpus.records.prompts import PromptSource, digest_of, windows
from llmscope.errors import ScopeError, option
from llmscope.export import json_text, provenance_of, write
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.jobs.compare.side import (
    Group,
    Reader,
    RunningSide,
    Side,
    StoredSide,
    file_of,
    reader_of,
    store,
)
from llmscope.jobs.compare.summary import summarize_shards
from llmscope.jobs.compare.table import ComparisonWriter, file_of_shard, groups
from llmscope.jobs.compare.texts import tokenize_texts
from llmscope.jobs.store import JobFolder, JobShare
from llmscope.models.loading.memory import reserve
from llmscope.models.variants import Variants
from llmscope.record.compare.same_tokens import token_difference
from llmscope.support.fsync import remove_left
from llmscope.support.storage import LocalStorage

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

SUMMARY, STREAMS = "summary.json", ".streams"


class _NoRoom(Exception):  # noqa: N818 - a finding
    """The second model does not fit beside the first."""


@dataclass(frozen=True)
class _First:
    """What stays of the first model when it is not in memory any more.

    Attributes:
        reader: reads its streams.
        model: the model without its weights: its tokenizer and its sizes.
        origin: its provenance.
    """

    reader: Reader
    model: LoadedModel
    origin: dict[str, Any]


def compare(
    load_a: Callable[[], Scope],
    load_b: Callable[[], Scope],
    source: PromptSource,
    how: CorpusComparison,
    out: Path,
    *,
    name: str,
    command: str | None = None,
    force: bool = False,
    tell: Tell,
    progress: Tell | None = None,
    beside: Callable[[Scope, Scope], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Compare two models over a corpus, write a table and a summary, and return the summary.

    The same call again goes on where a run stopped, and ends with the same bytes. Of the streams
    only those of one pass are in memory.

    Args:
        load_a, load_b: load the models; the divergence is KL(A ‖ B).
        source: the texts.
        how: what is measured.
        out: a new folder, or one that the same call began.
        name: the name of the corpus, for the summary.
        command: the command line, for the summary.
        force: remove what an earlier comparison wrote to the folder, in place of going on from it.
        tell: called with a note in one line.
        progress: called with the progress as text.
        beside: measures more of both models, for the summary; None: nothing more.

    Raises:
        ScopeError: the models do not read the same tokens, a text cannot be read, the folder holds
            something else, or `beside` needs both models and they do not fit into memory.
    """
    scope_a = load_a()
    first = _First(
        reader_of(scope_a),
        _without_weights(scope_a.loaded_model),
        provenance_of(scope_a.origin(), None),
    )
    notices = [f"A: {notice}" for notice in scope_a.loaded_model.notices]
    try:
        with reserve(_refuse):
            scope_b = load_b()
        together = True
    except _NoRoom:
        together = False
    if together:
        how = _of_both(first, scope_b, how)
        ours: Side = RunningSide(scope_a, layers=how.layers)
        more = {} if beside is None else beside(scope_a, scope_b)
    elif beside is not None:
        raise ScopeError(
            f"B does not fit into memory beside A, and {option('difference')} needs both",
            f"{option('dtype', 'bfloat16')}, or a machine with more memory",
        )
    else:
        more = {}
        tell("B does not fit into memory beside A: they run one after the other")
        how = how.within(first.model.anatomy.context)
        pace = JobProgress(progress, noun="text", source=source)
        with pace.noted_if_stopped(tell, " of A"):
            ours = _run_and_store(scope_a, first, source, how, out, pace)
        scope_a.detach()
        del scope_a  # its memory is the second model's
        scope_b = load_b()
        how = _of_both(first, scope_b, how)
    for line in (*notices, *(f"B: {notice}" for notice in scope_b.loaded_model.notices)):
        tell(line)
    theirs = RunningSide(scope_b, layers=how.layers)
    about = {"prompts": name, **how.to_dict()}
    origins = {"a": first.origin, "b": provenance_of(scope_b.origin(), None)}
    folder = JobFolder(
        *(LocalStorage(out), JobShare(size=how.shard_size)),
        *(
            {**about, **{key: _stable(origin) for key, origin in origins.items()}},
            {"command": command},
        ),
        force=force,
    )
    journal = folder.journal()
    writer = ComparisonWriter(first.model, (ours, theirs), scope_b, how, out, journal, tell)
    pace = JobProgress(progress, noun="text", source=source)
    with pace.noted_if_stopped(tell, f" in {folder.shown}"):
        stored = list(writer.shards(source, pace))
    summary = {
        **summarize_shards(stored, (first.reader, theirs.reader), how),
        **more,
        "models": "both at once" if together else "one after the other",
        **origins,
        "arguments": about,
        "command": command,
    }
    if journal is not None:
        journal.remove()
    folder.complete(shards=len(stored), prompts=summary["texts"]["count"], errors=0)
    remove_left(out.glob(f".{SUMMARY}.*"))  # of a run that was killed while it wrote
    write(out / SUMMARY, json_text(summary), force=True)
    shutil.rmtree(out / STREAMS, ignore_errors=True)
    return summary


def _refuse() -> None:
    raise _NoRoom


def _without_weights(model: LoadedModel) -> LoadedModel:
    return replace(
        model,
        module=None,
        anatomy=replace(model.anatomy, layers=(), readout=None),
        adapted=Variants(),
        origin=None,
        reward=None,
    )


def _of_both(first: _First, scope_b: Scope, how: CorpusComparison) -> CorpusComparison:
    """Return a comparison with a length that both models can read.

    Raises:
        ScopeError: they do not read the same tokens, or a text would be too long.
    """
    difference = token_difference(first.model, scope_b.loaded_model)
    if difference:
        raise ScopeError(
            f"the models do not read the same tokens: {difference}", "two models with one tokenizer"
        )
    return how.within(first.model.anatomy.context, scope_b.loaded_model.anatomy.context)


def _stable(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the numbers depend on of a model's provenance."""
    return {name: value for name, value in origin.items() if name not in ("command", "threads")}


def _run_and_store(
    scope: Scope,
    first: _First,
    source: PromptSource,
    how: CorpusComparison,
    out: Path,
    pace: JobProgress,
) -> StoredSide:
    """Run the first model alone, and keep its streams on the disk.

    Raises:
        ScopeError: the texts can be read only once, or the streams cannot be kept.
    """
    if source.read is None:
        raise ScopeError(
            "stdin can be read only once, and the models run one after the other", "a file of texts"
        )
    options = json_text({"a": _stable(first.origin), **how.to_dict()})
    folder = out / STREAMS / hashlib.sha256(options.encode()).hexdigest()[:16]
    side = RunningSide(scope, layers=how.layers)
    for number, lines in enumerate(windows(source.texts(), how.shard_size)):
        pace.seen += len(lines)
        digest, done = digest_of(lines)[:16], file_of_shard(out, number)
        texts = [] if done.exists() else tokenize_texts(first.model, lines, how)
        pace.resumed(len(lines) - len(texts))
        for at, group in groups(texts):
            key = Group(number, at, digest)
            if file_of(folder, key).exists():
                pace.resumed(len(group))
                continue
            of_group = [texts[index] for index in group]
            places = [how.counting.places(len(text.ids)) for text in of_group]
            store(folder, key, side.streams(key, of_group, places))
            pace.done(len(group))
    return StoredSide(first.reader, folder)

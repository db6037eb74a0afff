"""The records of `run.json` and `steps.jsonl`, validated when they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from llmscope.errors import ScopeError
from llmscope.support.lines import TooLargeError, json_of, read_file
from llmscope.support.text import display_line, display_text

SCHEMA = "llmscope.run"
VERSION = 1
INFO, INDEX, BASE, SHARDS = "run.json", "steps.jsonl", "base.safetensors", "shards"
LONGEST_LINE = 1 << 22
"""Maximum length of a line of the index in bytes."""
HINT = "a folder that LensCallback wrote, or MODEL --revisions A,B for a model"

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
"""A name that files are named after."""
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By version of the schema: what turns `run.json` of that version into that of the next one."""


class RunPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt of a run.

    Attributes:
        text: the prompt; None if only its ids are known.
        ids: its tokens.
        labels: the text of each token.
        special: whether each token is a special token.
        focus: the options that its figures share, as of `llmscope.lenses.focus_dict`.
        target: the text of the target token; None without one.
        versus_prompt: the text of prompt B; None without one.
    """

    text: str | None
    ids: tuple[int, ...]
    labels: tuple[str, ...]
    special: tuple[bool, ...]
    focus: dict[str, Any] = {}
    target: str | None = None
    versus_prompt: str | None = None


class RunFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that each step of a run holds.

    Attributes:
        key: names it in the shards.
        lens, mode: how it is computed; the mode is empty where the lens has none.
        prompt: index of its prompt; None for a figure that is the same for every prompt.
        options: the options that it is computed with.
    """

    key: str
    lens: Name
    mode: Name = ""
    prompt: Count | None = None
    options: dict[str, Any] = {}


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `run.json`.

    Attributes:
        llmscope: the version that wrote it.
        model: facts about the model, as in a snapshot.
        versions: of torch, transformers and Python.
        prompts, figures: what is recorded.
        source: `training`, or `checkpoints` for figures of saved weights.
    """

    llmscope: str
    model: dict[str, Any]
    versions: dict[str, Any]
    prompts: Annotated[tuple[RunPrompt, ...], msgspec.Meta(min_length=1)]
    figures: tuple[RunFigure, ...]
    source: str = "training"
    schema: str = SCHEMA
    version: int = VERSION


class StepLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="step"):
    """A recorded step.

    Attributes:
        step: the optimizer's steps so far.
        time: seconds since 1970 when it was recorded.
        took: seconds that recording took, with writing the shard.
        scalars: the loss and whatever else was logged.
        prompts: the indices of its prompts.
        figures: the keys of its figures.
        shard: the file that holds them, in `shards`.
        size, crc: bytes and CRC-32 of that file.
        name: of the checkpoint, such as a revision, or the stage and its own step; empty for a
            training of one stage.
        stage: the stage of the training, such as `sft`; empty if it has one.
        start: the step at which the stage began.
        identity: of the weights of a checkpoint, which changes when they do.
    """

    step: Count
    time: Seconds
    took: Seconds = 0.0
    scalars: dict[str, float | None] = {}
    prompts: tuple[int, ...] = ()
    figures: tuple[str, ...] = ()
    shard: str = ""
    size: Count = 0
    crc: Count = 0
    name: str = ""
    stage: str = ""
    start: Count = 0
    identity: str = ""


class LogLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="log"):
    """Scalars that were logged at a step; None for NaN and infinity."""

    step: Count
    time: Seconds
    scalars: dict[str, float | None]


Line = StepLine | LogLine


def read_info(folder: Path) -> RunInfo:
    """Read `run.json` of a run folder.

    Raises:
        ScopeError: the folder is no run, of a later schema, or its `run.json` is damaged.
    """
    path, named = folder / INFO, display_line(folder)
    try:
        data = read_file(path, "run")
    except TooLargeError as error:
        raise ScopeError(
            f"{named} is no run that can be read: {INFO}: {error}", "a run of fewer prompts"
        ) from error
    except OSError as error:
        there = "there is no such folder" if not folder.is_dir() else f"it holds no {INFO}"
        raise ScopeError(f"{named} is no run: {there}", HINT) from error
    try:
        record = json_of(data)
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ScopeError(f"{named} is no run: its {INFO} is something else", HINT)
        version = record.get("version")
        if type(version) is int and version > VERSION:
            by = display_text(str(record.get("llmscope", "?")))[:40]
            raise ScopeError(
                f"{named} was written by a later llmscope ({by}): schema {version}, "
                f"and this one reads up to {VERSION}",
                "a newer llmscope",
            )
        info = msgspec.convert(migrate_record(record), RunInfo)
        for figure in info.figures:
            if figure.prompt is not None and figure.prompt >= len(info.prompts):
                raise ValueError(
                    f"a figure is of prompt {figure.prompt}, and it has {len(info.prompts)} prompts"
                )
        return info
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ScopeError(f"{named} is a damaged run: {INFO}: {error_text(error)}", HINT) from error


def migrate_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of `run.json` in the current version of the schema.

    Raises:
        ValueError: nothing migrates its version.
    """
    while (version := record.get("version")) != VERSION:
        if not isinstance(version, int) or version not in MIGRATIONS:
            raise ValueError(f"schema {version!r} is unknown")
        record = MIGRATIONS[version](record)
    return record


def error_text(error: BaseException) -> str:
    """Return the message of an exception on one line, sanitized and cut."""
    return display_text(" ".join(str(error).split()))[:200] or type(error).__name__

"""One of the two models: its streams of some texts, from passes or from the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from llmscope.errors import ScopeError, option
from llmscope.jobs.compare.texts import Text
from llmscope.jobs.fit_lens.check import check_prompt, check_readout
from llmscope.models.anatomy import Readout
from llmscope.record.capture.prompts import prompt_from
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.batching import PromptRunner, why_alone
from llmscope.support.fsync import make_folder, replace_file
from llmscope.support.text import display_text, error_line

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope


@dataclass(frozen=True)
class Group:
    """Texts that run together: the number of their shard and of the group in it, and a digest."""

    shard: int
    number: int
    digest: str


@dataclass(frozen=True)
class Reader:
    """What is needed of a model to read its streams.

    Attributes:
        readout: its final norm and unembedding.
        layers, width: the number of layers, and the width of the stream.
        dtype: the dtype whose rounding bounds how far equal streams may be apart.
    """

    readout: Readout
    layers: int
    width: int
    dtype: torch.dtype


def reader_of(scope: Scope) -> Reader:
    """Return what reads a model's streams.

    Raises:
        ScopeError: they cannot be read.
    """
    check_readout(scope)
    model, anatomy = scope.loaded_model, scope.loaded_model.anatomy
    return Reader(anatomy.require_readout(), len(anatomy.layers), anatomy.width, model.precision)


class Side(Protocol):
    """A model that gives the streams of texts.

    Attributes:
        reader: reads its streams.
        alone: whether each text runs alone, so that any of a group may be asked for.
    """

    reader: Reader
    alone: bool

    def streams(
        self, group: Group, texts: Sequence[Text], rows: Sequence[range]
    ) -> Sequence[Tensor]:
        """Return the streams of some rows of each text. `[stream, row, width]`, or of one stream"""
        ...


class RunningSide:
    """A model in memory.

    Args:
        scope: the model.
        layers: whether all streams are wanted, and not only the last one.

    Raises:
        ScopeError: the model's streams cannot be read.
    """

    def __init__(self, scope: Scope, *, layers: bool) -> None:
        self.reader = reader_of(scope)
        self._scope, self._layers = scope, layers
        # In half precision a padded pass rounds otherwise, which the comparison would show.
        self.alone = scope.loaded_model.dtype in (torch.float16, torch.bfloat16)
        if not self.alone:
            with scope.unchanged():
                self.alone = bool(why_alone(scope.recorder))

    def streams(
        self, group: Group, texts: Sequence[Text], rows: Sequence[range]
    ) -> Sequence[Tensor]:
        """Return the streams of some rows of each text. `[stream, row, width]`, or of one stream

        Raises:
            ScopeError: an id is not in the vocabulary, or the model's logits are not those of its
                streams.
        """
        prompts = []
        for text in texts:
            try:
                prompts.append(prompt_from(self._scope.loaded_model, text.ids))
            except ScopeError as error:
                raise error.at(f"line {text.line}") from error
        with self._scope.unchanged():  # torch's settings of this model
            recorder = self._scope.recorder
            recordings = PromptRunner(recorder, self.alone)(prompts)
            if self.alone:
                for recording in recordings:
                    check_prompt(recording, recorder.outside)
            return [self._of(*pair) for pair in zip(recordings, rows, strict=True)]

    def _of(self, recording: Recording, rows: range) -> Tensor:
        last = recording.layers
        streams = [
            recording.rows("stream", stream, rows)
            for stream in (range(last + 1) if self._layers else (last,))
        ]
        device = recording.parts[-1][0].final.device
        return torch.stack([rows.to(device) for rows in streams if rows is not None])


class StoredSide:
    """A model that ran before, and is not in memory any more: its streams are on the disk.

    Args:
        reader: what reads its streams; it stays in memory.
        folder: where the streams are.
    """

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self._folder = reader, folder
        self.alone = False

    def streams(
        self, group: Group, texts: Sequence[Text], rows: Sequence[range]
    ) -> Sequence[Tensor]:
        """Return the stored streams of each text, one tensor a text. `[stream, row, width]`

        Each has one stream if only the last was kept. `rows` is not read: the file has just those.

        Raises:
            ScopeError: they cannot be read.
        """
        from safetensors.torch import load_file

        path = file_of(self._folder, group)
        try:
            tensors = load_file(path)
            return [tensors[str(at)] for at in range(len(texts))]
        except Exception as error:  # a file of another kind may raise anything
            raise ScopeError(
                f"{display_text(str(path))} cannot be read: {error_line(error)}",
                f"another {option('out')}",
            ) from error


def file_of(folder: Path, group: Group) -> Path:
    """Return the file of a group's streams."""
    return folder / f"{group.shard:05d}-{group.number:05d}-{group.digest}.safetensors"


def store(folder: Path, group: Group, streams: Sequence[Tensor]) -> None:
    """Write the streams of a group's texts, completely or not at all.

    Raises:
        ScopeError: they cannot be written.
    """
    from safetensors.torch import save

    data = save({str(at): stream.cpu().contiguous() for at, stream in enumerate(streams)})
    try:
        make_folder(folder.parent)
        make_folder(folder)
        replace_file(file_of(folder, group), data)
    except OSError as error:
        raise ScopeError(
            f"cannot keep the first model's streams: {error_line(error)}",
            f"another {option('out')} with more room, or {option('no-layers')}, which keeps "
            "the last stream alone",
        ) from error

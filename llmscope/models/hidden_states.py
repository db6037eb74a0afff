"""Hidden states that another engine wrote: the files of vLLM's `extract_hidden_states`.

One safetensors file a request, with `token_ids` [token] and `hidden_states` [token, layer, width].
It names neither the model nor the layers. An id counts blocks: 0 is the embedding, i the stream
after i blocks, and the number of the model's layers the stream before the final norm. vLLM writes
the layers in the order of their depth, whatever order they were asked for in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError, option
from llmscope.models.files.weight_headers import safetensors_header
from llmscope.support.text import error_line, one_line

IDS, STATES = "token_ids", "hidden_states"
"""The names of the two tensors."""
FORM = "a file that vLLM's extract_hidden_states wrote"
_WHOLE_NUMBERS: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4")}
_FLOATS: dict[str, tuple[str, np.dtype[Any]]] = {
    "F32": ("float32", np.dtype("<f4")),
    "F16": ("float16", np.dtype("<f2")),
    "BF16": ("bfloat16", np.dtype("<u2")),
}
"""The name of each dtype, and the numpy type of its bits."""
_AT_ONCE = 1 << 22
"""Numbers that are checked at once, since a file may be larger than memory."""
_LISTED = 12
"""Layers that a message names."""


@dataclass(frozen=True)
class StreamSizes:
    """The sizes of a model that a file has to fit.

    Attributes:
        layers: the number of its layers.
        width: the width of its stream.
        vocabulary: the number of its tokens.
    """

    layers: int
    width: int
    vocabulary: int


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """The streams of one text as another engine computed them.

    Attributes:
        path: the file.
        ids: the tokens: those of the prompt, and the generated ones if vLLM was asked for them.
        layers: how many blocks came before each of the streams, in ascending order.
        states: the file's numbers, mapped into memory; bfloat16 as its 16 bits.
            [token, layer, width]
        dtype: `float32`, `float16` or `bfloat16`.
    """

    path: Path
    ids: tuple[int, ...]
    layers: tuple[int, ...]
    states: NDArray[Any] = field(repr=False)
    dtype: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """The name of the file, safe to show."""
        return one_line(self.path.name)

    @property
    def width(self) -> int:
        """The width of the streams."""
        return int(self.states.shape[2])

    def streams(self, index: int) -> NDArray[np.float32]:
        """Return the streams of one layer, exact in float32. [token, width]

        Args:
            index: the index of the layer in `layers`.
        """
        return _floats(self.states[:, index], self.dtype)

    def check(self, *, layers: int, width: int, vocabulary: int) -> None:
        """Check that the streams may be of a model of these sizes; see `StreamSizes`.

        Raises:
            ScopeError: a layer is out of range, the width differs, or an id is outside of the
                vocabulary.
        """
        if self.layers[-1] > layers:
            raise ScopeError(
                f"layer id {self.layers[-1]} is named, and the model has {layers} layers",
                f"0, the embedding, to {layers}, the stream before the final norm",
            )
        if self.width != width:
            raise ScopeError(
                f"{self.name} holds streams of width {self.width}, and the model's have {width}",
                "the model that the engine ran",
            )
        foreign = next((at for at, token in enumerate(self.ids) if token >= vocabulary), None)
        if foreign is not None:
            raise ScopeError(
                f"token {foreign} of {self.name} has the id {self.ids[foreign]}, outside of the "
                f"model's vocabulary of {vocabulary}",
                "the model that the engine ran",
            )

    def check_ids(self, ids: Sequence[int]) -> None:
        """Check that the streams are of these tokens.

        Raises:
            ScopeError: they are of others, with the first difference.
        """
        pairs = enumerate(zip(self.ids, ids, strict=False))
        other = next((at for at, (ours, wanted) in pairs if ours != wanted), None)
        hint = f"the prompt of the file: {option('ids')} with its {len(self.ids)} ids"
        if other is not None:
            raise ScopeError(
                f"{self.name} is of another prompt: its token {other} has the id "
                f"{self.ids[other]}, and that of the prompt {ids[other]}",
                hint,
            )
        if len(self.ids) != len(ids):
            raise ScopeError(
                f"{self.name} is of another prompt: it has {len(self.ids)} tokens, and the prompt "
                f"{len(ids)}",
                hint,
            )


def is_hidden_states(path: Path) -> bool:
    """Return whether a file is one of hidden states, by the names of its tensors.

    A damaged safetensors file without a sidecar counts as one too: it is no snapshot, and reading
    it tells what is wrong with it.
    """
    try:
        return isfile(path) and {IDS, STATES} <= safetensors_header(path, whole=False).keys()
    except OSError:
        return False
    except ValueError:
        return path.suffix == ".safetensors" and not path.with_suffix(".json").exists()


def read_hidden_states(
    path: Path, layers: Sequence[int] | None = None, *, sizes: StreamSizes | None = None
) -> HiddenStates:
    """Read the hidden states of a file; the numbers are checked, and stay in the file.

    Args:
        path: the file.
        layers: the ids of its layers; None: all of the model's, from the embedding on.
        sizes: those of the model; None: not known, and not checked.

    Raises:
        ScopeError: the file is no such file, is damaged, holds NaN or infinity, or has another
            number of layers than `layers`; or it does not fit the model.
    """
    file = one_line(str(path))
    ids, states, dtype = _tensors(path, file)
    hidden_states = HiddenStates(
        path, ids, _layers(layers, states.shape[1], sizes, file), states, dtype
    )
    if sizes is not None:
        hidden_states.check(layers=sizes.layers, width=sizes.width, vocabulary=sizes.vocabulary)
    _check_finite(hidden_states, file)
    return hidden_states


def _tensors(path: Path, file: str) -> tuple[tuple[int, ...], NDArray[Any], str]:
    """Return the ids, the mapped states and their dtype.

    Raises:
        ScopeError: the file cannot be read as hidden states.
    """
    if not isfile(path):  # Path.is_file raises for a name that is too long
        raise ScopeError(f"there is no file {file}", FORM)
    try:
        header = safetensors_header(path, whole=False)
    except OSError as error:
        reason = one_line(error.strerror or "") or error_line(error)
        raise ScopeError(f"cannot read {file}: {reason}", "another file") from error
    except ValueError as error:
        raise ScopeError(f"{file} is no safetensors file: {error_line(error)}", FORM) from error
    for name in (STATES, IDS):
        if name not in header:
            there = one_line(", ".join(sorted(header)[:_LISTED])) or "no tensor"
            raise ScopeError(f"{file} has no {name}; it has {there}", FORM)
    tokens, streams = header[IDS], header[STATES]
    if str(tokens.get("dtype")) not in _WHOLE_NUMBERS or len(tokens["shape"]) != 1:
        raise ScopeError(f"the {IDS} of {file} are {_form(tokens)}, and not int64 [token]", FORM)
    if str(streams.get("dtype")) not in _FLOATS or len(streams["shape"]) != 3:
        raise ScopeError(
            f"the {STATES} of {file} are {_form(streams)}, and not floats [token, layer, width]",
            FORM,
        )
    if streams["shape"][0] != tokens["shape"][0]:
        raise ScopeError(
            f"{file} has {tokens['shape'][0]} {IDS}, and {STATES} of {streams['shape'][0]} tokens",
            FORM,
        )
    if 0 in streams["shape"]:
        raise ScopeError(f"{file} is empty: its {STATES} are {_form(streams)}", FORM)
    missing = _missing_bytes(path, header)
    if missing:
        raise ScopeError(
            f"{file} is cut off: {missing} bytes are missing at its end",
            "again when vLLM has written it, or another copy",
        )
    dtype, bits = _FLOATS[streams["dtype"]]
    ids = _map_tensor(path, tokens, _WHOLE_NUMBERS[tokens["dtype"]])
    if int(ids.min()) < 0:
        raise ScopeError(f"{file} has a negative id among its {IDS}", FORM)
    return tuple(map(int, ids)), _map_tensor(path, streams, bits), dtype


def _form(tensor: Any) -> str:
    return one_line(f"{tensor.get('dtype')} {tensor['shape']}")


def _missing_bytes(path: Path, header: Any) -> int:
    end = max(tensor["data_offsets"][1] for tensor in header.values())
    return max(0, _data_start(path) + int(end) - path.stat().st_size)


def _data_start(path: Path) -> int:
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def _map_tensor(path: Path, tensor: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    start = _data_start(path) + int(tensor["data_offsets"][0])
    return np.memmap(path, dtype, "r", start, tuple(tensor["shape"]))


def _layers(
    layer_ids: Sequence[int] | None, count: int, sizes: StreamSizes | None, file: str
) -> tuple[int, ...]:
    """Return the ids of the layers in a file.

    Raises:
        ScopeError: none are given and the number of them does not tell; or they do not fit it.
    """
    few = f"{count} layer{'s' * (count != 1)}"
    if layer_ids is None:
        if sizes is not None and count == sizes.layers + 1:
            return tuple(range(count))
        raise ScopeError(
            f"{file} does not name its {few}",
            f"{option('layer-ids')} with vLLM's eagle_aux_hidden_state_layer_ids",
        )
    layers = tuple(layer_ids)
    named = ",".join(map(str, layers[:_LISTED])) + "…" * (len(layers) > _LISTED)
    if len(layers) != count:
        raise ScopeError(
            f"layer ids: {len(layers)} are named, and {file} holds {few}",
            "one id for each of them",
        )
    if any(layer < 0 for layer in layers):
        raise ScopeError(f"layer ids {named}: one is negative", "0 for the embedding")
    if any(layer >= other for layer, other in pairwise(layers)):
        twice = len(set(layers)) < len(layers)
        raise ScopeError(
            f"layer ids {named}: one is there twice"
            if twice
            else f"layer ids {named} are not sorted",
            "ascending ids: vLLM writes the layers in the order of their depth",
        )
    return layers


def _check_finite(states: HiddenStates, file: str) -> None:
    """Raise ScopeError if a number is NaN or infinite, with the first place."""
    per_token = states.states.shape[1] * states.width
    step = max(1, _AT_ONCE // per_token)
    for start in range(0, len(states), step):
        piece = _floats(states.states[start : start + step], states.dtype)
        bad = ~np.isfinite(piece)
        if bad.any():
            token, layer, _ = map(int, np.argwhere(bad)[0])
            raise ScopeError(
                f"{file} holds NaN or infinity: first at token {start + token}, "
                f"layer {states.layers[layer]}",
                "an engine and dtype that give finite numbers",
            )


def _floats(stored: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Return stored numbers in float32, which holds each of the dtypes."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(stored, np.float32)

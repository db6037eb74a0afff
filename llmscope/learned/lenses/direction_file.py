"""Files of directions: safetensors with `direction.LAYER`, and llama.cpp's control vectors.

Both hold what was measured as JSON. In a control vector (GGUF) `direction.N` is what llama.cpp adds
to the output of block N, from 0; its loader refuses `direction.0`, so that of block 0 is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from os.path import expanduser, isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.learned.lenses.directions import METHODS, Directions, Dose, Probe, ProbeFigures, Sets
from llmscope.models.files.digest import file_digest
from llmscope.models.files.json_file import nested_deeper
from llmscope.support.fsync import new_file_mode, replace_file, writing
from llmscope.support.text import display_text, error_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel

SUFFIXES = (".safetensors", ".gguf")
FORM = "a file of `llmscope fit direction`, .safetensors or .gguf"
HEADER = "llmscope_direction"
"""The key of the header of a safetensors file; its value is JSON."""
GGUF_HEADER = "llmscope.direction"
GGUF_ARCHITECTURE = "controlvector"
SCHEMA = 1
DEPTH = 12
LARGEST_FILE = 1 << 30
"""Bytes of a file beyond which it is no direction: 100 layers of width 16,384 take 7 MB."""
KEPT = 4
"""Directions that stay in memory while their files do not change."""


class _ProbeHeader(msgspec.Struct, frozen=True):
    offset: float
    slope: float
    intercept: float
    figures: ProbeFigures


class _Header(msgspec.Struct, frozen=True):
    """What a file tells beside the directions themselves."""

    schema: int
    method: str
    position: str
    width: int
    layers: int
    best: int
    probes: dict[int, _ProbeHeader]
    about: dict[str, Any]
    sets: Sets
    dose: Dose | None


def write_directions(directions: Directions, path: Path) -> tuple[int, ...]:
    """Write directions, replacing a file of that name at once.

    Args:
        directions: the directions.
        path: a name that ends in .safetensors, or in .gguf for a control vector of llama.cpp.

    Returns:
        The layers that the format has no place for: 0, of a control vector.

    Raises:
        ScopeError: the suffix is no format, it leaves no layer, or the file cannot be written.
    """
    check_suffix(path)
    left = (0,) if path.suffix == ".gguf" and 0 in directions.probes else ()
    probes = {layer: probe for layer, probe in directions.probes.items() if layer not in left}
    if not probes:
        raise ScopeError(
            "a control vector of llama.cpp has no place for layer 0", "a layer from 1 on"
        )
    header = json.dumps(direction_header(directions, probes))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gguf":
            _write_gguf(directions, probes, header, path)
        else:
            from safetensors.torch import save

            tensors = {
                f"direction.{layer}": probe.direction.clone() for layer, probe in probes.items()
            }
            replace_file(path, save(tensors, metadata={HEADER: header}))
        path.chmod(new_file_mode())
    return left


def check_suffix(path: Path) -> None:
    """Check that directions can be written to a path of this name.

    Raises:
        ScopeError: its suffix is no format.
    """
    if path.suffix not in SUFFIXES:
        raise ScopeError(
            f"{display_text(str(path))} is no name for a direction",
            "a .safetensors file, or .gguf for llama.cpp",
        )


def read_directions(name: str) -> Directions:
    """Return the directions in a file, kept until the file changes.

    Raises:
        ScopeError: there is no such file, or it holds no directions.
    """
    path = Path(expanduser(name))
    if not isfile(path):  # Path.is_file raises for a name that is too long
        raise ScopeError(f"there is no file {display_text(name)}", FORM)
    if path.suffix not in SUFFIXES:
        raise ScopeError(f"{display_text(name)} is no direction", FORM)
    return _read(path, name, path.stat().st_mtime_ns)


def directions_for(source: Any, model: LoadedModel) -> Directions | str:
    """Return the directions for a model, or the reason why they do not fit.

    Args:
        source: directions, or the path of a file.
        model: the model.

    Raises:
        ScopeError: there is no such file, or it cannot be read.
    """
    directions = source if isinstance(source, Directions) else read_directions(str(source))
    anatomy = model.anatomy
    return directions.misfit(layers=len(anatomy.layers), width=anatomy.width) or directions


def direction_header(
    directions: Directions, probes: Mapping[int, Probe] | None = None
) -> dict[str, Any]:
    """Return what a file tells beside the directions themselves, as JSON types.

    Args:
        directions: the directions.
        probes: those that are written, by layer; None: all of them.
    """
    probes = directions.probes if probes is None else probes
    return {
        "schema": SCHEMA,
        "method": directions.method,
        "position": directions.position,
        "width": directions.width,
        "layers": directions.layers,
        "best": directions.best if directions.best in probes else min(probes),
        "probes": {
            str(layer): {
                "offset": probe.offset,
                "slope": probe.slope,
                "intercept": probe.intercept,
                "figures": asdict(probe.figures),
            }
            for layer, probe in probes.items()
        },
        "about": dict(directions.about),
        "sets": asdict(directions.sets),
        "dose": None if directions.dose is None else asdict(directions.dose),
    }


@lru_cache(maxsize=KEPT)
def _read(path: Path, name: str, changed: int) -> Directions:
    name_shown = display_text(name)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError("it is too large")
        text, tensors = (_gguf if path.suffix == ".gguf" else _safetensors)(path)
        if text is None:
            raise ValueError(
                "its header tells of no probe; as a vector, an edit can add it to the stream"
            )
        record = json.loads(text)
        if nested_deeper(record, DEPTH):
            raise ValueError("its header is nested too deeply")
        header = msgspec.convert(record, _Header, strict=False)
        return _directions(header, tensors, name, file_digest(path))
    except Exception as error:  # json, gguf and safetensors may raise anything for another file
        raise ScopeError(
            f"the direction {name_shown} cannot be read: {error_line(error)}", FORM
        ) from error


def _directions(
    header: _Header, tensors: Mapping[str, Tensor], name: str, digest: str
) -> Directions:
    if header.schema != SCHEMA:
        raise ValueError(f"its schema is {header.schema}, and this llmscope reads {SCHEMA}")
    if header.method not in METHODS or header.best not in header.probes:
        raise ValueError("its header does not fit together")
    if not all(0 <= layer < header.layers for layer in header.probes):
        raise ValueError("a layer outside of the model")
    probes = {}
    for layer, probe in sorted(header.probes.items()):
        direction = tensors[f"direction.{layer}"].float().reshape(-1)
        if len(direction) != header.width or not bool(direction.isfinite().all()):
            raise ValueError(f"direction.{layer} is not finite, or not as wide as it tells")
        if not bool(direction.any()):
            raise ValueError(f"direction.{layer} is zero")
        probes[layer] = Probe(direction, probe.offset, probe.slope, probe.intercept, probe.figures)
    return Directions(
        *(header.method, header.position, header.width, header.layers, header.best, probes),
        *(header.about, header.sets, header.dose),
        source=name,
        digest=digest,
    )


def _safetensors(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(HEADER)
        return text, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _write_gguf(
    directions: Directions, probes: Mapping[int, Probe], header: str, path: Path
) -> None:
    import tempfile

    from gguf import GGUFWriter

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name  # the writer takes a path alone
        writer = GGUFWriter(temporary, GGUF_ARCHITECTURE)
        # As repeng and llama.cpp's own generator write them; its loader reads the tensors alone.
        kind = str(directions.about.get("model_type") or directions.model)
        writer.add_string(f"{GGUF_ARCHITECTURE}.model_hint", kind)
        writer.add_uint32(f"{GGUF_ARCHITECTURE}.layer_count", len(probes))
        writer.add_string(GGUF_HEADER, header)
        for layer, probe in sorted(probes.items()):
            writer.add_tensor(f"direction.{layer}", probe.direction.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        replace_file(path, temporary.read_bytes())


def _gguf(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    from gguf import GGMLQuantizationType, GGUFReader

    reader = GGUFReader(path)
    architecture = reader.get_field("general.architecture")
    if architecture is None or architecture.contents() != GGUF_ARCHITECTURE:
        raise ValueError("it is no control vector")
    tensors = {}
    for tensor in reader.tensors:
        if tensor.tensor_type != GGMLQuantizationType.F32 or len(tensor.shape) != 1:
            raise ValueError(f"{display_text(tensor.name)} is no vector of float32")
        tensors[tensor.name] = torch.from_numpy(tensor.data.copy())
    field = reader.get_field(GGUF_HEADER)
    return None if field is None else str(field.contents()), tensors

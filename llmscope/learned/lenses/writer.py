"""Write learned lenses: as safetensors, and Jacobian lenses also in the published format."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from llmscope.errors import ScopeError, option
from llmscope.learned.lenses.lens import LearnedLens
from llmscope.learned.lenses.reader import HEADER, OF_A_FILE
from llmscope.support.fsync import write_file
from llmscope.support.text import display_text

Dtype = Literal["float16", "bfloat16", "float32"]
SUFFIXES = (".safetensors", ".pt")


def check_suffix(path: Path, kind: str) -> None:
    """Check that a lens of a kind can be written to a path of this name.

    Raises:
        ScopeError: its suffix is no format of this kind.
    """
    if path.suffix not in SUFFIXES or (path.suffix == ".pt" and kind != "jacobian"):
        wanted = ".safetensors or .pt" if kind == "jacobian" else ".safetensors"
        raise ScopeError(f"{display_text(str(path))} is no name for a lens", f"a {wanted} file")


def write_lens(lens: LearnedLens, path: Path, dtype: Dtype = "float16") -> None:
    """Write a lens, replacing a file of that name at once.

    Args:
        lens: the lens.
        path: a name that ends in .safetensors, or for a Jacobian lens in .pt.
        dtype: of the matrices; half precision, as they are published, unless told otherwise.

    Raises:
        ScopeError: the suffix is no format of this kind, a value does not fit the dtype, or the
            file cannot be written.
    """
    check_suffix(path, lens.kind)
    data = (_write_published if path.suffix == ".pt" else _own)(lens, getattr(torch, dtype))
    write_file(path, data)


def _narrow(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # A copy: safetensors refuses tensors that share memory, and torch saves all that they share.
    narrow = tensor.detach().cpu().to(dtype, copy=True, memory_format=torch.contiguous_format)
    if not bool(narrow.isfinite().all()):
        name = str(dtype).removeprefix("torch.")
        raise ScopeError(f"a matrix of the lens does not fit in {name}", option("float32"))
    return narrow


def _own(lens: LearnedLens, dtype: torch.dtype) -> bytes:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for stream, stream_map in lens.maps.items():
        tensors[f"{stream}.weight"] = _narrow(stream_map.weight, dtype)
        if stream_map.bias is not None:
            tensors[f"{stream}.bias"] = _narrow(stream_map.bias, torch.float32)
    header = {
        "kind": lens.kind,
        "width": lens.width,
        "layers": lens.layers,
        "about": _tuples_as_lists(dict(lens.about)),
        "held_out": None if lens.held_out is None else lens.held_out.to_dict(),
    }
    data: bytes = save(tensors, metadata={HEADER: json.dumps(header)})
    return data


def _write_published(lens: LearnedLens, dtype: torch.dtype) -> bytes:
    if min(lens.maps) < 1:
        raise ScopeError("the lens has a matrix for the embedding", "a .safetensors file")
    about: dict[str, Any] = {**_tuples_as_lists(dict(lens.about)), "n_layers": lens.layers}
    # TransformerLens merges only files of equal metadata: what differs by shard stands beside it.
    beside = {key: about.pop(key) for key in OF_A_FILE if key in about}
    if lens.held_out is not None:
        beside["held_out"] = _tuples_as_lists(lens.held_out.to_dict())
    layers = sorted(stream - 1 for stream in lens.maps)
    payload = {
        "J": {layer: _narrow(lens.maps[layer + 1].weight, dtype) for layer in layers},
        "n_prompts": int(lens.about.get("n_prompts", 0)),
        "source_layers": layers,
        "d_model": lens.width,
        "metadata": about,
        **beside,
    }
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def _tuples_as_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, as JSON would give it back."""
    return json.loads(json.dumps(value))

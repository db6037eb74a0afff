"""Read learned lenses: files of Jacobian lenses, and folders and files of tuned lenses.

.pt             a Jacobian lens as it is published, or the checkpoint of a fit
.safetensors    a lens that `llmscope fit` wrote
folder          a tuned lens: config.json, and params.safetensors or params.pt
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from os.path import expanduser, isdir, isfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscope.errors import ScopeError, option
from llmscope.learned.lenses.held_out import HeldOut
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.pickled import PLAIN, read_pickled, tensor_bytes
from llmscope.models.files.digest import file_digest
from llmscope.models.files.json_file import DEPTH, read_json
from llmscope.models.loading.memory import GIB, available
from llmscope.support.text import display_text, error_line

CONFIG, PARAMETERS, SAFE = "config.json", "params.pt", "params.safetensors"
HEADER = "llmscope_lens"
"""The key of the header of our files; its value is JSON."""
FORMS = "a .pt or .safetensors file of a Jacobian lens, or the folder of a tuned lens"
LARGEST_ABOUT = 100_000
"""Values that the metadata of a lens may have, with the held-out figures of each layer."""
OF_A_FILE = ("shard", "standard_error", "held_out")
"""What differs between shards of one fit: in a published file beside the metadata, not in it."""
_TOLD = ("target_layer", "model_name", "model_revision", "corpus", *OF_A_FILE)
KEPT = 4
"""Lenses that stay in memory while their files do not change."""


def read_lens(name: str, *, source: str = "", allow_pickle: bool = False) -> LearnedLens:
    """Return the lens in a file or folder, kept until the file changes.

    Args:
        name: the path.
        source: the name by which the user asked for it, if another.
        allow_pickle: also accept the params.pt of a tuned lens.

    Raises:
        ScopeError: nothing there can be read as a lens, or memory does not hold it.
    """
    path = Path(expanduser(name))  # Path.expanduser raises for ~ with an unknown user
    file = lens_file(path, allow_pickle=allow_pickle)
    return _read(file, source or name, file.stat().st_mtime_ns)


def lens_file(path: Path, *, allow_pickle: bool) -> Path:
    """Return the file that holds the matrices of a lens. Reads nothing.

    Raises:
        ScopeError: there is no such file, or it is a pickle that was not allowed.
    """
    path_shown = display_text(str(path))
    if isdir(path):  # Path.is_dir raises for a name that is too long
        if (path / SAFE).is_file():
            return path / SAFE
        if not (path / PARAMETERS).is_file():
            raise ScopeError(
                f"{path_shown} has no {PARAMETERS}",
                f"a folder with {CONFIG} and {PARAMETERS} of tuned-lens",
            )
        if not allow_pickle:
            raise ScopeError(
                f"the translators in {path_shown} are pickled, and loading those can run any code",
                f"{option('allow-pickle')}, if you trust whoever made them, or the same as {SAFE}",
            )
        return path / PARAMETERS
    if not isfile(path):
        raise ScopeError(f"there is no lens {path_shown}", FORMS)
    if path.suffix not in (".pt", ".safetensors"):
        raise ScopeError(f"{path_shown} is no lens", FORMS)
    return path


@lru_cache(maxsize=KEPT)
def _read(file: Path, name: str, changed: int) -> LearnedLens:
    name_shown = display_text(name)
    try:
        if file.name in (SAFE, PARAMETERS) and (file.parent / CONFIG).is_file():
            _check_room(file.stat().st_size, name)
            lens = _read_tuned_folder(file)
        elif file.suffix == ".pt":
            _check_room(tensor_bytes(file), name)
            lens = _read_published(read_pickled(file))
        else:
            _check_room(file.stat().st_size, name)
            lens = _own(file)
    except ScopeError:
        raise
    except Exception as error:  # json and torch may raise anything for a file of another kind
        raise ScopeError(
            f"the lens {name_shown} cannot be read: {error_line(error)}", FORMS
        ) from error
    return LearnedLens(
        *(lens.kind, lens.maps, lens.width, lens.layers, lens.about, name),
        digest=file_digest(file),
        held_out=lens.held_out,
    )


def _check_room(size: int, name: str) -> None:
    """Refuse a lens that memory cannot hold: twice its size, as files hold halves.

    Raises:
        ScopeError: the machine does not have enough free memory.
    """
    free = available(torch.device("cpu"))
    if 2 * size > free:
        raise ScopeError(
            f"the lens {display_text(name)} takes {2 * size / GIB:.1f} GiB of memory, and "
            f"{free / GIB:.1f} GiB are free",
            "a lens of fewer layers, or a machine with more memory",
        )


def _square(weight: Any, width: int) -> Tensor:
    if not isinstance(weight, Tensor) or weight.shape != (width, width):
        raise ValueError("its shapes are not those that it tells")
    if not weight.is_floating_point():
        raise ValueError(f"its matrices are {weight.dtype}")
    if not bool(weight.isfinite().all()):
        raise ValueError("a matrix holds NaN or infinity")
    return weight


def _bias(bias: Any, width: int) -> Tensor | None:
    if bias is None:
        return None
    if not isinstance(bias, Tensor) or bias.shape != (width,) or not bias.is_floating_point():
        raise ValueError("its shapes are not those that it tells")
    if not bool(bias.isfinite().all()):
        raise ValueError("a bias holds NaN or infinity")
    return bias


def _about(*records: Any) -> dict[str, Any]:
    """Return what files tell of a lens as JSON types; later records override earlier ones.

    Raises:
        ValueError: a record is no dictionary, or holds tensors or too many values.
    """
    about: dict[str, Any] = {}
    budget = [LARGEST_ABOUT]
    for record in records:
        if record is not None and not isinstance(record, Mapping):
            raise ValueError("its metadata is no dictionary")
        about |= _json_types(record or {}, budget, DEPTH)
    return about


def _json_types(value: Any, budget: list[int], depth: int) -> Any:
    """Return a copy of a value as JSON would give it back.

    Args:
        value: the value.
        budget: how many more values may be copied: a list may hold another one many times.
        depth: how many more levels may be copied.
    """
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        raise ValueError("its metadata has too many values")
    if isinstance(value, Mapping):
        return {
            str(name): _json_types(value_inside, budget, depth - 1)
            for name, value_inside in value.items()
        }
    if isinstance(value, list | tuple):
        return [_json_types(value_inside, budget, depth - 1) for value_inside in value]
    if not isinstance(value, PLAIN):
        raise ValueError(f"its metadata holds {type(value).__name__}")
    return value


def _read_published(content: Mapping[Any, Any]) -> LearnedLens:
    """Return a Jacobian lens from what a published file, or the checkpoint of a fit, holds."""
    told_of = {key: content[key] for key in _TOLD if key in content}
    about = _about(told_of, content.get("metadata"))
    if "J" in content:
        matrices, count, divisor = content["J"], int(content.get("n_prompts") or 0), 1
    elif "jacobian_sum" in content:
        matrices = content["jacobian_sum"]
        count = int(content.get("n_done", content.get("n_prompts")) or 0)
        if count <= 0:
            raise ValueError("a checkpoint of no prompt yet")
        divisor = count
    else:
        raise ValueError("it holds no matrices J")
    if not isinstance(matrices, Mapping) or not matrices:
        raise ValueError("it holds no matrices")
    first = next(iter(matrices.values()))
    width = int(content["d_model"] if "d_model" in content else len(first))
    maps = {}
    for layer, matrix in matrices.items():
        weight = _square(matrix, width)
        maps[int(layer) + 1] = AffineMap(weight if divisor == 1 else weight.float() / divisor)
    if min(maps) < 1 or len(maps) < len(matrices):
        raise ValueError("a layer below 0, or twice the same")
    about["n_prompts"] = count
    layers = about.get("n_layers")
    if layers is not None and (type(layers) is not int or max(maps) >= layers):
        raise ValueError("it is not of as many layers as it tells")
    held_out = about.pop("held_out", None)
    return LearnedLens(
        *("jacobian", maps, width, layers, about),
        held_out=None
        if held_out is None or layers is None
        else HeldOut.from_dict(held_out, layers + 1),
    )


def _own(file: Path) -> LearnedLens:
    """Return the lens in a file that `llmscope fit` wrote."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        header = json.loads((opened.metadata() or {}).get(HEADER, "null"))
        if not isinstance(header, dict) or header.get("kind") not in ("jacobian", "tuned"):
            raise ValueError("its header tells of no lens")
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    kind, width = header["kind"], int(header["width"])
    layers = None if header.get("layers") is None else int(header["layers"])
    maps = {}
    for name, weight in tensors.items():
        stream, _, part = name.partition(".")
        if part == "weight":
            bias = _bias(tensors.get(f"{stream}.bias"), width)
            maps[int(stream)] = AffineMap(_square(weight, width), bias, adds=kind == "tuned")
    if not maps or min(maps) < 0 or (layers is not None and max(maps) >= layers):
        raise ValueError("its matrices are not those that it tells")
    held_out = header.get("held_out")
    return LearnedLens(
        *(kind, maps, width, layers, _about(header.get("about"))),
        held_out=None
        if held_out is None or layers is None
        else HeldOut.from_dict(held_out, layers + 1),
    )


def _read_tuned_folder(file: Path) -> LearnedLens:
    """Return the tuned lens in a folder that the package tuned-lens wrote."""
    config = read_json(file.parent / CONFIG)
    state = _state(file)
    count, width = int(config["num_hidden_layers"]), int(config["d_model"])
    if not 0 < count <= len(state):
        raise ValueError("they are not as many as config.json says")
    maps = {}
    for layer in range(count):
        bias = _bias(state.get(f"{layer}.bias"), width)
        maps[layer] = AffineMap(_square(state[f"{layer}.weight"], width), bias, adds=True)
    name = str(config.get("base_model_name_or_path") or "")
    return LearnedLens("tuned", maps, width, count, {"model_name": name})


def _state(file: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file by name."""
    if file.name == SAFE:
        from safetensors.torch import load_file

        state: Mapping[str, Tensor] = load_file(file)
        return state
    return read_pickled(file)

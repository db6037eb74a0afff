"""Read dictionaries from files.

folder  SAELens: cfg.json and sae_weights.safetensors
folder  Gemma Scope: params.npz, its place in the names of the folders above; or config.json and
        params.safetensors of Gemma Scope 2
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from os.path import expanduser
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.learned.dictionaries import labels
from llmscope.learned.dictionaries.archive import read_archive
from llmscope.learned.dictionaries.config import header_of
from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.models.files.digest import file_digest
from llmscope.models.files.json_file import read_json
from llmscope.models.loading.memory import GIB, available
from llmscope.support.text import error_line, one_line

CONFIG, WEIGHTS, ARCHIVE = "cfg.json", "sae_weights.safetensors", "params.npz"
SCOPE_CONFIG, SCOPE_WEIGHTS = "config.json", "params.safetensors"
FILES = (WEIGHTS, ARCHIVE, SCOPE_WEIGHTS)
"""The files of weights, the first that is there is read."""
FORMS = f"a folder of SAELens ({CONFIG} and {WEIGHTS}) or of Gemma Scope ({ARCHIVE})"
KEPT = 32
"""Dictionaries that stay in memory while their files do not change."""
MOST_FEATURES = 1 << 24
"""The most features that a dictionary may have."""

TRANSPOSED = "affine_skip_connection"
"""W_skip of Gemma Scope 2, there as [width, out width]."""
_NAMES = {
    **{name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "W_skip")},
    **{name: name for name in ("b_gate", "r_mag", "b_mag", "scaling_factor")},
    "w_enc": "W_enc",
    "w_dec": "W_dec",
    TRANSPOSED: "W_skip",
    "topk_threshold": "threshold",
}
_SCOPE_HOOKS = {
    "res": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "att": "attn.hook_z",
    "transcoders": "ln2.hook_normalized",
}
"""By the end of the name of Gemma Scope's repository."""
_SCOPE_FOLDER = re.compile(
    rf"gemma-scope-(?P<model>\d[\w.]*-[a-z]+)-(?P<kind>{'|'.join(_SCOPE_HOOKS)})\b", re.IGNORECASE
)
_SECOND_HOOKS = {
    "resid_post": ("output", ""),
    "attn_out": ("self_attn.o_proj.input", ""),
    "mlp_out": ("post_feedforward_layernorm.output", ""),
    "transcoder": ("pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"),
}
"""By the names of Gemma Scope 2's folders: what is read, and what is predicted if not the same."""
_SECOND_FOLDER = re.compile(
    rf"gemma-scope-2-(?P<model>\w+-[a-z]+)\b.*/(?P<kind>{'|'.join(_SECOND_HOOKS)})(?:_all)?/",
    re.IGNORECASE,
)
_SCOPE_LAYER = re.compile(r"layer_([0-9]{1,4})")


def weights_file(folder: Path) -> Path | None:
    """Return the file that holds the weights of a dictionary; None if the folder has none."""
    return next((folder / file for file in FILES if (folder / file).is_file()), None)


def read_header(folder: Path, name: str) -> DictionaryHeader:
    """Return what the config of a dictionary tells, and the sizes of its weights. Reads no weights.

    Args:
        folder: its folder.
        name: how the user named it.

    Raises:
        ScopeError: nothing there can be read as a dictionary.
    """
    file = weights_file(folder)
    if file is None:
        raise ScopeError(f"{one_line(name)} is no dictionary of features", FORMS)
    return _header(file, name, _times_of_dictionary(folder, file))


def read_dictionary(header: DictionaryHeader) -> Dictionary:
    """Return the dictionary of a header, kept until its files change.

    Raises:
        ScopeError: it cannot be read, or memory does not hold it.
    """
    folder = Path(header.path)
    file = weights_file(folder)
    if file is None:
        raise ScopeError(f"{one_line(header.name)} is no dictionary of features", FORMS)
    return _read(
        file, header.name, _times_of_dictionary(folder, file), _times(labels.files_in(folder))
    )


Times = tuple[tuple[int, int], ...]
"""Time and size of files, by which a change of one is noticed."""


def _times_of_dictionary(folder: Path, file: Path) -> Times:
    """Return time and size of the files that tell of a dictionary."""
    configs = [folder / name for name in (CONFIG, SCOPE_CONFIG)]
    return _times([file, *filter(Path.is_file, configs)])


def _times(files: Sequence[Path]) -> Times:
    try:
        states = [file.stat() for file in files]
    except OSError:  # deleted meanwhile, which reading it tells
        return ()
    return tuple((state.st_mtime_ns, state.st_size) for state in states)


@lru_cache(maxsize=4 * KEPT)
def _header(file: Path, name: str, changed: Times) -> DictionaryHeader:
    name_shown = one_line(name)
    try:
        header = header_of(_config(file, name), name=name, path=str(file.parent))
        if header.features > MOST_FEATURES:
            raise ValueError(f"it tells of {header.features} features")
    except ScopeError:
        raise
    except Exception as error:  # json may raise anything for a file of another kind
        raise ScopeError(
            f"the dictionary {name_shown} cannot be read: {error_line(error)}", FORMS
        ) from error
    return header


def _config(file: Path, name: str) -> Mapping[str, Any]:
    """Return a config in SAELens's form, made up from names where Gemma Scope has none."""
    folder = file.parent
    if file.name == WEIGHTS or (folder / CONFIG).is_file():
        return _read_object(folder / CONFIG)
    shapes = _shapes(file)
    _check_layers(shapes)
    (width, features), (_, out) = shapes["W_enc"], shapes["W_dec"]
    second = file.name == SCOPE_WEIGHTS
    where = "/".join((name.replace("\\", "/"), folder.as_posix()))
    hooks = _second_scope(folder, where) if second else _scope(where)
    if not hooks:
        raise ScopeError(
            f"nothing tells what {one_line(name)} reads",
            "folders named as Gemma Scope's (gemma-scope-2b-pt-res/layer_20/…), or a "
            f"{CONFIG} beside it with hook_name, d_in, d_sae and architecture",
        )
    return {
        "architecture": "jumprelu_transcoder" if "hook_name_out" in hooks else "jumprelu",
        "d_in": width,
        "d_sae": features,
        "d_out": out,
        "apply_b_dec_to_input": False,
        "model_class_name": "AutoModelForCausalLM",
        **hooks,
    }


def _second_scope(folder: Path, where: str) -> dict[str, Any]:
    """Return what the config of Gemma Scope 2 tells, or else the names of the folders above it.

    Args:
        folder: the folder.
        where: its path, and the name that the user gave.
    """
    if not (folder / SCOPE_CONFIG).exists():
        match, layer = _SECOND_FOLDER.search(where), _SCOPE_LAYER.search(where)
        if match is None or layer is None:
            return {}
        ends = _SECOND_HOOKS[match["kind"].lower()]
        reads, writes = (f"model.layers.{layer[1]}.{end}" if end else "" for end in ends)
        return _hooks(reads, writes) | {"model_name": f"gemma-3-{match['model']}"}
    config = _read_object(folder / SCOPE_CONFIG)
    if config["architecture"] != "jump_relu":
        raise ValueError(f"its architecture {one_line(str(config['architecture']))!r} is not known")
    hooks = _hooks(config["hf_hook_point_in"], config.get("hf_hook_point_out"))
    return hooks | {"model_name": config.get("model_name")}


def _hooks(reads: Any, writes: Any) -> dict[str, Any]:
    # An autoencoder may name what it reads as what it predicts, too.
    return {"hook_name": reads} | ({"hook_name_out": writes} if writes and writes != reads else {})


def _scope(where: str) -> dict[str, Any]:
    """Return what the names of the folders above a file of Gemma Scope tell; empty if nothing."""
    match, layer = _SCOPE_FOLDER.search(where), _SCOPE_LAYER.search(where)
    if match is None or layer is None:
        return {}
    kind, block = match["kind"].lower(), f"blocks.{layer[1]}"
    out = f"{block}.hook_mlp_out" if kind == "transcoders" else ""
    return _hooks(f"{block}.{_SCOPE_HOOKS[kind]}", out) | {
        "model_name": f"gemma-2-{match['model'].removesuffix('-pt')}",
        "prepend_bos": True,
    }


def _read_object(path: Path) -> Mapping[str, Any]:
    config = read_json(path)
    if not isinstance(config, Mapping):
        raise ValueError(f"{path.name} is no JSON object")
    return config


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a file, by their usual names. Reads no tensor."""
    if file.suffix == ".npz":
        return {_NAMES.get(name, name): shape for name, shape in read_archive(file).items()}
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        names = list(opened.keys())
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    return {
        _NAMES.get(name, name): shape[::-1] if name == TRANSPOSED else shape
        for name, shape in shapes.items()
    }


_kept: dict[tuple[Path, str], tuple[Times, Times, Dictionary]] = {}
"""By file and name: the times of its files and of its labels, and the dictionary."""


def _read(file: Path, name: str, changed: Times, labelled: Times) -> Dictionary:
    """Return a dictionary that is kept, or read it in the place of an earlier version."""
    cached = _kept.pop((file, name), None)
    dictionary = cached[2] if cached is not None and cached[:2] == (changed, labelled) else None
    del cached  # an earlier version leaves memory before this one is read
    if dictionary is None:
        dictionary = _load(file, name, changed)
    while len(_kept) >= KEPT:
        del _kept[next(iter(_kept))]
    _kept[file, name] = changed, labelled, dictionary  # the last one used is the last one dropped
    return dictionary


def _load(file: Path, name: str, changed: Times) -> Dictionary:
    header, name_shown = _header(file, name, changed), one_line(name)
    try:
        _check_shapes(header, _shapes(file))
        _check_room(file, header)
        return _dictionary(header, _tensors(file), file)
    except ScopeError:
        raise
    except Exception as error:  # safetensors and numpy may raise anything for a damaged file
        raise ScopeError(
            f"the dictionary {name_shown} cannot be read: {error_line(error)}", FORMS
        ) from error


def _check_room(file: Path, header: DictionaryHeader) -> None:
    """Refuse a dictionary that memory cannot hold, after those kept of earlier ones are dropped.

    Raises:
        ScopeError: the machine does not have enough free memory.
    """
    needed = _memory(file, header.features * (header.width + header.out_width))
    free = available(torch.device("cpu"))
    if needed > free:
        _kept.clear()
        free = available(torch.device("cpu"))
    if needed > free:
        raise ScopeError(
            f"the dictionary {one_line(header.name)} takes {needed / GIB:.1f} GiB of memory, "
            f"and {free / GIB:.1f} GiB are free",
            "a narrower dictionary, or a machine with more memory",
        )


def _memory(file: Path, weights: int) -> int:
    """Return the bytes of a number of weights in float32, and as the file holds them if otherwise.

    Both are in memory on a CPU.
    """
    size = file.stat().st_size
    single = file.suffix == ".npz" or 3 * weights < size < 6 * weights
    return 4 * weights + (0 if single else size)


def _check_layers(shapes: Mapping[str, tuple[int, ...]]) -> None:
    if len(shapes.get("W_dec", ())) == 3:
        raise ValueError("it is a cross-layer transcoder, which writes to several layers")


def _check_shapes(header: DictionaryHeader, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError if the tensors are not those that the config describes."""
    _check_layers(shapes)
    width, out, features = header.width, header.out_width, header.features
    wanted: dict[str, tuple[int, ...]] = {
        "W_enc": (width, features),
        "W_dec": (features, out),
        "b_dec": (out,),
    }
    if header.activation == "gated":
        wanted |= dict.fromkeys(("b_gate", "r_mag", "b_mag"), (features,))
    else:
        wanted["b_enc"] = (features,)
    if header.activation == "jumprelu":
        wanted["threshold"] = shapes.get("threshold", ())
        if wanted["threshold"] not in ((features,), (1,), ()) or "threshold" not in shapes:
            raise ValueError("it has no threshold for each feature")
    for name, shape in wanted.items():
        if name not in shapes:
            raise ValueError(f"it has no {name}")
        if shapes[name] != shape:
            raise ValueError(f"its {name} is {shapes[name]}, and the config says {shape}")
    for name, shape in (("W_skip", (out, width)), ("scaling_factor", (features,))):
        if shapes.get(name, shape) != shape:
            raise ValueError(f"its {name} is {shapes[name]}, not {shape}")


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors that are used, by their usual names.

    Raises:
        ValueError: one is not of floats, or holds NaN or infinity.
    """
    if file.suffix == ".npz":
        import numpy as np

        with np.load(file, allow_pickle=False) as opened:
            tensors = {
                _NAMES[name]: torch.from_numpy(opened[name])
                for name in opened.files
                if name in _NAMES
            }
    else:
        from safetensors import safe_open

        with safe_open(file, framework="pt") as opened:
            names = [name for name in opened.keys() if name in _NAMES]  # noqa: SIM118
            tensors = {_NAMES[name]: opened.get_tensor(name) for name in names}
            if TRANSPOSED in names:
                tensors["W_skip"] = tensors["W_skip"].T.contiguous()
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"its {name} is of {tensor.dtype}")
        # The least and the largest are NaN if any is: one pass, and no memory.
        ends = torch.stack(torch.aminmax(tensor))
        if not bool(ends.float().isfinite().all()):  # also what is infinite in float32 alone
            raise ValueError(f"its {name} holds NaN or infinity")
    return tensors


def _dictionary(header: DictionaryHeader, tensors: Mapping[str, Tensor], file: Path) -> Dictionary:
    encoder, decoder = tensors["W_enc"], tensors["W_dec"]
    gated = header.activation == "gated"
    encoder_bias = tensors["b_gate" if gated else "b_enc"]
    scaling = tensors.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        decoder = decoder * scaling[:, None]
    if header.by_norm and header.activation == "jumprelu":
        # A checkpoint of BatchTopK: SAELens folds the norms when it exports one.
        norms = decoder.norm(dim=-1).clamp(min=1e-8)
        encoder, encoder_bias = encoder * norms, encoder_bias * norms
        decoder, header = decoder / norms[:, None], replace(header, by_norm=False)
    threshold = tensors["threshold"] if header.activation == "jumprelu" else None
    return Dictionary(
        header,
        encoder=encoder,
        decoder=decoder,
        bias=tensors["b_dec"],
        encoder_bias=encoder_bias,
        threshold=None if threshold is None else threshold.expand(header.features).contiguous(),
        magnitude=(tensors["r_mag"].float().exp(), tensors["b_mag"]) if gated else None,
        skip=tensors.get("W_skip") if header.transcoder else None,
        labels=labels.read(file.parent, header.features),
        digest=file_digest(file),
    )


def folders_of(name: str) -> list[Path]:
    """Return the folders of the dictionaries at a path: itself, or its folders, sorted.

    Raises:
        ScopeError: there is no folder, or none in it holds a dictionary.
    """
    path = Path(expanduser(name))  # Path.expanduser raises for ~ with an unknown user
    try:
        if path.is_file() and path.name in (*FILES, CONFIG, SCOPE_CONFIG):
            path = path.parent
        if weights_file(path) is not None:
            return [path]
        inside = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
        folders = [entry for entry in inside if weights_file(entry) is not None]
    except (OSError, ValueError):  # a name that is too long, or holds a NUL character
        folders = []
    if not folders:
        raise ScopeError(f"there is no dictionary of features in {one_line(name)}", FORMS)
    return folders

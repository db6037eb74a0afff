"""Which backend runs a model: transformers, or llama.cpp for a GGUF file as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec

import torch

from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.models.files.weight_headers import TensorHeaders
from llmscope.models.llama.cache_types import CACHE_TYPES
from llmscope.models.loading.device import choose_device
from llmscope.models.loading.memory import available, gibibytes, room
from llmscope.models.sources import GgufFile, Options, locate_gguf
from llmscope.models.sources.gguf import check_gguf
from llmscope.models.spec import Spec
from llmscope.support.text import display_text

TRANSFORMERS, LLAMA, AUTO = "transformers", "llama.cpp", "auto"
BACKENDS = (AUTO, TRANSFORMERS, LLAMA)
BINDING = "llama_cpp_py_sync"
"""The package that the extra `llama` installs."""


def file_for_llama(
    spec: Spec,
    backend: str,
    cache_type: str | None,
    options: Options,
    *,
    device: str,
    dtype: str,
    adapters: Sequence[str],
    reward: str | None,
) -> GgufFile | None:
    """Return the GGUF file that llama.cpp is to run; None if transformers runs the model.

    With `auto` it is llama.cpp if it is installed, the dequantised weights do not fit in memory and
    the file does, and nothing is asked for that only transformers has.

    Args:
        spec: what to load.
        backend, cache_type: as for `load_model`.
        options: as for `locate_gguf`.
        device, dtype, adapters, reward: as for `load_model`.

    Raises:
        ScopeError: there is no such backend or type of cache; the backend cannot run what the spec
            names; or another option does not go with it.
    """
    if backend not in BACKENDS:
        raise WrongUseError(
            f"{option('backend', display_text(backend))}: there is no such backend",
            join_words(BACKENDS),
        )
    if cache_type is not None and cache_type not in CACHE_TYPES:
        raise WrongUseError(
            f"{option('cache-type', display_text(cache_type))}: there is no such type",
            join_words(CACHE_TYPES),
        )
    if cache_type is not None and backend != LLAMA:
        raise ScopeError(
            f"{option('cache-type', cache_type)} is of llama.cpp's KV cache",
            option("backend", LLAMA),
        )
    unfit = _unfit(device, dtype, adapters, reward)
    if backend == TRANSFORMERS or (backend == AUTO and (unfit or find_spec(BINDING) is None)):
        return None
    if unfit:
        raise ScopeError(
            f"{unfit} does not go with {option('backend', backend)}, which runs the file as it is "
            "on the CPU",
            "one of the two",
        )
    file = locate_gguf(spec, options)
    if backend == AUTO:
        return None if file is None else _if_memory_asks(file)
    if file is None:
        raise ScopeError(
            f"{option('backend', backend)}: {display_text(spec.text)} is no GGUF file",
            f"a .gguf file, or no {option('backend')}",
        )
    return file


def join_words(words: Iterable[str]) -> str:
    """Return words as a choice: `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}"


def _unfit(device: str, dtype: str, adapters: Sequence[str], reward: str | None) -> str:
    """Return the first option that llama.cpp has no use for, or an empty text."""
    for name, value, usual in (
        ("device", device, ("auto", "cpu")),
        ("dtype", dtype, ("auto",)),
        ("adapter", " ".join(adapters), ("",)),
        ("reward", reward, (None,)),
    ):
        if value not in usual:
            return option(name, value)
    return ""


def _if_memory_asks(file: GgufFile) -> GgufFile | None:
    """Return the file with a notice if only llama.cpp has the memory for it; else None."""
    size = dequantised_bytes(check_gguf(file.path))
    cpu = torch.device("cpu")
    free = max(available(device) for device in {cpu, choose_device("auto")})
    if size <= room(free) or file.path.stat().st_size > room(available(cpu)):
        return None
    notice = (
        f"llama.cpp runs the file as it is: dequantised, its weights take {gibibytes(size)}, and "
        f"{gibibytes(free)} are free"
    )
    return replace(file, notices=(*file.notices, notice))


def dequantised_bytes(headers: TensorHeaders) -> int:
    """Return the bytes of the weights of a GGUF file in float32, as transformers gets them."""
    return headers.elements * torch.float32.itemsize

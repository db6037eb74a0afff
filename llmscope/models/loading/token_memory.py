"""The memory that tokens take, from a model's config: keys and values, and what is kept of them.

A pass keeps of each token, in each layer, its keys and values, and the rows that figures are
derived from (`LayerRows`): the stream before the layer, the queries, and what attention and MLP add
to the stream. `--memory` bounds the rows. What is left out here is small: the norms and statistics
that stay of every token, and what routers choose. Layers of other kinds than attention and MLP keep
other rows; for those it is an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from llmscope.models.files.checkpoint import check_model
from llmscope.models.files.quantized import settings
from llmscope.models.llama.cache_types import BLOCK, CACHE_TYPES, DEFAULT, LONGEST, CacheType
from llmscope.models.loaded_model import RowMemory
from llmscope.models.loading.adapters import fetched
from llmscope.models.loading.backend import (
    LLAMA,
    TRANSFORMERS,
    dequantised_bytes,
    file_for_llama,
)
from llmscope.models.loading.device import choose_device, choose_dtype
from llmscope.models.loading.memory import available, room, weight_bytes
from llmscope.models.progress import silenced
from llmscope.models.sources import GgufFile, Options, locate_gguf
from llmscope.models.sources.gguf import check_gguf
from llmscope.models.sources.gguf_header import read_header
from llmscope.models.spec import parse

NO_ATTENTION = ("mamba", "mamba2", "recurrent", "linear_attention", "conv", "mlp", "moe")
"""Types of layers, as configs name them, without keys and values of tokens."""
SPARE = 16
"""The cache has room for one token more of this many, as in `record.capture.growing_cache`."""


@dataclass(frozen=True)
class TokenBytes:
    """The memory that each token of a recording takes, in bytes.

    Attributes:
        cache: of its keys and values in all layers.
        rows: of its recorded rows in all layers, whose sum over tokens `--memory` bounds.
        final: of its row of the stream after the last layer, which stays beyond that bound.
    """

    cache: int
    rows: int
    final: int


@dataclass(frozen=True)
class ModelMemory:
    """The memory of a model before it is loaded, and how long a text may be.

    Attributes:
        device: the name of its device.
        weights: bytes of its weights.
        token: the bytes that each token takes; None if the config does not tell.
        limit: the most bytes of rows, of `--memory`.
        free: the free bytes of the device.
        tokens: how many tokens fit beside the weights; None if the config does not tell.
        context: the most tokens that the model takes; None if the config does not tell.
        backend: what runs it: transformers, or llama.cpp.
        file: bytes of the GGUF file that its weights are in; None for other weights.
        dequantised: bytes of that file's weights in float32; None for other weights.
    """

    device: str
    weights: int
    token: TokenBytes | None
    limit: int
    free: int
    tokens: int | None
    context: int | None
    backend: str = TRANSFORMERS
    file: int | None = None
    dequantised: int | None = None


def token_bytes(config: Any, itemsize: int) -> TokenBytes | None:
    """Return the bytes that a token takes; None if the config does not tell its sizes.

    Args:
        config: transformers' config of the model, or of its text model.
        itemsize: the bytes of a number.
    """
    layers, width, heads = (
        _size(config, name) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    if layers is None or width is None:
        return None
    attending = layers if heads else 0
    types = _types(config)
    if types:
        attending = sum(kind not in NO_ATTENTION for kind in types)
    sharing = _size(config, "num_kv_shared_layers") or 0
    queries, both = _head_sizes(config, width, heads or 1)
    cache = max(attending - sharing, 0) * both
    rows = attending * (3 * width + queries) + (layers - attending) * 3 * width
    return TokenBytes(cache * itemsize, rows * itemsize, width * itemsize)


def model_memory(
    spec: str,
    *,
    device: str,
    dtype: str,
    backend: str,
    cache_type: str | None,
    adapters: Sequence[str],
    memory: RowMemory,
    options: Options,
) -> ModelMemory:
    """Return the memory that a model will take. Its weights are fetched, and not loaded.

    Args:
        spec: the spec of the model.
        device, dtype, backend, cache_type: as for `load_model`.
        adapters: the specs of its adapters.
        memory: the bound on the rows.
        options: whether foreign code may run, and where progress is told.

    Raises:
        ScopeError: the model cannot be found, or there is no such device or dtype.
    """
    parsed, chosen = parse(spec), choose_device(device)
    file = file_for_llama(
        *(parsed, backend, cache_type, options),
        device=device,
        dtype=dtype,
        adapters=adapters,
        reward=None,
    )
    if file is not None:
        return _file_memory(file, CACHE_TYPES[cache_type or DEFAULT], memory)
    number = choose_dtype(dtype, chosen)
    with silenced():
        file = locate_gguf(parsed, options)
        weights, _ = fetched(parsed, adapters, options)
        config, _ = check_model(
            weights.folder,
            parsed.text,
            trust_remote_code=options.trust_remote_code,
            allow_pickle=options.allow_pickle,
        )
        if settings(config) is not None and dtype == "auto":
            number = None
        token, context = _sizes_in_config(weights.folder, number, options.trust_remote_code)
    size, free = weight_bytes(weights.folder, number), available(chosen)
    tokens = None if token is None else tokens_that_fit(token, room(free) - size, memory.limit)
    return ModelMemory(
        *(str(chosen), size, token, memory.limit, free, tokens, context),
        file=None if file is None else file.path.stat().st_size,
        dequantised=None if file is None else weight_bytes(weights.folder, torch.float32),
    )


def _file_memory(file: GgufFile, cache_type: CacheType, memory: RowMemory) -> ModelMemory:
    """Return the memory of a GGUF file in llama.cpp, by its header.

    Keys and values are in llama.cpp's KV cache, and once more in float32 for the figures.
    """
    headers = check_gguf(file.path)
    values = read_header(file.path).values
    sizes = {key.partition(".")[2]: value for key, value in values.items()}
    config = SimpleNamespace(
        num_hidden_layers=sizes.get("block_count"),
        hidden_size=sizes.get("embedding_length"),
        num_attention_heads=sizes.get("attention.head_count"),
        num_key_value_heads=sizes.get("attention.head_count_kv"),
        head_dim=sizes.get("attention.key_length"),
        context=sizes.get("context_length"),
    )
    token, context = token_bytes(config, torch.float32.itemsize), _size(config, "context")
    if token is not None:
        numbers = token.cache // torch.float32.itemsize
        token = replace(token, cache=token.cache + numbers * cache_type.block_bytes // BLOCK)
    size, free = file.path.stat().st_size, available(torch.device("cpu"))
    tokens = None if token is None else tokens_that_fit(token, room(free) - size, memory.limit)
    return ModelMemory(
        *("cpu", size, token, memory.limit, free, tokens),
        None if context is None else min(context, LONGEST),
        backend=LLAMA,
        file=size,
        dequantised=dequantised_bytes(headers),
    )


def _sizes_in_config(
    folder: Path, number: torch.dtype | None, trust_remote_code: bool
) -> tuple[TokenBytes | None, int | None]:
    """Return the bytes of a token and the longest text, as the config in a folder tells them."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=trust_remote_code
        )
        text = config.get_text_config()
    except Exception:  # an unusual config can raise anything; loading reports it
        return None, None
    dtype = number or getattr(config, "dtype", None) or getattr(text, "dtype", None)
    itemsize = dtype.itemsize if isinstance(dtype, torch.dtype) else torch.bfloat16.itemsize
    return token_bytes(text, itemsize), _size(text, "max_position_embeddings")


def tokens_that_fit(token: TokenBytes, left: int, limit: int) -> int:
    """Return how many tokens fit into the bytes that are left.

    Args:
        token: the bytes of a token.
        left: the bytes that are left beside the weights.
        limit: the most bytes of rows; those of a text that is longer than that are released.
    """
    stays = token.cache + token.cache // SPARE + token.final
    whole = max(left, 0) // max(stays + token.rows, 1)
    return max(whole, (left - limit) // max(stays, 1))


def _head_sizes(config: Any, width: int, heads: int) -> tuple[int, int]:
    """Return the numbers of all queries of a token in a layer, and of its keys and values."""
    latent = _size(config, "kv_lora_rank")
    rotary, plain = (_size(config, f"qk_{kind}_head_dim") for kind in ("rope", "nope"))
    if latent and rotary and plain:
        # The cache holds what keys and values are made of; a recording holds those, too.
        queries, value_size = heads * (rotary + plain), _size(config, "v_head_dim") or plain
        return queries, queries + heads * value_size + latent + rotary
    each = _size(config, "head_dim") or width // heads
    groups = _size(config, "num_key_value_heads") or _size(config, "num_kv_heads") or heads
    if getattr(config, "multi_query", False) and not getattr(
        config, "new_decoder_architecture", False
    ):
        groups = 1
    return heads * each, 2 * groups * each


def _types(config: Any) -> list[str]:
    """Return the types of the layers; empty if the config names none."""
    for name in ("layers_block_type", "layer_types"):
        types = getattr(config, name, None)
        if isinstance(types, list | tuple):
            return [str(kind) for kind in types]
    return []


def _size(config: Any, name: str) -> int | None:
    size = getattr(config, name, None)
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None

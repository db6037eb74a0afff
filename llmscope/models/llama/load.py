"""From a GGUF file to a model that llama.cpp runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.llama.cache_types import DEFAULT, LONGEST
from llmscope.models.llama.facade import Backend, LlamaConfig, LlamaForCausalLM, sizes_of
from llmscope.models.llama.names import names_in
from llmscope.models.llama.process import LlamaProcess
from llmscope.models.llama.vocabulary import tokens_as_llama
from llmscope.models.llama.weights import GgufWeights
from llmscope.models.loaded_model import LoadedModel, Progress
from llmscope.models.loading.device import check_threads
from llmscope.models.progress import Meter, silenced
from llmscope.models.sources import GgufFile
from llmscope.models.sources.gguf import check_gguf
from llmscope.models.sources.gguf_header import GgufHeader, read_header
from llmscope.models.tokenizer.gguf_tokenizer import split_as_named
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.models.tokenizer.worker import refuse_long_tokens
from llmscope.support.text import display_text, error_line

PROBE = 3
"""Number of tokens of the first pass, which shows what there is."""
LIBRARY = "LLMSCOPE_LLAMA_LIB"
"""The environment variable with the path of another libllama."""


def load_gguf(
    file: GgufFile | Path,
    spec: str,
    *,
    threads: int | None = None,
    cache_type: str | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a GGUF file into llama.cpp.

    Args:
        file: the file, with its name and notices; or its path.
        spec: what the user called it.
        threads: number of threads; None: as many as there are processors.
        cache_type: the type of its KV cache, of `CACHE_TYPES`; None: llama.cpp's default.
        progress: called with the description of the stage, bytes done, and total bytes or None.

    Raises:
        ScopeError: the file is damaged, llama.cpp is not installed or cannot run it, or hands out
            too little of its architecture.
    """
    check_threads(threads)
    if isinstance(file, Path):
        file = GgufFile(file, file.stem)
    path, cache_type = file.path, cache_type or DEFAULT
    check_gguf(path)
    Meter(progress, "loading the weights into llama.cpp")
    header = read_header(path)
    sizes = sizes_of(header.values)
    layers, context = _count(sizes, "block_count"), _count(sizes, "context_length")
    process = LlamaProcess(
        path,
        min(context, LONGEST),
        threads or os.cpu_count() or 1,
        library=library(),
        cache_type=cache_type,
    )
    survey = process.survey(list(range(1, PROBE + 1)))
    names = names_in(survey["tensors"], layers)
    weights = GgufWeights(path, header.places)
    backend = Backend(process, names, weights, names.of("key", layers - 1))
    heads = _count(sizes, "attention.head_count")
    config = LlamaConfig(
        hidden_size=_count(sizes, "embedding_length"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=weights.shape("token_embd.weight")[0],
        max_position_embeddings=process.context,
        head_dim=survey["tensors"][names.of("joined", 0)] // heads,
        norm_eps=_eps(sizes),
        scales=survey["scales"],
        windows=survey["windows"],
        attention_softcap=survey["softcaps"].get("attention"),
        final_logit_softcapping=survey["softcaps"].get("logits"),
        num_experts_per_tok=sizes.get("expert_used_count"),
        expert_gating=sizes.get("expert_gating_func"),
        expert_scale=sizes.get("expert_weights_scale"),
        attn_implementation="eager",
        dtype=torch.float32,
    )
    try:
        module = LlamaForCausalLM(config, backend).eval()
    except KeyError as error:  # such as of experts
        raise ScopeError(
            f"{display_text(path.name)} has no {display_text(str(error.args[0]))}",
            "the file without a backend, which transformers then runs",
        ) from error
    _check_structure(module, path)
    Meter(progress, "reading the tokenizer")
    with silenced():
        tokens, notices = _tokens(process, path, header)
    kind = _file_type(header.values) or process.description.rpartition(" ")[2]
    return LoadedModel(
        spec=spec,
        name=file.name,
        module=module,
        tokens=tokens,
        anatomy=find(module),
        device=torch.device("cpu"),
        dtype=torch.float32,
        notices=(*file.notices, *notices),
        backend=f"llama.cpp, {kind}" + (f", cache {cache_type}" if cache_type != DEFAULT else ""),
        rounding=_rounding(
            weights, process.cache_type.precision, *([torch.float16] if names.by_table else [])
        ),
        threads=threads,
    )


def library() -> str:
    """Return the path of the user's own libllama; empty: that of the binding."""
    return os.environ.get(LIBRARY, "")


def _file_type(values: Mapping[str, Any]) -> str:
    """Return the type of the weights as file names have it, `Q4_K_M`; empty if unknown."""
    from gguf import LlamaFileType

    number = values.get("general.file_type")
    names = {kind.value: kind.name for kind in LlamaFileType}
    name = names.get(number, "") if type(number) is int else ""
    return name.removeprefix("MOSTLY_").removeprefix("ALL_").replace("GUESSED", "")


def _rounding(weights: GgufWeights, *others: torch.dtype) -> torch.dtype:
    """Return the dtype that rounds as coarsely as llama.cpp's kernels do with these weights.

    A product with bfloat16 rounds its rows to bfloat16, and one with
    quantised weights to 8 bits, which are as many as bfloat16 has.

    Args:
        weights: the weights.
        others: what else rounds: the KV cache, and an activation function.
    """
    products = {"F32": torch.float32, "F16": torch.float16}
    dtypes = {*others, *(products.get(kind, torch.bfloat16) for kind in weights.kinds)}
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def _check_structure(module: LlamaForCausalLM, path: Path) -> None:
    """Check that the parts of a layer add up as the module has them, to the last bit.

    What does not would be taken for a change by a hook, and be written into every pass.

    Raises:
        ScopeError: they do not.
    """
    with torch.no_grad():
        module(torch.tensor([list(range(1, PROBE + 1))]))
    latest = module.backend.latest
    changed = {} if latest is None else latest.writes[0]
    if changed:
        raise ScopeError(
            f"{display_text(path.name)} has layers of another structure than llmscope knows of "
            f"llama.cpp: {next(iter(changed))} is computed in another way",
            "the file without a backend, which transformers then runs",
        )


def _count(sizes: Any, name: str) -> int:
    value = sizes.get(name)
    if type(value) is not int or value < 1:
        raise ScopeError(f"the file says no {name}", "another file")
    return value


def _eps(sizes: Any) -> float:
    for name in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        if isinstance(sizes.get(name), float):
            return float(sizes[name])
    raise ScopeError("the file says no epsilon of its norms", "another file")


def _tokens(
    process: LlamaProcess, path: Path, header: GgufHeader
) -> tuple[Tokens | None, list[str]]:
    """Return a tokenizer with llama.cpp's ids, and notices; None where none can be made."""
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            str(path.parent), gguf_file=path.name, local_files_only=True
        )
        refuse_long_tokens(tokenizer)
        split_as_named(tokenizer, header.texts, header.values)
        return tokens_as_llama(process, path, library(), tokenizer)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, ScopeError):
        raise
    except BaseException as error:  # an unknown alphabet, or a Rust panic
        return None, [
            f"its tokenizer cannot be read ({error_line(error)}): it takes token ids only"
        ]

"""GGUF files, converted once into safetensors so that later loads are as fast as of other models.

The converted folder is keyed by the SHA-256 digest of the file; see `llmscope.models.files.digest`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.models.files.cache import building, converted_folder
from llmscope.models.files.digest import file_digest
from llmscope.models.files.json_file import read_json
from llmscope.models.files.sizes import bounded, check_sizes
from llmscope.models.files.weight_headers import TensorHeaders
from llmscope.models.loaded_model import Progress
from llmscope.models.progress import Meter, silenced, transformers_bars
from llmscope.models.sources.gguf_header import read_header
from llmscope.models.sources.gguf_settings import Described
from llmscope.models.sources.weights import GgufFile, Options, Weights
from llmscope.models.spec import Spec
from llmscope.models.tokenizer.gguf_tokenizer import split_as_named
from llmscope.models.tokenizer.worker import refuse_long_tokens
from llmscope.support.text import display_text, error_line

_MAGIC = b"GGUF"
_NOTICES = "notices.json"


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the converted weights of a local file.

    Raises:
        ScopeError: the file is not a GGUF file, or transformers cannot read it.
    """
    return converted(Path(spec.name), options.progress)


def locate(spec: Spec, options: Options) -> GgufFile:
    """Return the file that a spec names."""
    path = Path(spec.name)
    return GgufFile(path, path.stem)


def converted(path: Path, progress: Progress | None) -> Weights:
    """Return the converted weights of a GGUF file, converting it first if they are not cached.

    Weights are stored in float32, which represents every value of a quantized file exactly.

    Raises:
        ScopeError: the file is not a GGUF file, or transformers cannot read it.
    """
    headers = check_gguf(path)
    digest = file_digest(path, progress)
    folder = converted_folder() / digest
    if not folder.is_dir():
        with building(folder) as scratch:
            _convert(path, headers, scratch, progress)
    return Weights(folder, path.stem, digest, _notices(folder))


def _notices(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(map(str, read_json(folder / _NOTICES)))
    except (OSError, ValueError, TypeError):
        return ()


def check_gguf(path: Path) -> TensorHeaders:
    """Check a GGUF file by its header, and return its tensor headers.

    Raises:
        ScopeError: the file is not a GGUF file, or its header is invalid.
    """
    named = display_text(path.name)
    try:
        if not path.is_file():
            raise ScopeError(f"{named} is no regular file", "another file")
        with path.open("rb") as file:
            first = file.read(len(_MAGIC))
        if first != _MAGIC:
            raise ScopeError(f"{named} is no GGUF file", "another file")
        header = read_header(path)
    except OSError as error:
        raise ScopeError(
            f"{display_text(str(path))} cannot be read: {error.strerror}", "another file"
        ) from error
    except ValueError as error:
        raise ScopeError(
            f"{named} is damaged, or not all of a GGUF file: {error_line(error)}",
            "another copy of the file",
        ) from error
    # The keys of an architecture correspond to those of a config: `llama.block_count`.
    sizes = {
        key.partition(".")[2]: value
        for key, value in header.values.items()
        if not key.startswith(("general.", "tokenizer."))
    }
    check_sizes(sizes, header.headers, path.name, "another copy of the file")
    return header.headers


def _convert(path: Path, headers: TensorHeaders, target: Path, progress: Progress | None) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    meter = Meter(progress, f"converting {display_text(path.name)}", path.stat().st_size)
    limit = bounded(headers, path.name, packed=True, hint="another copy of the file")
    with silenced(), transformers_bars(meter), _gguf_bar(meter) as mapped_names, limit:
        described = Described(path)
        source = {"gguf_file": path.name, "trust_remote_code": False, "local_files_only": True}
        try:
            config = AutoConfig.from_pretrained(str(path.parent), **source)
            notices = described.take_over(config)
            model, info = AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                config=config,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                **source,
            )
        except ScopeError:
            raise
        except Exception as error:  # a damaged file can raise anything
            raise _unreadable(path, error) from error
        # transformers fills missing weights with random numbers and goes on.
        if info["missing_keys"]:
            lacking = display_text(min(info["missing_keys"]))
            raise ScopeError(
                f"{display_text(path.name)} lacks weights of the model, such as {lacking}",
                "a complete file, or the same model as safetensors",
            )
        tokenizer, why = _tokenizer(path, source)
        notices += [*why, *_left_out(described.tensors, mapped_names)]
        # The weights are float32 by now, but transformers refuses to save them with a quantizer.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        try:
            model.save_pretrained(target)
            if tokenizer is not None:
                tokenizer.save_pretrained(target)
        except SafetensorError as error:  # safetensors' error for a full disk
            raise OSError(str(error)) from error
        (target / _NOTICES).write_text(json.dumps(notices), encoding="utf-8")


def _tokenizer(path: Path, source: dict[str, Any]) -> tuple[Any, list[str]]:
    """Load the file's tokenizer; if that fails, return None and a notice with the reason."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **source)
        refuse_long_tokens(tokenizer)
        header = read_header(path)
        return tokenizer, split_as_named(tokenizer, header.texts, header.values)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # an unknown alphabet, or a Rust panic
        return None, [f"the file's tokenizer cannot be read: {error_line(error)}"]


def _left_out(tensors: Iterable[str], mapped_names: set[str]) -> list[str]:
    """Return a notice about tensors that are not used in the model."""
    left = sorted(
        name
        for name in tensors
        if mapped_names
        and not {name, name.rpartition(".")[0]} & mapped_names
        and not name.startswith("rope_")
    )
    return [f"{len(left)} tensors of the file are not used, such as {left[0]}"] if left else []


def _unreadable(path: Path, error: Exception) -> ScopeError:
    return ScopeError(
        f"transformers cannot read {display_text(path.name)}: {error_line(error)}",
        "another file, or the same model as safetensors",
    )


@contextmanager
def _gguf_bar(meter: Meter) -> Iterator[set[str]]:
    """Redirect the conversion's progress bar, which bypasses transformers' tqdm hook.

    Yields a set that receives the names of the tensors that the conversion maps to the model, once
    the conversion has begun.
    """
    from transformers import modeling_gguf_pytorch_utils as module

    def watched(tensors: Iterable[Any], **_: object) -> Iterator[Any]:
        done = 0
        for tensor in tensors:
            yield tensor
            done += int(tensor.n_bytes)
            meter.reach(done)

    def mapped(*args: Any, **settings: Any) -> dict[str, str]:
        places_found: dict[str, str] = places(*args, **settings)
        mapped_names.update(places_found)
        return places_found

    mapped_names: set[str] = set()
    bar, places = module.tqdm, module.get_gguf_hf_weights_map
    module.tqdm, module.get_gguf_hf_weights_map = watched, mapped
    try:
        yield mapped_names
    finally:
        module.tqdm, module.get_gguf_hf_weights_map = bar, places

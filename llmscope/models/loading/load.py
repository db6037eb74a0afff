"""From a spec string to a `LoadedModel`: fetch, check, load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llmscope.errors import ScopeError, option
from llmscope.models.anatomy import Anatomy, find
from llmscope.models.files.checkpoint import check_model, read_config
from llmscope.models.files.model_files import check_tokenizer_paths
from llmscope.models.files.quantized import check_numbers, settings
from llmscope.models.files.sizes import bounded
from llmscope.models.files.weight_headers import TensorHeaders, tensor_bytes
from llmscope.models.loaded_model import LoadedModel, Progress
from llmscope.models.loading.adapters import adapted, fetched, is_adapter, names
from llmscope.models.loading.backend import TRANSFORMERS, file_for_llama
from llmscope.models.loading.default_dtype import loading_as
from llmscope.models.loading.device import check_threads, choose_device, choose_dtype, threads_for
from llmscope.models.loading.dispatch import Placing, place
from llmscope.models.loading.memory import check_room, does_not_fit, free_cache, make_room, ran_out
from llmscope.models.loading.reward import load_reward
from llmscope.models.progress import Meter, silenced, transformers_bars
from llmscope.models.sources import Options, Weights, fetch
from llmscope.models.spec import Spec, parse
from llmscope.models.tensor_parallel.leader import load_split
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.models.tokenizer.worker import load_tokenizer
from llmscope.models.variants import Variants
from llmscope.support.text import display_text, error_line, one_line


def load_model(
    spec: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = TRANSFORMERS,
    cache_type: str | None = None,
    threads: int | None = None,
    adapters: Sequence[str] = (),
    reward: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a model with its tokenizer, in eval mode. Verdicts are measured later.

    Args:
        spec: see `llmscope.models.spec`; None means the built-in default.
        device: auto, cpu, cuda, cuda:N, mps, or spread: over all devices, memory and disk.
        dtype: auto, float32, bfloat16 or float16.
        backend: transformers; llama.cpp, which runs a GGUF file as it is; or auto: llama.cpp where
            there is no memory for the dequantised weights, and else transformers.
        cache_type: the type of llama.cpp's KV cache: f16, f32, q8_0 or q4_0; None: its default,
            f16.
        threads: number of torch threads; None means one for a tiny model, and torch's own choice
            for others.
        adapters: specs of PEFT adapters for it, or of other checkpoints of the same model, such
            as a fine-tuned one: folders or hub ids.
        reward: spec of a reward model that reads the same tokens.
        trust_remote_code, allow_pickle: accept code, or pickled weights, that come with a model.
        progress: called with the description of the stage, bytes done, and total bytes or None.

    Raises:
        ScopeError: the model cannot be loaded; the error has a hint.
    """
    parsed = parse(spec)
    options = Options(trust_remote_code, allow_pickle, progress)
    file = file_for_llama(
        *(parsed, backend, cache_type, options),
        device=device,
        dtype=dtype,
        adapters=adapters,
        reward=reward,
    )
    if file is not None:
        from llmscope.models.llama.load import load_gguf

        return load_gguf(
            file, parsed.text, threads=threads, cache_type=cache_type, progress=progress
        )
    chosen = choose_device(device)
    choose_dtype(dtype, chosen)  # raises for an invalid name before anything is fetched
    check_threads(threads)
    with silenced():
        weights, added = fetched(parsed, adapters, options)
        config, headers = check_model(
            weights.folder,
            parsed.text,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
        make_room(parsed.text, weights.folder, choose_dtype(dtype, chosen), chosen)
        placing = place(
            device, chosen, dtype, weights.folder, config, parsed.text, trust_remote_code
        )
        module, unused = _model(
            weights, headers, parsed.text, placing, trust_remote_code, allow_pickle, progress
        )
        Meter(progress, "reading the tokenizer")
        tokens, missing = load_tokenizer_of(own_tokenizer(weights, added), trust_remote_code)
        check_numbers(module, placing.dtype, parsed.text)
        if not placing.settings:
            if chosen.type != "cpu":
                Meter(progress, f"moving the weights to {chosen}")
            module = _move(module, chosen, parsed.text, weights.folder)
    model = LoadedModel(
        spec=parsed.text,
        name=weights.name,
        module=module,
        tokens=tokens,
        anatomy=_anatomy(module, parsed.text),
        device=placing.input_device(module),
        dtype=placing.compute_dtype(module),
        revision=weights.revision,
        notices=(*weights.notices, *placing.told(config, module), *unused, *missing),
        folders=(weights.folder,),
        threads=threads_for(threads, sum(parameter.numel() for parameter in module.parameters())),
        allow_pickle=allow_pickle,
    )
    if reward is not None:
        model.reward = load_reward(reward, model, options)
    make = partial(_stage, model, placing, chosen, options)
    named = names(adapter.name for adapter in added)
    model.adapted = Variants(
        {name: make(adapter, name) for name, adapter in zip(named, added, strict=True)},
        {} if added else {name: partial(_built_in, name, make) for name in weights.family},
    )
    return model


def _built_in(name: str, make: Callable[[Weights, str], LoadedModel]) -> LoadedModel:
    """Load a member of a built-in model's family."""
    return make(fetch(_member(name), Options()), name)


def _member(name: str) -> Spec:
    return parse(f"builtin:{name}")


def _members(base: LoadedModel) -> tuple[str, ...]:
    """Return the names of a base's built-in family, loaded or not."""
    spec = parse(base.spec)
    return fetch(spec, Options()).family if spec.source == "builtin" else ()


def _stage(
    base: LoadedModel,
    placing: Placing,
    device: torch.device,
    options: Options,
    weights: Weights,
    name: str,
) -> LoadedModel:
    """Load the base with an adapter applied, or another checkpoint of it.

    An adapter of a family is applied to the member that it was trained on. It is still compared
    with the base of the family, so that it shows the changes of all training since the base.
    """
    if is_adapter(weights.folder):
        below = base
        if weights.upon is not None and weights.upon in _members(base):
            if weights.upon in base.adapted.family:
                below = base.adapted[weights.upon]
            else:
                under = fetch(_member(weights.upon), options)
                below = _stage(base, placing, device, options, under, weights.upon)
        tuned = with_adapter(below, weights.folder, name, allow_pickle=options.allow_pickle)
        return tuned if below is base else replace(tuned, origin=base)
    with silenced():
        return _checkpoint(base, weights, name, placing, device, options)


def _checkpoint(
    base: LoadedModel,
    weights: Weights,
    name: str,
    placing: Placing,
    device: torch.device,
    options: Options,
) -> LoadedModel:
    """Load another checkpoint of the same model, such as a fine-tuned one, with its own weights.

    Raises:
        ScopeError: it cannot be loaded, or its weights have other shapes.
    """
    _, headers = check_model(
        weights.folder,
        weights.name,
        trust_remote_code=options.trust_remote_code,
        allow_pickle=options.allow_pickle,
    )
    model, _ = _model(
        weights,
        headers,
        weights.name,
        placing,
        options.trust_remote_code,
        options.allow_pickle,
        options.progress,
    )
    ours, theirs = (
        {name: tuple(tensor.shape) for name, tensor in each.state_dict().items()}
        for each in (base.module, model)
    )
    foreign = next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), "")
    if foreign:
        raise ScopeError(
            f"{display_text(weights.name)} is no checkpoint of {display_text(base.name)}: they "
            f"differ in the shape of {display_text(foreign)}",
            "a checkpoint that was trained from this model",
        )
    if not placing.settings:
        model = _move(model, device, weights.name, weights.folder)
    anatomy = _anatomy(model, weights.name)
    folders = (weights.folder,)
    return _upon(base, module=model, anatomy=anatomy, adapter=name, folders=folders)


def with_adapter(
    base: LoadedModel, folder: Path, name: str, *, allow_pickle: bool = False
) -> LoadedModel:
    """Return the base with an adapter applied, sharing the base's weights.

    Raises:
        ScopeError: see `llmscope.models.loading.adapters.adapted`.
    """
    with silenced():
        model = adapted(base.module, folder, name, allow_pickle=allow_pickle)
    anatomy = _anatomy(model, name)
    folders = (*base.folders, folder)
    return _upon(base, module=model, anatomy=anatomy, adapter=name, folders=folders)


def _upon(base: LoadedModel, **changes: Any) -> LoadedModel:
    """Return a copy of the base with changes, whose origin is the base and without variants."""
    return replace(base, adapted=Variants(), origin=base, translator=None, features=(), **changes)


def _model(
    weights: Weights,
    headers: TensorHeaders,
    named: str,
    placing: Placing,
    trust_remote_code: bool,
    allow_pickle: bool,
    progress: Progress | None,
) -> tuple[Any, list[str]]:
    """Load the model, on the CPU or as placed; also return notices about unused weights."""
    from transformers import AutoModelForCausalLM

    dtype = placing.dtype
    if not placing.settings:
        check_room(named, weights.folder, dtype)
    sizes = {} if progress is None else tensor_bytes(weights.folder)
    meter = Meter(progress, "reading the weights", _size(weights.folder), sizes)
    packed = bool(placing.settings) and settings(read_config(weights.folder)) is not None

    def load(**settings: Any) -> Any:
        with loading_as(dtype):
            return AutoModelForCausalLM.from_pretrained(
                str(weights.folder),
                dtype="auto" if dtype is None else dtype,
                local_files_only=True,
                output_loading_info=True,
                **settings,
                **placing.settings,
            )

    accepted = {
        "trust_remote_code": trust_remote_code,
        "use_safetensors": None if allow_pickle else True,
    }
    with transformers_bars(meter), bounded(headers, named, packed=packed):
        try:
            if placing.plan is None:
                model, info = load(**accepted)
            else:
                model, info = load_split(load, weights.folder, dtype, placing.plan, accepted)
        except ScopeError:
            raise
        except Exception as error:  # a damaged checkpoint can raise anything
            if ran_out(error):
                raise does_not_fit(named, weights.folder, dtype, torch.device("cpu")) from error
            raise _unloadable(named, error) from error
    # transformers fills missing weights with random numbers and goes on.
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ScopeError(
            f"{display_text(named)} lacks {len(lacking)} of the model's weights, "
            f"such as {display_text(lacking[0])}",
            "a complete checkpoint of a causal language model",
        )
    extra = sorted(info["unexpected_keys"])
    notices = []
    if extra:
        notices.append(
            f"{len(extra)} weights of the checkpoint are not used, such as {display_text(extra[0])}"
        )
    return model.eval(), notices


def load_tokenizer_of(
    folder: Path, trust_remote_code: bool = False
) -> tuple[Tokens | None, list[str]]:
    """Load the tokenizer; if that fails, return None and a notice with the reason."""
    if not _has_tokenizer(folder):
        return None, ["the checkpoint has no tokenizer: it takes token ids only"]
    try:
        check_tokenizer_paths(folder)
        return Tokens(load_tokenizer(folder, trust_remote_code)), []
    except Exception as error:  # a model can be used without its tokenizer
        return None, [
            f"its tokenizer cannot be loaded ({error_line(error)}): it takes token ids only"
        ]


def own_tokenizer(weights: Weights, added: Sequence[Weights]) -> Path:
    """Return the folder with the tokenizer: that of the first adapter with one, or the model's."""
    return next(
        (source.folder for source in added if _has_tokenizer(source.folder)), weights.folder
    )


def _has_tokenizer(folder: Path) -> bool:
    files = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    return any((folder / name).is_file() for name in files)


def _move(model: Any, device: torch.device, named: str, folder: Path) -> Any:
    try:
        return model.to(device)
    except Exception as error:
        if not ran_out(error):
            raise
        with suppress(Exception):
            model.to("cpu")  # move back what was moved before memory ran out
        free_cache(device)
        raise does_not_fit(named, folder, model.dtype, device) from error


def _anatomy(model: Any, named: str) -> Anatomy:
    try:
        return find(model)
    except ScopeError:
        raise
    except Exception as error:  # an unusual config can raise anything
        raise ScopeError(
            f"the parts of {display_text(named)} cannot be found: {error_line(error)}",
            "another copy of the model, with its own config.json",
        ) from error


def _size(folder: Path) -> int:
    """Return the bytes of the weights in a folder."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _unloadable(named: str, error: Exception) -> ScopeError:
    from safetensors import SafetensorError

    named = display_text(named)
    wrong = _of_report(error)
    if wrong:
        return ScopeError(f"{named} cannot be loaded: {wrong}", "another copy of the model")
    if isinstance(error, SafetensorError):
        return ScopeError(
            f"the weights of {named} are damaged: {error_line(error)}", "another copy of the model"
        )
    return ScopeError(
        f"{named} cannot be loaded: {error_line(error)}", f"{option('debug')}, which tells more"
    )


def _of_report(error: Exception) -> str:
    """Return the content of the report that transformers logs before raising; else an empty text.

    transformers' error only says "look at the above report", and that report is silenced.
    """
    frame = error.__traceback__
    while frame is not None:
        info = frame.tb_frame.f_locals.get("loading_info")
        shapes = sorted(getattr(info, "mismatched_keys", None) or (), key=str)
        if shapes:
            name, theirs, ours = shapes[0]
            more = f", and {len(shapes) - 1} more do not fit" if len(shapes) > 1 else ""
            return one_line(
                f"{name} has the shape {list(theirs)} in the file, and its config.json makes it "
                f"{list(ours)}{more}"
            )
        broken = getattr(info, "conversion_errors", None)
        if broken:
            name, reason = next(iter(broken.items()))
            return one_line(f"{name} cannot be converted: {reason}")
        frame = frame.tb_next
    return ""

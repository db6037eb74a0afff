"""A model that is in memory already, as a `LoadedModel`."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError, WrongTypeError
from llmscope.models.anatomy import FLOATS, Anatomy, find
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.loading.at_rest import at_rest
from llmscope.models.outside_code import code_from_outside
from llmscope.models.spec import IN_MEMORY
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.support import arguments
from llmscope.support.text import error_line

LOADED = "a model of transformers' AutoModelForCausalLM.from_pretrained or from_config"
_DIGEST = re.compile("[0-9a-f]{32,}")
RANDOM = 0.1
"""Share of a difference from which on a second pass over the same tokens explains it."""
NO_TOKENIZER = "no tokenizer was given: a prompt is token ids, such as 5 17 3"
BY_RANGE = (
    "its activations are quantised by their range in the whole prompt, so that later tokens change "
    "the numbers of earlier ones a little"
)
DYNAMIC = ("torch.ao.nn.quantized.dynamic", "torch.nn.quantized.dynamic")
"""Modules of torch whose activations are quantised in each pass."""
EXACT, ROUNDED = 1e-3, 0.03
"""Largest difference of a token's logits, as a share of the largest logit, when a later token
changes: in float32, and in half precision or packed weights, where experts round otherwise with
other tokens beside them."""


def wrapped(model: Any, tokenizer: Any = None) -> LoadedModel:
    """Return a model in memory with its tokenizer. The model stays as it is.

    Args:
        model: a causal language model of transformers, also with PEFT adapters, compiled by
            `torch.compile`, or inside DataParallel or DistributedDataParallel.
        tokenizer: its transformers tokenizer; None: prompts are token ids.

    Raises:
        TypeError: an argument is no model, or no tokenizer.
        ScopeError: the model is sharded over processes, is no causal language model of
            transformers, or fails on a short prompt.
    """
    tokens = tokens_of(tokenizer)
    inner = unwrapped(model)
    if not hasattr(inner, "config") or not callable(getattr(inner, "get_input_embeddings", None)):
        raise ScopeError(f"{_kind(inner)} is a plain module, without a transformers config", LOADED)
    if getattr(inner.config, "is_encoder_decoder", False):
        raise ScopeError(f"{_kind(inner)} has an encoder of its own", "a decoder-only model")
    anatomy = _anatomy(inner)
    weight = inner.get_input_embeddings().weight
    notices = [] if tokens is not None else [NO_TOKENIZER]
    if _by_range(inner):
        notices.append(BY_RANGE)
    else:
        with at_rest(inner):
            _check_causal(inner, anatomy)
    return LoadedModel(
        spec=IN_MEMORY,  # the name that it was loaded under would promise its weights
        name=named_after(inner),
        module=inner,
        tokens=tokens,
        anatomy=anatomy,
        device=weight.device,
        dtype=weight.dtype if weight.dtype in FLOATS else inner.config.dtype,
        notices=tuple(notices),
    )


def unwrapped(model: Any) -> Any:
    """Return the transformers model inside of what compiles, parallelises or adapts it.

    Raises:
        TypeError: it is no module.
        ScopeError: its weights are sharded, or its adapter adds tokens to the prompt.
    """
    if not isinstance(model, nn.Module):
        inside = isinstance(getattr(model, "model", None), nn.Module)
        hint = ": pass its .model" if inside else ""
        raise WrongTypeError(
            f"model must be a torch.nn.Module, not {arguments.quote_value(model)}{hint}"
        )
    inner: Any = model
    while True:
        _check_whole(inner)
        if isinstance(original := getattr(inner, "_orig_mod", None), nn.Module):
            inner = original
        elif isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        elif hasattr(inner, "peft_config") and callable(getattr(inner, "get_base_model", None)):
            if getattr(inner.active_peft_config, "is_prompt_learning", False):
                raise ScopeError(
                    "its adapter adds virtual tokens to the prompt, which have no text",
                    "an adapter that changes weights, such as LoRA, or the model without it",
                )
            inner = inner.get_base_model()  # the adapter's layers are inside of it
        else:
            return inner


def _check_whole(model: nn.Module) -> None:
    names = {parent.__name__ for parent in type(model).__mro__}
    first = next(model.parameters(), None)
    sharded = "FullyShardedDataParallel" in names or "FSDPModule" in names
    if sharded or any(hasattr(parameter, "device_mesh") for parameter in model.parameters()):
        raise ScopeError(
            "its weights are sharded over processes (FSDP or tensor parallelism)",
            "the whole model: load what get_model_state_dict with full_state_dict=True gathers, or "
            "llmscope under torchrun, which splits the model that it loads",
        )
    if "DeepSpeedEngine" in names or hasattr(first, "ds_id"):
        raise ScopeError(
            "its weights belong to DeepSpeed",
            "the whole model, saved with save_16bit_model and loaded again",
        )


def tokens_of(tokenizer: Any) -> Tokens | None:
    """Return the tokens of a tokenizer or of a processor; None without one.

    Raises:
        TypeError: it is something else.
    """
    if tokenizer is None:
        return None
    if not hasattr(tokenizer, "added_tokens_decoder"):
        inner = getattr(tokenizer, "tokenizer", None)  # a processor of text and images
        if inner is None or not hasattr(inner, "added_tokens_decoder"):
            raise WrongTypeError(
                "tokenizer must be a tokenizer of transformers, "
                f"not {arguments.quote_value(tokenizer)}"
            )
        tokenizer = inner
    return Tokens(tokenizer)


def _anatomy(model: Any) -> Anatomy:
    try:
        return find(model)
    except ScopeError:
        raise
    except Exception as error:  # code and configs of others can raise anything
        message = f"the parts of {_kind(model)} cannot be found: {error_line(error)}"
        raise ScopeError(message, LOADED) from error


LONGER = (12, 48, 192)
"""Pairs of tokens in a prompt that is tried where code from outside fails on a shorter one."""


def _check_causal(model: Any, anatomy: Anatomy) -> None:
    """Check that a token's logits do not depend on the token after it."""
    last = anatomy.vocabulary - 1
    device = model.get_input_embeddings().weight.device

    def run(row: tuple[int, ...]) -> Any:
        return model(input_ids=torch.tensor([row], device=device), use_cache=False)

    outputs, failure = [], None
    # A hook of the user's may change a token by its index, which a short pass does not have.
    for pairs in (1, *(LONGER if any(code_from_outside(model)) else ())):
        start = (last // 2, last // 3) * pairs
        if anatomy.context is not None and len(start) >= anatomy.context:
            break
        first = (*start, last // 5)
        try:
            with torch.no_grad():
                outputs = [run(row) for row in (first, (*start, last // 7))]
            break
        except Exception as error:
            failure = failure or error
    if not outputs:
        assert failure is not None
        message = f"{_kind(model)} fails on three tokens: {error_line(failure)}"
        raise ScopeError(message, LOADED) from failure
    logits: list[Any] = [getattr(output, "logits", None) for output in outputs]
    if not all(isinstance(logit, Tensor) and logit.dim() == 3 for logit in logits):
        raise ScopeError(f"{_kind(model)} gives no logits of a next token", LOADED)
    before, other = (each[0, :-1].detach().float() for each in logits)
    apart = float((before - other).abs().max())
    exact = all(weight.dtype in (torch.float32, torch.float64) for weight in model.parameters())
    if apart > (EXACT if exact else ROUNDED) * float(before.abs().max()):
        with torch.no_grad():
            again = run(first).logits[0, :-1].float()
        if float((before - again).abs().max()) > RANDOM * apart:
            raise ScopeError(
                f"{_kind(model)} gives other logits each time for the same tokens: it, or a hook "
                "on it, draws random numbers",
                "the model without them, such as with its dropout off",
            )
        raise ScopeError(
            f"in {_kind(model)} a token's logits depend on the token after it, as in an encoder",
            "a causal language model",
        )


def _by_range(model: Any) -> bool:
    """Return whether a causal model's activations are quantised by their range in each pass."""
    if not _kind(model).endswith(("ForCausalLM", "LMHeadModel")):
        return False
    return any(type(module).__module__.startswith(DYNAMIC) for module in model.modules())


def named_after(model: Any) -> str:
    """Return the last part of the path that a model was loaded from, unless that is a digest.

    The class's name stands for a digest, as of a commit or a file, and for a model without a path.
    """
    path = str(getattr(model.config, "_name_or_path", "") or "")
    last = path.rstrip("/").rpartition("/")[2]
    return _kind(model) if not last or _DIGEST.fullmatch(last) else last


def _kind(model: object) -> str:
    return type(model).__name__

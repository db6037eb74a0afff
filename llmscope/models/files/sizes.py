"""Check a config's sizes against the weights, before and while the model is built.

A config of a few bytes can ask for a million layers. Building them would never end, even if the
weight files hold only two. First the integers of a config are compared with the headers of the
weight files, because config classes already make lists as long as the model is deep. Everything
built after that is counted, module by module and on the meta device, and building stops once it
exceeds what the weights could fill.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as registry

from llmscope.errors import ScopeError
from llmscope.models.files.weight_headers import TensorHeaders, folder_headers
from llmscope.support.text import display_text

LENGTH = 1 << 25
"""Longest context in tokens; the longest in use has 10,485,760."""
SLACK = 32
"""Factor by which a size may exceed the largest dimension: packed weights hold several numbers."""
LEAST = 4096
"""Size that is always allowed: chunk and block sizes of a computation appear in no weight."""
MODULES, PARAMETERS, BUFFERS = 500, 1 << 24, 1 << 28
"""Modules, parameter elements and buffer bytes that a model may have without weights."""
MODULES_EACH = 4
"""Modules allowed per tensor; the model families of the tests need 2."""
TIMES = 8
"""Factor by which the built model may exceed the weights, because shared weights are stored once.

Each weight is counted when built and when loaded; the model families of the tests need 2.2.
"""
ANOTHER = "another copy of the model, with its own config.json"
_LENGTHS = re.compile(r"position|context|ctx|window|seq|max_len")
_OTHERS = re.compile(
    r"_ids?$|token|theta|freq|scal|factor|period|interval|step|seed|param|train|sample|rate|base"
)
_SIZES = re.compile(
    r"layer|block|depth|expert|head|size|dim|width|hidden|inner|embd|embed|vocab|rank|group|state|"
    r"kernel|channel|conv|ffn|intermediate|loop|cycle|num_|^n_|^d_|^r$|chunk"
)


def check_folder(config: Mapping[str, Any], folder: Path, named: str) -> TensorHeaders:
    """Check a config.json against the headers of the folder's weights, and return the headers.

    Raises:
        ScopeError: a header is damaged, or the config asks for more than the weights could fill.
    """
    try:
        headers = folder_headers(folder)
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"the weights of {display_text(named)} are damaged: {display_text(str(error))}",
            "another copy of the model",
        ) from error
    check_sizes(config, headers, named)
    return headers


def check_sizes(
    config: Mapping[str, Any], headers: TensorHeaders, named: str, hint: str = ANOTHER
) -> None:
    """Refuse integers in a config that are too large for the tensors of its weights.

    Args:
        config: the content of config.json, checked including nested dicts.
        headers: the headers of its weights.
        named: the model's name in the error.
        hint: the hint of the error.

    Raises:
        ScopeError: for the first such integer.
    """
    limit = max(LEAST, headers.tensors, SLACK * headers.largest)
    for key, value in _integers(config):
        highest = LENGTH if _LENGTHS.search(key) else limit if _SIZES.search(key) else None
        if highest is None or abs(value) <= highest or _OTHERS.search(key):
            continue
        number = str(value) if abs(value) < 10**15 else f"about 10^{len(str(abs(value))) - 1}"
        why = (
            f"its weights have {headers.tensors} tensors of at most {headers.largest}"
            if highest == limit
            else f"no model has more than {highest}"
        )
        raise ScopeError(
            f"the config of {display_text(named)} says that {display_text(key[:40])} is {number}, "
            f"and {why}",
            hint,
        )


def _integers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield each integer in nested dicts and lists with the nearest key above it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _integers(inner, str(name).lower())
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _integers(inner, key)
    elif isinstance(value, float) and value.is_integer():
        yield key, int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


@contextmanager
def bounded(
    headers: TensorHeaders,
    named: str,
    *,
    packed: bool = False,
    each: int = MODULES_EACH,
    hint: str = ANOTHER,
) -> Iterator[None]:
    """Stop building a model in this thread once it is larger than the weights could fill.

    Args:
        headers: the headers of the weights.
        named: the model's name in the error.
        packed: the weights are quantized: a number may take a single bit.
        each: modules that may be built per tensor.
        hint: the hint of the error.

    Raises:
        ScopeError: the model is too large.
    """
    elements = max(headers.elements, 8 * headers.bytes) if packed else headers.elements
    left = {
        "modules": MODULES + each * headers.tensors,
        "parameters": PARAMETERS + TIMES * elements,
        "bytes of buffers": BUFFERS + TIMES * headers.bytes,
    }
    owner = threading.get_ident()

    def spend(kind: str, amount: int) -> None:
        if threading.get_ident() != owner:
            return
        left[kind] -= amount
        if left[kind] < 0:
            raise ScopeError(
                f"{display_text(named)} would have more {kind} than its weights could fill: "
                f"they are {headers.tensors} tensors of {headers.elements} numbers",
                hint,
            )

    def module(_: nn.Module, __: str, added: nn.Module | None) -> None:
        spend("modules", int(added is not None))

    def parameter(_: nn.Module, __: str, added: Tensor | None) -> None:
        spend("parameters", 0 if added is None else added.numel())

    def buffer(_: nn.Module, __: str, added: Tensor | None) -> None:
        spend("bytes of buffers", 0 if added is None else added.numel() * added.element_size())

    with ExitStack() as stack:
        for register, hook in (
            (registry.register_module_module_registration_hook, module),
            (registry.register_module_parameter_registration_hook, parameter),
            (registry.register_module_buffer_registration_hook, buffer),
        ):
            stack.callback(register(hook).remove)
        yield

"""Code from outside of transformers that runs within a model's passes, and the values it reads.

`wrap` takes a live model, which may have the user's hooks, modules and patched functions. Such code
may do anything with a tensor's rows: `output[:, 15] += v` means token 15 only in a pass over the
whole prompt. So where it is present, no pass starts from the rows of another, and none is split.

What it reads may change between two calls: a coefficient in a closure, a global, an attribute of
the object that a hook is a method of. `CodeReader` reads these values, as far as they can be seen
without running anything; `complete` says whether all of them could.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from enum import Enum
from functools import cache, partial
from pathlib import PurePath
from re import Pattern
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakMethod, ref
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from llmscope.models.kernel_functions import is_kernel_module, unwrap_kernel

LIBRARIES = frozenset(
    (
        *("torch", "transformers", "llmscope", "accelerate", "peft", "kernels", "triton", "numpy"),
        *("bitsandbytes", "torchao", "compressed_tensors", "hqq", "gptqmodel", "optimum", "awq"),
        *("auto_gptq", "aqlm", "eetq", "flash_attn", "fla", "mamba_ssm", "causal_conv1d", "einops"),
        *("builtins", "safetensors", "huggingface_hub", "tokenizers", "tqdm", "scipy"),
        *("xformers", "liger_kernel", "natten", "packaging"),
    )
)
"""Packages whose code in a pass is no reason to distrust it: they are made to be run by rows."""
KNOWN = LIBRARIES | (sys.stdlib_module_names - {"__main__"})
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
GLOBAL_HOOKS = tuple(
    hooks
    for name in ("_global_forward_pre_hooks", "_global_forward_hooks")
    if isinstance(hooks := getattr(torch_module, name, None), dict)
)
RUNS = ("forward", "_old_forward", "_hf_hook")
"""Attributes of a module that are called in place of its class's forward."""
VALUES = (int, float, complex, str, bytes, type(None), range, slice, PurePath, Pattern, Enum)
TORCH_VALUES = (torch.dtype, torch.device, torch.Size, torch.layout)
NODES = 20_000
"""Most values that are read."""
WHOLE = 1 << 16
"""Tensors of up to this many bytes are read completely, larger ones by a sample."""


def origin(code: Any) -> str:
    """Return the top-level package that defines a function, method or callable object.

    `functools.wraps` copies `__module__`, so what counts is the module whose globals it uses.
    """
    if isinstance(code, MethodType):
        return origin(code.__func__)
    if isinstance(code, partial):
        return origin(code.func)
    if isinstance(code, FunctionType):
        name = code.__globals__.get("__name__")
    elif isinstance(code, type | ModuleType | BuiltinFunctionType):
        name = code.__name__ if isinstance(code, ModuleType) else code.__module__
    else:
        return origin(type(code))
    return name.partition(".")[0] if isinstance(name, str) and name else "builtins"


def is_known(code: Any) -> bool:
    """Return whether a function, class or object is of a known library."""
    return origin(code) in KNOWN


def from_outside(code: Any) -> bool:
    """Return whether a function, or one that it wraps, is defined outside of known libraries."""
    for _ in range(100):
        if not is_known(code):
            return True
        if isinstance(code, MethodType | partial):
            code = code.__func__ if isinstance(code, MethodType) else code.func
        wrapped = getattr(code, "__wrapped__", None) if isinstance(code, FunctionType) else None
        if isinstance(wrapped, partial | FunctionType | MethodType):
            code = wrapped
        elif not isinstance(code, partial | MethodType):
            return False
    return True


def name_code(code: Any) -> str:
    """Return the name of a function or of a callable object's class."""
    if isinstance(code, partial):
        return name_code(code.func)
    name = getattr(code, "__qualname__", None) or type(code).__qualname__
    return str(name).rpartition("<locals>.")[2]


def code_from_outside(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield each piece of code from outside that runs in a model's passes, with where, in words."""
    for hook in (hook for hooks in GLOBAL_HOOKS for hook in hooks.values() if from_outside(hook)):
        yield f"a hook on all modules ({name_code(hook)})", hook
    classes: dict[type, str] = {}
    for name, module in model.named_modules():
        state, place = vars(module), name or "the model"
        for table in HOOKS:
            for hook in state[table].values():
                if from_outside(hook):
                    yield f"a hook on {place} ({name_code(hook)})", hook
        forward = state.get("forward")
        if "_hf_hook" in state:  # accelerate calls the module's own one from its own
            forward = state.get("_old_forward", forward)
        if forward is not None and from_outside(forward):
            yield f"the forward of {place} ({name_code(forward)})", forward
        for attribute, value in state.items():
            if (
                attribute not in RUNS
                and callable(value)
                and not isinstance(value, nn.Module | type)
            ) and from_outside(value):
                yield f"{attribute} of {place} ({name_code(value)})", value
        classes.setdefault(type(module), place)
    for cls, place in classes.items():
        if not all(map(is_known, cls.__mro__)):
            yield f"the class of {place} ({cls.__qualname__})", cls
    for holder in namespaces(classes):
        for name, code in functions_in(holder):
            if from_outside(code):
                yield f"{name} of {holder.__name__} ({name_code(code)})", code
    named = {
        name
        for module in model.modules()
        if isinstance(
            name := getattr(vars(module).get("config"), "_attn_implementation", None), str
        )
    }
    for name, code in attention_functions(sorted(named)):
        if from_outside(code):
            yield f"the attention function {name} ({name_code(code)})", code


def namespaces(classes: Mapping[type, Any]) -> list[type | ModuleType]:
    """Return the library classes that define the forward of some classes, and their files."""
    bases = {base: None for cls in classes for base in cls.__mro__ if "forward" in vars(base)}
    known = [base for base in bases if is_known(base)]
    names = {base.__module__ for base in known if not base.__module__.startswith("torch.")}
    names |= {"torch.nn.functional", "transformers.masking_utils"}
    return [*known, *(sys.modules[name] for name in sorted(names) if name in sys.modules)]


def functions_in(holder: type | ModuleType) -> list[tuple[str, Any]]:
    """Return the functions and classes among the names of a class or module."""
    return [
        (name, value.__func__ if isinstance(value, classmethod | staticmethod) else value)
        for name, value in vars(holder).items()
        if isinstance(value, FunctionType | type | classmethod | staticmethod)
        or is_kernel_module(value)
        # What a class says of itself is no part of a pass.
        if not (name.startswith("__") and name not in ("__call__", "__getattr__"))
    ]


def attention_functions(names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the attention and mask functions that are registered under some names."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    for interface in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        for name in names:
            if name in interface:
                yield name, interface[name]


class CodeReader:
    """Reads the values that code depends on: closures, defaults, globals, attributes of objects.

    Args:
        pieces: the pieces of code, each with its place in words. They are not kept alive.
        model: its own modules are not read: their state is compared elsewhere.

    Attributes:
        complete: whether all values could be read.
    """

    def __init__(self, pieces: Iterable[tuple[str, Any]], model: nn.Module) -> None:
        self._pieces = [(name, _weakly(code)) for name, code in pieces]
        self._model = ref(model)
        self._values: dict[str, Any] = {}
        self.complete = True

    def beside(self, values: Iterable[tuple[str, Any]]) -> CodeReader:
        """Return a reader of the same pieces and of some values."""
        reader = copy(self)
        reader._pieces = [*self._pieces, *((name, _weakly(value)) for name, value in values)]
        return reader

    def read(self) -> dict[str, Any]:
        """Return the values by their place, such as "coefficient of steer"."""
        self.complete, self._values = True, {}
        model = self._model()
        if model is None or not self._pieces:
            return {}
        modules = list(model.modules())
        configs = [vars(module).get("config") for module in modules]
        self._visited = set(map(id, (*modules, *configs)))
        self._keep: list[Any] = []  # so that no id is used again while this reads
        for name, piece in self._pieces:
            self._read(piece(), name)
        values, self._values, self._keep, self._visited = self._values, {}, [], set()
        return values

    def _put(self, place: str, value: Any) -> None:
        self._values[place] = value

    def _read(self, value: Any, place: str) -> None:
        if len(self._values) > NODES:
            self.complete = False
            return
        if isinstance(value, float):
            self._put(place, ("float", repr(value)))  # NaN equals itself
        elif isinstance(value, (VALUES, TORCH_VALUES)):
            self._put(place, (type(value).__name__, value))
        elif id(value) in self._visited:
            return
        else:
            self._visited.add(id(value))
            self._keep.append(value)
            self._read_object(value, place)

    def _read_object(self, value: Any, place: str) -> None:
        if isinstance(value, Tensor):
            self._put(place, (value._version if not value.is_inference() else 0, _digest(value)))
        elif isinstance(value, np.ndarray):
            self._put(place, _digest_array(value))
            self.complete &= value.nbytes <= WHOLE and not value.dtype.hasobject
        elif isinstance(value, list | tuple):
            self._put(place, (type(value).__name__, len(value)))
            for index, item in enumerate(value):
                self._read(item, f"[{index}] of {place}")
        elif isinstance(value, Mapping):
            self._put(place, (type(value).__name__, len(value)))
            for key, item in list(value.items()):
                self._read(item, f"{_label(key)} of {place}")
        elif isinstance(value, set | frozenset):
            plain = all(isinstance(item, VALUES) for item in value)
            self._put(place, frozenset(value) if plain else len(value))
            self.complete &= plain
        elif isinstance(value, MethodType):
            self._read(value.__func__, place)
            self._read(value.__self__, place)
        elif isinstance(value, partial):
            self._read(value.func, place)
            self._read([*value.args, dict(value.keywords)], f"the arguments of {place}")
        elif isinstance(value, classmethod | staticmethod):
            self._read(value.__func__, place)
        elif isinstance(value, property):
            self._read([value.fget, value.fset], place)
        elif isinstance(value, FunctionType):
            self._read_function(value, place)
        elif isinstance(value, type | ModuleType | BuiltinFunctionType):
            self._read_named(value, place)
        elif isinstance(value, ref):
            self._read(value(), place)
        elif is_kernel_module(value):
            self._read_kernel(value, place)
        else:
            self._read_attributes(value, place)

    def _read_function(self, function: FunctionType, place: str) -> None:
        if not from_outside(function) and not function.__closure__:
            self._put(place, f"{function.__module__}.{function.__qualname__}")
            return
        self._put(f"the code of {place}", function.__code__)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                self._read(cell.cell_contents, f"{name} of {place}")
            except ValueError:  # not yet assigned
                self._put(f"{name} of {place}", "empty")
        self._read([function.__defaults__, function.__kwdefaults__], f"the defaults of {place}")
        for name, attribute in vars(function).items():
            self._read(attribute, f"{name} of {place}")
        if is_known(function):
            return
        names = set(_names(function.__code__))
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, ModuleType) and not is_known(value):
                for attribute in sorted(names & vars(value).keys()):
                    self._read(vars(value)[attribute], f"{name}.{attribute}")
            else:
                self._read(value, name)

    def _read_kernel(self, module: nn.Module, place: str) -> None:
        """Read a function in a module of `kernels`: what is called in its place, and its hooks."""
        self._read(unwrap_kernel(module), place)
        for name in (*RUNS, *HOOKS):
            if attribute := vars(module).get(name):
                self._read(attribute, f"{name} of {place}")

    def _read_named(self, value: Any, place: str) -> None:
        """Read a class, a module or a function in C: those of libraries by their names."""
        name = getattr(value, "__qualname__", value.__name__)
        self._put(place, f"{getattr(value, '__module__', '')}.{name}")
        if isinstance(value, type) and not is_known(value):
            for attribute, item in list(vars(value).items()):
                if attribute not in ("__dict__", "__weakref__", "__doc__", "__annotations__"):
                    self._read(item, f"{attribute} of {place}")
            for base in value.__bases__:
                self._read(base, place)
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType):  # such as list.append
            self._read(owner, place)

    def _read_attributes(self, value: Any, place: str) -> None:
        self._put(place, type(value).__qualname__)
        self._read(type(value), f"the class of {place}")
        attributes = getattr(value, "__dict__", None)
        slots = [
            name
            for cls in type(value).__mro__
            for name in _slots(cls)
            if hasattr(value, name) and name not in ("__dict__", "__weakref__")
        ]
        if not isinstance(attributes, dict) and not slots:
            self.complete = False
            return
        for name, item in [*(attributes or {}).items(), *((s, getattr(value, s)) for s in slots)]:
            self._read(item, f"{name} of {place}")


def _weakly(code: Any) -> Callable[[], Any]:
    """Return a function that returns an object, or None once it is gone."""
    try:
        return WeakMethod(code) if isinstance(code, MethodType) else ref(code)
    except TypeError:  # a container, which is read where it is
        return lambda: code


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _label(key: Any) -> str:
    return repr(key) if isinstance(key, int | float | str | tuple) else type(key).__name__


@cache
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the names that code and the functions within it look up."""
    inner = [_names(value) for value in code.co_consts if isinstance(value, CodeType)]
    return (*code.co_names, *(name for names in inner for name in names))


def _digest(tensor: Tensor) -> Any:
    """Return a digest of a tensor: of all its values if it is small, otherwise of a sample."""
    about = str(tensor.dtype), tuple(tensor.shape), str(tensor.device)
    try:
        address = tensor.data_ptr()
        values = tensor.detach()
        if values.numel() * values.element_size() > WHOLE:
            values = values.flatten()[:: max(1, values.numel() // 1024)]
        raw = values.contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, TypeError, NotImplementedError):  # a kind of tensor without values
        return about
    return (*about, address, crc32(raw))


def _digest_array(array: np.ndarray[Any, Any]) -> Any:
    about = str(array.dtype), array.shape
    if array.dtype.hasobject:
        return about
    flat = array.reshape(-1)
    return (*about, crc32(flat[:: max(1, flat.nbytes // WHOLE)].tobytes()))

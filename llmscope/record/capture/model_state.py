"""The state that a pass depends on besides its prompt: the live model's weights, hooks, settings.

`scope.model` is the user's own object, which may be changed between two passes. Before anything
that was recorded or measured is used again, the model is compared with its state at that time:

    parameters    identity, storage, version, and up to 16 values of each
    modules       identity, class, `forward`, hooks (global ones too), training mode
    functions     those of the modules' classes and files, and the registered attention functions
    settings      attributes of modules and configs with lists and dicts in them, active adapters
    code          what hooks and other code from outside of transformers read: closures, defaults,
                  globals, attributes of objects (`outside_code`)

Versions alone are not enough: a change through `.data`, as in PEFT's merge, does not bump them. So
16 values of each tensor are compared, spread all over it: each sixteenth of its rows, and of its
columns, holds one. A change through `.data` or NumPy that touches fewer rows or columns than that
can be missed; `rows=True` reads a value of each row and of each column, `whole=True` every value.

What a pass of ours changes in the values that outside code reads, such as a list in which a hook
keeps activations, is not compared from then on: `sees_all` is false, and whoever uses an older
recording has to compare numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Iterator
from copy import deepcopy
from itertools import chain
from math import gcd
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from llmscope.models.loaded_model import LoadedModel
from llmscope.models.outside_code import (
    GLOBAL_HOOKS,
    HOOKS,
    CodeReader,
    attention_functions,
    code_from_outside,
    functions_in,
    is_known,
    namespaces,
)

VALUES, VALUES_OF_BUFFER, MOST = 16, 64, 256
"""Number of values compared of a parameter, of a buffer, and at most of stacked matrices."""
SMALL = 1 << 24
"""Weights of up to this many bytes are read completely at the first check: that is fast."""
COLUMNS = 256
"""Columns of the matrix of 64-bit integers whose sums are a digest of a tensor."""
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By size in bytes, the integer type that values are compared as, so that NaN equals itself."""
PLAIN = (int, float, str, type(None))
ATTENTION = "_attn_implementation_internal"
CAPTURING = "transformers.utils.output_capturing"
"""The module whose hooks only read. They stay on a model once it was asked for hidden states."""
CAPTURES = "_output_capturing_hooks_installed"
STANDARD = frozenset((*vars(nn.Module()), ATTENTION, CAPTURES)) - {"training"}
CONTAINERS = (list, tuple, dict, set, frozenset)
CODE = "what its code reads"
"""The part of the state that a `CodeReader` reads."""
PLACES = 2
"""Most places of changed values that are named."""
ADAPTER = ("_active_adapter", "merged_adapters", "scaling", "use_dora")
"""Attributes of a PEFT layer that PEFT changes in place."""

V = TypeVar("V")


class ModelState:
    """The last seen state of one model, and how often it was found to have changed.

    Attributes:
        serial: goes up by one with each change that is found. Recordings and measurements made
            under a serial are valid as long as it is the current one.
        structure: the serial of the latest change of its modules.
        change: what changed last, in words: "weights, hooks".
    """

    def __init__(self) -> None:
        self.serial = 0
        self.structure = 0
        self.change = ""
        self._parts: _Parts | None = None
        self._seen: dict[str, Any] = {}
        self._digests: tuple[int, ...] | None = None
        self._rows: bytes | None = None  # a value of each row and column; None: not read
        self._restless = False  # whether every pass changes more than buffers and attributes
        self._changing: set[str] = set()  # places that passes change, in what outside code reads

    def check(self, model: nn.Module, *, rows: bool = False, whole: bool = False) -> int:
        """Compare the model with its state at the latest check, and return the serial.

        Args:
            model: the model.
            rows: read a value of each row and of each column. The first time, and after a change
                that another check found, this only records them.
            whole: read every value. The first time, this only records the state of large weights.
        """
        first = self._parts is None
        if first:
            self._collect(model)
        changed = [] if first else self._differences()
        digests = None
        if whole or ((first or changed) and self._parts_now.bytes <= SMALL):
            digests = self._parts_now.digests()
        if whole and not changed and self._digests not in (None, digests):
            changed = ["weights"]
        if digests is not None or changed:
            self._digests = digests
        values = self._parts_now.by_row.values() if rows and not changed else None
        if values is not None and self._rows not in (None, values):
            changed = ["weights"]
        if changed:
            self.serial += 1
            self.change = ", ".join(changed)
            if "modules" in changed:
                self.structure = self.serial
            self._collect(model)
            values = self._parts_now.by_row.values() if rows else None
        if values is not None or changed:
            self._rows = None if self._restless else values
        return self.serial

    def adopt(self, model: nn.Module) -> None:
        """Accept what the model changed of itself in a pass as its state.

        An example is the rotation that a long prompt makes it choose, which it keeps in a buffer.
        Call this after one of llmscope's passes, before other code can change the model.
        """
        if self._restless:
            self._collect(model)
            self._rows = None
        elif self._parts is not None:
            now = self._parts.read_own(adopted=True, seen=self._seen)
            self._changing |= _changed_places(now[CODE], self._seen[CODE])
            self._seen |= self._parts.copied(now, self._seen)

    def learn(self, model: nn.Module) -> None:
        """Call `adopt` after the first passes, and detect models that swap parameters in each.

        PEFT does so with experts that are stacked in one parameter.
        """
        self.adopt(model)
        if self._parts is not None and self._differences():
            self._restless = True
            self._collect(model)
            self._rows = None

    @property
    def unusual(self) -> bool:
        """Whether two passes may differ: a module is in training mode, or has the user's hooks."""
        return self._parts is not None and self._parts.unusual

    @property
    def training(self) -> bool:
        """Whether a module is in training mode."""
        return self._parts is not None and self._parts.training

    @property
    def outside(self) -> str:
        """The first piece of code from outside of known libraries in a pass, with its place.

        Empty without such code; see `outside_code`.
        """
        return "" if self._parts is None else self._parts.outside

    @property
    def sees_all(self) -> bool:
        """Whether a change of any value that outside code reads would be noticed."""
        return self._parts is None or (self._parts.reader.complete and not self._changing)

    @property
    def _parts_now(self) -> _Parts:
        assert self._parts is not None
        return self._parts

    def _collect(self, model: nn.Module) -> None:
        self._parts = _Parts(model)
        self._seen = self._parts.read() | self._parts.copied(self._parts.read_own(), {})

    def _differences(self) -> list[str]:
        """Return in words what differs from the state seen last."""
        parts, seen = self._parts_now, self._seen
        now = parts.read() | parts.read_own()
        places = {
            place
            for place in _changed_places(now.pop(CODE), seen[CODE])
            if not any(place == of or place.endswith(f" of {of}") for of in self._changing)
        }
        changed = [name for name, value in now.items() if not _same(value, seen[name])]
        words = [name.partition(":")[0] for name in changed]
        if places and not words:  # other changes bring their own
            words = sorted(places, key=len)[:PLACES]
        if "settings" in words:
            words[words.index("settings")] = parts.which_settings()
        return list(dict.fromkeys(words))


class _Parts:
    """All parts of a model that are compared: collected once, read at each check."""

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._all = [vars(module) for module in modules]
        self._children = [
            children for attributes in self._all if (children := attributes["_modules"])
        ]
        self._parameters = [
            parameters for attributes in self._all if (parameters := attributes["_parameters"])
        ]
        self._buffers = [buffers for attributes in self._all if (buffers := attributes["_buffers"])]
        self._hooks = [attributes[name] for attributes in self._all for name in HOOKS]
        self._model = ref(model)
        holders = namespaces({type(module): None for module in modules})
        self._functions = [(_functions(holder), vars(holder)) for holder in holders]
        # A model dispatched over devices may have its weights put in place for each call.
        self._offloads = hasattr(model, "hf_device_map")
        self._configs = [vars(config) for config in _configs(modules)]
        self._adapters = [
            (attributes, [name for name in ADAPTER if name in attributes])
            for attributes in self._all
            if "_active_adapter" in attributes
        ]
        self._sample = _Sample(self._tensors(self._parameters))
        self._by_row: _Sample | None = None
        self._rotations = [
            attributes["_buffers"] for attributes in self._all if _is_longrope(attributes)
        ]
        self._own_sample = _Sample(self._own_tensors(), VALUES_OF_BUFFER)
        pieces = list(code_from_outside(model))
        self.outside = pieces[0][0] if pieces else ""
        self._code = CodeReader(pieces, model)
        self._passing: dict[int, set[str]] = {}  # attributes that passes replace, by their table
        self._gather_attributes()

    def _gather_attributes(self) -> None:
        tables = (*self._all, *self._configs)
        self._names = [set(table) - {CAPTURES} for table in tables]
        self._counts = list(map(len, tables))
        self._attributes = [
            (_attributes(table, self._passing.get(id(table), ())), table) for table in tables
        ]
        attributes = [
            (name, value)
            for table in tables
            for name, value in table.items()
            if name not in STANDARD and name not in self._passing.get(id(table), ())
        ]
        self._tensors_beside = [value for _, value in attributes if isinstance(value, Tensor)]
        containers = [(name, v) for name, v in attributes if isinstance(v, CONTAINERS) and v]
        self._containers = [value for _, value in containers if _is_plain(value)]
        self.reader = self._code.beside(
            [
                *((name, value) for name, value in containers if not _is_plain(value)),
                *((name, value) for name, value in attributes if _is_foreign(value)),
            ]
        )
        self._training = [table["training"] for table in self._all]
        self._forwards = _Objects(table.get("forward") for table in self._all)

    def which_settings(self) -> str:
        """Return in words which settings differ from the collected ones."""
        changed = []
        if [attributes["training"] for attributes in self._all] != self._training:
            changed.append("training mode")
        if not _same(
            _Objects(attributes.get("forward") for attributes in self._all), self._forwards
        ):
            changed.append("forward")
        return ", ".join(changed) or "settings"

    def _named_otherwise(self) -> bool:
        """Return whether an attribute was added or removed."""
        tables = (*self._all, *self._configs)
        if list(map(len, tables)) == self._counts:
            return False
        pairs = zip(tables, self._names, strict=True)
        return any(known != set(attributes) - {CAPTURES} for attributes, known in pairs)

    def _hooks_now(self) -> list[int]:
        """Return the ids of all hooks; torch gives no id twice."""
        return [
            number
            for table in (*self._hooks, *GLOBAL_HOOKS)
            if table
            for number, hook in table.items()
            if getattr(hook, "__module__", None) != CAPTURING
        ]

    def read(self) -> dict[str, Any]:
        """Read the state that only the user changes. A key's part before ":" is shown to users."""
        return {
            "modules": (modules := _Objects(chain.from_iterable(map(dict.values, self._children)))),
            "modules:classes": _Objects(map(type, (*modules, self._model()))),
            "functions": self._functions_now(),
            "attention function": _Objects(self._attention_functions()),
            "weights": self._objects(self._parameters),
            "weights:versions": self._sample.marks(),
            "weights:values": self._sample.values(),
            "hooks": self._hooks_now(),
            "adapters": [
                repr([attributes[name] for name in names]) for attributes, names in self._adapters
            ],
        }

    def _functions_now(self) -> list[Any]:
        try:
            return [get(table) for get, table in self._functions]
        except KeyError:  # a function was removed
            return []

    def _attention_functions(self) -> Iterator[Any]:
        """Yield the functions that are registered under the names of the model's attention."""
        names = {name for table in self._configs if (name := table.get(ATTENTION)) is not None}
        return (function for _, function in attention_functions(sorted(names)))

    def read_own(
        self, *, adopted: bool = False, seen: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Read the state that a pass may change too: buffers, attributes, configs, code's values.

        Args:
            adopted: accept attributes that were added or removed.
            seen: the state before a pass of ours: attributes that it replaced by other objects are
                not compared from now on. None: the state was not changed by a pass.
        """
        if seen is not None:
            self._skip_replaced(seen["settings"])
        tensors = [*self._own_tensors(), *self._tensors_beside]
        if not _same(_Objects(tensors), _Objects(self._own_sample.tensors)):
            self._own_sample = _Sample(tensors, VALUES_OF_BUFFER)
        if adopted and self._named_otherwise():
            self._gather_attributes()
        return {
            "buffers": _Objects(tensors),
            "buffers:versions": self._own_sample.marks(),
            "buffers:values": self._own_sample.values(),
            "attention implementation": [attributes.get(ATTENTION) for attributes in self._configs],
            "settings:names": self._named_otherwise(),
            "settings": self._attributes_now(),
            "settings:lists": self._containers,
            CODE: self.reader.read(),
        }

    def _attributes_now(self) -> list[tuple[Any, ...]]:
        try:
            return [get(table) for get, table in self._attributes]
        except KeyError:  # an attribute was removed
            return []

    def copied(self, now: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        """Return a state to be compared later, with copies of what may be changed in place."""
        lists = "settings:lists"
        same = lists in seen and _same(now[lists], seen[lists])
        return now | {lists: seen[lists] if same else deepcopy(now[lists])}

    def _skip_replaced(self, seen: list[Any]) -> None:
        """Do not compare attributes any more that hold another object than before a pass.

        Such as the latest activations that a module keeps.
        """
        replaced = False
        if _same(self._attributes_now(), seen) or len(seen) != len(self._attributes):
            return
        for (get, table), before in zip(self._attributes, seen, strict=True):
            if any(name not in table for name in get.names):  # an attribute was removed
                continue
            for name, old, new in zip(get.names, before, get(table), strict=True):
                if new is not old and not isinstance(new, PLAIN):
                    self._passing.setdefault(id(table), set()).add(name)
                    replaced = True
        if replaced:
            self._gather_attributes()

    @property
    def unusual(self) -> bool:
        """Whether a module is in training mode, or has hooks or a replaced `forward`."""
        has_own_forward = any(
            "forward" in attributes and "_hf_hook" not in attributes for attributes in self._all
        )
        return has_own_forward or self.training or bool(self._hooks_now())

    @property
    def training(self) -> bool:
        """Whether a module is in training mode."""
        return any(attributes["training"] for attributes in self._all)

    @property
    def bytes(self) -> int:
        """The size of all parameters in bytes."""
        return sum(
            tensor.numel() * tensor.element_size() for tensor in self._tensors(self._parameters)
        )

    def digests(self) -> tuple[int, ...]:
        """Return a digest of all values of each parameter."""
        return tuple(map(_digest, self._distinct_parameters()))

    @property
    def by_row(self) -> _Sample:
        """A value of each row and of each column of the parameters."""
        if self._by_row is None:
            self._by_row = _Sample(self._distinct_parameters(), view=_each_row)
        return self._by_row

    def _distinct_parameters(self) -> list[Tensor]:
        known = {id(tensor): tensor for tensor in self._tensors(self._parameters)}
        return list(known.values())

    def _objects(self, tables: Iterable[dict[str, Any]]) -> _Objects:
        if self._offloads:
            return _Objects(self._tensors(tables))
        return _Objects(chain.from_iterable(map(dict.values, tables)))

    def _own_tensors(self) -> list[Tensor]:
        """Return the buffers, without frequencies that each pass writes by its length alone."""
        written = {
            id(buffer)
            for table in self._rotations
            for name, buffer in table.items()
            if name.endswith("inv_freq") and not name.endswith("original_inv_freq")
        }
        return [tensor for tensor in self._tensors(self._buffers) if id(tensor) not in written]

    def _tensors(self, tables: Iterable[dict[str, Any]]) -> list[Tensor]:
        tensors = [
            tensor for tensor in chain.from_iterable(map(dict.values, tables)) if tensor is not None
        ]
        return [tensor for tensor in tensors if not tensor.is_meta] if self._offloads else tensors


def _is_longrope(attributes: dict[str, Any]) -> bool:
    """Return whether a module's attributes are those of a rotation of the kind longrope."""
    kind = attributes.get("rope_type")
    return "longrope" in (kind.values() if isinstance(kind, dict) else (kind,))


class _Objects(list[Any]):
    """Objects compared by identity. The list keeps them alive, so that no id is used again."""


class _Sample:
    """A few values of each of several tensors, read together.

    Args:
        tensors: the tensors.
        values: how many values of each.
        view: in place of `values`: returns the view of a tensor's values.
    """

    def __init__(
        self,
        tensors: list[Tensor],
        values: int = VALUES,
        view: Callable[[Tensor], Tensor | None] | None = None,
    ) -> None:
        self.tensors = tensors
        self._versioned = [tensor for tensor in tensors if not tensor.is_inference()]
        self._arrays: dict[int, list[Any]] = {}  # by the bytes of a value
        elsewhere: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in tensors:
            sampled = _sample_view(tensor, values) if view is None else view(tensor)
            if sampled is None:
                continue
            if sampled.device.type == "cpu":
                array = sampled.numpy()
                self._arrays.setdefault(array.dtype.itemsize, []).append(array)
            else:
                elsewhere.setdefault((sampled.device, sampled.dtype), []).append(sampled)
        self._elsewhere = list(elsewhere.values())

    def marks(self) -> list[Any]:
        """Return the versions and addresses of the tensors."""
        try:
            addresses = list(map(Tensor.data_ptr, self.tensors))
        except RuntimeError:  # a kind of tensor without one address
            addresses = []
        return [*map(operator.attrgetter("_version"), self._versioned), *addresses]

    def values(self) -> bytes:
        """Return the sampled values. Each device other than the CPU needs one transfer."""
        parts = [np.concatenate(arrays).tobytes() for arrays in self._arrays.values()]
        by_device: dict[torch.device, list[Tensor]] = {}
        for tensors in self._elsewhere:
            by_device.setdefault(tensors[0].device, []).append(torch.cat(tensors).view(torch.uint8))
        parts += [torch.cat(pieces).cpu().numpy().tobytes() for pieces in by_device.values()]
        return b"".join(parts)


def _dense_dims(tensor: Tensor) -> list[tuple[int, int]] | None:
    """Return the strides and lengths of a tensor's dimensions, the smallest stride first.

    None if its values do not lie side by side, or cannot be viewed.
    """
    plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
    if not plain or tensor.is_meta or not tensor.numel() or tensor.layout != torch.strided:
        return None
    dims = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    dense = 1
    for stride, length in dims:
        if length > 1 and stride != dense:
            return None
        dense *= length
    return dims


def _values_at(tensor: Tensor, count: int, step: int) -> Tensor | None:
    """Return a view of each `step`th value, as integers: [value]; None for a packed tensor."""
    try:
        view = tensor.detach().as_strided((count,), (step,), tensor.storage_offset())
        return view.view(INTEGERS[view.element_size()])
    except (RuntimeError, KeyError):  # packed in some way
        return None


def _sample_view(tensor: Tensor, values: int) -> Tensor | None:
    """Return a view of about `values` values spread over a tensor; None if they cannot be viewed.

    `[..., row, column]` -> [value]. If there are enough rows and columns, and either is divided
    into as many parts as there are values, each part holds one value.
    """
    dims = _dense_dims(tensor)
    if dims is None:
        return None
    size = tensor.numel()
    columns = next((length for stride, length in dims if stride == 1 and length > 1), 1)
    if tensor.dim() > 2:  # stacked matrices, such as experts: each holds at least one value
        values = max(values, min(tensor.shape[0], MOST))
    count = min(values, size)
    step = (size - 1) // max(count - 1, 1)
    rows = size // columns
    if rows >= 2 * count:
        # A view has one step, so each value lies as many rows below the last one, and `across` of
        # `count` parts of a row to the right of it. As `across` and `count` have no common factor,
        # the values meet each part of the columns once; near the golden ratio, values that are
        # close by row are far apart by column.
        across = next(k for k in range(int(0.618 * count), count + 1) if gcd(k, count) == 1)
        step = (rows - across - 1) // (count - 1) * columns + across * columns // count
    return _values_at(tensor, count, step)


def _each_row(tensor: Tensor) -> Tensor | None:
    """Return a view that holds a value of each row and column; None if they cannot be viewed.

    `[..., row, column]` -> [value]. Of a vector all values. The step is at most a row, so that each
    row holds a value; at most as many values as there are rows, and prime to the columns, so that
    `columns` values in turn, which lie in one matrix, are in different columns.
    """
    dims = _dense_dims(tensor)
    if dims is None:
        return None
    lengths = [length for _, length in dims if length > 1]
    if len(lengths) < 2:
        return _values_at(tensor, tensor.numel(), 1)
    columns, rows = lengths[:2]
    step = next(k for k in range(min(rows, columns), 0, -1) if gcd(k, columns) == 1)
    return _values_at(tensor, (tensor.numel() - 1) // step + 1, step)


def _digest(tensor: Tensor) -> int:
    """Return a digest of a tensor's values and their positions."""
    if tensor.is_meta or not tensor.numel():
        return 0
    try:
        whole = tensor.detach().contiguous()
        values = whole.view(INTEGERS[whole.element_size()])
        if values.device.type == "cpu":
            return _digest_here(values.reshape(-1).view(torch.uint8))
        rows = values.reshape(-1, values.shape[-1] if values.dim() else 1)
        sums = [torch.hash_tensor(rows, dim=at).cpu().numpy().tobytes() for at in (0, 1)]
        return crc32(b"".join(sums))
    except (RuntimeError, KeyError, TypeError, ValueError):  # a kind of tensor without values
        return 0


def _digest_here(values: Tensor) -> int:
    """Return a digest of bytes in the CPU's memory. [byte]

    Of the whole as a matrix of 64-bit integers, the sums of its rows and of its columns: reading
    them is five times as fast as a CRC of every byte, and one changed value changes two sums.
    """
    if values.data_ptr() % 8:
        values = values.clone()
    whole = len(values) - len(values) % (8 * COLUMNS)
    words = values[:whole].view(torch.int64).reshape(-1, COLUMNS)
    sums = b"".join(words.sum(axis).numpy().tobytes() for axis in (0, 1))
    return crc32(values[whole:].numpy().data, crc32(sums))


class _Getter:
    """Gets the values of several names from a table, as a tuple."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._get: Callable[[dict[str, Any]], Any] = (
            operator.itemgetter(*self.names) if len(self.names) > 1 else self._few
        )

    def __call__(self, table: Any) -> tuple[Any, ...]:
        """Return the values; KeyError if one of the names is missing."""
        values: tuple[Any, ...] = self._get(table)
        return values

    def _few(self, table: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(table[name] for name in self.names)


def _attributes(table: dict[str, Any], passing: Iterable[str]) -> _Getter:
    """Return a getter of the attributes that are compared."""
    return _Getter(
        name
        for name, value in table.items()
        if name not in STANDARD and name not in passing and not _is_foreign(value)
    )


def _functions(holder: Any) -> _Getter:
    """Return a getter of the functions and classes in a class or module."""
    return _Getter(name for name, _ in functions_in(holder))


def _is_plain(value: Any) -> bool:
    """Return whether a value, and all that a container holds, can be copied and compared."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values())) and all(map(_is_plain, value))
    if isinstance(value, CONTAINERS):
        return all(map(_is_plain, value))
    return isinstance(value, (*PLAIN, torch.dtype, torch.device))


def _is_foreign(value: Any) -> bool:
    """Return whether a value is an object of a class from outside of known libraries."""
    return not (isinstance(value, (*PLAIN, type, nn.Module)) or is_known(type(value)))


def _changed_places(now: dict[str, Any], seen: dict[str, Any]) -> set[str]:
    """Return the places of values that differ, are new or are gone."""
    if _same(now, seen):
        return set()
    return {
        place
        for place in now.keys() | seen.keys()
        if place not in now or place not in seen or not _same(now[place], seen[place])
    }


def _configs(modules: Iterable[nn.Module]) -> Iterator[Any]:
    """Yield the configs of all modules and their sub-configs, each once."""
    waiting = [config for module in modules if (config := vars(module).get("config")) is not None]
    seen: set[int] = set()
    while waiting:
        config = waiting.pop()
        if config is None or id(config) in seen or not hasattr(config, "__dict__"):
            continue
        seen.add(id(config))
        yield config
        waiting += [getattr(config, key, None) for key in getattr(config, "sub_configs", ())]


def _same(now: Any, seen: Any) -> bool:
    if isinstance(now, _Objects):
        return len(now) == len(seen) and all(map(operator.is_, now, seen))
    try:
        return bool(now == seen)
    except Exception:  # an attribute that cannot be compared
        return False


_states: WeakKeyDictionary[Any, ModelState] = WeakKeyDictionary()


def state_of(model: Any) -> ModelState:
    """Return the state of a model, shared by all scopes of that model."""
    try:
        state = _states.get(model)
        if state is None:
            state = _states[model] = ModelState()
    except TypeError:  # an object that cannot be referenced weakly
        state = ModelState()
    return state


def outside_code_of(model: Any) -> str:
    """Return the first piece of code from outside in a model's passes; see `ModelState.outside`."""
    if not isinstance(model, nn.Module):
        return ""
    state = state_of(model)
    state.check(model)
    return state.outside


def adopt(model: LoadedModel, *, first: bool = False) -> None:
    """Accept what our own passes changed in a model as its state; see `ModelState`.

    Args:
        model: the model.
        first: whether they were the first passes.
    """
    if isinstance(model.module, nn.Module):
        state = state_of(model.module)
        (state.learn if first else state.adopt)(model.module)


def check(model: LoadedModel, *, rows: bool = False, whole: bool = False) -> int:
    """Compare a model with its last seen state, and return the serial; see `ModelState.check`."""
    module = model.module
    if not isinstance(module, nn.Module):
        return 0
    return state_of(module).check(module, rows=rows, whole=whole)


class StateMemo(Generic[V]):
    """Measurements of models, each valid until the model or its base changes."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[LoadedModel, tuple[Hashable, V]] = WeakKeyDictionary()

    def get(self, model: LoadedModel) -> V | None:
        """Return the measurement of a model; None if missing or no longer valid."""
        known = self._known.get(model)
        return known[1] if known is not None and known[0] == _serials(model) else None

    def put(self, model: LoadedModel, value: V) -> V:
        """Store a measurement, and return it."""
        self._known[model] = _serials(model), value
        return value


def _serials(model: LoadedModel) -> Hashable:
    origin = model.origin
    below = None if origin is None else state_of(origin.module).serial
    return state_of(model.module).serial, below


def why_no_gradients(model: nn.Module) -> str:
    """Return why a model's passes have no gradients; empty if they have."""
    if any(parameter.is_inference() for parameter in model.parameters()):
        return (
            "its weights were made in torch.inference_mode(), which keeps no gradients: load the "
            "model outside of it"
        )
    return ""

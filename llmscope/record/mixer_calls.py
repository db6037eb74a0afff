"""What the function received that mixes the tokens of a layer without attention, and what it gave.

While a pass runs, the functions of `llmscope.models.recurrences` are replaced in the files of the
layers by ones that delegate, and notify the layer that is running; what they give may be altered.
Layers with attention alone have no part in it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from llmscope.errors import ScopeError
from llmscope.models.kernel_functions import library_version, read_signature
from llmscope.models.recurrences import Recurrence

EPS = 1e-6
"""Added to the squared length of queries and keys that the function itself norms."""


@dataclass(frozen=True, eq=False)
class MixerCall:
    """One call of a layer's recurrence, for all rows of a pass. A head may be a channel.

    With state S, decay a = exp(decay), strength b, query q, key k and value v of a token:
    S ← a S + b k vᵀ, or with `delta` S ← a S + b k (v − (a S)ᵀ k)ᵀ; the output is
    `gate ∘ (Sᵀ q + skip v + bias)`. Query heads, or key heads, may serve several heads each.

    Attributes:
        query, key: [row, key head, state]; of a convolution, None.
        value, output: [row, head, width]
        decay: logarithm of what is left of the state. [row, head], or [row, head, state]; or with
            `rates`, what those are multiplied by. [row, head]
        rates: [head, state], if the decay is their product with `decay`.
        strength: [row, head]; None: 1.
        delta: whether what the state holds at the key already is taken off the value.
        skip: weight of each token's own value beside the state. [head]
        gate: [row, head, width]; None: 1.
        bias: [head]; None: 0.
        scores: of a weighted mean of values in place of a state, the logarithm of each weight,
            which falls by `fading` for each token between. [row, head]
        fading: [head]
        first: what the score of a token's own value has on top. [head]
        kernel: of a convolution, the weights, the own token's last. [head, distance]
        flaw: why there is no map of this call; empty if there is one.
        continued: whether it goes on from the state of an earlier call.
        bounded: whether its step sizes are bounded, which transformers does not do of one token.
    """

    value: Tensor
    output: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    decay: Tensor | None = None
    rates: Tensor | None = None
    strength: Tensor | None = None
    delta: bool = False
    skip: Tensor | None = None
    gate: Tensor | None = None
    bias: Tensor | None = None
    scores: Tensor | None = None
    fading: Tensor | None = None
    first: Tensor | None = None
    kernel: Tensor | None = None
    flaw: str = ""
    continued: bool = False
    bounded: bool = False

    @property
    def heads(self) -> int:
        """The number of maps."""
        return self.value.shape[1]

    def __len__(self) -> int:
        return len(self.value)

    def rows(self, start: int, count: int) -> MixerCall:
        """Return the call for the rows of one prompt, which begins at `start`, as copies."""
        return replace(
            self,
            **{
                name: tensor[start : start + count].clone()
                for name in BY_ROW
                if (tensor := getattr(self, name)) is not None
            },
        )


BY_ROW = ("value", "output", "query", "key", "decay", "strength", "gate", "scores")
"""The tensors of a call with a row for each token."""


class MixerListener(Protocol):
    """An object that is notified of the calls of its layer's recurrence."""

    def mixer_called(self, name: str, arguments: dict[str, Any], output: Tensor) -> Tensor:
        """Receive the function's name, its arguments and its output without a state.

        Returns:
            The output, changed.
        """


Alter = Callable[[str, dict[str, Any], Tensor], Tensor]
"""Returns a function's output, changed, from its name, its arguments by name and its output."""


class _Running(threading.local):
    """The layer whose recurrence is running in a thread, and what alters its outputs."""

    listener: MixerListener | None = None
    alter: Alter | None = None


_running = _Running()
_lock = threading.Lock()
_replaced: dict[tuple[int, str], tuple[Any, Any, int]] = {}
"""(id of a file's names, function) -> the function, what replaces it, and how many passes need it.
"""


def begin(listener: MixerListener) -> None:
    """Notify a listener of the calls that follow in this thread."""
    _running.listener = listener


def end() -> None:
    """Notify no listener any more."""
    _running.listener = None


def alter_outputs(alter: Alter | None) -> None:
    """Alter the outputs of the calls that follow in this thread.

    None: alter nothing any more. A listener receives what was altered.
    """
    _running.alter = alter


@contextmanager
def listening(recurrences: Sequence[Recurrence]) -> Iterator[None]:
    """Notify listeners of the calls of these recurrences within the context."""
    places = {
        (id(recurrence.functions), name): recurrence.functions
        for recurrence in recurrences
        for name in (*recurrence.rule.functions, *recurrence.rule.steps)
        if name in recurrence.functions
    }
    for (place, name), functions in places.items():
        _replace(functions, place, name)
    try:
        yield
    finally:
        end()
        for (place, name), functions in places.items():
            _restore(functions, place, name)


def _replace(functions: dict[str, Any], place: int, name: str) -> None:
    with _lock:
        original, listened, count = _replaced.get((place, name), (functions[name], None, 0))
        if listened is None:
            listened = functions[name] = _notifying(name, original)
        _replaced[place, name] = original, listened, count + 1


def _restore(functions: dict[str, Any], place: int, name: str) -> None:
    with _lock:
        original, listened, count = _replaced.pop((place, name))
        if count > 1:
            _replaced[place, name] = original, listened, count - 1
        elif functions.get(name) is listened:
            functions[name] = original


def _notifying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    signature = read_signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        listener, alter = _running.listener, _running.alter
        if listener is None and alter is None:
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        several = isinstance(result, tuple)
        output = result[0] if several else result
        changed = output
        if alter is not None:
            changed = alter(name, dict(bound.arguments), changed)
        if listener is not None:
            changed = listener.mixer_called(name, dict(bound.arguments), changed)
        if changed is output:
            return result
        return (changed, *result[1:]) if several else changed

    return call


def changed_heads(recurrence: Recurrence, output: Tensor) -> Tensor:
    """Return what a recurrence gives, after the changes of its heads; itself without any.

    Args:
        recurrence: the recurrence, with the hooks that change its heads.
        output: as its function returns it.

    Raises:
        ScopeError: the function gives some of the layer's heads alone.
    """
    if not recurrence.heads._forward_pre_hooks:
        return output
    rows_last = recurrence.rule.rows_last
    rows = output.transpose(1, 2) if rows_last else output  # [prompt, row, …]
    flat = rows.flatten(2)
    heads = rows.shape[2]
    if heads != recurrence.count:
        raise ScopeError(
            f"its {recurrence.rule.name} gives {heads} of {recurrence.count} heads in a call, and "
            "none is changed alone",
            "another layer, or the whole mixer",
        )
    changed: Tensor = recurrence.heads(flat).view(rows.shape)
    return changed.transpose(1, 2) if rows_last else changed


class MixerCalls:
    """The calls of a layer's recurrence in one pass, read when they are first looked at."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, dict[str, Any], Tensor]] = []
        self._count: int | None = None
        self._parts: list[tuple[MixerCalls, int]] = []
        self._read: MixerCall | None = None

    def add(
        self, name: str, arguments: dict[str, Any], output: Tensor, count: int | None = None
    ) -> None:
        """Keep a call by the name of its function, and its arguments by name.

        Args:
            name: the function.
            arguments: its arguments.
            output: what it gave, without a state.
            count: the number of the pass's rows; a convolution is handed those of its state before
                them. None: it is not known.
        """
        states = [arguments.pop(name, None) for name in STATES]
        # RWKV begins with a list of zeros.
        arguments[CONTINUED] = any(
            bool(state[0].any()) if isinstance(state, list | tuple) else state is not None
            for state in states
        )
        self._calls.append((name, arguments, output))
        self._count = count

    @classmethod
    def of_parts(cls, parts: Sequence[tuple[MixerCalls, int]]) -> MixerCalls:
        """Return the calls of passes that went on from each other, of each its first rows."""
        calls = cls()
        calls._parts = list(parts)
        return calls

    @torch.no_grad()
    def read(self) -> MixerCall:
        """Return the calls as one."""
        if self._read is None:
            if self._parts:
                self._read = _in_a_row([(part.read(), count) for part, count in self._parts])
            else:
                self._read = join_calls([self._read_call(*call) for call in self._calls])
            self._calls.clear()
            self._parts.clear()
        return self._read

    def _read_call(self, name: str, arguments: dict[str, Any], output: Tensor) -> MixerCall:
        continued = arguments.pop(CONTINUED)
        call = read_call(name, arguments, output)
        if self._count is not None and len(call) > self._count:
            before = len(call) - self._count  # zeros, where there are no tokens
            continued = continued or bool(call.value[:before].any())
            call = call.rows(before, self._count)
        return replace(call, continued=continued)

    def rows(self, start: int, count: int) -> MixerCalls:
        """Return the calls for the rows of one prompt, which begins at row `start`."""
        calls = MixerCalls()
        calls._read = self.read().rows(start, count)
        return calls


STATES = ("initial_state", "initial_states", "state", "conv_state")
"""The arguments that hold a state, which are not kept: a step changes it in place."""
CONTINUED = "continued"


def _in_a_row(parts: Sequence[tuple[MixerCall, int]]) -> MixerCall:
    """Return calls that went on from each other as one, of each its first rows."""
    calls = [
        replace(
            call,
            **{
                name: tensor[:count]
                for name in BY_ROW
                if (tensor := getattr(call, name)) is not None
            },
        )
        for call, count in parts
    ]
    first = calls[0]
    flaw = next((call.flaw for call in calls if call.flaw), "")
    # The state of a convolution may be all zeros, as if there were none.
    if first.kernel is None and not all(call.continued for call in calls[1:]):
        flaw = flaw or "a part of it does not go on from the state of the one before"
    joined: dict[str, Any] = {
        name: torch.cat([getattr(call, name).to(getattr(first, name)) for call in calls])
        for name in BY_ROW
        if getattr(first, name) is not None
    }
    return replace(first, **joined, flaw=flaw)


def _read_delta(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, row, head, …]` of the gated delta rule, whose decay may be by channel."""
    query, key = _flat(arguments["query"]), _flat(arguments["key"])
    wide = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(wide), key.to(wide)
    if arguments.get("use_qk_l2norm_in_kernel"):
        query, key = (x * torch.rsqrt(x.square().sum(-1, keepdim=True) + EPS) for x in (query, key))
    return MixerCall(
        _flat(arguments["value"]),
        _flat(output),
        query * query.shape[-1] ** -0.5,
        key,
        decay=_flat(arguments["g"]),
        strength=_flat(arguments["beta"]),
        delta=True,
    )


def _read_mamba2(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, row, head, …]` of Mamba-2."""
    step, bias = arguments["dt"], arguments.get("dt_bias")
    if bias is not None:
        step = step + bias.to(step.dtype)
    if arguments.get("dt_softplus"):
        step = functional.softplus(step)
    low, high = arguments.get("dt_limit") or (0.0, float("inf"))
    step = _flat(step.clamp(min=low, max=high)).float()
    call = MixerCall(
        _flat(arguments["hidden_states"]),
        _flat(output),
        _flat(arguments["C"]),
        _flat(arguments["B"]),
        decay=step * arguments["A"].float(),
        strength=step,
        skip=arguments.get("D"),
        bounded=(low, high) != (0.0, float("inf")),
    )
    return call if arguments.get("z") is None else replace(call, flaw="its scan has a gate")


def _read_mamba(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, channel, row]` of Mamba."""
    step, bias = arguments["dt"], arguments.get("delta_bias")
    if bias is not None:
        step = step + bias.to(step.dtype)[..., None]
    if arguments.get("delta_softplus"):
        step = functional.softplus(step)
    step = _flat(step.transpose(1, 2))
    gate = arguments.get("z")
    return MixerCall(
        _flat(arguments["hidden_states"].transpose(1, 2))[..., None],
        _flat(output.transpose(1, 2))[..., None],
        _flat(arguments["C"].transpose(1, 2))[:, None],
        _flat(arguments["B"].transpose(1, 2))[:, None],
        decay=step,
        rates=arguments["A"],
        strength=step,
        skip=arguments.get("D"),
        gate=None
        if gate is None
        else functional.silu(_flat(gate.transpose(1, 2)).float())[..., None],
    )


def _read_rwkv(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, row, channel]` of RWKV 4."""
    return MixerCall(
        _flat(arguments["value"])[..., None],
        _flat(output)[..., None],
        scores=_flat(arguments["key"]),
        fading=arguments["time_decay"].exp(),
        first=arguments["time_first"],
    )


def _read_convolution(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, channel, row]` of a causal convolution of each channel."""
    flaw = "" if arguments.get("activation") is None else "its convolution is not linear"
    return MixerCall(
        _flat(arguments["hidden_states"].transpose(1, 2))[..., None],
        _flat(output.transpose(1, 2))[..., None],
        kernel=arguments["weight"],
        bias=arguments.get("bias"),
        flaw=flaw,
    )


def _read_mamba2_step(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, head, …]` of one token of Mamba-2, whose numbers by head are expanded."""
    by_head = {
        name: None if arguments.get(name) is None else arguments[name][..., 0]
        for name in ("dt_bias", "D")
    }
    return _read_mamba2(
        {
            **arguments,
            **by_head,
            "dt": arguments["dt"][:, None, :, 0],
            "A": arguments["A"][:, 0, 0],
            **{name: arguments[name][:, None] for name in ("hidden_states", "B", "C")},
        },
        output.reshape(arguments["hidden_states"].shape)[:, None],
    )


def _read_mamba_step(arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read `[prompt, channel]` of one token of Mamba."""
    columns = {
        name: None if arguments.get(name) is None else arguments[name][..., None]
        for name in ("hidden_states", "dt", "B", "C", "z")
    }
    biased = {"delta_bias": arguments.get("dt_bias"), "delta_softplus": arguments["dt_softplus"]}
    return _read_mamba({**arguments, **columns, **biased}, output[..., None])


READERS: dict[str, Callable[[dict[str, Any], Tensor], MixerCall]] = {
    "torch_chunk_gated_delta_rule": _read_delta,
    "torch_recurrent_gated_delta_rule": _read_delta,
    "chunk_kimi_delta_attention": _read_delta,
    "recurrent_kimi_delta_attention": _read_delta,
    "mamba2_chunk_scan": _read_mamba2,
    "mamba2_selective_state_update": _read_mamba2_step,
    "mamba_selective_scan": _read_mamba,
    "mamba_selective_state_update": _read_mamba_step,
    "rwkv_linear_attention": _read_rwkv,
    "causal_conv1d_fn": _read_convolution,
    "causal_conv1d_update": _read_convolution,
}


def read_call(name: str, arguments: dict[str, Any], output: Tensor) -> MixerCall:
    """Read a call of a function of `READERS`.

    Args:
        name: the function.
        arguments: its arguments by name.
        output: what it gave, without a state.

    Raises:
        ScopeError: the installed transformers hands it other arguments than the reader knows.
    """
    try:
        return READERS[name](arguments, output)
    except KeyError as missing:
        raise ScopeError(
            f"{library_version()} calls {name} without {missing.args[0]!r}, which this version of "
            "llmscope reads",
            "llmscope doctor, which tells the versions that were tested",
        ) from missing


def join_calls(calls: Sequence[MixerCall]) -> MixerCall:
    """Return the calls of one layer, each for some of its heads, as one."""
    if len(calls) == 1:
        return calls[0]
    first = calls[0]
    shapes = {(len(call), call.value.shape[2], call.delta) for call in calls}
    if len(shapes) > 1:
        return replace(first, flaw="its recurrence runs several times, each in another way")
    joined: dict[str, Any] = {}
    for part in fields(MixerCall):
        tensors = [getattr(call, part.name) for call in calls]
        if all(isinstance(tensor, Tensor) for tensor in tensors):
            joined[part.name] = torch.cat(tensors, dim=1 if part.name in BY_ROW else 0)
    return replace(first, **joined)


def _flat(tensor: Tensor) -> Tensor:
    """Return `[prompt, row, …]` as [row, …], the prompts one after the other."""
    return tensor.detach().flatten(0, 1)

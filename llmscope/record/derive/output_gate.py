"""The step between pattern · values and the output projection: nothing, a gate, or more.

It is measured, not read from names. The attention function's output is compared with the output
projection's input. Where they differ, the probe runs once more with each number of that output
multiplied by its own random factor: after an elementwise gate that does not depend on the output,
the projection's input is multiplied by the same factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.attention_hook import AttentionSettings, listening
from llmscope.record.norms import bound

OutputGate = Literal["nothing", "gate", "more"]
"""gate: elementwise, computed from the layer's input alone. more: the write of a single head cannot
be separated, so that only the patterns are shown. The `heads_norm` of a `Layer` counts as
nothing."""

BOUND = 1e-5


class _Joint:
    """Observes one layer's attention output and the input of its output projection.

    Attributes:
        mixed: the last output of the attention function. [row, input]
        joined: the input of the output projection. [row, input]
        factors: the factors that each number of `mixed` is multiplied by in the pass; None: 1.
        calls: how often the attention function was called in a pass.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.mixed: Tensor | None = None
        self.joined: Tensor | None = None
        self.factors: Tensor | None = None
        self.calls = 0
        self._before: Tensor | None = None

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Count the calls: differential attention makes two."""
        self.calls += 1

    def attention_gave(self, output: Tensor) -> Tensor:
        """Keep attention's output, or multiply it by the factors."""
        if self.factors is None:
            self.mixed = output.detach()[0].flatten(1).clone()
            return output
        return output * self.factors.view(output.shape).to(output)

    def handed(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        """Keep the output projection's input. With factors, pass on the input of the first pass."""
        if not args:
            return None
        joined = args[0].detach().reshape(-1, args[0].shape[-1]).clone()
        if self.factors is None:
            self.joined = self._before = joined
            return None
        assert self._before is not None
        self.joined = joined
        return (self._before.view(args[0].shape), *args[1:]), kwargs


@torch.no_grad()
def measure(model: LoadedModel, ids: Sequence[int]) -> tuple[tuple[OutputGate, ...], Tensor]:
    """Run some ids once or twice without a cache.

    Returns:
        The kind of gate in each layer, and the model's own logits. [row, token]
    """
    from llmscope.record.capture.hooks import placed  # imported late: hooks uses `OutputGate`

    joints = [_Joint(layer) for layer in model.anatomy.layers]
    batch = torch.tensor([list(ids)], device=model.device)
    with placed(model.module), _watching(joints):
        logits: Tensor = model.module(input_ids=batch, use_cache=False).logits[0]
        gates = [_at_once(joint) for joint in joints]
        if None in gates:
            gates = _by_factors(model, batch, joints, gates)
    return tuple(kind or "more" for kind in gates), logits


def _at_once(joint: _Joint) -> OutputGate | None:
    """Return the kind of gate if one pass shows it; None if a pass with factors is needed."""
    mixed, joined = joint.mixed, joint.joined
    if mixed is None or (joined is None and joint.layer.attention_out is not None):
        # Attention is computed inside its module, or the identified output projection is not the
        # one that is called: the check of the patterns decides.
        return "nothing"
    if joined is None or joined.shape != mixed.shape or joint.calls > 1:
        return "more"
    if torch.equal(joined, mixed):
        return "nothing"
    norm = joint.layer.heads_norm
    if norm is not None and _near(norm(mixed), joined):
        return "nothing"
    return None


def _by_factors(
    model: LoadedModel,
    batch: Tensor,
    joints: Sequence[_Joint],
    gates: Sequence[OutputGate | None],
) -> list[OutputGate | None]:
    generator = torch.Generator().manual_seed(0)
    first = [joint.joined for joint in joints]
    for joint, kind in zip(joints, gates, strict=True):
        if kind is None:
            assert joint.mixed is not None
            factors = 0.5 + torch.rand(joint.mixed.shape, generator=generator)
            joint.factors = factors.to(joint.mixed)
    model.module(input_ids=batch, use_cache=False)
    kinds: list[OutputGate | None] = list(gates)
    for index, (joint, before) in enumerate(zip(joints, first, strict=True)):
        if kinds[index] is None:
            assert before is not None
            assert joint.joined is not None
            assert joint.factors is not None
            gated = _near(joint.joined, before * joint.factors.to(before))
            kinds[index] = "gate" if gated else "more"
    return kinds


def _near(computed: Tensor, actual: Tensor) -> bool:
    """Return whether each row agrees within rounding, relative to its largest magnitude."""
    scale = actual.float().abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    error = float(((computed.float() - actual.float()).abs().amax(-1) / scale).max())
    return error <= bound(actual.dtype, BOUND)


@contextmanager
def _watching(joints: Sequence[_Joint]) -> Iterator[None]:
    with ExitStack() as stack:
        for joint in joints:
            attention, out = joint.layer.attention, joint.layer.attention_out
            if attention is not None:
                stack.enter_context(listening(attention, joint))
            if out is not None:
                hook = out.register_forward_pre_hook(joint.handed, with_kwargs=True)
                stack.callback(hook.remove)
        yield

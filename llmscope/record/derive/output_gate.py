"""What stands between pattern · values and the output projection: nothing, a gate, or more.

It is measured, not read from names. The attention function's output is compared with the output
projection's input. Where they differ, the probe is run once more with each number of that output
multiplied by a factor of its own: behind an elementwise gate that does not depend on the output,
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
"""gate: elementwise, from the layer's input alone. more: no head has a write of its own that could
be told, so that only the patterns are shown. A norm that the anatomy names counts as nothing."""

BOUND = 1e-5


class _Joint:
    """Watches one layer's attention output on its way to the output projection.

    Attributes:
        mixed: what the attention function returned last. [row, input]
        joined: what the output projection was handed. [row, input]
        factors: what each number of `mixed` is multiplied by before the model goes on; None: by 1.
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
        """Keep what attention returns, or multiply it."""
        if self.factors is None:
            self.mixed = output.detach()[0].flatten(1).clone()
            return output
        return output * self.factors.view(output.shape).to(output)

    def handed(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        """Keep what the output projection is handed; hand on what it was handed at first."""
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
def measure(subject: LoadedModel, ids: Sequence[int]) -> tuple[tuple[OutputGate, ...], Tensor]:
    """Run some ids once or twice without a cache.

    Returns:
        What stands between in each layer, and the model's own logits. [row, token]
    """
    from llmscope.record.capture.hooks import placed  # which keeps what is found here

    joints = [_Joint(layer) for layer in subject.anatomy.layers]
    batch = torch.tensor([list(ids)], device=subject.device)
    with placed(subject.model), _watching(joints):
        logits: Tensor = subject.model(input_ids=batch, use_cache=False).logits[0]
        found = [_at_once(joint) for joint in joints]
        if None in found:
            found = _by_factors(subject, batch, joints, found)
    return tuple(kind or "more" for kind in found), logits


def _at_once(joint: _Joint) -> OutputGate | None:
    """What one pass tells; None: a pass with factors has to tell."""
    mixed, joined = joint.mixed, joint.joined
    if mixed is None or (joined is None and joint.layer.attention_out is not None):
        # Attention is computed inside its module, or another projection than the one that is
        # believed in is called: the identity tells.
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
    subject: LoadedModel,
    batch: Tensor,
    joints: Sequence[_Joint],
    found: Sequence[OutputGate | None],
) -> list[OutputGate | None]:
    generator = torch.Generator().manual_seed(0)
    first = [joint.joined for joint in joints]
    for joint, kind in zip(joints, found, strict=True):
        if kind is None:
            assert joint.mixed is not None
            factors = 0.5 + torch.rand(joint.mixed.shape, generator=generator)
            joint.factors = factors.to(joint.mixed)
    subject.model(input_ids=batch, use_cache=False)
    told: list[OutputGate | None] = list(found)
    for index, (joint, before) in enumerate(zip(joints, first, strict=True)):
        if told[index] is None:
            assert before is not None
            assert joint.joined is not None
            assert joint.factors is not None
            gated = _near(joint.joined, before * joint.factors.to(before))
            told[index] = "gate" if gated else "more"
    return told


def _near(found: Tensor, own: Tensor) -> bool:
    """Whether each row agrees within rounding, relative to its largest magnitude."""
    scale = own.float().abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    error = float(((found.float() - own.float()).abs().amax(-1) / scale).max())
    return error <= bound(own.dtype, BOUND)


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

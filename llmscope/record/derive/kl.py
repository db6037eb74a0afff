"""The Kullback-Leibler divergence of two next-token distributions, from their logits."""

from __future__ import annotations

import torch
from torch import Tensor


def exact64(tensor: Tensor) -> Tensor:
    """Return a tensor in float64: on its device, or on the CPU where the device has no float64."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


@torch.no_grad()
def kl_divergence(ours: Tensor, other: Tensor) -> Tensor:
    """Return KL(own ‖ other) in nats, in float64, never below 0.

    Args:
        ours, other: logits. `[row, token]` twice -> `[row]`
    """
    return kl_of(*(torch.log_softmax(exact64(logits), -1) for logits in (ours, other)))


@torch.no_grad()
def kl_both_ways(ours: Tensor, other: Tensor) -> Tensor:
    """Return KL(one ‖ other) and KL(other ‖ one) of logits. `[row, token]` twice -> `[2, row]`"""
    p, q = (torch.log_softmax(exact64(logits), -1) for logits in (ours, other))
    return torch.stack([kl_of(p, q), kl_of(q, p)])


def kl_of(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p ‖ q) of log-probabilities. `[row, token]` twice -> `[row]`"""
    return (p.exp() * (p - q)).sum(-1).clamp(min=0)

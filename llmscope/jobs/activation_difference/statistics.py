"""Whether a mean difference of activations is the same in all texts, and other than noise makes.

Two questions are asked of each mean, and both answers are measured, not chosen:

consistent   the means over two halves of the texts point the same way. Chance is the 99 % quantile
             of their product where the sign of each text's difference is drawn at random.
apart        the mean is longer or shorter than what noise of the same size makes, or points
             elsewhere, by more than that noise is from itself. Noise that is drawn anew would be
             beyond either limit once in a hundred times: they are prediction intervals of normal
             variables.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONTROLS = 5
"""Models with noise that a difference is compared with."""
ONE_SIDED, TWO_SIDED = 3.746947, 4.604095
"""The 99 % and 99.5 % quantiles of Student's t with one degree of freedom less than there are
controls."""
QUANTILE, DRAWS = 0.99, 200
"""Of the product under random signs: the quantile, and how often they are drawn."""


def split_half(differences: Tensor) -> Tensor:
    """Return the cosine of the means over every other text and over the rest.

    `[text, ..., width] -> [...]`
    """
    return torch.cosine_similarity(differences[::2].mean(0), differences[1::2].mean(0), dim=-1)


def chance(differences: Tensor, seed: int = 0) -> Tensor:
    """Return what `split_half` reaches by chance: the 99 % quantile under random signs.

    The products are divided by the norms of the two means as they are, and not under the signs,
    where two means of one vector would always point the same way.

    `[text, layer, ..., width] -> [layer, ...]`
    """
    generator = torch.Generator().manual_seed(seed)
    texts = len(differences)
    signs = torch.randint(2, (DRAWS, texts), generator=generator).to(differences) * 2 - 1
    cosines = []
    for layer in range(differences.shape[1]):  # of one layer at a time: there are 200 of each mean
        of_layer = differences[:, layer]
        halves = [of_layer[start::2] for start in (0, 1)]
        even, odd = (
            torch.tensordot(signs[:, start::2], half, dims=1) / len(half)  # [draw, ..., width]
            for start, half in enumerate(halves)
        )
        norms = [torch.linalg.vector_norm(half.mean(0), dim=-1) for half in halves]
        products = (even * odd).sum(-1).quantile(QUANTILE, dim=0)
        cosines.append(products / (norms[0] * norms[1]))
    return torch.stack(cosines)


def margin(difference: Tensor, controls: Tensor) -> Tensor:
    """Return how far a difference is from the controls, over the limit that noise would keep.

    Above 1 it is no such noise. The larger of two margins counts: that of the logarithm of the
    norm, as training may change streams more than noise does or less, and that of the direction.

    Args:
        difference: `[..., width]`
        controls: the same for each control. `[control, ..., width]`
    """
    norms = torch.linalg.vector_norm(controls, dim=-1).log()  # [control, ...]
    off = torch.linalg.vector_norm(difference, dim=-1).log() - norms.mean(0)
    by_norm = off.abs() / (TWO_SIDED * _spread(norms))
    ours, theirs = (
        torch.nn.functional.normalize(vectors, dim=-1) for vectors in (difference, controls)
    )
    total, count = theirs.sum(0), len(theirs)
    others = (total - theirs) / (count - 1)  # the mean without each
    among = torch.linalg.vector_norm(theirs - others, dim=-1)  # [control, ...]
    limit = among.mean(0) + ONE_SIDED * _spread(among)
    by_direction = torch.linalg.vector_norm(ours - total / count, dim=-1) / limit
    return torch.maximum(by_norm, by_direction)


def _spread(values: Tensor) -> Tensor:
    """Return the standard deviation of one more value from the mean of these. `[control, ...]`"""
    spread: Tensor = values.std(0) * (1 + 1 / len(values)) ** 0.5
    return spread

"""A random dictionary of the same size: the reconstruction that chance alone gives.

It has the decoder rows of the dictionary itself, turned by a random rotation (a permutation of the
coordinates, with random signs), so that their number, lengths and angles to each other are the
same, and nothing of it was learned from the model. For each token it takes as many rows as the
dictionary has active features there, those that lie most along what is to be predicted, and scales
their sum to fit best. It sees the answer, and a dictionary that does no better knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmscope.learned.dictionaries.dictionary import BLOCK, Dictionary

SEED = 0


@torch.no_grad()
def chance_reconstruction(dictionary: Dictionary, aim: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the random dictionary's reconstruction of what is to be predicted. [row, out width]

    Args:
        dictionary: the dictionary, on the device of `aim`.
        aim: what is to be predicted. [row, out width]
        counts: the number of features to use for each token.
    """
    width = aim.shape[-1]
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(width, generator=generator)
    signs = torch.randint(0, 2, (width,), generator=generator) * 2.0 - 1.0
    order, signs = order.to(aim.device), signs.to(aim)
    bias = dictionary.bias.to(aim)
    turned = ((aim - bias) * signs)[:, order]
    rebuilt = torch.zeros_like(turned)
    norms = dictionary.row_norms.to(aim)  # [feature]
    block = max(1, BLOCK // dictionary.header.features)
    for start in range(0, len(aim), block):
        block_rows = turned[start : start + block]
        along = (block_rows.to(dictionary.decoder.dtype) @ dictionary.decoder.T).float() / norms
        most_active = min(max(counts[start : start + block], default=0), along.shape[-1])
        best = along.topk(most_active, dim=-1)
        for row, count in enumerate(counts[start : start + block]):
            ids, size = best.indices[row, :count], best.values[row, :count].clamp(min=0)
            decoded = (size / norms[ids]) @ dictionary.decoder[ids].float()
            length = decoded.square().sum()
            if float(length) > 0:
                rebuilt[start + row] = decoded * ((decoded @ block_rows[row]) / length)
    back = torch.empty_like(rebuilt)
    back[:, order] = rebuilt
    return back * signs + bias

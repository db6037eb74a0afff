"""Steps of a mixture of experts (router, choice, experts), and of an MLP of unknown structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llmscope.models.anatomy import Layer
from llmscope.record.norms import exact
from llmscope.record.walkthrough.arithmetic import Form
from llmscope.record.walkthrough.block import LayerBlock
from llmscope.record.walkthrough.embedding import WIDE, numbers, rows_of
from llmscope.record.walkthrough.steps import Chain, best_form
from llmscope.record.walkthrough.terms import Explanation, summed
from llmscope.record.walkthrough.tracer import Call


def mixture(block: LayerBlock, parts: Layer, entry: int, reader: Call) -> int:
    """Add steps for router, choice and experts; return the index of the experts' step.

    Args:
        block: the layer.
        parts: the layer's modules.
        entry: index of the step that router and experts read.
        reader: the call of the whole MLP.
    """
    assert reader.gave is not None
    chain, router = block.chain, block.seen.call_of(parts.router)
    output = None if router is None else router.output
    if router is None or not isinstance(output, tuple) or len(output) != 3:
        return add_whole_mlp(block, entry, reader)
    is_part = len(chain.at(entry)) != block.whole
    logits, weights, chosen, written = (
        block.cut(rows_of(tensor)) if is_part else rows_of(tensor)
        for tensor in (*output, reader.gave)
    )
    start = block.rows.start if is_part else 0
    scores = _scores(chain, router, logits, entry, start)
    shares = _choice(chain, scores, logits, weights, chosen)
    router_parameters = {id(parameter) for parameter in router.module.parameters()}
    others = [
        parameter
        for parameter in reader.module.parameters()
        if id(parameter) not in router_parameters
    ]
    assert reader.given is not None
    like = reader.given
    return chain.add(
        "experts",
        "chosen ones, mixed",
        "Each chosen expert is an MLP of its own; what they give is added up by its shares. They "
        "are shown as one step, which their own modules do again.",
        "m = Σ w · expert(x)",
        WIDE,
        (entry, shares),
        lambda x, w: parts.mixture(x.to(like), chosen, w.to(like)),
        written,
        start=start,
        weights=[weight for other in others for weight in chain.weight(other)],
        by="module",
    )


def _scores(chain: Chain, router: Call, logits: Tensor, entry: int, start: int) -> int:
    """Add the step of the router's logits, one for each expert; return its index."""
    matrices = [parameter for parameter in router.module.parameters() if parameter.dim() == 2]
    own_bias = dict(router.module.named_parameters(recurse=False)).get("bias")

    offloaded = any(matrix.is_meta for matrix in matrices)
    readable = len(matrices) == 1 and not offloaded

    def score(x: Tensor) -> Tensor:
        if offloaded:  # only the module can read them, while it runs
            return chain.through(router, x)
        (matrix,) = matrices  # [expert, width]
        scores = x @ exact(matrix).T
        return scores if own_bias is None else scores + exact(own_bias)

    def tell(at: tuple[int, ...], x: Tensor) -> Explanation:
        more = [] if own_bias is None else [("bias", float(own_bias[at[1]]))]
        along = [("dimension", len(x))]
        return summed("input · weight, added up", x, exact(matrices[0][at[1]]), along, more=more)

    return chain.add(
        "router",
        "which expert fits",
        "There are several MLPs, the experts. Learned weights say how well each fits a token.",
        f"r = x W_r{'' if own_bias is None else ' + b'}",
        ("position", "expert"),
        (entry,),
        score,
        logits,
        start=start,
        weights=chain.weights(router.module),
        reads=lambda at: ((at[0], slice(None)),),
        tell=tell if readable and (own_bias is None or own_bias.dim() == 1) else None,
    )


def _choice(chain: Chain, scores: int, logits: Tensor, weights: Tensor, chosen: Tensor) -> int:
    """Add the step of the chosen experts' weights; return its index."""
    count = chosen.shape[-1]
    forms = _choices(chosen, numbers(chain.model.module))
    best = best_form(forms, exact(logits), exact(weights))
    return chain.add(
        "choice",
        f"the best {count}",
        f"The {count} experts that suit best are run; each has a share in what is written.",
        f"w = {best[0]}" if best else "w",
        ("position", "choice"),
        (scores,),
        best[1] if best else "how the shares come from the router's numbers cannot be told",
        weights,
        start=chain.steps[scores].start,
        reads=lambda at: ((at[0], slice(None)),),
    )


def _choices(chosen: Tensor, factors: list[float]) -> Iterator[Form]:
    """Yield ways to compute the chosen experts' weights from the router's logits."""
    at = chosen.cpu().long()

    def share(score: Callable[[Tensor], Tensor], summed: bool, factor: float) -> Form:
        def make(router: Tensor) -> Tensor:
            chosen_scores = score(router).gather(-1, at)
            return factor * (
                chosen_scores / chosen_scores.sum(-1, keepdim=True) if summed else chosen_scores
            )

        name = "softmax(r)" if score is _softmax else "σ(r)"
        times = "" if factor == 1 else f"{factor:.4g} · "
        return f"{times}{name} of the chosen{', made to sum to 1' if summed else ''}", make

    for factor in factors:
        for score in (_softmax, torch.sigmoid):
            yield share(score, False, factor)
            yield share(score, True, factor)


def _softmax(router: Tensor) -> Tensor:
    return torch.softmax(router, -1)


def add_whole_mlp(block: LayerBlock, entry: int, call: Call) -> int:
    """Add one step for an MLP of unknown structure, run by its own module; return its index."""
    assert call.gave is not None
    is_part = len(block.chain.at(entry)) != block.whole
    actual = rows_of(call.gave)
    return block.chain.add(
        "MLP",
        "each on its own",
        "Each token's vector goes through the MLP alone. It is shown as one step, which its own "
        "module does again.",
        "m = MLP(x)",
        WIDE,
        (entry,),
        lambda x: block.chain.through(call, x),
        block.cut(actual) if is_part else actual,
        start=block.rows.start if is_part else 0,
        weights=block.chain.weights(call.module),
        by="module",
    )

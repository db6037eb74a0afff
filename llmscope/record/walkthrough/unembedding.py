"""Steps after the last layer: from the residual stream to the most likely token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Readout
from llmscope.record.capture.recording import Recording
from llmscope.record.norms import exact
from llmscope.record.walkthrough.embedding import WIDE, rows_of
from llmscope.record.walkthrough.steps import Chain, norm_form, normed, unknown_norm
from llmscope.record.walkthrough.terms import Explanation, added, bent, shared
from llmscope.record.walkthrough.tracer import Call, Watched


def ending(chain: Chain, seen: Watched, recording: Recording, stream: int, position: int) -> None:
    """Add the steps after the last layer for one position, from final norm to next token.

    Args:
        chain: the steps so far.
        seen: the trace of the pass.
        recording: the recording of the prompt.
        stream: index of the step of the stream after the last layer.
        position: the position to predict after.
    """
    readout = recording.model.anatomy.readout
    if readout is None or seen.logits is None:
        return
    start = chain.steps[stream].start
    calls = {call.module: call for call in seen.after}
    current = stream
    norm = calls.get(readout.norm)
    alone = all(
        parameter.dim() < 2 for parameter in readout.norm.parameters()
    )  # a norm; a head has matrices
    if norm is not None and norm.gave is not None and alone:
        current = _norm(chain, norm, stream, start, len(recording))
    elif not isinstance(readout.norm, nn.Identity):
        current = _head(chain, readout, calls.get(readout.unembed), stream, start)
    project = calls.get(readout.project) if readout.project is not None else None
    if project is not None and project.gave is not None:
        run, by = chain.projection(project)
        current = chain.add(
            "final projection",
            "to table's width",
            "Learned weights turn the vector into one that is as long as those of the table.",
            "y = x W",
            WIDE,
            (current,),
            run,
            rows_of(project.gave)[start:],
            weights=chain.weights(project.module),
            by=by,
            start=start,
            reads=lambda at: ((at[0], slice(None)),),
            tell=chain.tells(project.module, None, lambda at: at[1], ("dimension",)),
        )
    call = calls.get(readout.unembed)
    own_row = _Own(exact(seen.logits[position - seen.told]), call, position - len(recording))
    _tokens(chain, own_row, readout, current, position - start)


def _norm(chain: Chain, call: Call, stream: int, start: int, whole: int) -> int:
    form = norm_form(call)
    normed_rows = rows_of(call.gave)  # type: ignore[arg-type]
    rows = len(chain.at(stream))
    return chain.add(
        "final norm",
        "made one size",
        "After the last layer each token's numbers are brought to one typical size once more: now "
        "the answer is read out.",
        form[0] if form else "norm(x)",
        WIDE,
        (stream,),
        form[1] if form else unknown_norm(call.module),
        normed_rows[start : start + rows] if len(normed_rows) == whole else normed_rows,
        weights=chain.weights(call.module),
        start=start,
        reads=lambda at: ((at[0], slice(None)),),
        tell=None if form is None else normed(form),
    )


def _head(chain: Chain, readout: Readout, call: Call | None, stream: int, start: int) -> int:
    """Add one step for everything before the unembedding, run by the model's own modules."""
    if call is None or call.given is None:
        raise LookupError("what stands before the unembedding was not called")
    inputs = call.given

    @torch.no_grad()
    def run(stream: Tensor) -> Tensor:
        return exact(readout.norm(stream.to(inputs)))

    return chain.add(
        "head",
        "made ready",
        "After the last layer each token's numbers pass more learned weights: now the answer is "
        "read out. It is shown as one step, which its own modules do again.",
        "h = head(x)",
        WIDE,
        (stream,),
        run,
        rows_of(inputs)[start:],
        by="module",
        start=start,
        reads=lambda at: ((at[0], slice(None)),),
    )


@dataclass(frozen=True, eq=False)
class _Own:
    """The model's own logits after a position, and the call of its unembedding.

    Attributes:
        logits: [token]
        call: the unembedding's call; None if its module was not called.
        row: the position, counted from the end (negative).
    """

    logits: Tensor
    call: Call | None
    row: int


def _tokens(chain: Chain, own_row: _Own, readout: Readout, current: int, row: int) -> None:
    """Add the steps for logits, probabilities and the most likely token of one row.

    Args:
        chain: the steps so far.
        own_row: the model's own logits and the call of its unembedding.
        readout: the model's readout.
        current: index of the step that the unembedding reads.
        row: the row of that step's value to unembed.
    """
    logits, call, scale, cap = own_row.logits, own_row.call, readout.scale, readout.softcap
    plain = logits
    if cap is not None and call is not None and call.gave is not None:
        plain = exact(rows_of(call.gave)[own_row.row]) * scale
    scaled = "" if scale == 1 else f"{scale:.4g} · "

    if call is None:

        def unembed(x: Tensor) -> Tensor:
            weight = next(readout.unembed.parameters())
            return readout.linear(x[row : row + 1].to(weight))[0]

        by, weights, tell = "module", chain.weights(readout.unembed), None
    else:
        run, by = chain.projection(call)
        weights = chain.weights(call.module)
        tell = chain.tells(call.module, None, lambda at: at[0], ("dimension",), scale=scale)

        def unembed(x: Tensor) -> Tensor:
            return run(x[row : row + 1])[0] * scale

    at = chain.add(
        "logits",
        "a score per token",
        "The numbers of the token under the cursor alone are held against learned ones of each "
        "token: the better they fit, the higher its logit.",
        f"ℓ = {scaled}y W_U",
        ("token",),
        (current,),
        unembed,
        plain,
        weights=weights,
        by=by,
        reads=lambda _: ((row, slice(None)),),
        tell=tell,
    )
    if cap is not None:

        def capped(_: tuple[int, ...], x: Tensor) -> Explanation:
            value = float(torch.tanh(x / cap) * cap)
            return bent(f"{cap:g} · tanh(x / {cap:g})", float(x), value)

        at = chain.add(
            "softcap",
            f"held within ±{cap:g}",
            f"The logits are bent so that none goes beyond {cap:g}.",
            f"ℓ′ = {cap:g} · tanh(ℓ / {cap:g})",
            ("token",),
            (at,),
            lambda x: torch.tanh(x / cap) * cap,
            logits,
            reads=lambda at: (at,),
            tell=capped,
        )
    shares = chain.add(
        "probabilities",
        "chances of each",
        "Logits become probabilities: e to the power of each, divided by the sum of all. They are "
        "above 0 and sum to 1.",
        "p = softmax(ℓ)",
        ("token",),
        (at,),
        lambda x: torch.softmax(x, -1),
        torch.softmax(logits, -1),
        reads=lambda _: ((slice(None),),),
        tell=lambda at, x: shared(x, at[0]),
    )
    chain.add(
        "next token",
        "the likeliest one",
        "The likeliest token is what the model says next. Written after the text, it is read with "
        "it, and all begins again.",
        "argmax p",
        ("token",),
        (shares,),
        lambda p: p.argmax(-1, keepdim=True),
        logits.argmax(-1, keepdim=True),
        reads=lambda _: ((slice(None),),),
        tell=lambda _, p: added(
            "the token with the largest probability",
            ("", float(p.argmax())),
            filled=f"{100 * float(p.max()):.4g} % is the largest of {len(p)}",
        ),
    )

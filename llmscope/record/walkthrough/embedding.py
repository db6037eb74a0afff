"""Steps before the first layer: from tokens to the residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import FLOATS
from llmscope.record.capture.recording import Recording
from llmscope.record.norms import exact
from llmscope.record.walkthrough.arithmetic import Form, plain
from llmscope.record.walkthrough.step import disagreement
from llmscope.record.walkthrough.steps import Chain, best_form, norm_form, normed, unknown_norm
from llmscope.record.walkthrough.terms import Explanation, added
from llmscope.record.walkthrough.tracer import Call, Watched

OFFSETS = (0, 1, 2)
"""Offsets to try: a position table may reserve its first rows for padding."""
WIDE = ("position", "dimension")


def beginning(chain: Chain, seen: Watched, recording: Recording) -> int:
    """Add the steps for tokens, their embedding, positions, and the first layer's input.

    Returns:
        The index of the step of the stream that enters the first layer.
    """
    tokens = chain.add(
        "tokens",
        "text as numbers",
        "The text is cut into pieces, its tokens. Each has a number: its place in the list of all "
        "tokens, the vocabulary.",
        "t = tokenizer(text)",
        ("position",),
        (),
        lambda: torch.tensor(recording.prompt.ids),
        None,
    )
    assert seen.first is not None
    table = recording.model.module.get_input_embeddings()
    call = next((table_call for table_call in seen.before if table_call.module is table), None)
    actual = seen.first if call is None or call.gave is None else rows_of(call.gave)
    parts, current = [_embedding(chain, recording, table, actual, tokens)], exact(actual)
    learned = _positions(seen, table, len(recording), actual.shape[-1])
    if learned is not None and learned.gave is not None:
        parts.append(_position(chain, learned, len(recording)))
        current = current + exact(rows_of(learned.gave))
    others = (table, None if learned is None else learned.module)
    more = next(_between(seen, others, current, chain.near), None)
    if more is not None and more.gave is not None:
        parts, current = [_more(chain, more, parts)], exact(rows_of(more.gave))
    return _stream(chain, parts, seen.first, recording, current)


def _embedding(
    chain: Chain, recording: Recording, table: nn.Module, actual: Tensor, tokens: int
) -> int:
    weight, model = table.weight, recording.model.module
    assert isinstance(weight, Tensor)
    readable = weight.dtype in FLOATS and not weight.is_meta
    ids = torch.tensor(recording.prompt.ids)
    best: Form | None = None
    if readable:  # the table's module may multiply its rows: by 1, √width, …
        scales = [float(buffer) for buffer in table.buffers() if buffer.numel() == 1]
        forms = _times("E[t]", [*numbers(model), *scales])
        best = best_form(forms, exact(weight[ids.to(weight.device)]), exact(actual))

    def embed(ids_seen: Tensor) -> Tensor:
        assert best is not None
        return best[1](exact(weight[ids_seen.long().to(weight.device)]))

    def tell(at: tuple[int, ...], token: Tensor) -> Explanation:
        number = int(token)
        value = float(embed(torch.tensor([number]))[0, at[1]])
        return added("looked up in the table", ("", value), weights=((number, at[1]),))

    return chain.add(
        "token embedding",
        "which token it is",
        f"Each token becomes {actual.shape[-1]} numbers, its vector, looked up in a learned table. "
        "Only which token it is counts here.",
        f"e = {best[0] if best else 'E[t]'}",
        WIDE,
        (tokens,),
        embed if best else "its table is packed, or not of the stream's form",
        actual,
        weights=chain.weights(table),
        reads=lambda at: ((at[0],),),
        tell=tell,
    )


def _positions(seen: Watched, table: nn.Module, count: int, width: int) -> Call | None:
    """Return the call that gave a vector per position without reading such vectors; None: no call.

    Args:
        seen: the trace of the pass.
        table: the token embedding, which is skipped.
        count: number of tokens.
        width: width of the embedding.
    """
    calls: list[Call] = []
    for call in seen.before:
        inputs, gave = call.given, call.gave
        if call.module is table or gave is None or gave.shape[-1] != width:
            continue
        vectors = (
            inputs is not None and inputs.is_floating_point() and inputs.shape[-1:] == (width,)
        )
        short = 0 < _rows(call) < count
        if not vectors and not short and rows_of(gave).shape == (count, width):
            calls.append(call)
    # A table shorter than the prompt holds token types, not positions; so does, of several that a
    # short prompt fits in, one that is shorter than another.
    return max(calls, key=_rows, default=None)


def _rows(call: Call) -> int:
    """Return how many rows the shortest parameter of a module has; 0 without parameters."""
    return min((len(parameter) for parameter in call.module.parameters(recurse=False)), default=0)


def _position(chain: Chain, call: Call, count: int) -> int:
    """Add the step of a learned (or fixed) position embedding; return its index."""
    assert call.gave is not None
    tables = (*call.module.parameters(), *call.module.buffers(), *_plain_tensors(call.module))
    weight = next((table for table in tables if table.dim() == 2), None)
    actual, places = rows_of(call.gave), torch.arange(count)

    def row(offset: int) -> Form:
        formula = f"P[p + {offset}]" if offset else "P[p]"
        return formula, lambda p: exact(weight)[p.long() + offset]  # type: ignore[arg-type]

    forms = [row(offset) for offset in OFFSETS if weight is not None]
    usable = [form for form in forms if weight is not None and count + OFFSETS[-1] <= len(weight)]
    best = best_form(usable or forms[:1], places, exact(actual))

    def tell(at: tuple[int, ...]) -> Explanation:
        assert best is not None
        offset = next(number for number, form in zip(OFFSETS, forms, strict=False) if form is best)
        value = float(best[1](places[at[0] : at[0] + 1])[0, at[1]])
        return added("looked up in the table", ("", value), weights=((at[0] + offset, at[1]),))

    return chain.add(
        "position embedding",
        "where it stands",
        "Each place has learned numbers as well: they tell the model in which order tokens come.",
        f"p = {best[0] if best else '?'}",
        WIDE,
        (),
        (lambda: best[1](places)) if best else "its table was not found",
        actual,
        weights=() if weight is None else chain.weight(weight),
        tell=tell if best else None,
    )


def _plain_tensors(module: nn.Module) -> list[Tensor]:
    """Return a module's tensor attributes that are neither parameters nor buffers."""
    return [attribute for attribute in vars(module).values() if isinstance(attribute, Tensor)]


def _between(seen: Watched, others: Sequence[Any], current: Tensor, near: float) -> Iterator[Call]:
    """Yield the calls before the first layer that read the embedding and change it."""
    for call in seen.before:
        inputs, gave = call.given, call.gave
        if call.module in others or inputs is None or gave is None or list(call.module.children()):
            continue
        if not inputs.is_floating_point() or gave.shape[:-1] != inputs.shape[:-1]:
            continue
        rows = exact(rows_of(inputs))
        if rows.shape != current.shape or disagreement(rows, current) > near:
            continue
        changed = inputs.shape != gave.shape or not torch.equal(inputs, gave)
        if changed and (plain(call.module) or norm_form(call) is not None):
            yield call


def _more(chain: Chain, call: Call, parts: list[int]) -> int:
    """Add the step of a norm or projection before the first layer; return its index."""
    form = norm_form(call)
    assert call.gave is not None
    if plain(call.module):
        run, by = chain.projection(call)
        return chain.add(
            "embedding projection",
            "to stream's width",
            "Learned weights turn the vector into one that is as long as the stream.",
            "e′ = e W",
            WIDE,
            parts,
            lambda *e: run(sum(e)),
            rows_of(call.gave),
            weights=chain.weights(call.module),
            by=by,
        )
    tell = None if form is None else normed(form)
    return chain.add(
        "embedding norm",
        "made one size",
        "The numbers of each token are brought to one size before they enter the stream.",
        form[0] if form else "norm(x)",
        WIDE,
        parts,
        (lambda *e: form[1](sum(e))) if form else unknown_norm(call.module),
        rows_of(call.gave),
        weights=chain.weights(call.module),
        reads=lambda at: tuple((at[0], slice(None)) for _ in parts),
        tell=tell and (lambda at, *e: tell(at, sum(e))),
    )


def _stream(
    chain: Chain, parts: list[int], start: Tensor, recording: Recording, current: Tensor
) -> int:
    """Add the step of the first layer's input: the sum of the parts, times a config multiplier.

    Args:
        chain: the steps so far.
        parts: indices of the steps that are summed.
        start: the model's own input of the first layer. [row, width]
        recording: the recording of the prompt.
        current: the sum of the parts' own values, in float64. [row, width]
    """
    terms = " + ".join("ep"[index] for index in range(len(parts)))
    forms = _times(f"({terms})" if len(parts) > 1 else terms, numbers(recording.model.module))
    best = forms[0]
    if start.shape == current.shape and disagreement(current, exact(start)) > chain.near:
        best = best_form(forms, current, exact(start)) or best
    both = len(parts) > 1
    names = [chain.steps[part].name for part in parts]

    def tell(_: tuple[int, ...], *terms_here: Tensor) -> Explanation:
        factor = float(best[1](torch.ones((), dtype=torch.float64)))
        terms = [(name, factor * float(x)) for name, x in zip(names, terms_here, strict=True)]
        times = "" if factor == 1 else f"{factor:.6g} · "
        return added(f"{times}({' + '.join(names)})" if times else " + ".join(names), *terms)

    return chain.add(
        "embedding",
        "both added up" if both else "the stream begins",
        "What a token is and where it stands are added, number by number. This is the stream: "
        "every layer reads it and adds to it."
        if both
        else "These numbers enter the stream, which stands for what the model knows of each token: "
        "every layer reads it and adds to it.",
        f"x = {terms if best is forms[0] else best[0]}",
        WIDE,
        parts,
        lambda *e: best[1](sum(e)),
        start,
        also=recording.rows("stream", 0),
        reads=lambda at: tuple(at for _ in parts),
        tell=tell,
    )


def _times(formula: str, factors: Sequence[float]) -> list[Form]:
    """Return one form per factor that multiplies by it.

    Args:
        formula: the formula of the multiplied value.
        factors: the factors.
    """

    def form(factor: float) -> Form:
        return formula if factor == 1 else f"{factor:.6g} · {formula}", lambda x: x * factor

    return [form(factor) for factor in factors]


def numbers(model: Any) -> list[float]:
    """Return factors that a model may apply to its embedding or router: 1, √width, config's."""
    config = model.config.get_text_config()
    named = {k: v for k, v in config.to_dict().items() if "mult" in k or "scal" in k}
    numbers_of_config = [float(v) for v in named.values() if isinstance(v, float | int) and v]
    root = torch.tensor(math.sqrt(config.hidden_size))
    # Some models keep √width in the dtype that they were trained in.
    return [1.0, float(root), float(root.bfloat16()), *numbers_of_config]


def rows_of(tensor: Tensor) -> Tensor:
    """Return a tensor without its batch dimension. [row, width]"""
    return tensor.reshape(-1, tensor.shape[-1])

"""The Jacobian of the last stream by the streams before it, for one prompt.

    J = 1/|V| Σ_{t∈V} Σ_{t'∈V, t'≥t} ∂ last_{t'} / ∂ stream_t

with V the positions that count. Attention is causal, so a cotangent at every t' in V at once gives
the inner sum for each t. One backward gives a row of J for every stream, and a batch of copies of
the prompt gives as many rows. Gurnee et al. 2026, "Verbalizable Representations Form a Global
Workspace in Language Models".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError
from llmscope.models.loading.memory import ran_out
from llmscope.models.module_calls import hidden_input, hidden_output
from llmscope.record.capture.model_state import why_no_gradients
from llmscope.record.capture.recorder import Recorder
from llmscope.support.text import error_line

TOKENS = {"cpu": 512}
"""Most tokens of a batch of copies. On two cores SmolLM2 takes 189 ms a row in batches of 512
tokens, 200 of 1,024, 237 of 2,048; the built-in base is fastest at about 600."""
TOKENS_ELSEWHERE = 16384


def batch_for(recorder: Recorder, tokens: int, width: int) -> int:
    """Return how many copies of a prompt of `tokens` go through the model together."""
    if recorder.outside:  # it may depend on the other prompts of a batch
        return 1
    room = TOKENS.get(recorder.model.device.type, TOKENS_ELSEWHERE)
    return max(1, min(width, room // tokens))


def jacobian_rows(
    recorder: Recorder,
    ids: Sequence[int],
    places: range,
    streams: Sequence[int],
    cotangents: Tensor,
    batch: int,
) -> dict[int, Tensor]:
    """Return `cotangents J` of a prompt for each stream. [cotangent, width], float32 on the CPU

    Args:
        recorder: the recorder of the model.
        ids: the prompt.
        places: the positions that count.
        streams: the streams, each at least 1: `i + 1` is the output of layer i.
        cotangents: directions of the last stream. [cotangent, width]
        batch: how many of them go back together.

    Raises:
        ScopeError: the model gives no gradients.
    """
    model = recorder.model
    why_not = why_no_gradients(model.module)
    if why_not:
        raise ScopeError(why_not, "the model loaded again")
    rows_of_stream: dict[int, list[Tensor]] = {stream: [] for stream in streams}
    device = model.device
    index = torch.tensor(list(places), device=device)
    shape = batch, len(ids), model.anatomy.width
    with (
        torch.enable_grad(),
        _freeze_parameters(model.module),
        _catch_streams(recorder, streams, shape) as caught,
    ):
        recorder.run([list(ids)] * batch, grad=True, last=0)
        last = caught[len(model.anatomy.layers)]
        sources = [caught[stream] for stream in streams]
        for start in range(0, len(cotangents), batch):
            block = cotangents[start : start + batch]
            seed = torch.zeros_like(last)
            seed[: len(block), index] = block.to(last)[:, None]
            final = start + batch >= len(cotangents)
            try:
                grads = torch.autograd.grad(last, sources, seed, retain_graph=not final)
            except RuntimeError as error:
                if ran_out(error):
                    raise
                raise ScopeError(
                    f"no gradient comes back through the model: {error_line(error)}", "a tuned lens"
                ) from error
            for stream, grad in zip(streams, grads, strict=True):
                here = index.to(grad.device)
                rows_of_stream[stream].append(grad[: len(block), here].float().mean(1).cpu())
    return {stream: torch.cat(rows) for stream, rows in rows_of_stream.items()}


@contextmanager
def _catch_streams(
    recorder: Recorder, streams: Sequence[int], shape: tuple[int, int, int]
) -> Iterator[dict[int, Tensor]]:
    """Keep streams of the pass within with their graph, which begins at the first of them.

    Args:
        recorder: the recorder of the model.
        streams: the streams to keep.
        shape: of each: batch, tokens, width.

    Raises:
        ScopeError: a stream has another shape, or a layer runs twice.
    """
    layers = recorder.model.anatomy.layers
    caught: dict[int, Tensor] = {}
    root = min(streams)

    def enter(stream: int) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> Any:
            hidden = hidden_input(args, kwargs)
            _check_stream(hidden, shape, stream in caught)
            if stream != root:
                caught[stream] = hidden
                return None
            caught[stream] = leaf = hidden.detach().requires_grad_()
            if args:
                return (leaf, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": leaf}

        return hook

    def leave(_: nn.Module, __: Any, output: Any) -> None:
        hidden = hidden_output(output)
        _check_stream(hidden, shape, len(layers) in caught)
        caught[len(layers)] = hidden

    handles = [
        layers[stream].module.register_forward_pre_hook(enter(stream), with_kwargs=True)
        for stream in streams
    ]
    handles.append(layers[-1].module.register_forward_hook(leave))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _check_stream(hidden: Tensor, shape: tuple[int, int, int], again: bool) -> None:
    if again:
        raise ScopeError("a layer of the model runs more than once", "another model")
    if tuple(hidden.shape) != shape:
        raise ScopeError(
            f"a layer reads {tuple(hidden.shape)}, and not one stream for each token: {shape}",
            "another model",
        )


@contextmanager
def _freeze_parameters(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient within, so that the graph holds activations alone."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for trained in wanted:
            trained.requires_grad_(False)
        yield
    finally:
        for trained in wanted:
            trained.requires_grad_(True)

"""A model of the user's own that is compiled, or whose passes are in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section
from tests.gpu.setting import Checkpoint, Setting
from tests.record.by_hand import A, Plain

FAMILY = "llama"
"""One is enough: what compiles takes a quarter of a minute each time."""


def check(setting: Setting, section: Section) -> None:
    """Wrap compiled models, and compare with a plain one; they still run as compiled after it."""
    from llmscope.errors import ScopeError

    makers: dict[str, Callable[[Any], Any]] = {
        "torch.compile": torch.compile if setting.cuda else _eagerly,
        "compiled in place": _in_place if setting.cuda else _in_place_eagerly,
    }
    if setting.cuda:
        makers["torch.compile with CUDA graphs"] = _with_graphs
    checkpoint = setting.checkpoint(FAMILY)
    for name, make in makers.items():
        try:
            _compare(setting, section, name, checkpoint, make)
        except ScopeError as error:
            section.true(name, f"refused: {error.message}", bool(error.hint))
        torch._dynamo.reset()
        setting.free()
    if setting.cuda:
        _captured(setting, section, checkpoint)
    else:
        section.skip("a pass captured in a CUDA graph", "it needs a GPU")


def _eagerly(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def _in_place(model: Any) -> Any:
    model.compile()
    return model


def _in_place_eagerly(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def _with_graphs(model: Any) -> Any:
    return torch.compile(model, mode="reduce-overhead")


def _compare(
    setting: Setting,
    section: Section,
    named: str,
    checkpoint: Checkpoint,
    make: Callable[[Any], Any],
) -> None:
    import llmscope

    plain = setting.plain(checkpoint, "float32")
    limit = bound("float32", len(plain.layers))
    model = make(_model(setting, checkpoint))
    ids = torch.tensor([A], device=setting.device)
    try:
        with torch.no_grad():
            for _ in range(3):  # a CUDA graph is recorded in the second, replayed in the third
                before = model(input_ids=ids, use_cache=False).logits[0].clone()
    except Exception as error:  # such as a missing compiler
        section.skip(named, f"the compiled model does not run without llmscope: {error}")
        return
    logits = plain.run(A)
    section.at_most(f"{named}: logits of the compiled model", largest(before, logits), limit)
    with llmscope.wrap(model) as scope:
        _equal(section, named, scope, plain, logits, limit)
    with torch.no_grad():
        after = model(input_ids=ids, use_cache=False).logits[0].clone()
    section.at_most(f"{named}: its own logits after it", largest(after, before), limit)


def _equal(
    section: Section, named: str, scope: Any, plain: Plain, logits: Any, limit: float
) -> None:
    cache = scope.record(A).cache()
    section.at_most(f"{named}: logits", largest(cache["logits"], logits), limit)
    own = plain.seen(A, "stream", 2)
    section.at_most(f"{named}: stream", largest(cache["layers.1.resid_post"], own), limit)
    status = scope.look("attention", layer=1).verdict.status
    section.true(f"{named}: attention", status, status == "verified")


def _model(setting: Setting, checkpoint: Checkpoint) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32)
    return model.eval().to(setting.device)


def _captured(setting: Setting, section: Section, checkpoint: Checkpoint) -> None:
    """Capture the user's own pass in a CUDA graph, and look into the model between its replays."""
    import llmscope

    model, plain = _model(setting, checkpoint), setting.plain(checkpoint, "float32")
    limit = bound("float32", len(plain.layers))
    ids = torch.tensor([A], device=setting.device)
    side = torch.cuda.Stream(setting.device)
    side.wait_stream(torch.cuda.current_stream(setting.device))
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(3):
            model(input_ids=ids, use_cache=False)
    torch.cuda.current_stream(setting.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.no_grad(), torch.cuda.graph(graph):
            output = model(input_ids=ids, use_cache=False).logits
    except RuntimeError as error:  # transformers' own code synchronises
        section.skip("a pass captured in a CUDA graph", error)
        setting.synchronize()
        return
    named = "a pass captured in a CUDA graph"
    with llmscope.wrap(model) as scope:
        _equal(section, named, scope, plain, plain.run(A), limit)
    graph.replay()
    setting.synchronize()
    section.at_most(f"{named}: its replay after it", largest(output[0], plain.run(A)), limit)

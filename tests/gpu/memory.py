"""Memory that runs out: one line that says what would fit, and a short prompt works again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section
from tests.gpu.setting import Setting
from tests.record.by_hand import A, B

MIB = 1 << 20
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 64,
    "vocab_size": 32_000,
    "max_position_embeddings": 32_768,
}
"""About 800 MB of float32."""
LONG = 16_384
"""Tokens of a prompt whose rows do not fit in `SPARE`."""
SPARE = 256
"""MiB that a pass may take."""
SIMULATED = 20
"""Tokens from which a pass runs out of memory where that is simulated."""


def check(setting: Setting, section: Section) -> None:
    """Run out of memory in a load and in a pass: truly on a GPU, simulated on a CPU."""
    (_on_a_gpu if setting.cuda else _simulated)(setting, section)


def _on_a_gpu(setting: Setting, section: Section) -> None:
    checkpoint = setting.checkpoint("llama", "llama-large", **LARGE)
    setting.free()
    before = torch.cuda.memory_allocated(setting.device)
    with _limited(setting, 300 * MIB):
        _refused(section, "load", lambda: setting.scope(checkpoint.folder, "float32"))
    setting.free()
    left = (torch.cuda.memory_allocated(setting.device) - before) / MIB
    section.at_most("load: MiB that stay taken", left, 16.0)
    scope, plain = setting.scope(checkpoint.folder, "float32"), setting.plain(checkpoint, "float32")
    scope.record(A)
    scope.forget()
    ids = [(11 * at) % 30_000 for at in range(LONG)]
    with _limited(setting, SPARE * MIB):
        _refused(section, "pass", lambda: scope.record(ids))
        _works(section, "pass, within the same memory", scope, plain)
    _works(section, "pass, with all memory", scope, plain)
    figure = scope.look("attention", layer=1)
    section.true("a figure after it", figure.verdict.status, figure.verdict.status == "verified")


def _simulated(setting: Setting, section: Section) -> None:
    from transformers import PreTrainedModel

    from llmscope.models.loading import memory

    checkpoint = setting.checkpoint("llama")
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nsecond line")
    with (
        patch.object(PreTrainedModel, "to", side_effect=full),
        patch.object(memory, "available", lambda device: 10 * MIB),
    ):
        _refused(section, "load", lambda: setting.scope(checkpoint.folder, "float32"))
    scope, plain = setting.scope(checkpoint.folder, "float32"), setting.plain(checkpoint, "float32")

    def fail(_: Any, args: Any, kwargs: Any) -> None:
        rows = args[0] if args else kwargs["hidden_states"]
        if rows.shape[-2] > SIMULATED:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    scope.model.model.layers[1].register_forward_pre_hook(fail, with_kwargs=True)
    scope.record(A)
    _refused(section, "pass", lambda: scope.record([*B, *A]))
    _works(section, "pass", scope, plain)


def _refused(section: Section, what: str, run: Callable[[], Any]) -> None:
    """Hold that it ends in llmscope's own error, of one line, with what to try."""
    from llmscope.errors import ScopeError

    try:
        run()
    except ScopeError as error:
        lines = f"{error.message}{error.hint}".count("\n")
        said = f"{error.message} (try: {error.hint})"
        section.true(f"{what}: what it says", said, bool(error.hint) and not lines)
    except Exception as error:
        section.true(f"{what}: what it raises", f"{type(error).__name__}: {error}"[:200], False)
    else:
        section.true(f"{what}: what it raises", "nothing: it fitted", False)


def _works(section: Section, what: str, scope: Any, plain: Any) -> None:
    """Hold that a short prompt has the plain model's numbers again."""
    found = scope.record(A).cache()["logits"]
    limit = bound("float32", len(plain.layers))
    section.at_most(
        f"{what}: logits of a short prompt after it", largest(found, plain.run(A)), limit
    )


@contextmanager
def _limited(setting: Setting, spare: int) -> Iterator[None]:
    """Let this process take this many more bytes of the GPU, within."""
    setting.free()
    whole = torch.cuda.get_device_properties(setting.device).total_memory
    share = (torch.cuda.memory_reserved(setting.device) + spare) / whole
    torch.cuda.set_per_process_memory_fraction(share, setting.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)

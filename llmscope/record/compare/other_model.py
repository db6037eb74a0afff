"""The second model of a comparison, as the lenses of the first one use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.derive.verify import Verdicts


@dataclass(frozen=True, eq=False)
class OtherModel:
    """Model B, which model A is compared with.

    Attributes:
        model: the loaded model.
        verdicts: how far to trust a capability in a layer, as measured on it.
        record: records a prompt.
        on_inputs: records the pass in which each part of B reads what the same part of A read in a
            recording; see `GivenInputs`.
        key: an object of its own for each comparison that was begun, for memos.
    """

    model: LoadedModel
    verdicts: Verdicts
    record: Callable[[Prompt], Recording]
    on_inputs: Callable[[Recording], Recording]
    key: object

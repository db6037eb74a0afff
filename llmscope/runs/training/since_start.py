"""A scope on a model that trains, with the model as it was when the training began beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmscope.models.loading.frozen_copy import frozen_copy
from llmscope.models.variants import Variants
from llmscope.record.capture.model_state import outside_code_of, state_of
from llmscope.record.capture.observed_attention import own_logits
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.verify import discrepancy
from llmscope.record.norms import bound
from llmscope.scope.scope import Scope

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt

NOW = "trained"
"""The name of the model that trains, as a variant of its start."""
DIFFERS = "the copy of the start cannot have what runs in the passes of the model: {}"
CHANGED = "what runs in the passes of the copy of the start changed since: {}"


class StartCopy:
    """A copy of a model as it is now, for the lens `stages`.

    The copy has none of the model's hooks. Where code of the user's runs in the passes, the logits
    of both are compared at the start, and those of the copy again at each look: that code may read
    values that the training changes.

    Args:
        live: the model that trains.

    Attributes:
        scope: the base is the copy, and the live model is in use, as a variant of it; see
            `frozen_copy` for its memory.
    """

    def __init__(self, live: Scope) -> None:
        model = live.loaded_model
        base = frozen_copy(model)
        self.scope = Scope(base, puts_back=True)
        self.scope.add(replace(model, adapter=NOW, origin=base, adapted=Variants()))
        self.scope.use(NOW)
        self._outside = outside_code_of(model.module) or outside_code_of(base.module)
        self._serial = state_of(base.module).check(base.module)
        self._signatures: list[Tensor] = []
        self._flaw = ""

    def begin(self, prompts: Sequence[Prompt]) -> None:
        """Compare the copy with the model on the prompts, if code of the user's runs in them."""
        if not self._outside:
            return
        self._signatures = self._run(None, prompts)
        if self._differs(self._run(NOW, prompts)):
            self._flaw = DIFFERS.format(self._outside)

    def why_not(self, prompts: Sequence[Prompt]) -> str:
        """Return why the copy's passes are not those of the start; empty if they are."""
        base = self.scope.base
        state = state_of(base.module)
        if not self._flaw and state.check(base.module) != self._serial:
            self._flaw = CHANGED.format(state.change)
        if not self._flaw and self._outside and self._differs(self._run(None, prompts)):
            self._flaw = CHANGED.format(self._outside)
        return self._flaw

    def _differs(self, signatures: Sequence[Tensor]) -> bool:
        largest = bound(self.scope.base.dtype, BOUND)
        pairs = zip(signatures, self._signatures, strict=True)
        return not all(discrepancy(now, start) <= largest for now, start in pairs)

    def _run(self, variant: str | None, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Return the signature of each prompt by the copy (None) or the live model."""
        with self.scope.unchanged():
            self.scope.use(variant)
            try:
                return [
                    _signature(own_logits(self.scope.record(prompt.ids, fresh=True)), prompt)
                    for prompt in prompts
                ]
            finally:
                self.scope.use(NOW)


def _signature(logits: Tensor, prompt: Prompt) -> Tensor:
    """Return numbers that change when the logits at any row do. `[row, token]` -> [number]

    The logits after the last token, and of each row their logsumexp and that of the next token.
    """
    following = torch.tensor(prompt.ids[1:], device=logits.device)[:, None]
    return torch.cat(
        [logits[-1], logits.logsumexp(-1), logits[:-1].gather(1, following).flatten()]
    ).cpu()

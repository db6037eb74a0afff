"""A callback that records what lenses show while transformers' or trl's trainers train."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from transformers import TrainerCallback

from llmscope.runs.training.lens_source import LensSource
from llmscope.runs.training.questions import (
    DEFAULT_LENSES,
    AskedLens,
    AskedPrompt,
    read_lenses,
    read_prompts,
)
from llmscope.runs.training.reward_source import RewardSource, is_reward_model
from llmscope.runs.training.run import StepRecorder, attempt, warn
from llmscope.scope.scope import wrap
from llmscope.support import arguments


class LensCallback(TrainerCallback):  # type: ignore[misc]
    """Record lenses on some prompts while a trainer trains, for `llmscope watch`.

    For `Trainer` of transformers, and every trainer of trl that takes callbacks. The training goes
    on bit for bit as without it, and whatever fails in it, such as a full disk, only warns once.
    Of several processes, the first one records. A model whose weights are sharded over processes
    cannot be recorded, which it says when the training begins. Of a reward model its score after
    each token is recorded, and no other lens.

    Args:
        prompts: each a text, token ids or chat messages; or a mapping with `prompt` and options of
            lenses: `{"prompt": "The capital of Italy is", "target": " Rome"}`; see `Run`.
        out: the run folder.
        every: record after each `every` steps of the optimizer.
        lenses: each `NAME`, `NAME:MODE`, or a pair of a name and options.
        at_start: record before the first step too.
        at_end: record after the last step too.
        overwrite: replace an earlier run in the folder when a training begins at step 0.
        stage: the stage, such as `sft`, where one run holds several; see `Run`.

    Raises:
        TypeError, ValueError: an argument is wrong, or a lens or an option does not exist.
    """

    def __init__(
        self,
        prompts: Sequence[AskedPrompt],
        out: str | PathLike[str],
        *,
        every: int = 50,
        lenses: Sequence[AskedLens] = DEFAULT_LENSES,
        at_start: bool = True,
        at_end: bool = True,
        overwrite: bool = False,
        stage: str = "",
    ) -> None:
        read_prompts(prompts)
        read_lenses(lenses)
        self._prompts, self._lenses = prompts, lenses
        self._out = arguments.name_or_path("out", out)
        self._every = arguments.integer("every", every, lowest=1)
        self._at_start = arguments.flag("at_start", at_start)
        self._at_end = arguments.flag("at_end", at_end)
        self._overwrite = arguments.flag("overwrite", overwrite)
        self._stage = arguments.text("stage", stage)
        self.run: StepRecorder | None = None
        self._ended = True

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Prepare the run, and record the model before its first step."""
        before, self.run = self.run, None

        def begin() -> None:
            if state.is_world_process_zero:
                self._begin(state.global_step, model, others.get("processing_class"), before)

        if reason := attempt(begin):  # the training is worth more than its record
            warn(f"llmscope records nothing: {reason}")
            return
        if self.run is not None and self._at_start:
            self.run.record(state.global_step)

    def _begin(self, step: int, model: Any, tokenizer: Any, before: StepRecorder | None) -> None:
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # that of a processor
        source = (
            RewardSource(model, tokenizer, self._prompts)
            if is_reward_model(model)
            else LensSource(wrap(model, tokenizer), self._prompts, self._lenses)
        )
        # A training that began and did not end was broken off to begin again, as with
        # `auto_find_batch_size`: what it recorded is of no use.
        again = before is not None and not self._ended
        run = StepRecorder(
            self._out,
            source,
            overwrite=step <= 0 and (self._overwrite or again),
            resume=step > 0,
            stage=self._stage,
        )
        run.begin()
        self.run, self._ended = run, False

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Record the model if the step is a multiple of `every`."""
        if self.run is not None and state.global_step % self._every == 0:
            self.run.record(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Keep the numbers that the trainer logs, such as the loss."""
        if self.run is not None and logs:
            self.run.log_numbers(state.global_step, logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Record the model after its last step."""
        self._ended = True
        if self.run is not None and self._at_end and self.run.last != state.global_step:
            self.run.record(state.global_step)

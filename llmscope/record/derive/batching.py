"""Run several prompts together in padded passes, where that is measured to give the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from llmscope.record.capture.padded import SIZE, balanced, grouped, record_padded, same_tensors
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.derive.verify import probe
from llmscope.support.text import error_line

LENGTHS = (12, 9, 5, 2)
"""Lengths of the prompts that run together and alone."""


@dataclass(frozen=True)
class PromptRunner:
    """Records several prompts.

    Attributes:
        recorder: the recorder of the model, which is not changed meanwhile.
        alone: whether each prompt needs a pass of its own.
    """

    recorder: Recorder
    alone: bool

    @classmethod
    def of(cls, recorder: Recorder) -> PromptRunner:
        """Return the runner of a model, which decides how its prompts run."""
        return cls(recorder, bool(why_alone(recorder)))

    def passes(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the indices of the prompts of each pass, by the numbers of their tokens."""
        return balanced(list(grouped(lengths, 1 if self.alone else SIZE)))

    def __call__(self, prompts: Sequence[Prompt], *, whole: bool = False) -> list[Recording]:
        """Record prompts, in one padded pass if the model allows it.

        Args:
            prompts: the prompts.
            whole: keep attention and MLP tensors too; else the streams and the last logits alone.
        """
        if self.alone:
            return [self.recorder.go_on(None, prompt) for prompt in prompts]
        return record_padded(self.recorder, prompts, whole=whole)


def why_alone(recorder: Recorder) -> str:
    """Return why each prompt needs a pass of its own; empty if a padded pass gives the same.

    All tensors of probe prompts of several lengths are compared, up to rounding.

    Raises:
        OutOfMemoryError: the device has too little memory for the probe.
    """
    model, taps = recorder.model, recorder.taps
    if recorder.outside:
        return f"{recorder.outside} may depend on the other prompts of a batch"
    if model.anatomy.readout is None or not model.readout_holds:
        return "its unembedding was not found"
    attends = any(layer.kind == "attention" for layer in model.anatomy.layers)
    if attends and not (taps.routed and recorder.reuses):
        return "its tokens depend on more than keys and values of earlier ones"
    if any(tap.output_gate != "nothing" for tap in taps.layers):
        return "its attention has more steps than a batch keeps"
    experts = any(layer.experts is not None for layer in model.anatomy.layers)
    if experts and model.dtype.itemsize < 4:  # the probe is too short to show it
        return "in half precision a rounding may choose other experts"
    whole = probe(model)
    prompts = [
        replace(whole, ids=whole.ids[-n:], labels=whole.labels[:n], special=whole.special[:n])
        for n in (min(length, len(whole)) for length in LENGTHS)
    ]
    try:
        padded = record_padded(recorder, prompts, whole=True)
        single = [recorder.go_on(None, prompt) for prompt in prompts]
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # models without batch support raise anything
        return f"the model does not take them: {error_line(error)}"
    if all(same_tensors(a, b) for a, b in zip(padded, single, strict=True)):
        return ""
    return "its tensors differ from those of single passes"

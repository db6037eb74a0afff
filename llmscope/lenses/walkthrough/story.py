"""Texts for the first and last steps of the walkthrough: the model's purpose and its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmscope.figure import Focus
from llmscope.lenses.base import Run
from llmscope.support.numbers import percent

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.walkthrough import Step

SMALL = 5_000_000
"""Maximum parameters of a model that runs fast enough to generate several tokens."""
SPELT = 6
SORT, READ = "builtin:sort", 6
"""The model that sorts letters, and the number of letters that it reads."""
_BYTES = re.compile(r"\\x[89a-f][0-9a-f]")


def caption(recording: Recording, focus: Focus, steps: Sequence[Step], run: Run) -> tuple[str, ...]:
    """Return caption lines: the likeliest next token, its continuation, and the agreement."""
    lines: list[str] = []
    names = {step.name: step for step in steps}
    last, shares = names.get("next token"), names.get("probabilities")
    if last is not None and shares is not None:
        token = int(last.value[0])
        here = recording.prompt.labels[focus.position]
        label = recording.model.label(token)
        goes_on = _answer(recording, focus, run)
        spelt = f", and so on, one at a time: {' '.join(goes_on)}" if len(goes_on) > 1 else ""
        share = percent(float(shares.value[token]), 2)
        lines.append(f"after ‹{here}› the model says ‹{label}› ({share}){spelt}")
        lines += ending(recording, focus, label)
    agreements = [
        step.agreement for step in steps if step.agreement is not None and not step.reason
    ]
    refused = sum(bool(step.reason) for step in steps)
    which = f"{len(agreements)} of {len(steps)} steps are" if refused else "every step is"
    hidden = sum(step.agreement is None and not step.reason for step in steps[1:])
    remark = f"; {refused} refused, which show the model's own" if refused else ""
    remark += f"; of {hidden} the model shows nothing to hold them against" if hidden else ""
    within = f"within {max(agreements, default=0):.0e} of the model"
    lines.append(f"{which} computed again from the steps before, {within}{remark}")
    return tuple(lines)


def ends(recording: Recording, focus: Focus, token: int) -> dict[str, Any]:
    """Return the additional entries of the last step.

    `writes`: the token as text, empty if it cannot be written as text; `full`: whether the context
    has no room for another token; `ending`: the lines of `ending`.
    """
    model = recording.model
    label, tokens = model.label(token), model.tokens
    special = tokens is None or token in tokens.special_ids
    context = model.anatomy.context
    return {
        "writes": "" if special or _BYTES.search(label) else label,
        "full": context is not None and len(recording) >= context,
        "ending": ending(recording, focus, label),
    }


def ending(recording: Recording, focus: Focus, label: str) -> list[str]:
    """Return a line if the context is full; for the sorting model, whether it sorted correctly."""
    context, labels = recording.model.anatomy.context, recording.prompt.labels
    if context is None or len(labels) < context or focus.position != len(labels) - 1:
        return []
    if recording.model.spec == SORT:
        read, written = labels[:READ], (*labels[READ:], label)
        summary = f"it read {' '.join(read)}, wrote {' '.join(labels[READ:])} and says {label}"
        if list(written) == sorted(read):
            return [f"Done: {summary}: the same {READ} letters in order."]
        return [f"Done, but wrong: {summary}, which are not the same letters in order."]
    return [f"The context of {context} tokens is full: none can follow."]


def opening(recording: Recording, position: int) -> str:
    """Return the first line of the first step: the purpose of the model."""
    if recording.model.spec != SORT:
        return "This model says what comes next. Here is how, step by step."
    count = len(recording)
    if count < READ:
        return f"This model sorts {READ} letters: type {READ - count} more of A, B and C."
    if position < READ - 1:
        return f"What it says before it has read all {READ} letters means nothing: go to the last."
    if count == READ:
        return (
            f"This model reads {READ} letters and writes them in order, one at a time. Here is "
            "how it finds the first."
        )
    which = ("second", "third", "fourth", "fifth", "last")[min(count - READ, READ - 1) - 1]
    return f"It has written {count - READ} of {READ} letters. Here is how it finds the {which}."


def _answer(recording: Recording, focus: Focus, run: Run) -> list[str]:
    """Generate the next tokens of a small model greedily; return an empty list for a large one."""
    model, ids = recording.model, list(recording.prompt.ids)
    small = sum(parameter.numel() for parameter in model.module.parameters()) <= SMALL
    context = model.anatomy.context or len(ids) + SPELT
    if not small or focus.position != len(ids) - 1:
        return []
    letters: list[str] = []
    while len(letters) < SPELT and len(ids) <= context:
        token = int(run([ids], last=1).logits[0, -1].argmax())
        letters.append(model.label(token))
        ids.append(token)
    return letters

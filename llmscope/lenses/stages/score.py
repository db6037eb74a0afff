"""Mode `score` of the lens `stages`: the score of a reward model for the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import opening_hint
from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.contrast.captions import in_lines

if TYPE_CHECKING:
    from llmscope.models.loading.reward import RewardModel
    from llmscope.record.capture.recording import Prompt, Recording

TITLES = {"score": "Stages · score of the reward model after each token"}


def score(recording: Recording, focus: Focus) -> Figure:
    """Return the score of the reward model after each token. [position]"""
    model = recording.model.reward
    if model is None:
        return Figure.lacking(
            "stages",
            TITLES[focus.mode],
            "reward model",
            f"no reward model is loaded: {opening_hint('reward', 'REWARD_MODEL')}",
        )
    return score_figure(model, recording.prompt, focus, adapter=recording.model.adapter)


def score_figure(
    model: RewardModel, prompt: Prompt, focus: Focus, *, adapter: str | None
) -> Figure:
    """Return the score of a reward model after each token of a prompt. [position]

    Args:
        model: the reward model.
        prompt: the prompt.
        focus: the position, and a prompt B if there is one.
        adapter: the name of the active adapter.
    """
    ids, more = prompt.ids, dict[str, Any]()
    values = model.scores(ids)
    final = float(values[model.end(ids)])
    line = f"{model.name} gives this prompt {final:+.4g}"
    if focus.versus_prompt:
        theirs = float(model.scores(focus.versus_prompt)[model.end(focus.versus_prompt)])
        more = {"versus_score": theirs, "margin": final - theirs}
        line += f", and B {theirs:+.4g}: margin {final - theirs:+.4g}"
    return Figure(
        lens="stages",
        title=TITLES[focus.mode],
        kind="bars",
        axes=(Axis("position", prompt.labels),),
        values=np.array(values, dtype=np.float32),
        unit="reward",
        extra={
            "mode": focus.mode,
            "adapter": adapter,
            "position": focus.position,
            "special": prompt.special,
            "reward_model": model.name,
            "score": final,
            "end": model.end(ids),
            **more,
            "caption": in_lines(line),
        },
    )

"""Hidden states of another engine as what a replay shows, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.export.bounds import MOST_TOKENS, check_figures
from llmscope.export.hidden_states_figures import as_snapshot
from llmscope.models.hidden_states import StreamSizes, read_hidden_states
from llmscope.tui.modes.replay.reader import Recorded, read_recorded


def recorded_states(
    path: Path, layers: Sequence[int] | None = None, model: str | None = None
) -> Recorded:
    """Read a file of hidden states as the prompt and the figures that its numbers allow.

    Args:
        path: the file.
        layers: the ids of its layers; None: all of the model's.
        model: the spec of the model that the engine ran, whose tokenizer gives the tokens' texts;
            None: the tokens are shown as ids.

    Raises:
        ScopeError: the file cannot be read, does not fit the model, or is too long for the screen.
    """
    tokens, sizes = None, None
    if model is not None:
        from llmscope.models.loading.described import described

        description = described(model)
        tokens, sizes = (
            description.tokens,
            StreamSizes(description.layers, description.width, description.vocabulary),
        )
    states = read_hidden_states(path, layers, sizes=sizes)
    if len(states) > MOST_TOKENS:
        raise ScopeError(
            f"{states.name} holds {len(states):,} tokens, more than a screen can show",
            f"a file of {MOST_TOKENS:,} tokens or fewer",
        )
    labels = list(map(str, states.ids)) if tokens is None else tokens.pieces(states.ids)
    snapshot = as_snapshot(states, labels, spec=model, sizes=sizes)
    check_figures(snapshot.figures)
    if tokens is None:  # ids that are not set apart would read as one number
        snapshot = replace(snapshot, about={**snapshot.about, "prompt": " ".join(labels)})
    return read_recorded(path, snapshot)

"""The workspaces: a main figure on the left, details on the right, one key each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PANES = {
    "map": "the map",
    "next-token": "next token",
    "attention": "attention",
    "mlp": "MLP",
    "tokens": "tokens",
    "heads": "heads",
    "heads-all": "all heads of the layer",
    "neuron-tokens": "what the neuron says",
    "neuron-activation": "when the neuron fires",
    "attribution": "attribution",
    "attribution-heads": "attribution by head",
    "saliency": "saliency",
    "context": "context",
    "context-proof": "proof",
    "context-steps": "growth",
    "context-gain": "gain",
    "edits": "edits",
    "ablation": "ablation",
    "patching": "patching",
    "walkthrough": "walkthrough",
    "walk-values": "values of the step",
    "walk-said": "step in words",
    "contrast": "contrast with B",
    "contrast-kl": "divergence of predictions",
    "contrast-word": "word in both",
    "stages": "what training changed",
    "stages-kl": "how predictions changed",
}
"""The panes of all workspaces, with their names as displayed."""


@dataclass(frozen=True)
class Workspace:
    """A set of panes that answer one kind of question.

    Attributes:
        name: identifies it in actions and in stored state.
        title: the name as displayed.
        spine: the pane of the main figure, which cannot be hidden.
        details: the other panes, in their order. A pane may be in several workspaces.
        least: the one pane that a tiny screen has room for.
        spare: the detail that a medium screen omits; empty if it omits none.
        rows: the rows of its main figure; 0 means one for each layer of the model.
    """

    name: str
    title: str
    spine: str
    details: tuple[str, ...]
    least: str
    spare: str = ""
    rows: int = 0

    @property
    def panes(self) -> tuple[str, ...]:
        """Return all of its panes."""
        return (self.spine, *self.details)


WORKSPACES = (
    # The map shows the tokens and their surprisal already.
    Workspace(
        *("overview", "Overview", "map", ("next-token", "attention", "mlp", "tokens")),
        least="next-token",
        spare="tokens",
    ),
    Workspace(
        *("heads", "Heads", "heads", ("heads-all", "attention", "next-token")),
        least="attention",
    ),
    Workspace(
        *("neurons", "Neurons", "mlp", ("neuron-tokens", "neuron-activation", "next-token")),
        least="neuron-tokens",
    ),
    Workspace(
        *("answer", "Answer", "attribution", ("attribution-heads", "saliency", "next-token")),
        least="attribution-heads",
    ),
    # The proof pane shows the next token of each run.
    Workspace(
        *("context", "Context", "context"),
        ("context-proof", "context-steps", "context-gain", "next-token"),
        least="context-proof",
        spare="next-token",
    ),
    Workspace(
        *("what-if", "What if", "ablation", ("edits", "patching", "next-token")),
        least="edits",
    ),
    # The rows: the steps inside a layer with rotary positions and a gated MLP.
    Workspace(
        *("walkthrough", "Walkthrough", "walkthrough"),
        ("walk-values", "walk-said", "next-token"),
        least="walk-said",
        rows=28,
    ),
    Workspace(
        *("compare", "Compare", "contrast", ("contrast-kl", "contrast-word", "next-token")),
        least="contrast-kl",
    ),
    Workspace(
        *("stages", "Stages", "stages", ("stages-kl", "next-token")),
        least="stages-kl",
    ),
)
BY_NAME = {workspace.name: workspace for workspace in WORKSPACES}


def workspace_of(
    pane: str, current: Workspace, among: Sequence[Workspace] = WORKSPACES
) -> Workspace:
    """Return the workspace in which to show a pane: the current one if it has the pane."""
    return current if pane in current.panes else next(w for w in among if pane in w.panes)

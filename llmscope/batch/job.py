"""The lenses and options applied to each prompt of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.edits import Edit
from llmscope.figure import Figure, Focus, plain
from llmscope.lenses import lens

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope import Scope


@dataclass(frozen=True)
class PromptJob:
    """The lenses to apply to each prompt, and where to point them.

    Attributes:
        focus: as given, not yet resolved against the model or a prompt.
        special_tokens: add the tokenizer's special tokens.
        chat: put each prompt into the model's chat template.
        system: the system message, with `chat`.
    """

    lenses: tuple[str, ...]
    focus: Focus
    edits: tuple[Edit, ...] = ()
    special_tokens: bool = True
    chat: bool = False
    system: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return {
            "lenses": list(self.lenses),
            **{f"focus.{key}": plain(value) for key, value in asdict(self.focus).items()},
            "edits": [str(edit) for edit in self.edits],
            "special_tokens": self.special_tokens,
            "chat": self.chat,
            "system": self.system,
        }


def figures_of(
    scope: Scope, recording: Recording, lenses: Sequence[str], focus: Focus
) -> list[Figure]:
    """Return one figure per lens, at a focus whose indices count from 0."""
    return [figure_of(scope, recording, name, focus) for name in lenses]


def figure_of(scope: Scope, recording: Recording, name: str, focus: Focus) -> Figure:
    """Return a lens's figure, ignoring a mode or pool of the focus that this lens does not have."""
    return scope.look(name, recording=recording, **asdict(_for_lens(name, focus)))


def look_ahead(
    scope: Scope, asked: Sequence[tuple[Recording, Focus]], lenses: Sequence[str]
) -> None:
    """Compute for several prompts at once what `figures_of` then reuses, for lenses that can.

    Args:
        scope: the model.
        asked: recordings, each with its focus as returned by `resolved`.
        lenses: names of the lenses.
    """
    for chosen in map(lens, lenses):
        # If the unembedding failed its check, there will be no figure.
        if chosen.ahead is not None and scope.verdicts("readout").status != "refused":
            chosen.ahead(
                [
                    (one, scope.resolve(chosen, one, _for_lens(chosen.name, focus)))
                    for one, focus in asked
                ]
            )


def _for_lens(name: str, focus: Focus) -> Focus:
    chosen = lens(name)
    return replace(
        focus,
        mode=focus.mode if focus.mode in chosen.modes else "",
        pool=focus.pool if "pool" in chosen.uses else 1,
    )


def resolved(scope: Scope, recording: Recording, focus: Focus) -> Focus:
    """Return the focus for one recording, with all indices counted from 0.

    Raises:
        ValueError: a layer, head or position is out of range.
    """
    anatomy, length = scope.subject.anatomy, len(recording)
    return focus.resolve(layers=len(anatomy.layers), heads=anatomy.heads, positions=length)

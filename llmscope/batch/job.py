"""The lenses and options applied to each prompt of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.edits import Edit
from llmscope.figure import Focus
from llmscope.lenses import focus_dict, lens
from llmscope.snapshot import for_lens

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
            **{f"focus.{key}": value for key, value in focus_dict(self.focus).items()},
            "edits": [str(edit) for edit in self.edits],
            "special_tokens": self.special_tokens,
            "chat": self.chat,
            "system": self.system,
        }


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
                    (one, scope.resolve(chosen, one, for_lens(chosen.name, focus)))
                    for one, focus in asked
                ]
            )

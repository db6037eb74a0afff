"""The lenses and options applied to each prompt of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.edits import Edit
from llmscope.figure import Figure, Focus
from llmscope.lenses import focus_dict, lens
from llmscope.scope.figures import distinct, figure_of, focuses

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope


@dataclass(frozen=True)
class PromptJob:
    """The lenses to apply to each prompt, and where to point them.

    Attributes:
        focus: as given, not yet resolved against the model or a prompt.
        special_tokens: add the tokenizer's special tokens.
        chat: put each prompt into the model's chat template.
        system: the system message, with `chat`.
        every: which of `layer` and `head` take all their values in turn, in the figures of one
            layer or head.
        modes: the lenses with a mode of their own, each with it.
    """

    lenses: tuple[str, ...]
    focus: Focus
    edits: tuple[Edit, ...] = ()
    special_tokens: bool = True
    chat: bool = False
    system: str | None = None
    every: tuple[str, ...] = ()
    modes: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return {
            "lenses": list(self.lenses),
            **{f"focus.{key}": value for key, value in focus_dict(self.focus).items()},
            "edits": [str(edit) for edit in self.edits],
            "special_tokens": self.special_tokens,
            "chat": self.chat,
            "system": self.system,
            "every": list(self.every),
            **({"modes": dict(self.modes)} if self.modes else {}),
        }

    @classmethod
    def of_tables(cls, record: Mapping[str, Any]) -> PromptJob:
        """Return the lenses and modes of what `to_dict` returned, which give tables their columns.

        Raises:
            KeyError, TypeError, ValueError: it is no such record, or a lens does not exist.
        """
        focus = Focus(mode=record.get("focus.mode") or "")
        modes = tuple(dict(record.get("modes", {})).items())
        job = cls(tuple(record["lenses"]), focus, modes=modes)
        for name in job.lenses:
            lens(name)
        return job

    @property
    def adds_special(self) -> bool:
        """Whether special tokens are added: a chat template has its own."""
        return self.special_tokens and not self.chat

    def mode(self, name: str) -> str:
        """Return the mode of a lens's table."""
        chosen, own_modes = lens(name), dict(self.modes)
        if name in own_modes:
            return own_modes[name]
        if self.focus.mode in chosen.modes:
            return self.focus.mode
        return chosen.table_mode or next(iter(chosen.modes), "")

    def focuses(self, scope: Scope, name: str, focus: Focus) -> list[Focus]:
        """Return the focus of each figure of a lens: one, or one for each layer and head.

        Args:
            scope: the model.
            name: the lens.
            focus: a focus of the prompt, as returned by `resolved`.
        """
        return focuses(scope, name, focus, self.every, self.mode(name))

    def figures(self, scope: Scope, recording: Recording, focus: Focus) -> tuple[Figure, ...]:
        """Return the figures of a recording, at a focus as returned by `resolved`."""
        return tuple(
            figure
            for name in self.lenses
            for figure in distinct(
                figure_of(scope, recording, name, lens_focus)
                for lens_focus in self.focuses(scope, name, focus)
            )
        )


def look_ahead(scope: Scope, pairs: Sequence[tuple[Recording, Focus]], looking: PromptJob) -> None:
    """Compute for several prompts at once what `figures` then reuses, for lenses that can.

    Args:
        scope: the model.
        pairs: recordings, each with its focus as returned by `resolved`.
        looking: the lenses.
    """
    for chosen in map(lens, looking.lenses):
        # If the unembedding failed its check, there will be no figure.
        if chosen.ahead is not None and scope.verdicts("readout").status != "refused":
            chosen.ahead(
                [
                    (recording, scope.resolve(chosen, recording, lens_focus))
                    for recording, focus in pairs
                    for lens_focus in looking.focuses(scope, chosen.name, focus)
                ]
            )

"""Where in a run the screen is: which of its prompts, at which of its recorded steps."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Moment:
    """A prompt and a recorded step of a run, as indices.

    Attributes:
        prompt, step: the indices of both.
        prompts, steps: how many there are.
    """

    prompt: int
    step: int
    prompts: int
    steps: int

    @property
    def newest(self) -> bool:
        """Whether it is the newest step, so that the screen follows a run that grows."""
        return self.step == self.steps - 1

    def moved(self, by: int) -> Moment:
        """Return the moment `by` steps later, as far as there are steps."""
        return self.at(self.step + by)

    def at(self, step: int) -> Moment:
        """Return the moment of a step, or of the nearest one that exists."""
        return replace(self, step=max(0, min(step, self.steps - 1)))

    def grown(self, steps: int) -> Moment:
        """Return the moment after the run has grown: the newest step stays the newest."""
        step = steps - 1 if self.newest else min(self.step, steps - 1)
        return replace(self, steps=steps, step=step)

    def turned(self, by: int) -> Moment:
        """Return the moment of the prompt `by` places on, in a circle."""
        return replace(self, prompt=(self.prompt + by) % self.prompts)

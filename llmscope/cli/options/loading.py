"""What to load, as the command line says it. Imports nothing that takes long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress
    from llmscope.scope import Scope


@dataclass(frozen=True)
class Loader:
    """What to load and how, for whoever does it at last."""

    model: str | None
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    adapters: tuple[str, ...] = ()
    unverified: bool = False
    reward: str | None = None

    @property
    def options(self) -> dict[str, str | int | bool]:
        """What is not as usual, as keywords of `llmscope.load`, but for the adapters."""
        names = ("device", "dtype", "threads", "reward")
        switches = ("trust_remote_code", "allow_pickle", "unverified")
        given = {name: getattr(self, name) for name in (*names, *switches)}
        return {name: one for name, one in given.items() if one not in ("auto", None, False)}

    def other(self, model: str) -> Loader:
        """What loads another model in the same way.

        Adapters and a reward model belong to this one, and so does the trust in its code and in
        its pickled weights: nobody has said that of the other.
        """
        from llmscope.models.spec import DEFAULT

        if model == (self.model or DEFAULT):
            return self
        return replace(
            self,
            model=model,
            adapters=(),
            reward=None,
            trust_remote_code=False,
            allow_pickle=False,
        )

    def __call__(self, progress: Progress | None) -> Scope:
        """Load it. Imports torch.

        Raises:
            ScopeError: what is wrong, and what to try.
        """
        import llmscope
        from llmscope.gc_control import freeze_for_good, uncollected

        with uncollected():
            load = llmscope.load  # imports torch
            freeze_for_good()  # this process is the program's own
        return load(
            self.model,
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            adapters=self.adapters,
            reward=self.reward,
            unverified=self.unverified,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
            progress=progress,
        )

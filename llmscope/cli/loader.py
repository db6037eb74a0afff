"""What to load, as the command line says it. Imports nothing that takes long."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.models.subject import Progress
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
    def flags(self) -> tuple[str, ...]:
        """The options that say the same on another command line, but for the adapters."""
        words: list[str] = []
        for name, value, usual in (
            ("--device", self.device, "auto"),
            ("--dtype", self.dtype, "auto"),
            ("--threads", self.threads, None),
            ("--reward", self.reward, None),
        ):
            if value != usual:
                words += [name, str(value)]
        for name, given in (
            ("--trust-remote-code", self.trust_remote_code),
            ("--allow-pickle", self.allow_pickle),
            ("--unverified", self.unverified),
        ):
            if given:
                words.append(name)
        return tuple(words)

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

        gc.disable()
        try:
            load = llmscope.load
        finally:
            if not gc.get_freeze_count():  # a second time would keep the model before for ever
                gc.freeze()  # for good: this process is the program's own
            gc.enable()
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

"""The one model that is open, and how it makes way for another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from llmscope.engine.events import Opened, OpenFailed, OpenRequest
from llmscope.errors import ScopeError
from llmscope.text import named

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo
    from llmscope.models.loaded_model import Progress
    from llmscope.scope import Scope

    Load = Callable[[Progress], Scope]


class GivenUp(BaseException):
    """Leaves a load that nobody waits for; nothing on the way may mistake it for a failure."""


class OpenModel:
    """Holds the model, and no more than one of them where memory is short.

    Args:
        load: makes the first scope.
        forget: lets go of everything else that holds on to the model.

    Attributes:
        scope: the model; None while there is none.
    """

    def __init__(self, load: Load, forget: Callable[[], None]) -> None:
        self.scope: Scope | None = None
        self._load = load
        self._was_open = False
        self._forget = forget

    def first(self, progress: Progress) -> ModelInfo:
        """Load the one that the program was started with. Raises whatever that raises."""
        self.scope = self._load(progress)
        self._was_open = True
        return self.scope.info()

    def change(self, request: OpenRequest, progress: Progress) -> Opened | OpenFailed:
        """Load another model, and let go of the one before.

        The old model stays until the new one is there, so that nothing is lost where that fails.
        Only where both would not fit is it let go first, once the new one's weights are on this
        machine and can be counted; it is then loaded again where the new one cannot be.

        Raises:
            GivenUp: nobody waits for it any more.
        """
        if request.load is None:
            return self._kept(request, progress)
        import torch

        from llmscope.models.loading.memory import reserve

        threads = torch.get_num_threads()
        try:
            with reserve(self._release):
                scope = request.load(progress)
        except ScopeError as error:
            said, hint = error.message, error.hint
        except GivenUp:
            raise
        except BaseException as error:  # it must be told, whatever a library raised
            said, hint = named(error), ""
        else:
            self._release()
            self.scope, self._load, self._was_open = scope, request.load, True
            return Opened(request, scope.info())
        # Only now: an exception holds the frames of the load, and they what it had loaded.
        torch.set_num_threads(threads)
        return self._stayed(request, said, hint, progress)

    def lose(self) -> None:
        """The model turned out to be of no use."""
        self._release()
        self._was_open = False

    def _kept(self, request: OpenRequest, progress: Progress) -> Opened | OpenFailed:
        """The model that is open, which a switch that was given up may have let go."""
        if self.scope is None:
            try:
                self.scope = self._load(progress)
            except ScopeError as error:
                return OpenFailed(request, error.message, error.hint, again=True)
            except GivenUp:
                raise
            except BaseException as error:
                return OpenFailed(request, named(error), again=True)
        return Opened(request, self.scope.info())

    def _stayed(self, request: OpenRequest, said: str, hint: str, progress: Progress) -> OpenFailed:
        """What is left where another model could not be loaded."""
        again = self.scope is None and self._was_open
        if again:
            try:
                self.scope = self._load(progress)
            except GivenUp:
                raise
            except BaseException:  # noqa: S110 - what is told is why the new one is not there
                pass
        left = None if self.scope is None else self.scope.info()
        return OpenFailed(request, said, hint, left, again)

    def _release(self) -> None:
        """Let go of the model and of all that was made with it."""
        self._forget()
        scope, self.scope = self.scope, None
        if scope is None:
            return
        from llmscope.models.loading.memory import free_cache

        device = scope.subject.device
        # A device that failed may fail again, and that must not keep the next model out.
        with suppress(BaseException):
            scope.forget()
        del scope
        with suppress(BaseException):
            free_cache(device)

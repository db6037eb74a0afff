"""The open model, and how it is replaced by another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.engine.events import Opened, OpenFailed, OpenRequest
from llmscope.errors import ScopeError
from llmscope.support.text import typed_error_line

if TYPE_CHECKING:
    from llmscope.models.info import DictionaryFacts, ModelInfo
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope

    Load = Callable[[Progress], Scope]


class GivenUp(BaseException):
    """Cancels a load that is no longer wanted.

    A BaseException, so that no `except Exception` on the way mistakes it for a failure.
    """


class OpenModel:
    """The open model. If memory is short, at most one model is held at a time.

    Args:
        load: returns the first scope.
        forget: drops all other references to the model.

    Attributes:
        scope: the model; None while no model is open.
    """

    def __init__(self, load: Load, forget: Callable[[], None]) -> None:
        self.scope: Scope | None = None
        self._load = load
        self._was_open = False
        self._forget = forget

    def first(self, progress: Progress) -> ModelInfo:
        """Load the model that the program was started with. Exceptions of the load propagate."""
        self.scope = self._load(progress)
        self._was_open = True
        return facts_of(self.scope)

    def change(self, request: OpenRequest, progress: Progress) -> Opened | OpenFailed:
        """Load another model, and release the previous one.

        The old model stays until the new one is loaded, so that nothing is lost on failure. Only if
        both would not fit into memory is the old one released first, once the new one's weights
        are on this machine and their size is known. If the new model then fails to load, the old
        one is loaded again.

        Raises:
            GivenUp: the load is no longer wanted.
        """
        if request.second and self.scope is not None:
            return self._compare(self.scope, request, progress)
        if request.load is None:
            return self._keep(request, progress)
        from llmscope.models.loading.memory import reserve

        try:
            with reserve(self._release):
                scope = request.load(progress)
        except ScopeError as error:
            message, hint = error.message, error.hint
        except GivenUp:
            raise
        except BaseException as error:  # must be reported, whatever a library raised
            message, hint = typed_error_line(error), ""
        else:
            self._release()
            self.scope, self._load, self._was_open = scope, request.load, True
            return Opened(request, facts_of(scope))
        # Only now, after the exception's frames, and the weights they held, are gone.
        return self._report_failure(request, message, hint, progress)

    def _compare(
        self, scope: Scope, request: OpenRequest, progress: Progress
    ) -> Opened | OpenFailed:
        """Compare the open model with the requested one; if that fails, with the one before."""
        from llmscope.scope.second_model import compare_with

        try:
            if request.load is None:
                scope.compare(None)
            else:
                compare_with(scope, request.load, progress)
        except ScopeError as error:
            return OpenFailed(request, error.message, error.hint, facts_of(scope))
        except GivenUp:
            raise
        except BaseException as error:  # must be reported, whatever a library raised
            return OpenFailed(request, typed_error_line(error), left=facts_of(scope))
        self._forget()  # figures and passes of the comparison before
        return Opened(request, facts_of(scope))

    def lose(self) -> None:
        """Release the model for good: it turned out to be unusable."""
        self._release()
        self._was_open = False

    def _keep(self, request: OpenRequest, progress: Progress) -> Opened | OpenFailed:
        """Keep the open model; load it again if a cancelled switch released it."""
        if self.scope is None:
            try:
                self.scope = self._load(progress)
            except ScopeError as error:
                return OpenFailed(request, error.message, error.hint, again=True)
            except GivenUp:
                raise
            except BaseException as error:
                return OpenFailed(request, typed_error_line(error), again=True)
        return Opened(request, facts_of(self.scope))

    def _report_failure(
        self, request: OpenRequest, message: str, hint: str, progress: Progress
    ) -> OpenFailed:
        """Report that another model could not be loaded; load the old one again if released."""
        again = self.scope is None and self._was_open
        if again:
            try:
                self.scope = self._load(progress)
            except GivenUp:
                raise
            except BaseException:  # noqa: S110 - the error of the new model is reported
                pass
        left = None if self.scope is None else facts_of(self.scope)
        return OpenFailed(request, message, hint, left, again)

    def _release(self) -> None:
        """Release the model and all its results."""
        self._forget()
        scope, self.scope = self.scope, None
        if scope is None:
            return
        from llmscope.models.loading.memory import free_cache

        device = scope.loaded_model.device
        # A device that failed may fail again; that must not block the next model.
        with suppress(BaseException):
            scope.forget()
        del scope
        with suppress(BaseException):
            free_cache(device)


def facts_of(scope: Scope) -> ModelInfo:
    """Return the facts about a model that the screen shows, with those about its dictionaries."""
    from llmscope.learned.dictionaries import catalog

    shipped = catalog.known_dictionaries(scope.base)
    known: tuple[DictionaryFacts, ...] = ()
    with suppress(ScopeError):  # the lens reports it
        known = catalog.facts_of(scope.features, scope.base)
    return replace(scope.info(), shipped_features=shipped, dictionaries=known)

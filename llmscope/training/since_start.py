"""A scope on a model that trains, with the model as it was when the training began beside it."""

from __future__ import annotations

from dataclasses import replace

from llmscope.models.loading.frozen_copy import frozen_copy
from llmscope.models.variants import Variants
from llmscope.scope import Scope

NOW = "trained"
"""The name of the model that trains, as a variant of its start."""


def since_start(scope: Scope) -> Scope:
    """Return a scope whose base is a copy of the model as it is now, for the lens `stages`.

    The live model is in use, as a variant of the copy; see `frozen_copy` for its memory.
    """
    live = scope.subject
    base = frozen_copy(live)
    made = Scope(base, puts_back=True)
    made.add(replace(live, adapter=NOW, origin=base, adapted=Variants()))
    made.use(NOW)
    return made

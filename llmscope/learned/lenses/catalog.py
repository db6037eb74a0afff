"""Which learned lenses there are for a model, and where a name leads.

a path          a file or folder on this machine
ORG/NAME:PATH   a file, or the folder of a tuned lens, in a repository of the hub
jacobian, tuned the lens of that kind that is known for the model: shipped with a built-in
model, or published under a known name
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os.path import exists, expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError
from llmscope.learned.lenses import measurements
from llmscope.learned.lenses.lens import LearnedLens
from llmscope.learned.lenses.published import Known, published_lenses
from llmscope.learned.lenses.reader import FORMS, KEPT, read_lens
from llmscope.models.model_names import names_of
from llmscope.models.sources import builtin
from llmscope.support.text import display_text, one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel, Progress

KINDS = ("jacobian", "tuned")
"""The names that stand for the lens of that kind of the model at hand."""


def lens_for(
    source: Any, model: LoadedModel, progress: Progress | None = None
) -> LearnedLens | str:
    """Return a lens for a model, or the reason why it does not fit.

    Args:
        source: a lens, or a name as above.
        model: the model.
        progress: called with the progress of a download; None reports nothing.

    Raises:
        ScopeError: there is no such lens, or it cannot be read.
    """
    if isinstance(source, LearnedLens):
        lens = source
    else:
        path = locate_lens(source, model, progress)
        read = read_lens(str(path), source=source, allow_pickle=model.allow_pickle)
        lens = _with_measurements(read, model)
    reason = misfit(lens, model)
    return reason or lens


def misfit(lens: LearnedLens, model: LoadedModel) -> str:
    """Return why a lens does not fit a model; "" if it may fit."""
    anatomy = model.anatomy
    return lens.misfit(
        layers=len(anatomy.layers),
        width=anatomy.width,
        names=names_of(model),
        revision=model.revision,
    )


_measured: dict[int, tuple[LearnedLens, int, LearnedLens]] = {}
"""By the identity of a lens: the lens, when it was measured, and it with the measurement."""


def _with_measurements(lens: LearnedLens, model: LoadedModel) -> LearnedLens:
    """Return the lens with what `llmscope fit check` measured of it last, or as it is.

    The same object comes back for the same lens and measurement: figures are cached by it.
    """
    file = measurements.file_of(lens, model)
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        return lens
    before = _measured.get(id(lens))
    if before is not None and before[:2] == (lens, changed):
        return before[2]
    held_out = measurements.read(file, len(model.anatomy.layers) + 1)
    if held_out is None:
        return lens
    while len(_measured) >= KEPT:
        del _measured[next(iter(_measured))]
    _measured[id(lens)] = lens, changed, replace(lens, held_out=held_out)
    return _measured[id(lens)][2]


def locate_lens(name: str, model: LoadedModel, progress: Progress | None = None) -> Path:
    """Return the path that a name leads to, after a download if it is on the hub.

    Raises:
        ScopeError: it leads nowhere.
    """
    if name in KINDS:
        lens_known = next((lens for lens in known(model) if lens.kind == name), None)
        if lens_known is None:
            raise ScopeError(f"no {name} lens is known for {display_text(model.name)}", FORMS)
        file_of_lens = next((file for file in shipped_lenses(model) if file.stem == name), None)
        if file_of_lens is not None:
            return file_of_lens
        name = lens_known.name
    path = Path(expanduser(name))
    if exists(path):  # Path.exists raises for a name that is too long
        return path
    if ":" in name and not name.endswith(":"):
        from llmscope.learned.lenses.hub import fetch_lens

        return fetch_lens(name, progress)
    raise ScopeError(f"there is no lens {one_line(name)}", f"{FORMS}, or org/name:path")


def known(model: LoadedModel) -> Sequence[Known]:
    """Return the lenses known for a model, those on this machine first. Reads no lens."""
    lenses = [Known(file.stem, file.stem) for file in shipped_lenses(model)]
    kinds = {lens.kind for lens in lenses}
    return (
        *lenses,
        *(lens for lens in published_lenses(names_of(model)) if lens.kind not in kinds),
    )


def known_lenses(model: LoadedModel) -> tuple[str, ...]:
    """Return the lenses known for a model that are on this machine."""
    return tuple(file.stem for file in shipped_lenses(model))


def shipped_lenses(model: LoadedModel) -> tuple[Path, ...]:
    """Return the lenses that come with a built-in model, sorted; none for any other model.

    They are also read with an adapter on the model, and the verdict tells so.
    """
    name = model.spec.removeprefix("builtin:")
    if name == model.spec:
        return ()
    return tuple(sorted((builtin.home() / f"{name}-lenses").glob("*.safetensors")))

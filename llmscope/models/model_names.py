"""The names that a model goes by, and whether two may be of the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.models.spec import IN_MEMORY, parse

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel


def alike(first: str, other: str) -> bool:
    """Return whether two names may be of one model: the same behind the owner and the folder."""

    def short(name: str) -> str:
        return (
            name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].rpartition(":")[2].casefold()
        )

    return short(first) == short(other)


def names_of(model: LoadedModel) -> tuple[str, ...]:
    """Return the names that a model goes by: its spec, its name, and the one in its config.

    The spec is without its revision. A model of a program's own has the name in its config alone,
    if there is one.
    """
    config_name = str(getattr(model.module.config, "_name_or_path", "") or "")
    names: tuple[str, ...] = (config_name,)
    if model.spec != IN_MEMORY:
        names = _without_revision(model.spec), model.name, config_name
    return tuple(dict.fromkeys(filter(None, names)))


def _without_revision(text: str) -> str:
    try:
        spec = parse(text)
    except ScopeError:  # a folder that is gone, or the name of a model in memory
        return text
    if spec.revision is None:
        return text
    return text.replace(f"@{spec.revision}", "", 1).replace(f"=={spec.revision}", "", 1)

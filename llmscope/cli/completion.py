"""What a shell offers after tab: models, lenses, modes, themes and workspaces. Imports no torch.

`llmscope --install-completion` puts it into bash, zsh, fish or PowerShell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscope.text import display_text


def models(incomplete: str) -> list[str]:
    """Specs: what is on this machine, and folders and GGUF files below what was typed."""
    found = [*_paths(incomplete)]
    with suppress(Exception):  # a damaged cache must not break a person's shell
        from llmscope.models.local_models import shelf

        found += [model.spec for model in shelf().models]
    return _starting(found, incomplete)


def lenses(incomplete: str) -> list[str]:
    """Lenses, and the whole screen."""
    from llmscope.lenses import names

    return _starting((*names(), "screen"), incomplete)


def modes(ctx: Any, incomplete: str) -> list[str]:
    """The modes of the lenses that the line names; of all, before it names one."""
    from llmscope.lenses import lens, names

    named = [name for name in ctx.params.get("lens") or () if name in names()]
    return _starting((mode for name in named or names() for mode in lens(name).modes), incomplete)


def themes(incomplete: str) -> list[str]:
    """Those that ship, the person's own, and auto."""
    from llmscope.draw.color.theme import theme_names
    from llmscope.draw.color.user_themes import own_theme_names

    return _starting((*theme_names(), *own_theme_names(), "auto"), incomplete)


def workspaces(incomplete: str) -> list[str]:
    """The screen's."""
    from llmscope.tui.state.workspaces import WORKSPACES

    return _starting((workspace.name for workspace in WORKSPACES), incomplete)


def snapshots(incomplete: str) -> list[str]:
    """Files that a snapshot may be in, and folders, below what was typed."""
    here = incomplete.startswith((".", "/", "~"))
    found = _paths(incomplete if here else f"./{incomplete}", (".safetensors", ".json", ".npz"))
    return _starting((path if here else path.removeprefix("./") for path in found), incomplete)


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    found = dict.fromkeys(word for word in words if word.startswith(incomplete))
    # A name with a newline or an escape in it would be run, or drawn, by the shell.
    return [word for word in found if word == display_text(word, whitespace=True)]


def _paths(incomplete: str, suffixes: tuple[str, ...] = (".gguf",)) -> Iterator[str]:
    """Folders, and files with such suffixes, where a path was begun."""
    if not incomplete.startswith((".", "/", "~")):
        return
    head, slash, tail = incomplete.rpartition("/")
    folder = Path(head + slash or ".").expanduser()
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            shown = path.name.startswith(".") <= tail.startswith(".")
            if path.name.startswith(tail) and shown:
                if path.is_dir():
                    yield f"{head}{slash}{path.name}/"
                elif path.suffix.lower() in suffixes:
                    yield f"{head}{slash}{path.name}"

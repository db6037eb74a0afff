"""Shell completion of models, lenses, modes, formats, themes and so on, without torch.

`llmscope --install-completion` installs it for bash, zsh, fish or PowerShell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscope.support.text import display_text


def models(incomplete: str) -> list[str]:
    """Return the specs of local models, and folders and GGUF files below the typed path."""
    names = [*_paths(incomplete)]
    with suppress(Exception):  # a damaged cache must not break the user's shell
        from llmscope.models.local_models import local_models

        names += [model.spec for model in local_models().models]
    return _starting(names, incomplete)


def lenses(incomplete: str) -> list[str]:
    """Return the lenses and `screen`."""
    from llmscope.lenses import names

    return _starting((*names(), "screen"), incomplete)


def modes(ctx: Any, incomplete: str) -> list[str]:
    """Return the modes of the lenses on the command line; of all lenses if it names none."""
    from llmscope.lenses import lens, names

    named = [name for name in ctx.params.get("lens") or () if name in names()]
    return _starting((mode for name in named or names() for mode in lens(name).modes), incomplete)


def formats(incomplete: str) -> list[str]:
    """Return the formats of files."""
    from llmscope.export import formats as known

    return _starting(known(), incomplete)


def backends(incomplete: str) -> list[str]:
    """Return the backends."""
    return _starting(("auto", "transformers", "llama.cpp"), incomplete)


def cache_types(incomplete: str) -> list[str]:
    """Return the types of llama.cpp's KV cache."""
    return _starting(("f16", "f32", "q8_0", "q4_0"), incomplete)


def every(incomplete: str) -> list[str]:
    """Return `all`, which an option of a layer or head takes in place of a number."""
    return _starting(("all",), incomplete)


def themes(incomplete: str) -> list[str]:
    """Return the built-in themes, the user's own themes and `auto`."""
    from llmscope.draw.color.theme import theme_names
    from llmscope.draw.color.user_themes import own_theme_names

    return _starting((*theme_names(), *own_theme_names(), "auto"), incomplete)


def workspaces(incomplete: str) -> list[str]:
    """Return the workspaces of the screen."""
    from llmscope.tui.state.workspaces import WORKSPACES

    return _starting((workspace.name for workspace in WORKSPACES), incomplete)


def translators(incomplete: str) -> list[str]:
    """Return the kinds of learned lenses, and folders and files that may hold one."""
    paths = _paths(incomplete, (".safetensors", ".pt"))
    return _starting(("jacobian", "tuned", *paths), incomplete)


def directions(incomplete: str) -> list[str]:
    """Return folders and files that may hold a direction."""
    return _starting(_paths(incomplete, (".safetensors", ".gguf")), incomplete)


def dictionaries(incomplete: str) -> list[str]:
    """Return the dictionaries of features that ship, and folders that may hold one."""
    from llmscope.models.sources.builtin import home

    shipped = (path.name for path in sorted(home().glob("*-features")))
    return _starting((*shipped, *_paths(incomplete, ())), incomplete)


def snapshots(incomplete: str) -> list[str]:
    """Return folders, and files that may hold a snapshot, below the typed path."""
    here = incomplete.startswith((".", "/", "~"))
    paths = _paths(incomplete if here else f"./{incomplete}", (".safetensors", ".json", ".npz"))
    return _starting((path if here else path.removeprefix("./") for path in paths), incomplete)


def transcripts(incomplete: str) -> list[str]:
    """Return folders, and files that may hold transcripts, below the typed path."""
    here = incomplete.startswith((".", "/", "~"))
    suffixes = (".jsonl", ".ndjson", ".json", ".parquet")
    paths = _paths(incomplete if here else f"./{incomplete}", suffixes)
    return _starting((path if here else path.removeprefix("./") for path in paths), incomplete)


def runs(incomplete: str) -> list[str]:
    """Return the runs that ship, and folders below the typed path."""
    from llmscope.runs.shipped import PREFIX, shipped_runs

    here = incomplete.startswith((".", "/", "~"))
    paths = _paths(incomplete if here else f"./{incomplete}", ())
    folders = (path if here else path.removeprefix("./") for path in paths)
    return _starting((*(PREFIX + name for name in shipped_runs()), *folders), incomplete)


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    matching = dict.fromkeys(word for word in words if word.startswith(incomplete))
    # The shell would run a name with a newline in it, and print an escape sequence in it.
    return [word for word in matching if word == display_text(word, whitespace=True)]


def _paths(incomplete: str, suffixes: tuple[str, ...] = (".gguf",)) -> Iterator[str]:
    """Yield folders, and files with one of `suffixes`, if `incomplete` begins a path."""
    if not incomplete.startswith((".", "/", "~")):
        return
    head, slash, tail = incomplete.rpartition("/")
    folder = Path(head + slash or ".").expanduser()
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            is_shown = path.name.startswith(".") <= tail.startswith(".")
            if path.name.startswith(tail) and is_shown:
                if path.is_dir():
                    yield f"{head}{slash}{path.name}/"
                elif path.suffix.lower() in suffixes:
                    yield f"{head}{slash}{path.name}"

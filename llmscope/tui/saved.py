"""What is kept so that nothing typed or chosen is lost: prompts, the theme, how the screen was."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_state_path


def state_folder() -> Path:
    """Where state is kept: LLMSCOPE_STATE, or the platform's own place."""
    chosen = os.environ.get("LLMSCOPE_STATE")
    return Path(chosen) if chosen else user_state_path("llmscope")


def saved_prompt(spec: str) -> str:
    """The prompt that was on screen when this model was left; empty if there is none."""
    return _read().get(spec, "")


def save_prompt(spec: str, text: str) -> None:
    """Keep the prompt. A folder that cannot be written costs the prompt, never the exit."""
    prompts = _read()
    if prompts.get(spec, "") == text:
        return
    prompts[spec] = text
    _write("prompts.json", json.dumps(prompts))


def saved_theme() -> str | None:
    """The theme that was chosen last; None if none was."""
    try:
        return (state_folder() / "theme").read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def save_theme(name: str) -> None:
    """Remember a theme. A folder that cannot be written costs that, no more."""
    _write("theme", f"{name}\n")


def saved_screen() -> dict[str, Any]:
    """How the screen was left: see `llmscope.tui.kept`; empty if that cannot be read."""
    try:
        found = json.loads((state_folder() / "screen.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def save_screen(record: dict[str, Any]) -> None:
    """Remember how the screen is left. A folder that cannot be written costs that, no more."""
    if record != saved_screen():
        _write("screen.json", json.dumps(record))


def _write(name: str, text: str) -> None:
    """Replace a file of the state folder, whole or not at all."""
    with suppress(OSError):
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(made, folder / name)
        except BaseException:
            os.unlink(made)
            raise


def _read() -> dict[str, str]:
    try:
        found = json.loads((state_folder() / "prompts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): text for key, text in found.items() if isinstance(text, str)}

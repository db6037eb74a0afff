"""Help of a command with its options by subject, and what is of every command at the end."""

from __future__ import annotations

import copy
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand

GENERAL = "General"
_BY_NAME = {
    "Lens": ("lens", "mode", "translator", "features", "direction"),
    "Prompt": ("prompt", "context_file", "chat", "system", "no_special_tokens"),
    "Edits and comparison": ("edit", "change", "versus_prompt", "words_a", "words_b"),
    "Sampling": ("temperature", "sample_top_k", "top_p", "min_p", "seed"),
    "Output": (
        *("out", "force", "format", "json", "size", "scale", "look", "theme", "color", "ascii"),
        *("bandwidth", "export", "listed"),
    ),
    GENERAL: ("quiet", "verbose", "debug", "help"),
}
_PANELS = {name: panel for panel, names in _BY_NAME.items() for name in names}
"""The panels of options that are of no group with a panel of its own."""


def in_panel(annotation: Any, panel: str) -> Any:
    """Return the annotation of an option with its panel, for Typer; an argument's is unchanged."""
    if get_origin(annotation) is not Annotated:
        return annotation
    plain, *details = get_args(annotation)
    copies = [copy.copy(detail) for detail in details]
    for declared in copies:
        if isinstance(declared, typer.models.OptionInfo) and declared.rich_help_panel is None:
            declared.rich_help_panel = panel
    return Annotated[(plain, *copies)]


def panel_of(option: Any) -> str:
    """Return the subject of an option of a command; "" if it has none."""
    name = getattr(option, "name", None) or ""
    if name in _BY_NAME[GENERAL]:
        return GENERAL
    return getattr(option, "rich_help_panel", None) or _PANELS.get(name, "")


def by_panel(options: list[Any]) -> dict[str, list[Any]]:
    """Return options by their subject, in the order of the first one; `General` comes last."""
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(panel_of(option), []).append(option)
    general = panels.pop(GENERAL, [])
    return panels | ({GENERAL: general} if general else {})


class PanelCommand(TyperCommand):
    """A command whose help lists the options by subject, and names the keys of the screen.

    A key stands as `{action}` in the help, and is the user's own; it is filled in where the help is
    read, since that imports the screen.
    """

    @property
    def help(self) -> str | None:
        """The help of the command, with the keys of its actions."""
        text: str | None = self.__dict__.get("help")
        if text is None or "{" not in text:
            return text
        from llmscope.tui.actions.user_keymap import read_keymap

        return read_keymap().filled(text)

    @help.setter  # noqa: A003
    def help(self, text: str | None) -> None:
        self.__dict__["help"] = text

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each subject."""
        params = self.get_params(ctx)
        kinds = {
            "Arguments": [
                parameter for parameter in params if parameter.param_type_name == "argument"
            ],
            **{
                f"{panel} options" if panel else "Options": options
                for panel, options in by_panel(
                    [parameter for parameter in params if parameter.param_type_name != "argument"]
                ).items()
            },
        }
        for title, listed in kinds.items():
            rows = [row for option in listed if (row := option.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

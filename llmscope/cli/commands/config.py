"""`llmscope config`: list the settings, their values and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmscope.cli.options import report_format, shared
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell_plainly
from llmscope.cli.output.streams import put

if TYPE_CHECKING:
    from llmscope.config import FoundSetting


def config(
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Print the config file's path, each setting's value, and who set it.

    A flag is over the environment (LLMSCOPE_DEVICE), that over the file (device = "cpu"). A
    setting that does not exist is an error.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        from llmscope.config import config_path, settings

        found_settings, path = settings(), config_path()
        if as_json:
            from llmscope.export import json_text

            put(
                json_text(
                    {
                        "schema": 1,
                        "path": str(path),
                        "exists": path.is_file(),
                        "settings": {
                            found_setting.setting.name: {
                                "value": found_setting.value,
                                "origin": found_setting.origin,
                                "variable": found_setting.setting.variable,
                            }
                            for found_setting in found_settings
                        },
                    }
                )
            )
            return
        put(_settings_table(found_settings))
        from llmscope.support.text import display_text

        state = "" if path.is_file() else " (not there)"
        tell_plainly(f"file: {display_text(str(path))}{state}")


def _settings_table(found_settings: Sequence[FoundSetting]) -> str:
    from llmscope.cli.output.table import table

    rows = [("setting", "value", "from", "")]
    rows += [
        (
            found_setting.setting.name,
            _format_setting(found_setting),
            found_setting.origin,
            found_setting.setting.about,
        )
        for found_setting in found_settings
    ]
    return table(rows)


def _format_setting(setting: FoundSetting) -> str:
    if setting.value is None:
        return setting.setting.otherwise
    return str(setting.value).lower() if isinstance(setting.value, bool) else str(setting.value)

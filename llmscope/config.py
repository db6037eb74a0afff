"""Persistent settings. Precedence: flags, environment, config file, built-in defaults.

```toml
model = "gpt2"
device = "cpu"
theme = "abyss"

[keys]
copy = "Y"
```

Each setting has the name of the command-line option of the same meaning, and its environment
variable is that name after `LLMSCOPE_`. Options that let foreign code run (`--trust-remote-code`,
`--allow-pickle`) or other machines connect (`--host`) are not settings: pass them each time.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmscope.errors import ScopeError
from llmscope.support.dtypes import ALIASES, DTYPES
from llmscope.support.lines import read_toml
from llmscope.support.text import nearest, quoted_text

CONFIG = "config.toml"
PREFIX = "LLMSCOPE_"
KEYS = "keys"
"""The section of the user's own keys, which `llmscope.tui.actions.user_keymap` reads."""
FOLDERS = ("CONFIG", "CACHE", "STATE")
"""Environment variables that name folders, and therefore cannot be set in the config file."""

Origin = Literal["default", "file", "environment"]
Value = str | int | bool | None


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: the key in the file and the option `--name`; the model is an argument instead.
        about: a description of the setting.
        choices: the accepted values; empty for any text.
        kind: the type of the value in the file.
        usual: the default value; None: it is determined at each start, or not set.
        otherwise: the meaning of None, in words.
        aliases: other names of values, in small letters, each with the usual one.
    """

    name: str
    about: str
    choices: tuple[str, ...] = ()
    kind: type = str
    usual: Value = None
    otherwise: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return PREFIX + self.name.upper()

    def read(self, value: object, where: str) -> Value:
        """Return a value from the file if it is valid for this setting.

        Args:
            value: the value to check.
            where: the source of the value, for error messages.

        Raises:
            ScopeError: the value is not valid.
        """
        if isinstance(value, str):
            value = self.aliases.get(value.lower(), value)
        if self.kind is str and isinstance(value, str) and (value or not self.choices):
            if self.choices and value not in self.choices:
                raise ScopeError(
                    f"{where}: {quoted_text(value)} is no {self.name}",
                    f"{_hint(value, self.choices)}one of {', '.join(self.choices)}",
                )
            return value
        if self.kind is bool and isinstance(value, bool):
            return value
        if self.kind is int and isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ScopeError(f"{where}: {self.name} = {value} is too small", "1 or more")
            return value
        raise ScopeError(
            f"{where}: {quoted_text(str(value))} is no {self.name}", self.words(quoted=True)
        )

    def spelt(self, text: str, where: str) -> Value:
        """Parse the text of an environment variable.

        Raises:
            ScopeError: the text is not a valid value.
        """
        if self.kind is bool:
            known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            return self.read(known.get(text.lower(), text), where)
        if self.kind is int:
            return self.read(int(text) if text.isascii() and text.isdigit() else text, where)
        return self.read(text, where)

    def words(self, *, quoted: bool = False) -> str:
        """Describe the accepted values; if `quoted`, as they are written in the file."""
        if self.kind is bool:
            return "true or false"
        if self.kind is int:
            return "a number"
        if self.choices:
            return ", ".join(f'"{choice}"' if quoted else choice for choice in self.choices)
        return "text in quotes" if quoted else "text"


SETTINGS: tuple[Setting, ...] = (
    Setting("model", "the model that opens where none is named", otherwise="the built-in one"),
    Setting("device", "auto, cpu, cuda, cuda:N, mps or spread", usual="auto"),
    Setting(*("dtype", "numbers to compute in", ("auto", *DTYPES), str, "auto"), aliases=ALIASES),
    Setting("threads", "threads on a CPU", kind=int, otherwise="by the size of the model"),
    Setting("memory", "for the tokens of long prompts, such as 8GB", usual="1.5GB"),
    Setting(
        "theme",
        "colours; auto: dark or light, as the terminal is",
        otherwise="chosen last, or auto",
    ),
    Setting("color", "how many colours", ("auto", "truecolor", "256", "16", "none"), str, "auto"),
    Setting("ascii", "draw with ASCII alone", kind=bool, otherwise="by the locale"),
    Setting(
        "bandwidth", "what to send the terminal", ("auto", "high", "low", "textual"), str, "auto"
    ),
    Setting("port", "where llmscope serve listens", kind=int, usual=8000),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class FoundSetting:
    """The value of a setting, and where it was set."""

    setting: Setting
    value: Value
    origin: Origin


def config_folder() -> Path:
    """Return the config folder: LLMSCOPE_CONFIG, XDG_CONFIG_HOME or the platform default."""
    chosen = os.environ.get("LLMSCOPE_CONFIG")
    if chosen:
        return Path(chosen).expanduser()
    general = os.environ.get("XDG_CONFIG_HOME")
    if general:
        return Path(general) / "llmscope"
    import platformdirs

    return platformdirs.user_config_path("llmscope")


def config_path() -> Path:
    """Return the path of the config file."""
    return config_folder() / CONFIG


def read_file() -> Mapping[str, Any]:
    """Read the config file; return an empty mapping if it does not exist.

    Raises:
        ScopeError: the file cannot be read, or is not TOML.
    """
    path = config_path()
    try:
        return read_toml(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "unreadable"
        raise ScopeError(f"{CONFIG}: {reason}", f"fix {path}, or move it away") from error


def settings(environ: Mapping[str, str] | None = None) -> tuple[FoundSetting, ...]:
    """Return each setting with its value, from the environment, the file, or the default.

    Args:
        environ: the environment variables; None: those of the process.

    Raises:
        ScopeError: an unknown setting is set, or a value is not valid.
    """
    environ = os.environ if environ is None else environ
    record = read_file()
    _check_known(record, [*BY_NAME, KEYS], CONFIG)
    if not isinstance(record.get(KEYS, {}), dict):
        raise ScopeError(f"{CONFIG}: keys is a section", '[keys], then action = "key"')
    ours = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    variables = {setting.variable: setting for setting in SETTINGS}
    folders = [PREFIX + name for name in FOLDERS]
    _check_known(ours, [*variables, *folders], "the environment")
    return tuple(_found(setting, ours, record) for setting in SETTINGS)


def effective() -> dict[str, Value]:
    """Return the values set in the environment or the file, by name.

    Raises:
        ScopeError: see `settings`.
    """
    return {
        setting.setting.name: setting.value for setting in settings() if setting.origin != "default"
    }


def _hint(written: str, known: Collection[str]) -> str:
    """Return `NAME, the nearest; `, or an empty string if no name is similar."""
    near = nearest(written, known)
    return f"{near}, the nearest; " if near else ""


def _found(setting: Setting, environ: Mapping[str, str], record: Mapping[str, Any]) -> FoundSetting:
    if environ.get(setting.variable):  # an empty variable counts as unset
        text = environ[setting.variable]
        return FoundSetting(setting, setting.spelt(text, setting.variable), "environment")
    if setting.name in record:
        return FoundSetting(setting, setting.read(record[setting.name], CONFIG), "file")
    return FoundSetting(setting, setting.usual, "default")


def _check_known(
    written: Iterable[str],
    known: Collection[str],
    where: str,
) -> None:
    for name in written:
        if name not in known:
            raise ScopeError(
                f"{where}: there is no setting {quoted_text(name)}",
                f"{_hint(name, known)}llmscope config lists them all",
            )

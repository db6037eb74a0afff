"""The checks of `llmscope doctor`: versions, machine, terminal, folders and hub settings."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from llmscope.support.distributions import FULL, LIGHT, clash, left_out
from llmscope.support.text import error_line
from llmscope.version import __version__, installed

if TYPE_CHECKING:
    from llmscope.models.loading.hardware import Hardware
    from llmscope.models.loading.nvidia_smi import Driver, SmiCalls

PACKAGES = (
    *("torch", "transformers", "textual", "plotext", "numpy", "safetensors"),
    *("huggingface-hub", "accelerate", "gguf", "resvg-py"),
)
TERMINAL = ("TERM", "COLORTERM", "NO_COLOR", "COLORFGBG", "LC_ALL", "LC_CTYPE", "LANG")
HUB = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE")


def checkup() -> dict[str, Any]:
    """Return the results by section; `missing` lists problems, each with what to try."""
    from llmscope.models.loading.nvidia_smi import ask

    question = ask()  # it answers while torch is imported
    machine, complaints = hardware(question)
    driver = question.answer()
    checks: dict[str, Any] = {
        "versions": versions(),
        "machine": machine,
        "driver": None if driver is None else asdict(driver),
        "quantised": check_quantised(machine),
        "terminal": terminal(os.environ),
        "folders": folders(),
        "hub": hub(os.environ),
    }
    complaints += missing(checks)
    checks["missing"] = [{"what": what, "try": hint} for what, hint in complaints]
    return checks


def hardware(question: SmiCalls) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """Return devices, cores and threads as torch sees them, and problems with what to try.

    The first is None if torch cannot be imported.

    Args:
        question: what NVIDIA's driver was asked.
    """
    try:
        from llmscope.models.loading.hardware import hardware as look

        machine = look(question.answer())
    except Exception as error:  # doctor must work in a broken installation
        light = left_out(error)
        if light is not None:
            return None, [(f"no model can be opened: {light.message}", light.hint)]
        reason = error_line(error)
        return None, [
            (f"torch cannot be imported: {reason}", "pip install --force-reinstall torch")
        ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return asdict(machine) | {"visible": visible}, list(
        _unseen(machine, question.answer(), visible)
    )


def _unseen(
    machine: Hardware, driver: Driver | None, visible: str | None
) -> Iterator[tuple[str, str]]:
    """Yield why torch sees no GPU, or not all that there are, each with what to try."""
    if driver is None:
        return
    if driver.error:
        what = "the driver from its maker, or a restart where it was updated since"
        yield f"NVIDIA's driver does not answer: {driver.error}", what
        return
    count = sum(device.name.startswith("cuda") for device in machine.devices)
    if count or machine.rocm:
        return
    if machine.cuda is None:
        what = "there is an NVIDIA driver, but this torch was built without CUDA"
        yield what, "the torch of pytorch.org that matches the driver"
    elif visible is not None:
        yield f"CUDA_VISIBLE_DEVICES={visible} hides the GPUs from torch", "unset it"
    elif driver.cuda is not None and _version(driver.cuda) < _version(machine.cuda):
        what = (
            f"the driver supports CUDA up to {driver.cuda}, and torch is built for {machine.cuda}"
        )
        yield what, "a newer driver, or the torch of pytorch.org that matches this one"
    else:
        yield "the driver has GPUs that torch cannot use", "python -m torch.utils.collect_env"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def check_quantised(machine: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how far quantised weights run on the device of `--device auto`."""
    from llmscope.models.files.quantization_support import support

    name, capability = "cpu", None
    if machine is not None and machine["auto"] != "cpu":
        name = machine["auto"]
        first = next(
            (device for device in machine["devices"] if device["name"].startswith(name)), None
        )
        if first is not None and first["capability"]:
            capability = _version(first["capability"])
    methods = support(name, None if capability is None else (capability[0], capability[1]))
    return {"device": name, "methods": [asdict(method) for method in methods]}


def versions() -> dict[str, str | None]:
    """Return the versions of packages; None for a package that is not installed."""
    by_package: dict[str, str | None] = {
        "llmscope": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
    return by_package | {package: installed(package) for package in PACKAGES}


def terminal(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the terminal's environment variables, and what llmscope concludes from them."""
    from llmscope.draw import detect_render_options
    from llmscope.draw.render_options import explain_tier
    from llmscope.tui.terminal.bandwidth import bandwidth

    look, (tier, why) = detect_render_options(environ=environ), explain_tier(environ)
    columns, rows = get_terminal_size()
    return {
        **{name: environ.get(name) for name in TERMINAL},
        "stdout": sys.stdout.isatty(),
        "size": f"{columns}x{rows}",
        "multiplexer": next((n.lower() for n in ("TMUX", "STY") if environ.get(n)), None),
        "ssh": "SSH_CONNECTION" in environ,
        "bandwidth": bandwidth("auto", environ).name,
        "colours": tier,
        "because": why,
        "characters": "ascii" if look.ascii else "unicode",
        **_theme(environ, tier),
    }


def _theme(environ: Mapping[str, str], tier: str) -> dict[str, Any]:
    """Return the theme that the screen would have, and why."""
    from llmscope.draw import DEFAULT_THEME
    from llmscope.tui.session.state_file import read_state
    from llmscope.tui.terminal.background_color import asking

    saved = read_state().get("theme", str)
    with asking(environ, tier != "none") as question:
        answer = question.answer()
    background = "unknown" if answer.dark is None else "dark" if answer.dark else "light"
    theme = saved or ("light" if answer.dark is False else DEFAULT_THEME)
    return {
        "background": f"{background}: {answer.why}" if answer.why else background,
        "theme": f"{theme}, which was chosen last" if saved else theme,
    }


def folders() -> dict[str, dict[str, Any]]:
    """Return llmscope's folders, and whether each can be written."""
    from llmscope.config import config_folder
    from llmscope.models.files.cache import cache_folder
    from llmscope.tui.session.state_folder import state_folder

    places = {"cache": cache_folder(), "state": state_folder()}
    known_folders: dict[str, dict[str, Any]] = {
        name: {"path": str(path), "writable": _writable(path)} for name, path in places.items()
    }
    # llmscope only reads this folder.
    return known_folders | {"config": {"path": str(config_folder()), "writable": None}}


def _writable(folder: Path) -> bool:
    """Return whether files can be created in a folder; if it does not exist, in its parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with suppress(OSError), tempfile.TemporaryFile(dir=folder):
        return True
    return False


def hub(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the hub's settings. For the token, only whether it is set.

    What huggingface_hub knows is None where the light distribution leaves it out.
    """
    endpoint = environ.get("HF_ENDPOINT")
    settings = {
        **{name: environ.get(name) for name in HUB},
        "HF_ENDPOINT": None if endpoint is None else _without_secrets(endpoint),
    }
    try:
        from huggingface_hub import constants, get_token
    except ModuleNotFoundError:
        return settings | dict.fromkeys(("endpoint", "cache", "offline", "token"))
    return settings | {
        "endpoint": _without_secrets(constants.ENDPOINT),
        "cache": str(constants.HF_HUB_CACHE),
        "offline": bool(constants.HF_HUB_OFFLINE),
        "token": get_token() is not None,
    }


def _without_secrets(address: str) -> str:
    """Return an address without user name and password, safe to paste into a bug report."""
    return re.sub(r"//[^/@]*@", "//", address)


def missing(checks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield problems, each with what to try."""
    both = clash()
    if both is not None:
        yield both
    yield from _unmet()
    if checks["versions"]["resvg-py"] is None:
        yield "png needs resvg-py", "pip install resvg-py"
    if checks["machine"] is not None and find_spec("pip") is None:
        yield "pypi: needs pip, and this Python has none", "python -m ensurepip"
    for name, folder in checks["folders"].items():
        if folder["writable"] is False:
            variable = f"LLMSCOPE_{name.upper()}"
            yield f"the {name} folder {folder['path']} cannot be written", f"set {variable}"
    if checks["hub"]["offline"]:
        yield "HF_HUB_OFFLINE keeps the hub out", "unset it to download models"
    yield from _terminal_wants(checks["terminal"])


def _terminal_wants(terminal: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if terminal["colours"] in ("16", "none") and not terminal["NO_COLOR"]:
        yield (
            f"the terminal names itself {terminal['TERM'] or 'nothing'}, which means few colours",
            "COLORTERM=truecolor, if it shows 24 bits (ssh does not pass that on)",
        )
    if terminal["characters"] == "ascii":
        yield "the locale is not UTF-8, so pictures are ASCII", "LANG=C.UTF-8"


def _unmet() -> Iterator[tuple[str, str]]:
    """Yield requirements of llmscope that are missing or installed in an unsupported version."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    wanted = None
    for name in (FULL, LIGHT):
        with suppress(PackageNotFoundError):
            wanted = wanted or requires(name)
    if wanted is None:
        return  # run from a checkout, without package metadata
    for requirement in map(Requirement, wanted):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        has = installed(requirement.name)
        if has is None:
            yield f"{requirement.name} is not installed", f"pip install '{requirement}'"
        elif not requirement.specifier.contains(has, prereleases=True):
            below = [each.version for each in requirement.specifier if each.operator == "<"]
            if any(Version(has) >= Version(bound) for bound in below):
                what = f"{requirement.name} {has} is newer than tested, which is below {below[0]}"
            else:
                what = f"{requirement.name} {has} is installed, and llmscope needs {requirement}"
            yield what, f"pip install '{requirement}'"

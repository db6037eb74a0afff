"""Which quantised checkpoints run on a device: the packages and hardware that each method needs.

A table, so that nothing has to be imported to answer: transformers' quantizers take seconds, and
name only the first thing that is missing. They decide when a model loads
(`llmscope.models.files.quantized`); the tests hold this table against them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement

from llmscope.version import installed

Capability = tuple[int, int]


@dataclass(frozen=True)
class Method:
    """A way of quantising weights.

    Attributes:
        name: as users know it.
        method: its `quant_method` in a config.json.
        packages: the requirements of its packages; `kernels` is wanted in the versions that the
            installed transformers asks for.
        capability: the least compute capability of NVIDIA's GPUs; None: any.
        on_cpu: whether it runs on a CPU.
        unpacks: whether transformers unpacks the weights to bfloat16 where it cannot run.
    """

    name: str
    method: str
    packages: tuple[str, ...]
    capability: Capability | None = None
    on_cpu: bool = True
    unpacks: bool = False


METHODS = (
    Method("bitsandbytes 8 bit", "bitsandbytes", ("bitsandbytes>=0.46.1",), (7, 5)),
    Method("bitsandbytes 4 bit", "bitsandbytes", ("bitsandbytes>=0.46.1",), (6, 0)),
    Method("torchao", "torchao", ("torchao>=0.15.0",)),
    Method("GPTQ", "gptq", ("gptqmodel>=1.4.3", "optimum>=1.24.0")),
    Method("AWQ", "awq", ("gptqmodel",)),
    Method("compressed-tensors", "compressed-tensors", ("compressed-tensors>=0.15.0",)),
    Method("FP8 in blocks", "fp8", ("kernels",), (8, 9), False, unpacks=True),
    Method("FP8 of FBGEMM", "fbgemm_fp8", ("fbgemm-gpu",), (9, 0), on_cpu=False),
    Method("MXFP4", "mxfp4", ("kernels", "triton>=3.4.0"), (7, 5), unpacks=True),
)


@dataclass(frozen=True)
class Support:
    """How far quantised weights run on a device.

    Attributes:
        name, method: of the method.
        runs: yes, no, or unpacked: to bfloat16, in four times the memory of 4 bits.
        packages: the installed version of each package; None for one that is not installed.
        hardware: whether the device can run it; None if that is not known.
        why: why it does not run; empty if it does.
        hint: what to try; empty if there is nothing to do.
    """

    name: str
    method: str
    runs: str
    packages: dict[str, str | None]
    hardware: bool | None
    why: str = ""
    hint: str = ""


def support(device: str, capability: Capability | None) -> Iterator[Support]:
    """Yield how far each method runs on a device.

    Args:
        device: cpu, cuda or another kind.
        capability: the compute capability of one of NVIDIA's GPUs; None for others.
    """
    for method in METHODS:
        yield _support(method, device, capability)


def _support(method: Method, device: str, capability: Capability | None) -> Support:
    wanted = requirements(method)
    packages = {requirement.name: installed(requirement.name) for requirement in wanted}
    able = _able(method, device, capability)
    lacking = [
        requirement for requirement in wanted if not _meets(requirement, packages[requirement.name])
    ]
    why = hint = ""
    if able is False:
        why = _needs(method, device, capability)
    elif lacking:
        why = ", ".join(_lack(requirement, packages[requirement.name]) for requirement in lacking)
        hint = "pip install " + " ".join(shlex.quote(str(requirement)) for requirement in lacking)
    elif able is None:
        why = "whether it runs on this device is not known"
    runs = "yes" if not why else "unpacked" if method.unpacks else "unknown"
    if runs == "unknown" and (able is False or lacking):
        runs = "no"
    return Support(method.name, method.method, runs, packages, able, why, hint)


def requirements(method: Method) -> list[Requirement]:
    """Return the requirements of a method's packages, with what transformers asks of `kernels`."""
    wanted = [Requirement(package) for package in method.packages]
    return [_of_transformers() if package.name == "kernels" else package for package in wanted]


def _of_transformers() -> Requirement:
    """Return what the installed transformers asks of `kernels`; without it, any version will do."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        texts = requires("transformers") or []
    except PackageNotFoundError:
        texts = []
    of_all = (Requirement(text) for text in texts)
    specifier = next((str(each.specifier) for each in of_all if each.name == "kernels"), "")
    return Requirement(f"kernels{specifier}")


def _able(method: Method, device: str, capability: Capability | None) -> bool | None:
    """Return whether the hardware can run a method; None if that is not known."""
    if device == "cpu":
        return method.on_cpu
    if capability is None:  # of another maker than NVIDIA
        return None
    return method.capability is None or capability >= method.capability


def _needs(method: Method, device: str, capability: Capability | None) -> str:
    if device == "cpu" or capability is None or method.capability is None:
        return "it needs a GPU"
    needed, has = (".".join(map(str, number)) for number in (method.capability, capability))
    return f"it needs compute capability {needed}, and this GPU has {has}"


def _meets(wanted: Requirement, has: str | None) -> bool:
    return has is not None and wanted.specifier.contains(has, prereleases=True)


def _lack(wanted: Requirement, has: str | None) -> str:
    if has is None:
        return f"{wanted.name} is not installed"
    return f"{wanted.name} is {has}"

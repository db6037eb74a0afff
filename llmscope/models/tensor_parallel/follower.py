"""What the ranks other than 0 do: hold their shards, and compute with them when rank 0 asks."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from llmscope.models.tensor_parallel.leader import split_modules, times
from llmscope.models.tensor_parallel.plan import distributed
from llmscope.models.tensor_parallel.processes import LOAD, STOP, TRANSPOSE, Processes
from llmscope.support.text import error_line


def follow() -> None:
    """Do what rank 0 says until it ends. The terminal is rank 0's alone."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(null, stream.fileno())
    processes = Processes()
    processes.join()
    models: dict[int, list[nn.Module]] = {}
    while True:
        try:
            command, values, tensors = processes.receive()
        except RuntimeError:  # rank 0 is gone
            return
        if command == STOP:
            return
        if command == LOAD:
            models = {number: models[number] for number in models if number in values["kept"]}
            failure = ""
            try:
                models[values["model"]] = split_modules(load_shards(processes, **values["load"]))
            except Exception as error:  # rank 0 reports it
                failure = error_line(error)
            processes.gather(failure)
            continue
        module = models[values["model"]][values["module"]]
        with torch.no_grad():
            if command == TRANSPOSE:
                times(tensors[0], module.weight)
            else:
                module.forward(*tensors)


def load_shards(processes: Processes, *, dtype: str | None, **settings: Any) -> Any:
    """Return a model of which this process has its shards.

    Args:
        processes: all processes.
        dtype: the name of the dtype; None means the checkpoint's own.
        settings: those that `leader.load_split` sends.
    """
    from transformers import AutoModelForCausalLM

    plan, folder = settings.pop("plan"), settings.pop("folder")
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto" if dtype is None else getattr(torch, dtype),
        local_files_only=True,
        distributed_config=distributed(processes.count, plan),
        **settings,
    ).eval()

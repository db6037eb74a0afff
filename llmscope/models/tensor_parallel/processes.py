"""The processes that torchrun started, and what rank 0 tells the others to do.

Each command is one header, broadcast on the CPU: JSON in a fixed number of bytes. The tensors that
it announces follow. Ranks other than 0 do nothing but wait for the next header.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from llmscope.errors import ScopeError

HEADER = 8192
"""Bytes of a header."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""The environment variable by which a process knows that torchrun started it."""
WAIT = timedelta(days=365)
"""How long a rank waits for the next command: a user may think for a while."""

LOST = "a pass was broken off while other processes computed their share of it"
STOP, LOAD, CALL, TRANSPOSE = "stop", "load", "call", "transpose"
"""What the others do: end, load their shards, run a module, multiply by its weight transposed."""


def rank() -> int | None:
    """Return the rank of this process among those of torchrun; None without others."""
    if TORCHRUN not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    return int(os.environ["RANK"])


class Processes:
    """This process and the others that torchrun started.

    Attributes:
        count: the number of processes.
        device: the device of this one: the GPU with its local rank, or the CPU.
    """

    def __init__(self) -> None:
        self.count = int(os.environ["WORLD_SIZE"])
        self._local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", self._local) if cuda else torch.device("cpu")
        self._lock = RLock()
        self._within = False  # whether the others wait for what a header announced

    def join(self) -> None:
        """Wait for the other processes, once."""
        import torch.distributed as dist

        if dist.is_initialized():
            return
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=WAIT)

    def send(self, command: str, tensors: Sequence[Tensor] = (), **values: Any) -> Sending:
        """Tell the other processes to do something, in a `with` block that does the same here.

        Args:
            command: STOP, LOAD, CALL or TRANSPOSE.
            tensors: sent after the header, each as it is.
            values: what else they need to know, as JSON has it.
        """
        return Sending(self, command, tensors, values)

    def receive(self) -> tuple[str, dict[str, Any], list[Tensor]]:
        """Wait for a command of rank 0; return it with its values and tensors."""
        import torch.distributed as dist

        header = torch.empty(HEADER, dtype=torch.uint8)
        dist.broadcast(header, 0)
        message = json.loads(header.numpy().tobytes().rstrip(b"\0"))
        tensors = []
        for dtype, shape in message.pop("tensors"):
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            dist.broadcast(tensor, 0)
            tensors.append(tensor)
        return message.pop("command"), message, tensors

    def gather(self, text: str) -> list[str]:
        """Return a text of each process, by rank."""
        import torch.distributed as dist

        texts: list[Any] = [""] * self.count
        dist.all_gather_object(texts, text)
        return texts

    def stop(self) -> None:
        """End the other processes, unless they wait for something else: they end with this one."""
        if not self._within:
            self.join()
            with self.send(STOP):
                pass


class Sending:
    """A command under way: see `Processes.send`."""

    def __init__(
        self,
        processes: Processes,
        command: str,
        tensors: Sequence[Tensor],
        values: Mapping[str, Any],
    ) -> None:
        self._processes, self._tensors = processes, [tensor.contiguous() for tensor in tensors]
        kinds = [
            (str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
            for tensor in self._tensors
        ]
        self._told = {"command": command, "tensors": kinds, **values}

    def __enter__(self) -> None:
        import torch.distributed as dist

        text = json.dumps(self._told).encode()
        if len(text) > HEADER:
            raise ValueError(f"a command of {len(text)} bytes is longer than {HEADER}")
        self._processes._lock.acquire()
        if self._processes._within:
            self._processes._lock.release()
            raise ScopeError(LOST, "the same command again")
        self._processes._within = True
        header = torch.zeros(HEADER, dtype=torch.uint8)
        header[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(header, 0)
        for tensor in self._tensors:
            dist.broadcast(tensor, 0)

    def __exit__(self, kind: object, *_: object) -> None:
        # After an exception the others wait for a share that never comes.
        self._processes._within = kind is not None
        self._processes._lock.release()


_leader: Processes | None = None


def lead() -> None:
    """Make this process, of rank 0, the one that splits the models it loads over all processes."""
    global _leader
    _leader = Processes()
    # Programs that this one starts, such as the pages of `llmscope serve`, are no ranks.
    os.environ.pop(TORCHRUN, None)
    atexit.register(_leader.stop)


def leader() -> Processes | None:
    """Return the processes over which this one splits the models it loads; None without others."""
    return _leader

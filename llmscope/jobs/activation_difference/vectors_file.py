"""The file of a difference: one vector for each layer and token, as edits that steer read it."""

from __future__ import annotations

import json
from pathlib import Path

from llmscope.jobs.activation_difference.difference import ActivationDifference
from llmscope.support.fsync import write_file

NAME = "difference.safetensors"


def write_difference(difference: ActivationDifference, path: Path) -> None:
    """Write the mean differences as safetensors, replacing a file of that name atomically.

    The tensor `15` is the difference after layer 15, the mean over the tokens; `15.0` that at the
    first token. The edit `steer 15 difference.safetensors:15 2` adds the tensor `15` to the stream
    with strength 2.

    Raises:
        ScopeError: the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {}
    for layer in range(len(difference.mean)):
        tensors[str(layer)] = difference.direction(layer)
        for token in range(difference.tokens):
            tensors[f"{layer}.{token}"] = difference.direction(layer, token)
    record = difference.to_dict()
    about = {name: record[name] for name in ("a", "b", "layer", "tokens", "texts", "verdict")}
    header = {"activation_difference": json.dumps(about)}
    # Copies: safetensors refuses tensors that share memory.
    data = save({name: tensor.clone() for name, tensor in tensors.items()}, header)
    write_file(path, data, "another folder")

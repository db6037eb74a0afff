"""Recorders on models that need no tokenizer."""

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Prompt


def prompt_of(ids):
    """A prompt of ids whose labels are the ids."""
    return Prompt(tuple(ids), tuple(map(str, ids)), (False,) * len(ids))


def recorder_for(model, **anatomy_changes):
    """A recorder on a transformers model; `anatomy_changes` replace what was found."""
    from dataclasses import replace

    anatomy = replace(find(model), **anatomy_changes)
    parameter = next(model.parameters())
    return Recorder(
        LoadedModel("test", "test", model, None, anatomy, parameter.device, parameter.dtype)
    )

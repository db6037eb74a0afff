"""Checkpoints on disk for the tests of loading, made when they are needed."""

import json

from tests.families import small_model


def save_model(folder, family="llama", **changes):
    """A small random model of that family, saved as transformers saves it, without a tokenizer."""
    model = small_model(family, **changes)
    model.save_pretrained(folder)
    return model


def edit_config(folder, **changes):
    """Change entries of a config.json; None takes one out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def write_config(folder, **config):
    """A config.json without weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


class Heard:
    """A progress callback that remembers."""

    def __init__(self):
        self.calls = []

    def __call__(self, stage, done, total):
        self.calls.append((stage, done, total))

    @property
    def stages(self):
        return list(dict.fromkeys(stage for stage, _, _ in self.calls))

    @property
    def tasks(self):
        """The stages without their notes, such as how many tensors are done."""
        return list(dict.fromkeys(stage.partition(" (")[0] for stage in self.stages))

    def last(self, word):
        """Done and total of the last report of the stage that has the word."""
        return next((d, t) for stage, d, t in reversed(self.calls) if word in stage)

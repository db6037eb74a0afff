"""The schema that ships, as a validator."""

import json
from importlib.resources import files

from jsonschema import Draft202012Validator

SCHEMA = json.loads((files("llmscope.export") / "snapshot.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def faults(record):
    """What the schema finds wrong with a snapshot: where, and what."""
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(record)]

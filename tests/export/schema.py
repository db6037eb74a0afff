"""The schema that ships, as a validator."""

from jsonschema import Draft202012Validator

from llmscope.export import snapshot_schema

SCHEMA = snapshot_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def faults(record):
    """What the schema finds wrong with a snapshot: where, and what."""
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(record)]

"""Edits to the forward pass as values, and the grammar in which the user writes them.

Every module may import this package: it depends on no model.
"""

from llmscope.edits.edit import (
    EVERYWHERE,
    Action,
    Edit,
    FeatureName,
    Own,
    Part,
    Receiver,
    Vector,
    Where,
    number,
    read_prompt_b,
)
from llmscope.edits.grammar import EXAMPLES, GRAMMAR, PATTERNS
from llmscope.edits.own import own_edit
from llmscope.edits.parse import ABLATIONS, INSIDE, NORMS, SHARED, WHOLE, parse, parse_receiver
from llmscope.edits.place_kinds import PLACE_KINDS, PlaceKind

__all__ = [
    "ABLATIONS",
    "EVERYWHERE",
    "EXAMPLES",
    "GRAMMAR",
    "INSIDE",
    "NORMS",
    "PATTERNS",
    "PLACE_KINDS",
    "SHARED",
    "WHOLE",
    "Action",
    "Edit",
    "FeatureName",
    "Own",
    "Part",
    "PlaceKind",
    "Receiver",
    "Vector",
    "Where",
    "number",
    "own_edit",
    "parse",
    "parse_receiver",
    "read_prompt_b",
]

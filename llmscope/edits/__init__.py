"""Edits to the pass: what is changed where, and by what; and how a person writes that.

Everyone may import this: it knows no model.
"""

from llmscope.edits.edit import EVERYWHERE, Action, Edit, Part, Vector, Where, number
from llmscope.edits.grammar import EXAMPLES, GRAMMAR, PATTERNS
from llmscope.edits.parse import ABLATIONS, INSIDE, NORMS, WHOLE, parse

__all__ = [
    "ABLATIONS",
    "EVERYWHERE",
    "EXAMPLES",
    "GRAMMAR",
    "INSIDE",
    "NORMS",
    "PATTERNS",
    "WHOLE",
    "Action",
    "Edit",
    "Part",
    "Vector",
    "Where",
    "number",
    "parse",
]

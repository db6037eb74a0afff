"""What a lens computes: numbers along named axes, with a verdict."""

from llmscope.figure.figure import (
    LAYER_HEAD,
    MISSING,
    SIGNED_WEIGHT,
    TRAINING_STEP,
    VERIFIED,
    Axis,
    Figure,
    Focus,
    Form,
    Status,
    Verdict,
    plain,
)
from llmscope.figure.kinds import Kind

__all__ = [
    "LAYER_HEAD",
    "MISSING",
    "SIGNED_WEIGHT",
    "TRAINING_STEP",
    "VERIFIED",
    "Axis",
    "Figure",
    "Focus",
    "Form",
    "Kind",
    "Status",
    "Verdict",
    "plain",
]

"""A metric of the caller's own, in place of the logit of a target: a function of the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.errors import WrongValueError
from llmscope.lenses.options import LensOption
from llmscope.support.arguments import quote_value
from llmscope.support.text import display_text, typed_error_line

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.figure import Focus

METRIC = LensOption[Callable[[Any], Any] | None](
    "metric", "function", None, "In Python: a function of the logits after the token. [token]"
)


@dataclass(frozen=True, eq=False)
class MetricTarget:
    """What a metric of the caller's own says of logits."""

    function: Callable[[Tensor], Any]

    unit = "metric"
    key = None
    """Nothing is kept for a function, which may close over what changes."""

    @classmethod
    def of(cls, focus: Focus) -> MetricTarget | None:
        """Return the metric of a focus; None if it has none.

        Raises:
            ValueError: there is a target as well.
        """
        function = METRIC.of(focus)
        if function is None:
            return None
        if focus.target is not None or focus.versus is not None:
            raise WrongValueError("metric stands in place of target and versus: give one of them")
        return cls(function)

    def __str__(self) -> str:
        kind = type(self.function).__name__
        return display_text(str(getattr(self.function, "__name__", kind)))

    @property
    def phrase(self) -> str:
        """What is measured, for titles."""
        return str(self)

    @property
    def extra(self) -> dict[str, Any]:
        """The entries of the figure's `extra`."""
        return {"metric": str(self)}

    def value(self, logits: Tensor) -> Tensor:
        """Return the metric of each row of logits, with its gradient. `[..., token]` -> [...]

        Raises:
            ValueError: the function failed, or returned something else than one number.
        """
        import torch

        values = []
        for row in logits.reshape(-1, logits.shape[-1]):
            try:
                number = self.function(row)
            except Exception as error:  # a metric is the caller's code
                raise WrongValueError(
                    f"metric: {self} failed: {typed_error_line(error)}"
                ) from error
            number = number if isinstance(number, torch.Tensor) else torch.as_tensor(number)
            if number.numel() != 1 or number.is_complex():
                raise WrongValueError(f"metric must return one number, not {quote_value(number)}")
            values.append(number.reshape(()))
        return torch.stack(values).view(logits.shape[:-1])

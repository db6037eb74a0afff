"""How far a learned lens can be trusted: its predictions on held-out text, layer by layer.

Each reading is compared with the model's own next-token distribution at the same token. The same
is measured for the logit lens and for a baseline that knows nothing of the layer: a Jacobian lens
with the matrices of other layers, or a tuned lens fitted on shuffled pairs of streams. A lens that
does not beat both at a layer says nothing there that it learned about that layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SURE = 2.0
"""Standard errors by which a mean must differ to count as different."""


@dataclass(frozen=True)
class HeldOutReadings:
    """One way of reading at every stream: means over the held-out tokens, the embedding first.

    Attributes:
        top1: the share of tokens at which its likeliest next token is the model's.
        kl: KL(model ‖ reading), in nats.
        worse: the mean of KL(reading) − KL(lens) over the same tokens, and its standard error; zero
            for the lens itself.
    """

    top1: tuple[float, ...]
    kl: tuple[float, ...]
    worse: tuple[tuple[float, float], ...]

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> HeldOutReadings:
        """Return the readings that `asdict` wrote.

        Raises:
            TypeError, ValueError, KeyError: the record has another form.
        """
        return cls(
            tuple(float(number) for number in record["top1"]),
            tuple(float(number) for number in record["kl"]),
            tuple((float(mean), float(error)) for mean, error in record["worse"]),
        )


@dataclass(frozen=True)
class HeldOut:
    """The measurement of a lens on text that it was not fitted on.

    Attributes:
        tokens, prompts: how many were measured.
        lens, logit, baseline: through the lens, the logit lens, and the baseline.
        named: the baseline in words: "other layers' matrices" or "shuffled pairs".
    """

    tokens: int
    prompts: int
    lens: HeldOutReadings
    logit: HeldOutReadings
    baseline: HeldOutReadings
    named: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], streams: int) -> HeldOut:
        """Return what `to_dict` wrote.

        Args:
            record: the JSON.
            streams: the number of streams of the model: its layers, and one.

        Raises:
            TypeError, ValueError, KeyError: the record has another form.
        """
        lens, logit, baseline = (
            HeldOutReadings.from_dict(record[name]) for name in ("lens", "logit", "baseline")
        )
        for way in (lens, logit, baseline):
            if any(len(part) != streams for part in (way.top1, way.kl, way.worse)):
                raise ValueError("held-out figures of another number of layers")
        tokens, prompts = int(record["tokens"]), int(record["prompts"])
        return cls(tokens, prompts, lens, logit, baseline, str(record["named"]))

    def no_better(self, stream: int) -> str:
        """Return which of the logit lens and the baseline the lens does not beat; "" for none.

        It beats another way if its KL is lower, and the share of right tokens is not lower, by
        `SURE` standard errors.
        """
        ways = (("the logit lens", self.logit), (self.named, self.baseline))
        return " or ".join(name for name, way in ways if not self._beats(way, stream))

    def _beats(self, way: HeldOutReadings, stream: int) -> bool:
        mean, error = way.worse[stream]
        our_top1, other = self.lens.top1[stream], way.top1[stream]
        spread = math.sqrt((our_top1 * (1 - our_top1) + other * (1 - other)) / self.tokens)
        return mean > SURE * error and other - our_top1 <= SURE * spread

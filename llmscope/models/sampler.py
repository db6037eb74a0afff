"""Sampling of the next token: temperature, top-k, top-p, min-p, and a seed.

The filters are those of transformers, in the same order: the logits are divided by the temperature;
top-k keeps the k largest; top-p the smallest set of those whose probabilities sum to at least p
(Holtzman et al. 2020); min-p those with at least that share of the highest probability (Nguyen et
al. 2024). The rest is renormalized. At temperature 0 only the likeliest token is left.

Each draw has a generator of its own, seeded by the seed, the position in the text and the branch:
removing a token and drawing again gives the same one, whatever was drawn in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_SEED = 2**63 - 1
SMALLEST = 1e-37
"""The smallest divisor for float32; a smaller temperature leaves the likeliest token anyway."""
HOW = "such as: temperature 0.8 top-k 40 top-p 0.95 min-p 0.05 seed 7"


@dataclass(frozen=True)
class Sampler:
    """The settings of a draw.

    Attributes:
        temperature: divides the logits; 0: always the likeliest token.
        top_k: the number of most probable tokens to keep; 0: all.
        top_p: from 0 to 1; 1 cuts nothing.
        min_p: from 0 to 1; 0 cuts nothing.
        seed: the seed of the draws.

    Raises:
        ScopeError: a number is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, right, range_ in (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top-k", self.top_k >= 0, "0, which cuts nothing, or more"),
            ("top-p", 0 <= self.top_p <= 1, "from 0 to 1"),
            ("min-p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("seed", 0 <= self.seed <= LARGEST_SEED, f"from 0 to {LARGEST_SEED}"),
        ):
            if not right:
                value = getattr(self, name.replace("-", "_"))
                raise ScopeError(f"{name} is {range_}, not {value}", HOW)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0

    @property
    def cuts(self) -> bool:
        """Whether it excludes tokens that are not likely enough."""
        return self.greedy or self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """The settings that differ from the defaults, each as its name and its value."""
        usual = Sampler()
        settings = ((field.name, getattr(self, field.name)) for field in fields(self))
        return tuple(
            (name.replace("_", "-"), _number(value))
            for name, value in settings
            if value != getattr(usual, name)
        )

    @property
    def written(self) -> str:
        """All settings in one line that `read_sampler` parses."""
        settings = (
            (field.name.replace("_", "-"), getattr(self, field.name)) for field in fields(self)
        )
        return " ".join(f"{name} {_number(value)}" for name, value in settings)

    @property
    def said(self) -> str:
        """A short description for a title: `likeliest`, or `temperature 0.8 top-k 40 seed 0`."""
        if self.greedy:
            return "likeliest"
        texts = [f"{name} {value}" for name, value in self.words if name != "seed"]
        return " ".join([*texts, f"seed {self.seed}"])


def read_sampler(text: str, before: Sampler) -> Sampler:
    """Parse a line of settings.

    Args:
        text: pairs of a name and a number.
        before: the sampler whose values are kept for settings that the line does not name.

    Raises:
        ScopeError: the line cannot be parsed, or a number is out of its range.
    """
    words = text.replace("=", " ").replace(",", " ").split()
    kinds: dict[str, Callable[[str], Any]] = {
        "temperature": float,
        "top-k": int,
        "top-p": float,
        "min-p": float,
        "seed": int,
    }
    settings: dict[str, Any] = {field.name: getattr(before, field.name) for field in fields(before)}
    for at in range(0, len(words), 2):
        name = words[at].lower().replace("_", "-")
        if name not in kinds:
            raise ScopeError(f"there is no setting {words[at]!r}", HOW)
        try:
            settings[name.replace("-", "_")] = kinds[name](words[at + 1])
        except IndexError:
            raise ScopeError(f"{name} has no number", HOW) from None
        except ValueError:
            what = "whole number" if kinds[name] is int else "number"
            raise ScopeError(f"{words[at + 1]!r} is no {what} for {name}", HOW) from None
    return Sampler(**settings)


def _number(value: float) -> str:
    """Format a number in its short form if that is exact, else with all digits."""
    short = f"{value:g}"
    return short if isinstance(value, float) and float(short) == value else str(value)


class DrawError(ScopeError):
    """The logits hold NaN or infinity: there is no distribution to draw from."""

    def __init__(self) -> None:
        super().__init__("the logits hold NaN or infinity: there is nothing to draw from")


def left(logits: Tensor, sampler: Sampler) -> Tensor:
    """Return the distribution that a token is drawn from; 0 for excluded tokens. [token], float32

    Args:
        logits: after the last token. [token]
        sampler: the settings of the draw.

    Raises:
        DrawError: the logits hold NaN or infinity.
    """
    import torch

    scores = logits.float()
    largest = scores.max()
    if not torch.isfinite(largest):  # NaN wins every maximum
        raise DrawError
    if sampler.greedy:
        alone = torch.zeros_like(scores)
        alone[scores.argmax()] = 1
        return alone
    # Subtract the largest first, or a small temperature would make infinities.
    scores = (scores - largest) / max(sampler.temperature, SMALLEST)
    cut = -torch.inf
    if sampler.top_k:
        lowest = scores.topk(min(sampler.top_k, len(scores))).values[-1]
        scores = scores.masked_fill(scores < lowest, cut)
    if sampler.top_p < 1:
        ascending, order = scores.sort()
        rare = ascending.softmax(-1).cumsum(-1) <= 1 - sampler.top_p
        rare[-1] = False
        scores = scores.masked_fill(torch.zeros_like(rare).scatter(0, order, rare), cut)
    if sampler.min_p:
        share = scores.softmax(-1)
        scores = scores.masked_fill(share < sampler.min_p * share.max(), cut)
    return scores.softmax(-1)


def draw(
    logits: Tensor,
    sampler: Sampler,
    *,
    place: int,
    branch: int = 0,
    tried: Sequence[int] = (),
) -> int:
    """Draw the next token and return its id.

    Args:
        logits: after the last token. [token]
        sampler: the settings of the draw.
        place: the number of tokens before the drawn one; part of the seed.
        branch: the branch of the generation; part of the seed.
        tried: the tokens of other branches here: at temperature 0, take the likeliest other one.

    Raises:
        DrawError: the logits hold NaN or infinity.
    """
    import torch

    share = left(logits, sampler)
    if sampler.greedy:
        if len(set(tried)) >= len(logits):
            return int(share.argmax())
        scores = logits.float().clone()
        scores[list(tried)] = -torch.inf
        # If generation rules exclude all other tokens, repeat the likeliest.
        return int((scores if scores.max() > -torch.inf else share).argmax())
    generator = torch.Generator().manual_seed(_seed_of(sampler.seed, place, branch))
    return int(torch.multinomial(share.cpu(), 1, generator=generator))


def _seed_of(*parts: int) -> int:
    """Hash the parts into one seed for a draw."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1

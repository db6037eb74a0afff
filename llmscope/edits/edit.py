"""One change of the pass, as a value that knows how it is written."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, replace
from typing import Literal

from llmscope.edits.grammar import TOKENS
from llmscope.errors import ScopeError

Action = Literal["zero", "mean", "scale", "patch", "steer", "freeze"]
Part = Literal["head", "neuron", "attention", "mlp", "layer", "stream", "norm"]

FILE = ".safetensors"
_WHERE = re.compile(
    r"@(?:(?P<one>-?[0-9]{1,9})|(?P<first>-?[0-9]{1,9})?\.\.(?P<last>-?[0-9]{1,9})?)"
)


@dataclass(frozen=True)
class Where:
    """Tokens of a prompt, both ends included; None: from the first, to the last.

    Raises:
        ScopeError: it ends before it begins, whatever the prompt.
    """

    first: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        first, last = self.first, self.last
        if first is not None and last is not None and (first < 0) == (last < 0) and last < first:
            raise _backwards(self)

    @classmethod
    def parse(cls, word: str) -> Where:
        """`@12`, `@-1`, `@3..7`, `@3..`, `@..7`."""
        match = _WHERE.fullmatch(word)
        if match is None or word == "@..":
            shown = word if len(word) <= 80 else f"{word[:80]}…"
            raise ScopeError(f"{shown!r} names no tokens", TOKENS)
        one, first, last = (None if end is None else int(end) for end in match.groups())
        return cls(first, last) if one is None else cls(one, one)

    def __str__(self) -> str:
        if self == EVERYWHERE:
            return ""
        first, last = ("" if end is None else str(end) for end in (self.first, self.last))
        return f"@{first}" if first == last else f"@{first}..{last}"

    def rows(self, count: int) -> range:
        """The positions in a prompt of so many tokens.

        Raises:
            ScopeError: there is no such token.
        """
        for end in (self.first, self.last):
            if end is not None and not -count <= end < count:
                raise ScopeError(
                    f"there is no token {end}: the prompt has {count}", f"0 to {count - 1}"
                )
        first = 0 if self.first is None else self.first % count
        last = count - 1 if self.last is None else self.last % count
        if last < first:
            raise _backwards(self)
        return range(first, last + 1)


def _backwards(where: Where) -> ScopeError:
    return ScopeError(f"{where} names no tokens: it ends before it begins", TOKENS)


EVERYWHERE = Where()


@dataclass(frozen=True)
class Vector:
    """What steers.

    `file`: a tensor of a safetensors file, `text` its path and `other` its name if there are
    several. `token`: the unembedding of one, its text, or `id:N`. `prompts`: the stream after the
    last token of the prompt `text`, less that of the prompt `other`.
    """

    kind: Literal["file", "token", "prompts"]
    text: str
    other: str = ""

    def __str__(self) -> str:
        if self.kind == "token":
            return f"token {shlex.quote(self.text)}"
        if self.kind == "prompts":
            return f"{shlex.quote(self.text)} - {shlex.quote(self.other)}"
        # A path that has the mark of a name in it says that none follows.
        named = self.other or f"{FILE}:" in self.text
        return shlex.quote(f"{self.text}:{self.other}" if named else self.text)


@dataclass(frozen=True)
class Edit:
    """One change of the pass.

    Attributes:
        action, part: what is done to what.
        layer: None: the embedding, or the final norm.
        index: of a head or a neuron.
        norm: which one: `attention` and `mlp` name what reads it.
        factor: of `scale`; the strength of `steer`.
        where: which tokens.
        source: which tokens of prompt B; None: the same.
    """

    action: Action
    part: Part
    layer: int | None
    index: int | None = None
    norm: str = ""
    factor: float = 0.0
    vector: Vector | None = None
    where: Where = EVERYWHERE
    source: Where | None = None

    def __str__(self) -> str:
        """As it is written; parsing that gives the same edit."""
        words: list[str] = [self.action]
        if self.action == "steer":
            words += [self._layer, str(self.vector), number(self.factor)]
        elif self.part == "norm":
            words += ["norm", "final" if self.norm == "final" else f"{self.layer}.{self.norm}"]
        else:
            words += [
                self.part,
                self._layer if self.index is None else f"{self.layer}.{self.index}",
            ]
        if self.action == "scale":
            words.append(number(self.factor))
        words.append(str(self.where))
        if self.action == "patch":
            words += ["from", "B", "" if self.source is None else str(self.source)]
        return " ".join(word for word in words if word)

    @property
    def _layer(self) -> str:
        return "embed" if self.layer is None else str(self.layer)

    @property
    def turnable(self) -> bool:
        """Whether it has a strength."""
        return self.action in ("scale", "steer")

    @property
    def idle(self) -> bool:
        """Whether it changes nothing: a factor of 1, a strength of 0."""
        return self.turnable and self.factor == (1.0 if self.action == "scale" else 0.0)

    def turned(self, factor: float) -> Edit:
        """The same with another factor or strength."""
        return replace(self, factor=factor)


def number(value: float) -> str:
    """As short as it can be written, and exact: 4, 0.5, 1e-07."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return f"{value:.0f}" if whole else repr(float(value))

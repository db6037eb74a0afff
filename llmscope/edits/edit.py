"""One change of the forward pass, as a value that formats itself in the edit grammar."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, Literal

from llmscope.edits.grammar import TOKENS
from llmscope.errors import ScopeError

Action = Literal["zero", "mean", "scale", "patch", "steer", "swap", "freeze", "own"]
Part = Literal["head", "neuron", "attention", "mlp", "layer", "stream", "norm"]

FILE = ".safetensors"
_WHERE = re.compile(
    r"@(?:(?P<one>-?[0-9]{1,9})|(?P<first>-?[0-9]{1,9})?\.\.(?P<last>-?[0-9]{1,9})?)"
)


@dataclass(frozen=True)
class Where:
    """A range of tokens of a prompt.

    Attributes:
        first: the first token; None: the first of the prompt.
        last: the last token, included; None: the last of the prompt.

    Raises:
        ScopeError: the range ends before it begins in every prompt.
    """

    first: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        first, last = self.first, self.last
        if first is not None and last is not None and (first < 0) == (last < 0) and last < first:
            raise _backwards(self)

    @classmethod
    def parse(cls, word: str) -> Where:
        """Parse `@12`, `@-1`, `@3..7`, `@3..` or `@..7`."""
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
        """Return the positions in a prompt of `count` tokens.

        Raises:
            ScopeError: a token is outside of the prompt, or the range is empty in it.
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
    """A steering vector.

    Attributes:
        kind: `file`: a tensor of a safetensors file; `token`: the unembedding of a token;
            `jlens`: the direction that a learned lens reads as a token; `prompts`: the stream
            after the last token of one prompt minus that of another.
        text: the path; the token's text or `id:N`; or the first prompt.
        other: the tensor's name if the file holds several, or the second prompt.
    """

    kind: Literal["file", "token", "jlens", "prompts"]
    text: str
    other: str = ""

    def __str__(self) -> str:
        if self.kind in ("token", "jlens"):
            return f"{self.kind} {shlex.quote(self.text)}"
        if self.kind == "prompts":
            return f"{shlex.quote(self.text)} - {shlex.quote(self.other)}"
        # A path that itself contains `.safetensors:` is followed by an empty name.
        named = self.other or f"{FILE}:" in self.text
        return shlex.quote(f"{self.text}:{self.other}" if named else self.text)


@dataclass(frozen=True, eq=False)
class Own:
    """What an edit of the caller's own puts in place. Compared by identity.

    Attributes:
        value: a tensor or array, or a function of the tensor in its place.
        name: its name in texts.
    """

    value: Any
    name: str


@dataclass(frozen=True)
class Edit:
    """One change of the forward pass.

    Attributes:
        action, part: the operation and the part of the model that it changes.
        layer: the layer; None: the embedding, or the final norm.
        index: the head or the neuron; None: the whole part.
        norm: `attention` or `mlp`, the reader of the norm, or `final`.
        factor: the factor of `scale`, or the strength of `steer`.
        vector: the vector of `steer`.
        tokens: the two tokens of `swap`, each as its text or `id:N`; None for other actions.
        where: the tokens to change.
        source: the tokens of prompt B; None: the same ones.
        own: what an edit of the caller's own puts in place; only the action `own` has it, which
            no text describes: see `llmscope.edits.own`.
    """

    action: Action
    part: Part
    layer: int | None
    index: int | None = None
    norm: str = ""
    factor: float = 0.0
    vector: Vector | None = None
    tokens: tuple[str, str] | None = None
    where: Where = EVERYWHERE
    source: Where | None = None
    own: Own | None = None

    def __str__(self) -> str:
        """Return the edit in its grammar; parsing the result gives the same, unless it is `own`."""
        words: list[str] = [self.action]
        if self.action == "steer":
            words += [self._layer, str(self.vector), number(self.factor)]
        elif self.tokens is not None:
            words += [self._layer, *map(shlex.quote, self.tokens)]
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
        if self.own is not None:
            words += ["by", self.own.name]
        if self.action == "patch":
            words += ["from", "B", "" if self.source is None else str(self.source)]
        return " ".join(word for word in words if word)

    @property
    def _layer(self) -> str:
        return "embed" if self.layer is None else str(self.layer)

    @property
    def uses_lens(self) -> bool:
        """Whether it depends on a learned lens."""
        return self.action == "swap" or (self.vector is not None and self.vector.kind == "jlens")

    @property
    def turnable(self) -> bool:
        """Whether it has a factor or a strength."""
        return self.action in ("scale", "steer")

    @property
    def idle(self) -> bool:
        """Whether it changes nothing: a factor of 1 or a strength of 0."""
        return self.turnable and self.factor == (1.0 if self.action == "scale" else 0.0)

    def turned(self, factor: float) -> Edit:
        """Return the same edit with another factor or strength."""
        return replace(self, factor=factor)


def number(value: float) -> str:
    """Format a number exactly, in the shortest form: 4, 0.5, 1e-07."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return f"{value:.0f}" if whole else repr(float(value))

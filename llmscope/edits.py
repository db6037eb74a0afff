"""Edits to the pass, as a person writes them: what is changed where, and by what.

    zero PART [@WHERE]                        it writes nothing
    mean PART [@WHERE]                        it writes its mean over the prompt
    scale PART FACTOR [@WHERE]                it writes so many times what it did
    patch PART [@WHERE] from B [@WHERE]       it writes what it writes in prompt B
    patch stream LAYER [@WHERE] from B [@WHERE]
    steer LAYER VECTOR STRENGTH [@WHERE]      so much of a vector is added to the stream
    freeze norm LAYER.attention|LAYER.mlp|final [@WHERE]
                                              a norm keeps the scale of the unedited pass

    PART    head LAYER.HEAD, neuron LAYER.NEURON, attention LAYER, mlp LAYER, layer LAYER
    LAYER   counts from 0, negative from the end. A stream is the one after that layer, as on the
            map; `embed` is the one before the first.
    WHERE   tokens: 12, -1 (the last), 3..7 (7 included), 3.. and ..7; all of them if it is left out
    VECTOR  FILE.safetensors or FILE.safetensors:NAME, token " Paris", "one prompt" - "another"

Everyone may import this module: it knows no model.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmscope.errors import ScopeError

Action = Literal["zero", "mean", "scale", "patch", "steer", "freeze"]
Part = Literal["head", "neuron", "attention", "mlp", "layer", "stream", "norm"]

ABLATIONS = ("zero", "mean")
INSIDE = ("head", "neuron")
"""Parts of a layer's part, which have a number of their own."""
WHOLE = ("attention", "mlp", "layer")
NORMS = ("attention", "mlp", "final")
PATTERNS = {
    "zero": "zero PART [@WHERE]",
    "mean": "mean PART [@WHERE]",
    "scale": "scale PART FACTOR [@WHERE]",
    "patch": "patch PART [@WHERE] from B [@WHERE]",
    "steer": "steer LAYER VECTOR STRENGTH [@WHERE]",
    "freeze": "freeze norm LAYER.attention|LAYER.mlp|final [@WHERE]",
}
_WHERE = re.compile(r"@(-?\d+)?(\.\.)?(-?\d+)?")


@dataclass(frozen=True)
class Where:
    """Tokens of a prompt, both ends included; None: from the first, to the last."""

    first: int | None = None
    last: int | None = None

    @classmethod
    def parse(cls, word: str) -> Where:
        """`@12`, `@-1`, `@3..7`, `@3..`, `@..7`."""
        match = _WHERE.fullmatch(word)
        if match is None or word in ("@", "@.."):
            raise ScopeError(f"{word!r} names no tokens", "@12, @-1, @3..7, @3.. or @..7")
        first, several, last = match.groups()
        if several is None:
            return cls(int(first), int(first))
        return cls(None if first is None else int(first), None if last is None else int(last))

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
            raise ScopeError(f"{self} names no tokens: it ends before it begins", "@3..7")
        return range(first, last + 1)


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
        return shlex.quote(f"{self.text}:{self.other}" if self.other else self.text)


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
    """As short as it can be written: 4, 0.5."""
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def parse(text: str) -> Edit:
    """The edit that is written.

    Raises:
        ScopeError: what is wrong with it, and what could stand there.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        raise ScopeError("a quotation is not closed", 'token " Paris"') from None
    if not words:
        raise ScopeError("an edit is empty", "zero head 5.3")
    action = words[0]
    if action not in PATTERNS:
        raise ScopeError(f"nothing is called {action!r}", f"{', '.join(PATTERNS)}")
    try:
        return _PARSERS[action](_Words(words[1:], PATTERNS[action]), action)  # type: ignore[arg-type]
    except _Unfit as unfit:
        raise ScopeError(str(unfit), PATTERNS[action]) from None


class _Unfit(Exception):  # noqa: N818 - it is turned into what a person reads
    """A word does not fit where it stands."""


class _Words:
    """The words of an edit, taken from left to right."""

    def __init__(self, words: Sequence[str], pattern: str) -> None:
        self._words = list(words)
        self._pattern = pattern

    def next(self, what: str) -> str:
        if not self._words:
            raise _Unfit(f"{what} is missing")
        return self._words.pop(0)

    def take(self, word: str) -> bool:
        """Whether the next word is this one, which is taken then."""
        found = self._words[:1] == [word]
        if found:
            self._words.pop(0)
        return found

    def where(self) -> Where:
        if self._words and self._words[0].startswith("@"):
            return Where.parse(self._words.pop(0))
        return EVERYWHERE

    def number(self, what: str) -> float:
        word = self.next(what)
        try:
            value = float(word)
        except ValueError:
            raise _Unfit(f"{what} is {word!r}, no number") from None
        if not math.isfinite(value):
            raise _Unfit(f"{what} is {word!r}, and must be finite")
        return value

    def end(self) -> None:
        if self._words:
            raise _Unfit(f"{self._words[0]!r} is more than belongs there")


def _integer(word: str, what: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", word):
        raise _Unfit(f"{what} is {word!r}, no whole number")
    return int(word)


def _layer(word: str) -> int | None:
    return None if word == "embed" else _integer(word, "the layer")


def _inside(word: str, part: str) -> tuple[int, int]:
    layer, dot, index = word.partition(".")
    if not dot:
        raise _Unfit(f"a {part} is a layer and its number in it, such as {part} 5.3, not {word!r}")
    return _integer(layer, "the layer"), _integer(index, f"the {part}")


def _part(words: _Words, action: Action) -> Edit:
    name = words.next("what is changed (head, neuron, attention, mlp, layer)")
    if name in INSIDE:
        layer, index = _inside(words.next(f"which {name}"), name)
        return Edit(action, name, layer, index)  # type: ignore[arg-type]
    if name in WHOLE:
        at = _integer(words.next("the layer"), "the layer")
        return Edit(action, name, at)  # type: ignore[arg-type]
    raise _Unfit(f"nothing that can be changed is called {name!r}")


def _ablation(words: _Words, action: Action) -> Edit:
    edit = replace(_part(words, action), where=words.where())
    words.end()
    return edit


def _scale(words: _Words, action: Action) -> Edit:
    edit = replace(_part(words, action), factor=words.number("the factor"))
    edit = replace(edit, where=words.where())
    words.end()
    return edit


def _patch(words: _Words, action: Action) -> Edit:
    if words.take("stream"):
        edit = Edit(action, "stream", _layer(words.next("the layer")))
    else:
        edit = _part(words, action)
    edit = replace(edit, where=words.where())
    if not (words.take("from") and words.take("B")):
        raise _Unfit("it does not say from where")
    source = words.where()
    words.end()
    return replace(edit, source=None if source == EVERYWHERE else source)


def _steer(words: _Words, action: Action) -> Edit:
    layer = _layer(words.next("the layer"))
    first = words.next("the vector")
    if first == "token":
        vector = Vector("token", words.next("the token"))
    elif words.take("-"):
        vector = Vector("prompts", first, words.next("the other prompt"))
    else:
        path, _, name = first.partition(".safetensors:")
        if not (path and (name or first.endswith(".safetensors"))):
            raise _Unfit(f"no vector is called {first!r}")
        vector = Vector("file", f"{path}.safetensors" if name else first, name)
    strength = words.number("the strength")
    edit = Edit(action, "stream", layer, factor=strength, vector=vector, where=words.where())
    words.end()
    return edit


def _freeze(words: _Words, action: Action) -> Edit:
    if not words.take("norm"):
        raise _Unfit("only a norm can be frozen")
    word = words.next("which norm")
    layer, dot, name = word.partition(".")
    if word == "final":
        edit = Edit(action, "norm", None, norm="final")
    elif dot and name in ("attention", "mlp"):
        edit = Edit(action, "norm", _integer(layer, "the layer"), norm=name)
    else:
        raise _Unfit(f"no norm is called {word!r}")
    edit = replace(edit, where=words.where())
    words.end()
    return edit


_PARSERS = {
    "zero": _ablation,
    "mean": _ablation,
    "scale": _scale,
    "patch": _patch,
    "steer": _steer,
    "freeze": _freeze,
}

"""One change of the forward pass, as a value that formats itself in the edit grammar."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from llmscope.edits.grammar import FEATURES, TOKENS
from llmscope.edits.place_kinds import PLACE_KINDS
from llmscope.errors import ScopeError, WrongUseError

Action = Literal[
    "zero",
    "mean",
    "scale",
    "set",
    "patch",
    "steer",
    "swap",
    "freeze",
    "block",
    "force",
    "forbid",
    "own",
]
Part = Literal["head", "neuron", "attention", "mlp", "layer", "stream", "norm", "feature", "expert"]
Reader = Literal["head", "attention", "mlp", "logits"]

FILE = ".safetensors"
LONGEST_SHOWN = 80
"""Maximum characters of a word that an error quotes."""
_WHERE = re.compile(
    r"@(?:(?P<one>-?[0-9]{1,9})|(?P<first>-?[0-9]{1,9})?\.\.(?P<last>-?[0-9]{1,9})?)"
)
_FEATURE = re.compile(
    r"(?P<layer>-?[0-9]{1,9})(?:\.(?P<kind>\w+)(?:\.(?P<head>[0-9]{1,9}))?)?/(?P<feature>[0-9]{1,9})",
    re.ASCII,
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
            raise WrongUseError(f"{_quote(word)} names no tokens", TOKENS)
        single, first, last = (None if end is None else int(end) for end in match.groups())
        return cls(first, last) if single is None else cls(single, single)

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
                raise WrongUseError(
                    f"there is no token {end}: the prompt has {count}", f"0 to {count - 1}"
                )
        first = 0 if self.first is None else self.first % count
        last = count - 1 if self.last is None else self.last % count
        if last < first:
            raise _backwards(self)
        return range(first, last + 1)


def _backwards(where: Where) -> ScopeError:
    return WrongUseError(f"{where} names no tokens: it ends before it begins", TOKENS)


EVERYWHERE = Where()


@dataclass(frozen=True)
class FeatureName:
    """A feature of a dictionary, as an edit names it.

    Attributes:
        layer: the layer of the dictionary; negative from the end.
        feature: its index in the dictionary.
        place: the tensor that the dictionary reads or predicts, such as `mlp_out`, or `z.3` for
            one of head 3; empty: the layer has only one dictionary.
    """

    layer: int
    feature: int
    place: str = ""

    @classmethod
    def parse(cls, word: str) -> FeatureName:
        """Parse `5/1234`, `5.mlp_out/1234` or `5.z.3/12`.

        Raises:
            ScopeError: the word names no feature.
        """
        match = _FEATURE.fullmatch(word)
        if match is None:
            raise WrongUseError(f"{_quote(word)} names no feature", FEATURES)
        kind, head = match["kind"] or "", match["head"]
        if kind and (kind not in PLACE_KINDS or (head is not None and kind != "z")):
            named = kind if head is None else f"{kind}.{head}"
            raise WrongUseError(
                f"no dictionary is for a place called {_quote(named)}", ", ".join(PLACE_KINDS)
            )
        place = kind if head is None else f"{kind}.{int(head)}"
        return cls(int(match["layer"]), int(match["feature"]), place)

    def __str__(self) -> str:
        return f"{self.layer}{self.place and f'.{self.place}'}/{self.feature}"

    @property
    def kind(self) -> str:
        """The place without a head."""
        return self.place.partition(".")[0]

    @property
    def head(self) -> int | None:
        """The head; None if the place names none."""
        head = self.place.partition(".")[2]
        return int(head) if head else None


@dataclass(frozen=True)
class Receiver:
    """The part at the end of an edge: the one part that reads what the edit changes.

    Attributes:
        part: `head`, `attention`, `mlp`, or `logits`, which stands for the final norm and the
            unembedding.
        layer: its layer; None for `logits`, until it is the number of all layers.
        index: the head; None for other parts.
        reads: `q`, `k` or `v`, what the head computes from the stream; empty: all three.
    """

    part: Reader
    layer: int | None = None
    index: int | None = None
    reads: Literal["", "q", "k", "v"] = ""

    def __str__(self) -> str:
        if self.part == "logits":
            return "logits"
        names = [self.layer, self.index, self.reads or None]
        return f"{self.part} {'.'.join(str(name) for name in names if name is not None)}"


def _quote(word: str) -> str:
    return repr(word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}…")


@dataclass(frozen=True)
class Vector:
    """A steering vector.

    Attributes:
        kind: `file`: a tensor of a safetensors file; `token`: the unembedding of a token;
            `jlens`: the direction that a learned lens reads as a token; `feature`: the decoder row
            of a feature; `prompts`: the stream after the last token of one prompt minus that of
            another.
        text: the path; the token's text or `id:N`; the feature's name; or the first prompt.
        other: the tensor's name if the file holds several, or the second prompt.
    """

    kind: Literal["file", "token", "jlens", "feature", "prompts"]
    text: str
    other: str = ""

    def __str__(self) -> str:
        if self.kind in ("token", "jlens", "feature"):
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
        index: the head, the neuron, the feature or the expert; None: the whole part.
        expert: the number of the expert whose neuron `index` is, or `shared`, that of the shared
            ones; empty: `index` counts all neurons of the layer.
        norm: `attention` or `mlp`, the reader of the norm, or `final`.
        factor: the factor of `scale`, the strength of `steer`, or the activation of `set`.
        vector: the vector of `steer`.
        tokens: the two tokens of `swap`, each as its text or `id:N`; None for other actions.
        where: the tokens to change; of `block` those that stop reading, and if it is everywhere
            all that come later.
        source: the tokens of prompt B, None: the same ones; or those that `block` leaves unread.
        own: what an edit of the caller's own puts in place; only the action `own` has it, which
            no text describes: see `llmscope.edits.own`.
        place: the place of the feature's dictionary; see `FeatureName`.
        into: the only part that reads the change; None: all later parts do.
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
    place: str = ""
    into: Receiver | None = None
    expert: str = ""

    def __str__(self) -> str:
        """Return the edit in its grammar; parsing the result gives the same, unless it is `own`."""
        words: list[str] = [self.action]
        if self.action == "steer":
            words += [self._layer, str(self.vector), number(self.factor)]
        elif self.tokens is not None:
            words += [self._layer, *map(shlex.quote, self.tokens)]
        elif self.part == "feature":
            words += ["feature", str(self.feature)]
        elif self.part == "norm":
            words += ["norm", "final" if self.norm == "final" else f"{self.layer}.{self.norm}"]
        else:
            expert = f"{self.expert}." if self.expert else ""
            words += [
                self.part,
                self._layer if self.index is None else f"{self.layer}.{expert}{self.index}",
            ]
        if self.action in ("scale", "set"):
            words += [*(["to"] if self.action == "set" else []), number(self.factor)]
        if self.into is not None:
            words += ["into", str(self.into)]
        words.append(str(self.where))
        if self.own is not None:
            words += ["by", self.own.name]
        if self.action == "patch":
            words += ["from", "B", "" if self.source is None else str(self.source)]
        elif self.action == "block":
            words += ["from", str(self.source)]
        return " ".join(word for word in words if word)

    @property
    def _layer(self) -> str:
        return "embed" if self.layer is None else str(self.layer)

    @property
    def uses_lens(self) -> bool:
        """Whether it depends on a learned lens."""
        return self.action == "swap" or (self.vector is not None and self.vector.kind == "jlens")

    @property
    def feature(self) -> FeatureName | None:
        """The feature that it names; None if it names none."""
        if self.part == "feature":
            assert self.layer is not None
            assert self.index is not None
            return FeatureName(self.layer, self.index, self.place)
        if self.vector is not None and self.vector.kind == "feature":
            return FeatureName.parse(self.vector.text)
        return None

    @property
    def uses_features(self) -> bool:
        """Whether it depends on a dictionary of features."""
        return self.feature is not None

    @property
    def turnable(self) -> bool:
        """Whether it has a factor, a strength or an activation."""
        return self.action in ("scale", "steer", "set")

    @property
    def idle(self) -> bool:
        """Whether it changes nothing: a factor of 1 or a strength of 0."""
        return self.factor == {"scale": 1.0, "steer": 0.0}.get(self.action)

    def turned(self, factor: float) -> Edit:
        """Return the same edit with another factor, strength or activation."""
        return replace(self, factor=factor)


def number(value: float) -> str:
    """Format a number exactly, in the shortest form: 4, 0.5, 1e-07."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return f"{value:.0f}" if whole else repr(float(value))


def read_prompt_b(edits: Iterable[Edit]) -> bool:
    """Return whether one of the edits patches from prompt B."""
    return any(edit.action == "patch" for edit in edits)

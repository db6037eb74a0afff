"""The parser of edits that the user writes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, cast

from llmscope.edits import grammar
from llmscope.edits.edit import (
    EVERYWHERE,
    FILE,
    LONGEST_SHOWN,
    Action,
    Edit,
    FeatureName,
    Part,
    Receiver,
    Vector,
    Where,
)
from llmscope.edits.grammar import PATTERNS
from llmscope.errors import WrongUseError

ABLATIONS: tuple[Action, ...] = ("zero", "mean")
SHARED = "shared"
"""What stands in the place of an expert's number for the experts that run for every token."""
INSIDE: tuple[Part, ...] = ("head", "neuron")
"""Parts inside attention or MLP, which have an index."""
WHOLE: tuple[Part, ...] = ("attention", "mlp", "layer")
NORMS = ("attention", "mlp", "final")
SENDERS: tuple[Part, ...] = ("head", "attention", "mlp")
"""Parts whose write one receiver alone may read."""
READERS: tuple[Part, ...] = ("head", "attention")
"""Parts that read earlier tokens, which `block` takes away."""
FEATURE_ACTIONS: tuple[Action, ...] = ("zero", "scale", "set")

_RECEIVING_HEAD = re.compile(r"(-?[0-9]{1,9})\.(-?[0-9]{1,9})(?:\.([qkv]))?", re.ASCII)
_PIECE = re.compile(
    r"""(?P<blank>[ \t\r\n]++)
      | (?P<plain>[^ \t\r\n'"\\]++)
      | '(?P<single>[^']*+)'
      | "(?P<double>[^"\\]*+(?:\\.[^"\\]*+)*+)"
      | \\(?P<escaped>.)""",
    re.DOTALL | re.VERBOSE,
)
"""A piece of a word, or the white space between words, by the rules of a POSIX shell."""
_IN_QUOTES = re.compile(r'\\(["\\])')


def parse(text: str) -> Edit:
    """Parse an edit.

    Raises:
        ScopeError: the text is not an edit; the hint says what is expected.
    """
    words = split(text)
    if not words:
        raise WrongUseError("an edit is empty", "zero head 5.3")
    action = next((parser for parser in _PARSERS if parser == words[0]), None)
    if action is None:
        raise WrongUseError(f"no edit is called {_quote(words[0])}", ", ".join(PATTERNS))
    rest = _Words(words[1:])
    try:
        edit = _PARSERS[action](rest, action)
        rest.end()
    except _Unfit as unfit:
        raise WrongUseError(unfit.message, unfit.hint or PATTERNS[action]) from None
    return edit


def parse_receiver(text: str) -> Receiver:
    """Parse the end of an edge: `head 7.2`, `head 7.2.q`, `attention 7`, `mlp 5` or `logits`.

    Raises:
        ScopeError: the text names no receiver.
    """
    words = _Words(split(text))
    try:
        receiver = _receiver(words)
        words.end()
    except _Unfit as unfit:
        raise WrongUseError(unfit.message, unfit.hint or grammar.RECEIVERS) from None
    return receiver


def split(text: str) -> list[str]:
    """Split a line into words, as `shlex.split` does, in linear time.

    (shlex appends letter by letter to an attribute, which copies the whole word each time.)

    Raises:
        ScopeError: a quotation is not closed, or a backslash is the last character.
    """
    words: list[str] = []
    pieces: list[str] = []
    at, inside = 0, False
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise WrongUseError("a quotation is not closed", 'token " Paris"')
        at = piece.end()
        if piece.lastgroup == "blank":
            if inside:
                words.append("".join(pieces))
            pieces, inside = [], False
            continue
        inside = True
        word = piece[piece.lastgroup or 0]
        pieces.append(_IN_QUOTES.sub(r"\1", word) if piece.lastgroup == "double" else word)
    return [*words, "".join(pieces)] if inside else words


def _quote(word: str) -> str:
    """Return a word in quotes for a message, or its beginning if it is long."""
    return repr(word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}…")


class _Unfit(Exception):  # noqa: N818 - it becomes a ScopeError
    """A word that does not fit; the hint says what would, else the whole pattern is shown."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Words:
    """The words of an edit, taken from left to right."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def next(self, what: str) -> str:
        if not self._words:
            raise _Unfit(f"{what} is missing")
        return self._words.pop(0)

    def ahead(self, count: int) -> list[str]:
        """Return the next words, at most `count`, without taking them."""
        return self._words[:count]

    def take(self, *words: str) -> bool:
        """Take the next words if they are these, and return whether they are."""
        matches = self._words[: len(words)] == list(words)
        if matches:
            del self._words[: len(words)]
        return matches

    def where(self) -> Where:
        if self._words and self._words[0].startswith("@"):
            return Where.parse(self._words.pop(0))
        return EVERYWHERE

    def number(self, what: str) -> float:
        word = self.next(what)
        try:
            value = float(word)
        except ValueError:
            raise _Unfit(f"{what} is {_quote(word)}, no number", grammar.NUMBERS) from None
        if not math.isfinite(value):
            raise _Unfit(f"{what} is {_quote(word)}, and must be finite", grammar.NUMBERS)
        return value

    def end(self) -> None:
        if self._words:
            raise _Unfit(f"{_quote(self._words[0])} is more than belongs there")


def _integer(word: str, what: str, hint: str = grammar.LAYERS) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", word):
        raise _Unfit(f"{what} is {_quote(word)}, no whole number", hint)
    return int(word)


def _stream(words: _Words) -> int | None:
    word = words.next("the layer")
    return None if word == "embed" else _integer(word, "the layer", grammar.STREAMS)


def _part(words: _Words, action: Action) -> Edit:
    name = words.next("what is changed (head, neuron, attention, mlp, layer)")
    for part in INSIDE:
        if part == name:
            word = words.next(f"which {name}")
            hint = f"LAYER.{name.upper()}, such as {name} 5.3"
            layer, dot, index = word.partition(".")
            if not dot:
                raise _Unfit(f"{_quote(word)} is no {name}", hint)
            at, expert = _integer(layer, "the layer", hint), ""
            if part == "neuron" and "." in index:
                hint = grammar.EXPERT_NEURONS
                expert, _, index = index.partition(".")
                expert = expert if expert == SHARED else str(_integer(expert, "the expert", hint))
            number = _integer(index, f"the {name}", hint)
            return Edit(action, part, at, number, expert=expert)
    for part in WHOLE:
        if part == name:
            return Edit(action, part, _integer(words.next("the layer"), "the layer"))
    if name == "feature":
        if action not in FEATURE_ACTIONS:
            raise _Unfit(
                f"no {action} of a feature: it can be zeroed, scaled, set, or steered along",
                grammar.FEATURE_EDITS,
            )
        feature = FeatureName.parse(words.next("which feature"))
        return Edit(action, "feature", feature.layer, feature.feature, place=feature.place)
    if name == "stream":
        raise _Unfit(
            "a stream can be patched or steered, or two tokens swapped in it, no more",
            grammar.PARTS,
        )
    hint = f"{grammar.PARTS}; or stream 5" if action == "patch" else grammar.PARTS
    raise _Unfit(f"nothing that can be changed is called {_quote(name)}", hint)


def _into(words: _Words, edit: Edit) -> Edit:
    """Return the edit with the receiver and the tokens that the next words name, if they do."""
    if words.take("into"):
        if edit.part not in SENDERS:
            raise _Unfit(
                f"what a {edit.part} writes cannot be read by one part alone",
                f"{grammar.SENDERS} into {grammar.RECEIVERS}",
            )
        edit = replace(edit, into=_receiver(words))
    return replace(edit, where=words.where())


def _receiver(words: _Words) -> Receiver:
    name = words.next("what reads it (head, attention, mlp, logits)")
    if name == "logits":
        return Receiver("logits")
    if name == "head":
        word = words.next("which head")
        match = _RECEIVING_HEAD.fullmatch(word)
        if match is None:
            raise _Unfit(
                f"{_quote(word)} is no head, nor its queries, keys or values", grammar.RECEIVERS
            )
        reads = cast(Literal["", "q", "k", "v"], match[3] or "")
        return Receiver("head", int(match[1]), int(match[2]), reads)
    if name in ("attention", "mlp"):
        layer = _integer(words.next("the layer"), "the layer")
        return Receiver(cast(Literal["attention", "mlp"], name), layer)
    raise _Unfit(f"nothing that reads the stream is called {_quote(name)}", grammar.RECEIVERS)


def _ablation(words: _Words, action: Action) -> Edit:
    return _into(words, _part(words, action))


def _scale(words: _Words, action: Action) -> Edit:
    edit = replace(_part(words, action), factor=words.number("the factor"))
    return replace(edit, where=words.where())


def _set(words: _Words, action: Action) -> Edit:
    if not words.take("feature"):
        raise _Unfit("only a feature can be set")
    feature = FeatureName.parse(words.next("which feature"))
    if not words.take("to"):
        raise _Unfit("it does not say to what")
    value = words.number("the activation")
    return Edit(
        action,
        "feature",
        feature.layer,
        feature.feature,
        factor=value,
        where=words.where(),
        place=feature.place,
    )


def _patch(words: _Words, action: Action) -> Edit:
    stream = words.take("stream")
    edit = Edit(action, "stream", _stream(words)) if stream else _part(words, action)
    edit = _into(words, edit)
    if not words.take("from", "B"):
        raise _Unfit("it does not say from where")
    source = words.where()
    return replace(edit, source=None if source == EVERYWHERE else source)


def _steer(words: _Words, action: Action) -> Edit:
    layer = _stream(words)
    vector = _vector(words)
    strength = words.number("the strength")
    return Edit(action, "stream", layer, factor=strength, vector=vector, where=words.where())


def _vector(words: _Words) -> Vector:
    first = words.next("the vector")
    # `token - 4` is the token "-"; `token - b 4` is the prompt `token` minus the prompt `b`.
    # So are `jlens - 4` and `jlens - b 4`; no feature is called "-".
    minus = words.ahead(3)
    is_token = len(minus) < 3 or minus[0] != "-" or minus[2].startswith("@")
    if is_token and first == "token":
        return Vector("token", words.next("the token"))
    if is_token and first == "jlens":
        return Vector("jlens", words.next("the token"))
    if first == "feature" and minus[:1] != ["-"]:
        return Vector("feature", str(FeatureName.parse(words.next("which feature"))))
    if words.take("-"):
        return Vector("prompts", first, words.next("the other prompt"))
    path, named, name = first.rpartition(f"{FILE}:")
    if named:
        path += FILE
    elif first.endswith(FILE):
        path, name = first, ""
    else:
        raise _Unfit(f"no vector is called {_quote(first)}", grammar.VECTORS)
    return Vector("file", path, name)


def _swap(words: _Words, action: Action) -> Edit:
    layer = _stream(words)
    tokens = words.next("the first token"), words.next("the second token")
    return Edit(action, "stream", layer, tokens=tokens, where=words.where())


def _freeze(words: _Words, action: Action) -> Edit:
    if not words.take("norm"):
        raise _Unfit("only a norm can be frozen")
    word = words.next("which norm")
    layer, dot, name = word.partition(".")
    if word == "final":
        edit = Edit(action, "norm", None, norm="final")
    elif dot and name in ("attention", "mlp"):
        at = _integer(layer, "the layer", grammar.NORM_NAMES)
        edit = Edit(action, "norm", at, norm=name)
    else:
        raise _Unfit(f"no norm is called {_quote(word)}", grammar.NORM_NAMES)
    return replace(edit, where=words.where())


def _block(words: _Words, action: Action) -> Edit:
    edit = _part(words, action)
    if edit.part not in READERS:
        raise _Unfit(f"a {edit.part} reads no other tokens", grammar.READERS)
    edit = replace(edit, where=words.where())
    if not words.take("from"):
        raise _Unfit("it does not say which tokens are no longer read")
    source = words.where()
    if source == EVERYWHERE:
        raise _Unfit("it does not say which tokens are no longer read")
    return replace(edit, source=source)


def _route(words: _Words, action: Action) -> Edit:
    if not words.take("expert"):
        raise _Unfit(f"a router can {action} an expert, and nothing else", grammar.EXPERTS)
    layer, _, expert = words.next("which expert").partition(".")
    at = _integer(layer, "the layer", grammar.EXPERTS)
    number = _integer(expert, "the expert", grammar.EXPERTS)
    return Edit(action, "expert", at, number, where=words.where())


_PARSERS: dict[Action, Callable[[_Words, Action], Edit]] = {
    "zero": _ablation,
    "mean": _ablation,
    "scale": _scale,
    "set": _set,
    "patch": _patch,
    "steer": _steer,
    "swap": _swap,
    "freeze": _freeze,
    "block": _block,
    "force": _route,
    "forbid": _route,
}

"""Decide by a tokenizer's parts whether it may run in this process.

A tokenizer.json contains regular expressions, replacements and binary tables that come with a
model. Bad ones make the Rust code take exponential time, allocate all memory or abort the process.
Parts with a bounded cost are listed here, with the regular expressions that the known vocabularies
share; a tokenizer with any other part runs in a child process, which can be killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmscope.models.files.json_file import unique_keys

GROWTH = 32.0
"""Factor by which replacements may lengthen a text."""
WORD = 1000
"""Largest `max_input_chars_per_word` of a WordPiece vocabulary."""

LONGEST = 10_000
"""Most characters of a vocabulary's tokens.

A Unigram model keeps them in a tree that is freed recursively: a token of a million characters
overflows the stack when the tokenizer is dropped, which ends the process.
"""

_ENGLISH = r"'s|'t|'re|'ve|'m|'ll|'d"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
)
_CASED_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

EXPRESSIONS = frozenset(
    {
        # To split a text: GPT-2, Llama 3, Qwen 2 and 3.5, o200k and their derivatives.
        _ENGLISH + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        _ENGLISH + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_TAIL}",
        rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_TAIL}",
        rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        rf"{_CASED}|\p{{N}}{{1,3}}{_CASED_TAIL}",
        rf"{_CASED}|\p{{N}}{_CASED_TAIL}",
        _CASED.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "") + r"|\p{N}" + _CASED_TAIL,
        _CASED.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "") + r"|\p{N}{1,3}" + _CASED_TAIL,
        *(r"\p{N}", r"\p{N}{1,3}", r"\d", r"\d{1,3}", r"[0-9]", r"\s+", r"\n", " "),
        r"[0-9][0-9][0-9]",
        # To replace spaces.
        *(" {2,}", r"\s{2,}|[\n\r\t]", r"^▁+$", r"[\n\r\t]", " +▁", r"\A▁", r"\A +| +\z"),
    }
)
"""Regular expressions that take time linear in the text's length."""

# Characters, escapes and classes without groups, each with an optional quantifier; `linear` allows
# at most one unbounded quantifier.
_ROW = re.compile(r"(?:(?:\\.|\[(?:[^\[\]\\]|\\.)*\]|[^\\\[\](){}|?*+])[?*+]?)*")
_LONGEST_ROW = 64
_OPTIONAL = 3

_HARMLESS = frozenset(
    {
        *("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "BertNormalizer"),
        *("ByteLevel", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Metaspace"),
        *("CharDelimiterSplit", "Punctuation", "Digits", "UnicodeScripts", "BertProcessing"),
        *("RobertaProcessing", "WordPiece", "ByteFallback", "Fuse", "BPEDecoder", "CTC", "Strip"),
    }
)
_MODELS = frozenset({"BPE", "WordLevel", "Unigram", "WordPiece"})
_LISTS = ("normalizers", "pretokenizers", "processors", "decoders")
_PLACES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_LONGEST_TEMPLATE = 32
_DEEPEST = 16

Part = Mapping[str, Any]


def plain_file(path: Path) -> bool:
    """Return whether a tokenizer.json has only parts of bounded cost."""
    try:
        parsed = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
        model = parsed["model"]
        kind = model.get("type", "BPE")
        longest = model.get("max_input_chars_per_word", WORD)
        if not short(model["vocab"]):
            return False
        parts = [parsed.get(place) for place in _PLACES]
        return kind in _MODELS and longest <= WORD and _plain(parts)
    except Exception:  # a key twice, or a damaged file: loading it reports the error
        return False


def short(vocabulary: Iterable[Any]) -> bool:
    """Return whether no token is longer than `LONGEST`; tokens may be pairs with their scores."""
    return all(
        len(entry if isinstance(entry, str) else entry[0]) <= LONGEST for entry in vocabulary
    )


def plain(backend: Any) -> bool:
    """Return whether a loaded `tokenizers.Tokenizer` has only parts of bounded cost."""
    model = backend.model
    if type(model).__name__ not in _MODELS:
        return False
    if getattr(model, "max_input_chars_per_word", 0) > WORD:
        return False
    parts = [getattr(backend, place) for place in _PLACES]
    try:
        return _plain([None if part is None else json.loads(part.__getstate__()) for part in parts])
    except Exception:  # a part written in Python, or not serializable
        return False


def linear(expression: str) -> bool:
    """Return whether a regular expression is known to take time linear in the text's length."""
    if expression in EXPRESSIONS:
        return True
    endless = expression.count("*") + expression.count("+")
    short = 0 < len(expression) <= _LONGEST_ROW and expression.count("?") <= _OPTIONAL
    return short and endless <= 1 and _ROW.fullmatch(expression) is not None


def _plain(parts: list[Part | None]) -> bool:
    """Return whether all parts have bounded cost and together lengthen a text at most `GROWTH`x."""
    growth = 1.0
    try:
        for part in parts:
            for inner in _flat(part):
                growth *= _growth(inner)
    except (LookupError, TypeError, ValueError, AttributeError):
        return False
    return growth <= GROWTH


def _flat(part: Part | None, depth: int = 0) -> Iterator[Part]:
    if part is None:
        return
    if depth > _DEEPEST:
        raise ValueError("sequences in sequences")
    if part["type"] != "Sequence":
        yield part
        return
    for name in _LISTS:
        for inner in part.get(name, ()):
            yield from _flat(inner, depth + 1)


def _growth(part: Part) -> float:
    """Return the factor by which a part may lengthen a text; infinite for an unknown part."""
    kind = part["type"]
    if kind in _HARMLESS:
        return 1.0
    if kind in ("Split", "Replace"):
        ((sort, pattern),) = part["pattern"].items()
        known = linear(pattern) if sort == "Regex" else bool(pattern)
        if not known:
            return float("inf")
        if kind == "Split":
            return 1.0
        return max(1.0, len(part["content"]) / (len(pattern) if sort == "String" else 1))
    if kind == "Prepend":
        return max(1.0, float(len(part["prepend"])))
    if kind == "FixedLength":
        return 1.0 if part["length"] >= 1 else float("inf")
    if kind == "TemplateProcessing":
        pieces = [*part["single"], *part["pair"]]
        named = {piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece}
        known = named <= set(part["special_tokens"]) and len(pieces) <= _LONGEST_TEMPLATE
        return 1.0 if known else float("inf")
    return float("inf")

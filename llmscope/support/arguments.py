"""Checks of what callers pass to the Python interface.

Each returns the argument in its plain Python type, or raises TypeError or ValueError with one
line of bounded length that names the argument.
"""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmscope.errors import WrongTypeError, WrongValueError
from llmscope.support.text import display_text

LONGEST = 60
"""Maximum characters of a value that an error quotes."""
MOST_IDS = 2**24
"""Maximum number of token ids; no prompt has as many."""
LONGEST_TEXT = 1_000_000
"""Maximum characters of a prompt, checked before it is tokenized, which takes up to 500 bytes of
memory a character. A model whose context may hold a longer text takes a longer one."""
LARGEST = 2**63 - 1
"""The largest integer that torch and numpy accept."""
# Each torch thread takes a stack and an entry in the process table; tens of thousands of them
# crash the process. More than a few per core only slow it down.
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))
"""Maximum number of torch threads."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = LONGEST


def quote_value(value: object) -> str:
    """Return a value as an error shows it: one safe line of at most about `LONGEST` characters.

    Numbers of thousands of digits, which Python refuses to print, are described by their size.
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = " ".join(_short.repr(value).split())
    except Exception:  # a foreign object's repr may raise anything
        text = _kind(value)
    text_shown = display_text(text)
    return text_shown if len(text_shown) <= LONGEST else text_shown[: LONGEST - 1] + "…"


def differences(stored: object, ours: Mapping[str, Any], limit: int = 3) -> str:
    """Return in brackets which options differ from stored ones, each with both values.

    Such as ` (length: 64 there, 128 here)`; empty if none differs. Options within options are named
    by both, with a dot between.

    Args:
        stored: the options that a file holds, as JSON data.
        ours: the options of this job.
        limit: how many are named; of further ones the number.
    """
    import json

    lines = [
        f"{display_text(name)}: {_here(theirs)} there, {_here(our_value)} here"
        for name, theirs, our_value in _differing(stored, json.loads(json.dumps(dict(ours))))
    ]
    more = f"; {len(lines) - limit} more" if len(lines) > limit else ""
    return f" ({'; '.join(lines[:limit])}{more})" if lines else ""


_NOTHING = object()


def _here(value: object) -> str:
    return "nothing" if value is _NOTHING else quote_value(value)


def _differing(
    stored: object, ours: object, name: str = ""
) -> Iterator[tuple[str, object, object]]:
    if stored == ours:
        return
    if not isinstance(ours, dict) or (name and not isinstance(stored, dict)):
        yield name, stored, ours
        return
    stored = stored if isinstance(stored, dict) else {}
    for key in dict.fromkeys((*ours, *stored)):
        inner = f"{name}.{key}" if name else str(key)
        yield from _differing(stored.get(key, _NOTHING), ours.get(key, _NOTHING), inner)


def integer(name: str, value: Any, *, lowest: int | None = None, highest: int = LARGEST) -> int:
    """Return an int from a Python, numpy or torch integer from `least` (None: any) to `most`."""
    boolean = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        number = None if boolean else operator.index(value)
    except Exception:  # a tensor of several numbers, or of fractions
        number = None
    if number is None:
        raise WrongTypeError(f"{name} must be an integer, not {quote_value(value)}")
    if (lowest is not None and number < lowest) or not -LARGEST <= number <= highest:
        if lowest is not None and number < lowest:
            wanted = f"{lowest} or more"
        else:
            wanted = "an integer of 63 bits" if highest == LARGEST else f"at most {highest}"
        raise WrongValueError(f"{name} {quote_value(number)} is out of range: it must be {wanted}")
    return number


def check_index(name: str, value: int, count: int) -> int:
    """Return an index counted from 0, from one of `count` things; a negative one is from the end.

    Raises:
        ValueError: there is no such thing.
    """
    if not -count <= value < count:
        raise WrongValueError(
            f"{name} {value} is out of range: there are {count} (0 to {count - 1})"
        )
    return value % count


def real(name: str, value: Any, *, above: float = -math.inf) -> float:
    """Return a finite number that is greater than `above`."""
    if isinstance(value, str | bytes | bool | None) or not hasattr(type(value), "__float__"):
        raise WrongTypeError(f"{name} must be a number, not {quote_value(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except Exception:
        raise WrongTypeError(f"{name} must be a number, not {quote_value(value)}") from None
    if not math.isfinite(number):
        raise WrongValueError(f"{name} must be a finite number, not {quote_value(value)}")
    if number <= above:
        raise WrongValueError(f"{name} {quote_value(value)} must be above {above:g}")
    return number


def share(name: str, value: Any) -> float:
    """Return a number from 0 to 1."""
    number = real(name, value)
    if not 0 <= number <= 1:
        raise WrongValueError(f"{name} must be from 0 to 1, not {quote_value(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    """Return a bool from a Python bool or a boolean numpy or torch scalar; accept nothing else."""
    if isinstance(value, bool):
        return value
    if str(getattr(value, "dtype", "")).endswith("bool") and getattr(value, "ndim", 1) == 0:
        return bool(value)
    raise WrongTypeError(f"{name} must be True or False, not {quote_value(value)}")


def text(name: str, value: Any) -> str:
    """Return a string; reject lone surrogates, which no tokenizer or file accepts."""
    if not isinstance(value, str):
        raise WrongTypeError(f"{name} must be a string, not {quote_value(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise WrongValueError(
                f"{name} holds half a character at {error.start} "
                f"({quote_value(value[error.start])}): "
                "it is no Unicode text"
            ) from None
    return value


def name_or_path(name: str, value: Any) -> str:
    """Return a string, or a path as a string."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise WrongTypeError(f"{name} must be a string or a path, not {quote_value(value)}")
    return text(name, value)


def lens(name: str, value: Any) -> Any:
    """Return a learned lens as it is, or the path or name of one as a str.

    Raises:
        TypeError: the value is neither.
    """
    return value if hasattr(value, "maps") else name_or_path(name, value)


def dictionaries(name: str, value: Any) -> tuple[Any, ...]:
    """Return sparse dictionaries as they are, and paths or names of some as str, as a tuple.

    Raises:
        TypeError: the value is neither, nor a list of such.
    """
    many = value if isinstance(value, list | tuple) else [value]
    return tuple(
        dictionary if hasattr(dictionary, "decoder") else name_or_path(name, dictionary)
        for dictionary in many
    )


def token_ids(name: str, value: Any) -> tuple[int, ...]:
    """Return one row of integers from a sequence, array or tensor."""
    wanted = f"{name} must be token ids, such as [464, 3139]"
    if hasattr(value, "tolist"):
        try:
            value = value.tolist()
        except Exception:
            raise WrongTypeError(f"{wanted}, not {quote_value(value)}") from None
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise WrongTypeError(f"{wanted}, not {quote_value(value)}")
    try:
        count = len(value)
    except OverflowError:
        count = LARGEST
    if count > MOST_IDS:
        raise WrongValueError(f"{name} has {count} ids, more than any model reads")
    if all(type(item) is int for item in value) and max(value, key=abs, default=0) <= LARGEST:
        return tuple(value)
    if any(isinstance(item, list | tuple) for item in value):
        raise WrongTypeError(
            f"{name} must be one row of token ids, without a dimension for batches"
        )
    return tuple(integer(f"{name}[{at}]", item) for at, item in enumerate(value))


def pair(name: str, value: Any, *, lowest: int | None = None) -> tuple[int, int]:
    """Return two integers."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise WrongTypeError(f"{name} must be two integers, not {quote_value(value)}")
    first, second = (integer(name, item, lowest=lowest) for item in value)
    return first, second


def several(name: str, value: Any) -> tuple[Any, ...]:
    """Return the items of an iterable as a tuple; reject strings and mappings."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise WrongTypeError(f"{name} must be a list, not {quote_value(value)}")
    return tuple(value)


def function(name: str, value: Any) -> Callable[..., Any] | None:
    """Return a function, or None."""
    if value is not None and not callable(value):
        raise WrongTypeError(f"{name} must be a function or None, not {quote_value(value)}")
    return value  # type: ignore[no-any-return]


def _kind(value: object) -> str:
    return type(value).__name__

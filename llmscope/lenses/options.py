"""Options of lenses: each is declared once, by the lens that reads it, with its type and help.

The options of `llmscope snapshot`, the keywords of `Scope.look`, the copied command and script,
`llmscope lenses NAME` and the JSON Schema of a snapshot are derived from these declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from llmscope.errors import WrongTypeError, WrongValueError
from llmscope.figure import Focus
from llmscope.lenses import indices
from llmscope.support import arguments

Kind = Literal[
    "integer",
    "number",
    "share",
    "text",
    "path",
    "lens",
    "dictionaries",
    "switch",
    "pair",
    "indices",
    "token",
    "tokens",
    "word-lists",
    "function",
]
KINDS: tuple[str, ...] = get_args(Kind)
IN_COMMAND = KINDS[:-3]
"""The kinds that the command line has options for."""
Value = TypeVar("Value")

FIELDS = frozenset(field.name for field in fields(Focus)) - {"options"}
"""The options that are fields of `Focus`, because the screen or several lenses use them."""


@dataclass(frozen=True)
class LensOption(Generic[Value]):
    """An option of a lens.

    Attributes:
        name: its name in Python; `--name` on the command line, with dashes.
        kind: the type of its values: a Python int, finite float, float from 0 to 1, str, path as
            str, learned lens or its name, dictionaries or their names, bool, two ints, ints or
            ranges of them, or token id.
        default: the value if none is given; None is allowed only if it is the default.
        help: one sentence for `--help`.
        metavar: a placeholder of the value for `--help`; "" names the type.
        least: the smallest value of an integer, or of both of a pair.
        above: a number that a value must exceed.
        shown: how `--help` shows the default, where the value alone says too little.
        check: raises ValueError for a value of the right type that is wrong; called with the name
            and the value.
        problem: returns what is wrong with a value on the command line, before a model is loaded;
            None if nothing is. Called with the value and whether pickles may be read.
    """

    name: str
    kind: Kind
    default: Value
    help: str = ""
    metavar: str = ""
    least: int | None = None
    above: float | None = None
    shown: str = ""
    check: Callable[[str, Value], object] | None = None
    problem: Callable[[Value, bool], str | None] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown kind, or a name that is no identifier."""
        if self.kind not in KINDS:
            raise WrongValueError(
                f"option {arguments.quote_value(self.name)}: no type "
                f"{arguments.quote_value(self.kind)}; "
                f"there are {', '.join(KINDS)}"
            )
        if not (isinstance(self.name, str) and self.name.isidentifier() and self.name.isascii()):
            raise WrongValueError(f"an option's name must be an identifier, not {self.name!r}")

    @property
    def flag(self) -> str:
        """The option on the command line, such as `--top-k`."""
        return f"--{self.name.replace('_', '-')}"

    def of(self, focus: Focus) -> Value:
        """Return the value that a focus has."""
        if self.name in FIELDS:
            return cast(Value, getattr(focus, self.name))
        return cast(Value, dict(focus.options).get(self.name, self.default))

    def set(self, focus: Focus, value: Value) -> Focus:
        """Return the focus with another value."""
        if self.name in FIELDS:
            return replace(focus, **{self.name: cast(Any, value)})
        values = {name: old for name, old in focus.options if name != self.name}
        if type(value) is not type(self.default) or value != self.default:
            values[self.name] = value
        return replace(focus, options=tuple(sorted(values.items())))

    def checked(self, value: Any, vocabulary: int) -> Value:
        """Return a value in its plain Python type.

        Args:
            value: the value as a caller gave it.
            vocabulary: number of tokens in the model's vocabulary.

        Raises:
            TypeError, ValueError: the value is of another type, or out of range.
        """
        if value is None and self.default is None:
            return cast(Value, None)
        plain = self._plain(value, vocabulary)
        if self.check is not None:
            self.check(self.name, plain)
        return plain

    def _plain(self, value: Any, vocabulary: int) -> Value:
        return cast(Value, CHECKS[self.kind](self, value, vocabulary))

    def text(self, value: Any) -> str:
        """Return a value as the command line takes it."""
        if self.kind == "token":
            return f"id:{value}"
        if self.kind == "indices":
            return indices.format_indices(value)
        return ",".join(map(str, value)) if self.kind == "pair" else str(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its values."""
        types: dict[str, Any] = {
            "integer": {"type": "integer"},
            "number": {"type": "number"},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "text": {"type": "string"},
            "path": {"type": "string"},
            "lens": {"type": "string"},
            "dictionaries": _array({"type": "string"}),
            "switch": {"type": "boolean"},
            "pair": _array({"type": "integer"}, 2),
            "indices": _array({"type": "integer"}),
            "token": {"type": "integer", "minimum": 0},
            "tokens": _array({"type": "integer", "minimum": 0}),
            "word-lists": _array(_array({"type": "integer", "minimum": 0}), 2),
            "function": {"type": "string"},  # its name
        }
        schema = dict(types[self.kind])
        if self.kind == "integer" and self.least is not None:
            schema["minimum"] = self.least
        if self.above is not None:
            schema["exclusiveMinimum"] = self.above
        if self.default is None:
            schema = {"anyOf": [schema, {"type": "null"}]}
        return schema | ({"description": self.help} if self.help else {})


def _array(items: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    schema = {"type": "array", "items": items}
    return schema if count is None else schema | {"minItems": count, "maxItems": count}


def _token(name: str, value: Any, vocabulary: int) -> int:
    number = arguments.integer(name, value)
    if not 0 <= number < vocabulary:
        raise WrongValueError(
            f"{name}: token {arguments.quote_value(number)} is out of range: the vocabulary has "
            f"{vocabulary} tokens (0 to {vocabulary - 1})"
        )
    return number


def _number(option: LensOption[Any], value: Any, vocabulary: int) -> float:
    lowest = -float("inf") if option.above is None else option.above
    return arguments.real(option.name, value, above=lowest)


def _tokens(name: str, ids: Any, vocabulary: int) -> tuple[int, ...]:
    return tuple(_token(name, item, vocabulary) for item in arguments.token_ids(name, ids))


def _lists(name: str, value: Any, vocabulary: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise WrongTypeError(
            f"{name} must be two lists of token ids, not {arguments.quote_value(value)}"
        )
    first, second = (_tokens(name, item, vocabulary) for item in value)
    return first, second


CHECKS: dict[str, Callable[[LensOption[Any], Any, int], Any]] = {
    "integer": lambda option, value, _: arguments.integer(option.name, value, lowest=option.least),
    "number": _number,
    "share": lambda option, value, _: arguments.share(option.name, value),
    "text": lambda option, value, _: arguments.text(option.name, value),
    "path": lambda option, value, _: arguments.name_or_path(option.name, value),
    "lens": lambda option, value, _: arguments.lens(option.name, value),
    "dictionaries": lambda option, value, _: arguments.dictionaries(option.name, value),
    "switch": lambda option, value, _: arguments.flag(option.name, value),
    "pair": lambda option, value, _: arguments.pair(option.name, value, lowest=option.least),
    "indices": lambda option, value, _: indices.check_indices(option.name, value),
    "token": lambda option, value, vocabulary: _token(option.name, value, vocabulary),
    "tokens": lambda option, value, vocabulary: _tokens(option.name, value, vocabulary),
    "word-lists": lambda option, value, vocabulary: _lists(option.name, value, vocabulary),
    "function": lambda option, value, _: arguments.function(option.name, value),
}
"""Returns a value of each kind in its plain type: called with option, value and vocabulary size."""


def _span(name: str, span: tuple[int, int] | None) -> None:
    """Raise ValueError for a span that is empty in every prompt.

    Negative ends count from the end of the prompt, and an end of 0 after a negative start means
    its end. A span may be empty in one prompt and not in another.
    """
    if span is None:
        return
    first, end = span
    if first >= end and not (end <= 0 <= first or first < 0 == end):
        raise WrongValueError(f"{name} {(first, end)} is empty: the first token, and one after it")


LAYER = LensOption("layer", "integer", -1, "Layer, from 0; negative from the end.")
HEAD = LensOption("head", "integer", 0, "Head, from 0; negative from the end.")
POSITION = LensOption("position", "integer", -1, "Token, from 0; negative from the end.")
TARGET = LensOption[int | None](
    *("target", "token", None, "A token's text with its space, or id:NUMBER.", "TOKEN")
)
VERSUS = LensOption[int | None](
    *("versus", "token", None, "A token that the target is compared with.", "TOKEN")
)
CONTEXT = LensOption[int | None](
    "context",
    "integer",
    None,
    "Number of tokens before the query.",
    least=0,
    shown="all lines except the last",
)
SPAN = LensOption[tuple[int, int] | None](
    "span",
    "pair",
    None,
    "Show only these tokens of a long prompt: from FIRST to before END. Negative numbers count "
    "from the end, so that -1,0 is the last token.",
    "FIRST,END",
    check=_span,
)
LAYERS = LensOption[tuple[int, ...] | None](
    "layers",
    "indices",
    None,
    "Only these layers, such as 10-20 or 0,4,8-11; a negative one is from the end.",
    "LAYERS",
    shown="all",
)
HEADS = LensOption[tuple[int, ...] | None](
    "heads",
    "indices",
    None,
    "Only these heads of each layer, such as 0,3 or 4-7; a negative one is from the end.",
    "HEADS",
    shown="all",
)
TOP_K = LensOption("top_k", "integer", 10, "Number of tokens or neurons to list.", least=1)

MODE = LensOption("mode", "text", "")
CHANGE = LensOption("change", "switch", False)
VERSUS_PROMPT = LensOption[tuple[int, ...] | None]("versus_prompt", "tokens", None)

RESERVED = frozenset(
    (
        *("lens", "model", "prompt", "prompt_file", "ids", "written", "context_file", "chat"),
        *("system", "no_special_tokens", "words_a", "words_b", "answer", "edit", "versus_prompt"),
        *("transcript", "turn", "line", "rejected", "memory", "spill"),
        *("change", "mode", "workspace", "keys", "format", "out", "size", "scale", "look", "theme"),
        *("color", "ascii", "force", "prompts", "shard", "shard_size", "batch_size", "tensors"),
        *(
            "batch_tolerance",
            "engine",
            "backend",
            "cache_type",
            "workers",
            "gpus_per_worker",
            "max_errored_blocks",
            "adapter",
            "reward",
            "debug",
            "quiet",
            "verbose",
            "revision",
            "json",
            "cmap",
            "font",
            "width",
        ),
        *("unverified", "device", "dtype", "threads", "trust_remote_code", "allow_pickle", "help"),
        *(
            "versus_model",
            "versus_adapter",
            "versus_dtype",
            "versus_device",
            "versus_backend",
            "versus_cache_type",
            "versus_revision",
            "layer_ids",
        ),
        *("options", "name", "recording"),
    )
)
"""Names that no lens may give to an option of its own: `llmscope snapshot` or `look` has them."""

COMMON: tuple[LensOption[Any], ...] = (LAYER, HEAD, POSITION, TARGET, VERSUS, CONTEXT, SPAN, TOP_K)
"""Options of several lenses, in the order in which the command line lists them."""
OF_EVERY_LENS: tuple[LensOption[Any], ...] = (MODE, CHANGE, VERSUS_PROMPT)
"""Options that any lens may have; the command line declares them, with checks of its own."""

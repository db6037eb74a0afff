"""The parameters of tools: each is declared once, for the JSON Schema and for the check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import ScopeError
from llmscope.lenses import suggested
from llmscope.support.arguments import LARGEST, quote_value

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession

Kind = Literal["text", "integer", "number", "switch", "texts", "options"]

_SCHEMAS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "switch": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "options": {"type": "object"},
}
_WANTED = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "switch": "true or false",
    "texts": "a list of texts",
    "options": "an object of names and values",
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a tool.

    Attributes:
        name: its name.
        kind: the type of its values.
        help: one sentence for the agent.
        required: whether a call must have it.
        choices: the allowed texts; empty: any.
        least, most: the range of a number; None: no bound.
    """

    name: str
    kind: Kind
    help: str
    required: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its values."""
        schema = dict(_SCHEMAS[self.kind])
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.least is not None:
            schema["minimum"] = self.least
        if self.most is not None:
            schema["maximum"] = self.most
        return schema | {"description": self.help}

    def checked(self, value: Any) -> Any:
        """Return a value of its type; a number without a fraction is a whole number.

        Raises:
            ScopeError: the value is of another type, or out of range.
        """
        if self.kind == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not self._fits(value):
            raise ScopeError(f"{self.name} is {quote_value(value)}", _WANTED[self.kind])
        for item in value if self.kind == "texts" else (value,):
            if isinstance(item, str) and any("\ud800" <= char <= "\udfff" for char in item):
                raise ScopeError(
                    f"{self.name} is not valid Unicode", "text without lone surrogates"
                )
        if self.choices and value not in self.choices:
            raise ScopeError(
                f"{self.name} is {quote_value(value)}{suggested(value, self.choices)}",
                f"one of {', '.join(self.choices)}",
            )
        low, high = self.least, self.most
        if (low is not None and value < low) or (high is not None and value > high):
            wanted = f"{low:g} or more" if high is None else f"from {low or 0:g} to {high:g}"
            raise ScopeError(f"{self.name} is {quote_value(value)}", wanted)
        return value

    def _fits(self, value: Any) -> bool:
        if self.kind == "switch":
            return isinstance(value, bool)
        if self.kind == "integer":
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and -LARGEST <= value <= LARGEST
        if self.kind == "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and value == value
        if self.kind == "texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        return isinstance(value, dict if self.kind == "options" else str)


@dataclass(frozen=True)
class Tool:
    """A tool: its name, what it does, its parameters, and the function that does it.

    Attributes:
        name: its name.
        about: what it does and answers, for the agent.
        parameters: its parameters.
        run: called with the session, the checked arguments and the call; returns the answer.
    """

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    run: Callable[[AgentSession, Mapping[str, Any], AgentCall], str]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its arguments."""
        return {
            "type": "object",
            "properties": {parameter.name: parameter.schema() for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if parameter.required],
            "additionalProperties": False,
        }

    def checked(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the arguments of a call in their types, without those that are null.

        Raises:
            ScopeError: an argument is unknown, missing, or of another type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        present = {name: value for name, value in (arguments or {}).items() if value is not None}
        for name in present:
            if name not in known:
                close = suggested(name, known)
                raise ScopeError(
                    f"{self.name} has no argument {quote_value(name)}{close}",
                    ", ".join(known) or "none",
                )
        for name, parameter in known.items():
            if parameter.required and name not in present:
                raise ScopeError(f"{self.name} needs {name}", parameter.help)
        return {name: known[name].checked(value) for name, value in present.items()}

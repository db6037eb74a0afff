"""Parameters and lines that several tools share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import line
from llmscope.agents.parameters import Parameter
from llmscope.edits import read_prompt_b
from llmscope.errors import ScopeError
from llmscope.lenses import options, suggested

if TYPE_CHECKING:
    from llmscope.agents.session import AgentSession
    from llmscope.figure import Verdict
    from llmscope.lenses import Lens
    from llmscope.lenses.options import LensOption
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope

PROMPT = Parameter("prompt", "text", "The prompt; left out: the latest one.")
CHAT = Parameter("chat", "switch", "Put the prompt into the model's chat template.")
VERSUS_PROMPT = Parameter("versus_prompt", "text", "Prompt B, which is compared with or patched.")
LENS_PARAMETERS = (
    Parameter("mode", "text", "The lens's variant; explain topic=LENS lists them."),
    Parameter("layer", "integer", "Layer, from 0; negative from the end."),
    Parameter("head", "integer", "Head, from 0."),
    Parameter("position", "integer", "Token of the prompt, from 0; −1 is the last."),
    Parameter("target", "text", "A token with its leading space, or id:NUMBER."),
    Parameter("versus", "text", "A token that the target is compared with."),
    Parameter("top_k", "integer", "Number of candidates or neurons.", least=1, most=100_000),
    Parameter("options", "options", "More options of the lens by name: see explain topic=LENS."),
)
"""Parameters that are options of lenses."""
_NAMED = tuple(parameter.name for parameter in LENS_PARAMETERS if parameter.name != "options")


def passes_prompt_b(session: AgentSession, chosen: Lens, arguments: Mapping[str, Any]) -> bool:
    """Return whether the figure of a lens is given prompt B: it reads it, or is a difference A − B.

    Raises:
        ScopeError: the call names prompt B, and neither the lens nor an edit reads it.
    """
    reads = chosen.reads_prompt_b or bool(arguments.get("change"))
    patches = read_prompt_b(session.edits)
    if "versus_prompt" in arguments and not reads and not patches:
        raise ScopeError(
            "versus_prompt: neither the lens nor an edit in force reads prompt B",
            "change=true for this prompt minus B",
        )
    return reads


def lens_options(
    arguments: Mapping[str, Any], chosen: Lens, *, allow_pickle: bool
) -> dict[str, Any]:
    """Return the options of a lens from the arguments of a tool.

    Raises:
        ScopeError: an option is unknown, given twice, cannot be written as JSON, or names a file
            that cannot be read or is not trusted.
    """
    checked = {name: arguments[name] for name in _NAMED if name in arguments}
    more = dict(arguments.get("options", {}))
    for name, value in more.items():
        if name in checked:
            raise ScopeError(f"{name} is given twice", "it once")
        if name not in options() or name in ("versus_prompt", "change", "mode"):
            known = [option.name for option in chosen.options]
            raise ScopeError(
                f"{chosen.name} has no option {line(name, 60)!r}{suggested(name, known)}",
                ", ".join(known) or "no options",
            )
        checked[name] = value
    for name, value in checked.items():
        _check(options()[name], value, allow_pickle)
    return checked


def _check(option: LensOption[Any], value: Any, allow_pickle: bool) -> None:
    if option.kind == "function":
        raise ScopeError(f"{option.name} is a Python function", "the Python interface")
    if option.kind in ("lens", "path") and not isinstance(value, str):
        raise ScopeError(f"{option.name} is no text", "the name of a file, or of a known lens")
    if option.problem is None or not value:
        return
    wrong = option.problem(value, allow_pickle)
    if wrong is not None:
        raise ScopeError(f"{option.name}: {line(wrong)}", option.help)


def state_lines(recording: Recording) -> list[str]:
    """Return what a figure is of: the model, its adapter, the edits and the prompt."""
    model = recording.model
    words = [model.name if model.adapter is None else f"{model.name} + {model.adapter}"]
    if recording.edits:
        words.append(f"edits in force: {'; '.join(map(str, recording.edits))}")
    text = "".join(recording.prompt.labels)
    return [
        f"model: {line(', '.join(words), 240)}",
        f"prompt of {len(recording)} tokens: {line(text, 160)}",
        *(line(f"note: {notice}", 200) for notice in recording.prompt.notices[:2]),
    ]


def verdict_of(scope: Scope, *recordings: Recording) -> Verdict:
    """Return the verdict on the next token of recordings: the less trustworthy of several."""
    from llmscope.figure import Focus
    from llmscope.scope.figures import figure_of

    first, *others = (
        figure_of(scope, recording, "next-token", Focus()).verdict for recording in recordings
    )
    for other in others:
        first = first.worst(other)
    return first


def verdict_line(verdict: Verdict) -> str:
    """Return a verdict in one line, with its reason and the error that was measured."""
    words: str = verdict.status
    if verdict.reason:
        words += f": {verdict.reason}"
    if verdict.discrepancy is not None:
        words += f" (largest relative error {verdict.discrepancy:.1e})"
    if verdict.within:
        words += f", {verdict.within}"
    return f"verdict: {line(words, 260)}"

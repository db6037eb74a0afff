"""The tool `compare`: the next token of two prompts, of two models, or with and without edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import fit_answer, line
from llmscope.agents.distributions import difference
from llmscope.agents.parameters import Parameter, Tool
from llmscope.agents.tools.shared import CHAT, PROMPT, state_lines, verdict_line, verdict_of
from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope

WAYS = ("versus_prompt", "versus_adapter", "versus_model")
BASE = "base"
"""The name that stands for the model without an adapter."""


def compare(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Return how the next token differs between A, the prompt as it is, and B."""
    named = [way for way in WAYS if way in arguments]
    if len(named) > 1:
        raise ScopeError(f"{' and '.join(named)} are given", "one of them")
    if not named and not session.edits:
        raise ScopeError("there is nothing to compare with", f"{', '.join(WAYS)}, or edit first")
    scope = session.scope(call)
    text = session.text(arguments)
    if not named:
        edited = session.record(text, call)
        assert edited.base is not None
        ours, theirs, words = edited.base, edited, ("without the edits", "with the edits")
    elif named == ["versus_prompt"]:
        ours = session.record(text, call)
        theirs = session.record(arguments["versus_prompt"], call)
        words = "prompt", f"versus_prompt {line(arguments['versus_prompt'], 160)}"
    elif named == ["versus_adapter"]:
        ours = session.record(text, call)
        theirs = _with_adapter(session, scope, text, arguments["versus_adapter"], call)
        words = scope.adapter or BASE, arguments["versus_adapter"]
    else:
        ours = session.record(text, call, edits=())
        other = _second(session, scope, arguments["versus_model"], call)
        theirs = other.record(ours.prompt.ids, cancelled=session.stopping(call))
        words = scope.loaded_model.name, other.loaded_model.name
    change = difference(ours, theirs)
    second = scope.other if named == ["versus_model"] else None
    verdict = verdict_of(scope, ours).worst(verdict_of(second or scope, theirs))
    lines = [
        *state_lines(ours),
        f"A: {line(words[0], 160)}",
        f"B: {line(words[1], 200)}",
        change.divergence,
        verdict_line(verdict),
        "establishes: that they differ, and by how much, after the last token; not why",
        "unit: probability",
        "token\tA\tB\tB−A",
    ]
    return fit_answer(lines, change.rows)


def _with_adapter(
    session: AgentSession, scope: Scope, text: str, adapter: str, call: AgentCall
) -> Recording:
    """Return the recording of a prompt with another adapter, and put the one in use back."""
    before = scope.adapter
    scope.use(None if adapter == BASE else adapter)
    try:
        return session.record(text, call)
    finally:
        scope.use(before)


def _second(session: AgentSession, scope: Scope, model: str, call: AgentCall) -> Scope:
    """Return the second model; it stays loaded until another one is asked for.

    Raises:
        ScopeError: it cannot be loaded, or does not read the same tokens.
    """
    from llmscope.scope.second_model import compare_with

    second = scope.other
    if second is None or second.base.spec != model:
        scope.compare(None)
        options = session.options.another(model)
        compare_with(scope, lambda progress: options.load(progress), call.loading)
        second = scope.other
    assert second is not None
    return second


COMPARE = Tool(
    "compare",
    "Compare the next token after a prompt (A) with that after versus_prompt, that of another "
    "adapter or model, or, if edits are in force and nothing else is named, that with the edits "
    "(B): KL both ways, and the likeliest tokens of both with their probabilities. After "
    "versus_model, look lens=model-diff tells more, and change=true gives A − B of other lenses.",
    (
        PROMPT,
        CHAT,
        Parameter("versus_prompt", "text", "Prompt B."),
        Parameter("versus_adapter", "text", "An adapter or checkpoint that open lists, or base."),
        Parameter("versus_model", "text", "A second model that reads the same tokens."),
    ),
    compare,
)

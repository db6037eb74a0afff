"""The tool `edit`: set the edits in force, and tell what they do to the next token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import cell, fit_answer, line
from llmscope.agents.distributions import difference
from llmscope.agents.parameters import Parameter, Tool
from llmscope.agents.session import parsed
from llmscope.agents.tools.shared import (
    CHAT,
    PROMPT,
    VERSUS_PROMPT,
    state_lines,
    verdict_line,
    verdict_of,
)

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession

CLEARED = "no edits are in force"


def edit(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Set the edits in force, and return what they make of the next token.

    If they cannot be made on the prompt, those before stay in force.
    """
    scope = session.scope(call)
    chosen = parsed(arguments["edits"]) if "edits" in arguments else session.edits
    before = session.edits, session.versus_prompt
    if "versus_prompt" in arguments:
        session.versus_prompt = arguments["versus_prompt"]
    session.edits = chosen
    if not chosen:
        session.versus_prompt = None
        return CLEARED
    try:
        if session.prompt is None and "prompt" not in arguments:
            return fit_answer(
                [
                    _list_edits(session),
                    "they are checked on the next prompt: give prompt to see it now",
                ]
            )
        recording = session.record(session.text(arguments), call)
    except BaseException:
        session.edits, session.versus_prompt = before
        raise
    base = recording.base
    assert base is not None
    change = difference(base, recording)
    old, new = change.tops
    if old.token == new.token:
        became = f"still {cell(old.label)}, p {old.first:.4g} → {old.second:.4g}"
    else:
        became = (
            f"{cell(old.label)} (p {old.first:.4g} → {old.second:.4g}) became {cell(new.label)} "
            f"(p {new.first:.4g} → {new.second:.4g})"
        )
    return fit_answer(
        [
            *state_lines(recording),
            f"next token: {became}",
            f"KL(unedited ‖ edited) {change.kl:.4g} nats",
            verdict_line(verdict_of(scope, base, recording)),
            "establishes: a cause: the pass ran again with the edits, and nothing else changed",
            "unit: probability",
            "token\tunedited\tedited\tchange",
        ],
        change.rows,
    )


def _list_edits(session: AgentSession) -> str:
    return line(f"edits in force: {'; '.join(map(str, session.edits))}")


EDIT = Tool(
    "edit",
    "Set the list of edits that every look, compare and generate makes to the pass, such as "
    '["zero head 5.3"] or ["steer 6 token \\" Paris\\" 4"]; [] clears it, and without edits the '
    "current ones are told. Answers what the next token becomes, and KL(unedited ‖ edited). "
    "explain topic=edits tells the grammar.",
    (
        Parameter("edits", "texts", "All edits, in order; [] for none."),
        PROMPT,
        CHAT,
        VERSUS_PROMPT,
    ),
    edit,
)

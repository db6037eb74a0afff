"""The tools: one file each, and the list of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.parameters import Tool
from llmscope.agents.tools.compare import COMPARE
from llmscope.agents.tools.edit import EDIT
from llmscope.agents.tools.explain import EXPLAIN
from llmscope.agents.tools.export import EXPORT
from llmscope.agents.tools.generate import GENERATE
from llmscope.agents.tools.look import LOOK
from llmscope.agents.tools.many_prompts import MANY_PROMPTS
from llmscope.agents.tools.open import OPEN
from llmscope.errors import ScopeError
from llmscope.lenses import suggested
from llmscope.support.arguments import quote_value

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession

TOOLS = {
    tool.name: tool for tool in (OPEN, LOOK, EDIT, COMPARE, GENERATE, MANY_PROMPTS, EXPLAIN, EXPORT)
}
"""All tools by name, in the order in which they are listed."""


def run(
    session: AgentSession, name: str, arguments: Mapping[str, Any] | None, call: AgentCall
) -> str:
    """Return the answer of a tool, of at most `llmscope.agents.answer.LIMIT` bytes.

    Args:
        session: the session.
        name: the name of the tool.
        arguments: the arguments, as they came from the client.
        call: the call.

    Raises:
        ScopeError, ValueError, TypeError: an argument is wrong, or the model refuses it.
        Cancelled: the client gave the call up.
    """
    tool: Tool | None = TOOLS.get(name)
    if tool is None:
        raise ScopeError(f"no tool {quote_value(name)}{suggested(name, TOOLS)}", ", ".join(TOOLS))
    before = session.prompt, session.chat
    try:
        return tool.run(session, tool.checked(arguments), call)
    except BaseException:
        if session.is_open:  # a prompt that cannot run is not remembered
            session.prompt, session.chat = before
        raise

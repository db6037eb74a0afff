"""Makes the answers of docs/agents.md again: python demo/agents.py"""

import json
import re
import tempfile
from pathlib import Path

from llmscope.agents.files import OutputFolder
from llmscope.agents.session import AgentCall, AgentSession, LoadOptions
from llmscope.agents.tools import run
from llmscope.errors import ScopeError

PAGE = Path(__file__).parents[1] / "docs" / "agents.md"
EXAMPLE = re.compile(r"^```json\n(\w+) (\{[^\n]*\})\n```\n\n```text\n(.*?)```$", re.S | re.M)


def written(page: str) -> str:
    """Return the page with the answers of now."""
    with tempfile.TemporaryDirectory() as folder:
        session = AgentSession(LoadOptions(), OutputFolder(Path(folder)))

        def answered(example: re.Match[str]) -> str:
            tool, given, _ = example.groups()
            try:
                text = run(session, tool, json.loads(given), AgentCall())
            except (ScopeError, ValueError) as error:
                hint = getattr(error, "hint", "")
                text = f"{error}{f' (try: {hint})' if hint else ''}"
            text = text.replace(str(session.folder.path), "FILES")
            return f"```json\n{tool} {given}\n```\n\n```text\n{text}\n```"

        return EXAMPLE.sub(answered, page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")

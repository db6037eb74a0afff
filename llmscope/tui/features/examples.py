"""An example of what the focused pane lacks: a prompt B, a context, an adapter, a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmscope import builtin
from llmscope.tui.features.compare import controller as compare
from llmscope.tui.features.dictionaries.picker import choose
from llmscope.tui.features.models.model_picker import ask_second
from llmscope.tui.features.program import next_adapter
from llmscope.tui.state.prompt_pairs import pairs_for

if TYPE_CHECKING:
    from llmscope.tui.host import Host

CONTEXTS = "contexts.json"
"""Among the built-in models: contexts that a model answers, measured by `demo/contexts.py`."""
WITH_ADAPTERS = "builtin:town"


def answered_context(spec: str) -> str:
    """Return a context whose query a model is known to answer; empty for an unmeasured model."""
    import json

    table = json.loads((Path(builtin.__file__).parent / CONTEXTS).read_text(encoding="utf-8"))
    return str(table.get(spec, {}).get("prompt", ""))


def take(host: Host, missing: str) -> None:
    """Give an example of what is missing, by the keys of `llmscope.tui.panes.missing`."""
    spec = host.source.spec
    if missing == "prompt B":
        pairs = pairs_for(spec)
        if pairs:
            compare.take(host, pairs[0], stay=True)
        else:
            host.tell("there is no example that this model could read", "warning")
    elif missing == "context":
        prompt = answered_context(spec)
        if prompt:
            host.editor.replace_all(prompt)
        else:
            host.tell("no example is known that this model answers: type examples, then a new case")
    elif missing == "dictionary of features":
        choose(host)
    elif missing == "second model":
        ask_second(host)
    elif missing == "adapter" and host.state.info is not None:
        if host.state.info.adapters:
            next_adapter(host)
        elif not host.models.busy(host):
            host.models.switch(host, WITH_ADAPTERS)
    else:
        host.tell("there is no example here: see the help", "warning")

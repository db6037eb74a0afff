"""An example of what the focused pane lacks: a prompt B, a context, an adapter, a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.tui.features.compare import controller as compare
from llmscope.tui.features.dictionaries.picker import choose
from llmscope.tui.features.models.model_picker import ask_second
from llmscope.tui.handlers import next_adapter
from llmscope.tui.state.prompt_pairs import pairs_for

if TYPE_CHECKING:
    from llmscope.tui.host import Host

CONTEXTS = {
    "builtin:sort": "CAB\nBCA\nABC",
    "builtin:town": "dog puppy\ncow calf\ncat",
}
"""Contexts in the words of the built-in models; the variants of a model read the same."""
CONTEXT = "apple: red\nsky: blue\ngrass:"
WITH_ADAPTERS = "builtin:town"


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
        known = (text for name, text in CONTEXTS.items() if spec.startswith(name))
        host.editor.replace_all(next(known, CONTEXT))
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

"""Enter goes in: to what the cursor is on, else into the pane itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.tui.features import examples
from llmscope.tui.features.compare import controller as compare
from llmscope.tui.features.edits import controller as edits
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.tui.host import Host


def enter(host: Host) -> None:
    """Go to what the cursor is on: a pair, an example, a part, an edit, a prompt, an input.

    Where it is on none of these, the pane gets all the room, until esc.
    """
    from llmscope.tui.panes.contrast import ContrastPane

    pane = host.grid.pane
    picked = pane.picked if isinstance(pane, ContrastPane) else None
    place = pane.leads_to(host.state)
    if host.state.query and pane.key == "features":
        from llmscope.tui.features.dictionaries import search

        search.take(host)
    elif picked is not None:
        compare.take(host, picked)
    elif pane.shown is not None and pane.shown.figure.missing:
        examples.take(host, pane.shown.figure.missing)
    elif place is not None:
        workspace, key = place
        host.look_at(pane.choose_edited(host.state))  # what is marked is what the panes there show
        host.grid.show(BY_NAME[workspace])
        host.grid.enter(key)
    elif host.grid.workspace.name == "walkthrough":
        from llmscope.tui.features.walkthrough import sources

        sources.source(host)
    elif pane.key == "prompts":
        host.prompt_list.enter(host)
    elif pane.key == edits.PANE and host.state.edits:
        edits.write(host)
    elif not host.grid.maximized:
        host.grid.maximize()

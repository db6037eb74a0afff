"""What enter does in the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.tui.features import examples
from llmscope.tui.features.compare import controller as compare
from llmscope.tui.features.edits import controller as edits
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.tui.host import Host


def enter(host: Host) -> None:
    """Take the selected pair or an example, go to the chosen part, or switch an edit off or on."""
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
        host.grid.show(BY_NAME[workspace])
        host.grid.enter(key)
    else:
        edits.toggle(host)

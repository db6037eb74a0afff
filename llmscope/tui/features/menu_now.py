"""What the entries of the menus would do now, or why they do nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.support.text import display_text
from llmscope.tui.state.workspaces import BY_NAME, FIRST, WORKSPACES, tab_title
from llmscope.tui.widgets.overview_strip import shows_strip

if TYPE_CHECKING:
    from llmscope.tui.host import Host

LONGEST_PROMPT = 40
"""The most characters of a prompt in an entry."""


@dataclass(frozen=True)
class Now:
    """What an action would do now.

    Attributes:
        text: the setting as it is, or why the action does nothing.
        on: whether it does something.
    """

    text: str
    on: bool = True


def _off(reason: str) -> Now:
    return Now(reason, on=False)


def _beginning(text: str) -> str:
    """Return the beginning of a prompt, quoted."""
    text = display_text(text)
    return f"'{text}'" if len(text) <= LONGEST_PROMPT else f"'{text[:LONGEST_PROMPT]}…'"


def _keep_b(host: Host) -> Now:
    from llmscope.tui.state.context_marker import marked

    text = marked(host.text).text
    if not text:
        return _off("the prompt is empty")
    return Now("removes B" if host.state.versus_prompt == text else f"B is {_beginning(text)}")


def _write_b(host: Host) -> Now:
    prompt = host.state.versus_prompt
    return Now("not written yet" if prompt is None else f"now {_beginning(prompt)}")


def _second_model(host: Host) -> Now:
    info = host.state.info
    name = "" if info is None else info.versus_name
    return Now(f"now {display_text(name)}" if name else "")


def _second_model_end(host: Host) -> Now:
    return Now("") if host.state.two_models else _off("one model is open")


def _change(host: Host) -> Now:
    state = host.state
    if state.change:
        return Now("now on")
    if state.in_force or state.versus_prompt is not None or state.two_models:
        return Now("now off")
    return _off("no edit, no prompt B, one model")


def _adapter(host: Host) -> Now:
    info = host.state.info
    if info is None or not info.adapters:
        return _off("none was loaded: --adapter")
    return Now(f"now {display_text(host.state.adapter or 'the base model')}")


def _read_file(host: Host) -> Now:
    prompts = host.state.prompts
    if host.user.files is None:
        return _off("no file can be opened here")
    return Now("" if prompts is None else f"now {prompts.file.name}")


def _needs_edit(host: Host) -> Now:
    edit = host.state.chosen_edit
    return _off("no edit is listed") if edit is None else Now(display_text(str(edit.edit)))


def _all_edits(host: Host) -> Now:
    count = len(host.state.edits)
    return Now(f"{count} listed") if count else _off("no edit is listed")


def _branch(host: Host) -> Now:
    branches = host.generation.branches
    count = 0 if branches is None else len(branches.kept)
    return Now(f"of {count}") if count > 1 else _off("there is one branch alone")


def _generation_item(host: Host) -> Now:
    branches = host.generation.branches
    return (
        Now("") if branches is not None and branches.count else _off("nothing was generated here")
    )


def _sampler(host: Host) -> Now:
    return Now(f"now {host.state.sampler.said}")


def _attention(host: Host) -> Now:
    return Now(f"now {host.state.attention_mode.replace('-', ' ')}")


def _measure(host: Host) -> Now:
    from llmscope.tui.state.token_measures import measure_of

    return Now(f"now {measure_of(host.state).title}")


def _whole(host: Host) -> Now:
    if not host.state.long:
        return _off("the prompt is short")
    return Now("now the whole" if host.state.whole else "now near the cursor")


def _strip(host: Host) -> Now:
    return Now("now on" if shows_strip(host) else "now off")


def _lens(host: Host) -> Now:
    if not host.state.lenses:
        return _off("no learned lens is known for this model")
    return Now(f"now {display_text(host.state.translator or 'the logit lens')}")


def _dictionaries(host: Host) -> Now:
    count = len(host.state.dictionaries)
    return Now(f"{count} in use" if count else "none in use")


def _find_feature(host: Host) -> Now:
    return Now("") if host.state.dictionaries else _off("no dictionary is in use")


def _hit(host: Host) -> Now:
    wanted = host.find.value
    return Now(_beginning(wanted)) if wanted else _off("nothing was searched for")


def _turn(host: Host) -> Now:
    return Now("") if host.chat.roles else _off("the prompt follows no chat template")


def _walk(host: Host) -> Now:
    here = host.grid.workspace.name == "walkthrough"
    return Now("") if here else _off("in Walkthrough")


def _target(host: Host) -> Now:
    return Now("now pinned" if host.state.target_pinned else "now the most probable token")


def _versus(host: Host) -> Now:
    return Now("now on: ends it" if host.state.versus is not None else "now off")


def _hidden_item(host: Host) -> Now:
    hidden = host.grid.arrangement.hidden
    return Now(f"{len(hidden)} hidden") if hidden else _off("none is hidden")


def _views(host: Host) -> Now:
    pane = host.grid.pane
    return Now("") if len(list(pane.offered_views(host.state))) > 1 else _off(pane.one_view)


def _tab(name: str) -> Callable[[Host], Now]:
    def now(host: Host) -> Now:
        tab = BY_NAME[name].tab
        tabs = [open_tab.tab for open_tab in host.grid.tabs]
        here = ", on screen" if host.grid.workspace.name == name else ""
        return Now(f"tab {tabs.index(tab) + 1}{here}" if tab in tabs else "")

    return now


def _close_tab(host: Host) -> Now:
    workspace = host.grid.workspace
    title = tab_title(host.grid.workspaces, workspace)
    return _off(f"{title} is always there") if workspace.tab in FIRST else Now(title)


def _turn_tab(host: Host) -> Now:
    turned = host.grid.shared_tab
    at = [workspace.name for workspace in turned].index(host.grid.workspace.name)
    following = turned[(at + 1) % len(turned)].title
    return Now(following) if len(turned) > 1 else _off(f"{following} shows nothing else")


NOW: dict[str, Callable[[Host], Now]] = {
    "keep-b": _keep_b,
    "write-b": _write_b,
    "second-model": _second_model,
    "second-model-end": _second_model_end,
    "change": _change,
    "adapter": _adapter,
    "read-file": _read_file,
    "edit-toggle": _needs_edit,
    "edit-remove": _needs_edit,
    "edit-earlier": _needs_edit,
    "edits-all": _all_edits,
    "branch-previous": _branch,
    "branch-next": _branch,
    "fork": _generation_item,
    "write-back": _generation_item,
    "sampler": _sampler,
    "attention-mode": _attention,
    "measure": _measure,
    "whole": _whole,
    "strip": _strip,
    "lens": _lens,
    "dictionaries": _dictionaries,
    "find-feature": _find_feature,
    "hit-next": _hit,
    "hit-previous": _hit,
    "turn-next": _turn,
    "turn-previous": _turn,
    "turns": _turn,
    "walk-on": _walk,
    "walk-back": _walk,
    "step-from": _walk,
    "step-back": _walk,
    "pin-target": _target,
    "versus": _versus,
    "panes-all": _hidden_item,
    "tab-close": _close_tab,
    "tab-turn": _turn_tab,
    **{f"workspace-{workspace.name}": _tab(workspace.name) for workspace in WORKSPACES},
    "map-view": _views,
    "view-back": _views,
}
"""By the name of an action: what it would do now. Entries without one always do what they say."""

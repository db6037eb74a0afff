"""The status text: the cursor's values in words, read from the figures on screen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from llmscope.support.numbers import percent, share
from llmscope.support.text import display_text, quoted_token
from llmscope.tui.state.views import MAP_VIEWS

if TYPE_CHECKING:
    from llmscope.figure import Figure
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState

Find = Callable[[str], "Shown | None"]


def clauses(state: ViewState, find: Find, workspace: str = "") -> list[str]:
    """Return what is known about the cursor's place, most important first.

    Args:
        state: the view state.
        find: returns the figure that a pane shows, given the pane's key. Only figures of the
            state's tokens, adapter, edits and prompt B are read.
        workspace: the name of the workspace on screen; some clauses belong to one workspace only.
    """
    token = state.token
    if token is None:
        return []

    def figure(key: str) -> Shown | None:
        shown = find(key)
        if shown is None or shown.figure.verdict.status == "refused":
            return None
        # A difference by edits is not a value at the cursor; only these two label it as one.
        if shown.want.focus.change and key not in ("map", "next-token"):
            return None
        return shown if shown.of(state) else None

    focus = state.focus
    return [
        f"layer {focus.layer}, {quoted_token(token.text)}",
        *_number(figure("walk-values") if workspace == "walkthrough" else None, state),
        *_step(figure("walkthrough") if workspace == "walkthrough" else None, state),
        *_contrast(figure("contrast") if workspace == "compare" else None, state),
        *_feature(figure("features") if workspace == "features" else None, state),
        *_next(figure("next-token"), state),
        *_context(figure("context-proof")),
        *_attention(figure("attention"), state),
        *_ablation(figure("ablation"), state),
        *_map(figure("map"), state),
        *_neuron(figure("mlp"), state),
        *_experts(figure("mlp"), state),
        *_surprisal(figure("tokens"), state),
    ]


def fitting(parts: list[str], width: int) -> str:
    """Join the leading clauses that fit into one line of `width` cells."""
    if not parts:
        return ""
    line = parts[0]
    for index, part in enumerate(parts[1:]):
        longer = f"{line}{': ' if index == 0 else '; '}{part}"
        if cell_len(longer) > width:
            break
        line = longer
    return line


def number(value: float) -> str:
    """Format a value with at most four significant digits."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _next(shown: Shown | None, state: ViewState) -> Iterator[str]:
    if shown is None:
        return
    extra, figure = shown.figure.extra, shown.figure
    here = extra.get("position", state.focus.position) == state.focus.position
    if not here or not figure.values.size:
        return
    if extra.get("mode") == "slope":
        yield from _slope(figure, state)
        return
    first = figure.axes[0].labels[0]
    shares = extra.get("probability", figure.values)
    after = "next" if shown.want.lens == "next-token" else f"layer {extra.get('layer')} says"
    said = f"{after} {quoted_token(first)} {percent(float(shares[0]))}"
    for name, by in (("unedited", "by edits"), ("other", "A − B")):
        if name in extra:
            points = 100 * (float(shares[0]) - float(extra[name][0]))
            said += f" ({points:+.1f} points {by})"
    yield said
    target = state.target
    ids = [int(token) for token in extra.get("ids", ())]
    if target is None or not ids or target == ids[0]:
        return
    if target in ids:
        row = ids.index(target)
        label, probability = figure.axes[0].labels[row], float(shares[row])
        yield f"{quoted_token(label)} is number {row + 1} at {percent(probability)}"
    elif extra.get("target_id") == target and "target" in extra:
        yield f"{quoted_token(str(extra['target']))} is number {extra['target_rank']}"


def _slope(figure: Figure, state: ViewState) -> Iterator[str]:
    """Yield what the model does with the lens's direction after the cursor's layer."""
    row, labels = str(state.focus.layer), figure.axes[0].labels
    if row in labels and math.isfinite(ratio := float(figure.values[labels.index(row)])):
        token = quoted_token(str(figure.extra["target"]))
        yield f"along {token} the model does {number(ratio)} times what the lens says"


def _context(shown: Shown | None) -> Iterator[str]:
    if shown is None or "runs" not in shown.figure.extra:
        return
    extra = shown.figure.extra
    yield f"with its context it says {quoted_token(str(extra['says'][0]))}"
    rows = zip(extra["runs"][1:], extra["says"][1:], extra["kl"][1:], strict=True)
    for run, says, kl in rows:
        yield f"{run}: {quoted_token(str(says))}, KL {number(float(kl))} nats"


def _attention(shown: Shown | None, state: ViewState) -> Iterator[str]:
    if shown is None:
        return
    figure, focus = shown.figure, state.focus
    if figure.extra.get("layer", focus.layer) != focus.layer:
        return
    head = figure.extra.get("head")
    if (head is not None and head != focus.head) or figure.unit != "probability":
        return
    *heads, queries, keys = figure.axes
    index = queries.index(focus.position)
    if index is None or queries.step > 1 or keys.step > 1:
        return
    row = figure.values[..., index, :].mean(0) if heads else figure.values[index]
    known = (row == row).nonzero()[0]  # NaN is not itself
    if not len(known):
        return
    key = int(known[row[known].argmax()])
    mode = figure.extra.get("mode", "mean")
    who = "the rollout" if mode == "rollout" else f"{'mean' if heads else mode} of heads"
    who = who if head is None else f"head {head}{' beside the sink' * (mode == 'no-sink')}"
    most = quoted_token(keys.labels[key])
    yield f"{who} looks most at {most} ({share(float(row[key]))})"


def _number(shown: Shown | None, state: ViewState) -> Iterator[str]:
    """Yield the value under the cursor in a walkthrough step."""
    cell = state.focus.cell
    if shown is None or cell is None or "seen" not in shown.figure.extra:
        return
    if shown.want.focus.cell == cell and shown.at(state):
        # Imported late: it needs numpy, which the first frame does not load.
        from llmscope.draw.painters.walkthrough.value import cell_said

        yield cell_said(shown.figure, False)


def _step(shown: Shown | None, state: ViewState) -> Iterator[str]:
    """Yield the selected walkthrough step."""
    if shown is None or shown.figure.extra["layer"] != state.focus.layer:
        return
    steps = shown.figure.extra["steps"]
    at = min(state.step, len(steps) - 1)
    yield f"step {at}, {display_text(steps[at]['name'])}, {display_text(steps[at]['gist'])}"


def _contrast(shown: Shown | None, state: ViewState) -> Iterator[str]:
    """Yield the cosine of the token's residual streams in A and in B."""
    if shown is None or shown.figure.unit != "cosine":
        return
    value = _cell(shown.figure, str(state.focus.layer), state.focus.position)
    if value is None:
        return
    centred = ", mean taken off" if shown.figure.extra.get("mode") == "centred" else ""
    known = math.isfinite(value)
    yield f"cosine of A and B {value:.3f}{centred}" if known else "only A has this token"


def _ablation(shown: Shown | None, state: ViewState) -> Iterator[str]:
    """Yield the effect on the answer of ablating the head under the cursor."""
    if shown is None or [axis.name for axis in shown.figure.axes] != ["layer", "head"]:
        return
    value = _cell(shown.figure, str(state.focus.layer), state.focus.head)
    if value is not None and math.isfinite(value):
        yield f"without head {state.focus.head} {value:+.3g} {shown.figure.unit}"


def _map(shown: Shown | None, state: ViewState) -> Iterator[str]:
    if shown is None:
        return
    asked = (shown.want.lens, shown.want.focus.mode)
    view = next((view for view in MAP_VIEWS if (view.lens, view.mode) == asked), None)
    if view is not None and view.mode == "lenses":
        yield from _side_by_side(shown.figure, state)
        return
    value = _cell(shown.figure, str(state.focus.layer), state.focus.position)
    if view is None or value is None or math.isnan(value):
        return
    if shown.want.focus.change:
        yield f"{view.title} {value:+.3g} {'by edits' if shown.request.edits else 'A − B'}"
    elif view.lens != "logit-lens":
        yield f"{view.title} {number(value)}"
    elif view.mode == "kl":
        yield f"the lens is {number(value)} nats off"
    elif view.mode == "top":
        yield f"the lens reads {quoted_token(_read(shown.figure, state))} at {percent(value)}"
        yield from _held_out(shown.figure, state)
    else:
        yield f"the lens gives {quoted_token(str(shown.figure.extra['target']))} {percent(value)}"


def _side_by_side(figure: Figure, state: ViewState) -> Iterator[str]:
    """Yield what each lens reads after the cursor's layer."""
    row = str(state.focus.layer)
    labels = figure.axes[0].labels
    if figure.extra.get("position") != state.focus.position or row not in labels:
        return
    ids, names = figure.extra["ids"][labels.index(row)], figure.extra["names"]
    read = [quoted_token(str(names.get(int(token), ""))) for token in ids]
    yield f"all lenses read {read[0]}" if len(set(read)) == 1 else f"lenses read {', '.join(read)}"


def _held_out(figure: Figure, state: ViewState) -> Iterator[str]:
    """Yield how often a learned lens is right on held-out text after the cursor's layer."""
    held, stream = figure.extra.get("held_out"), state.focus.layer + 1
    if held is not None and stream not in figure.extra["unmapped"]:
        yield f"right {share(held['lens']['top1'][stream])} of held-out tokens"


def _read(figure: Figure, state: ViewState) -> str:
    """Return the logit lens's top token under the cursor."""
    row = figure.axes[0].labels.index(str(state.focus.layer))
    column = figure.axes[1].index(state.focus.position)
    token = int(figure.extra["ids"][row][column])
    return str(figure.extra["names"].get(token, ""))


def _cell(figure: Figure, layer: str, position: int) -> float | None:
    labels: Any = figure.axes[0].labels if figure.axes else ()
    if layer not in labels:
        return None
    column = figure.axes[1].index(position)
    return None if column is None else float(figure.values[labels.index(layer), column])


def _neuron(shown: Shown | None, state: ViewState) -> Iterator[str]:
    neuron = state.focus.neuron
    if shown is None or neuron is None or shown.figure.lens != "mlp":
        return
    figure = shown.figure
    if figure.extra.get("layer", state.focus.layer) != state.focus.layer:
        return
    labels = figure.axes[1].labels
    if str(neuron) in labels:
        value = float(figure.values[state.focus.position, labels.index(str(neuron))])
        yield f"neuron {neuron} at {number(value)}"


def _feature(shown: Shown | None, state: ViewState) -> Iterator[str]:
    """Yield the chosen or strongest feature: its value, its label, and what it promotes."""
    if shown is None or shown.figure.extra.get("position") != state.focus.position:
        return
    extra, chosen = shown.figure.extra, state.feature
    ids = [int(one) for one in extra.get("ids", ())]
    index = extra.get("strongest") if chosen is None else chosen.index
    if index not in ids:
        return
    row = ids.index(index)
    value = float(shown.figure.values[row])
    label = display_text(str(extra["labels"][row])) if "labels" in extra else ""
    name = f"{'strongest ' * (chosen is None)}feature {index}{label and f' ({label})'}"
    said = f"{name} at {number(value)}"
    yield said if shown.figure.unit == "activation" else f"{said} {shown.figure.unit}"
    promoted = extra.get("promotes")
    if promoted and promoted[row]:
        yield f"it promotes {' '.join(map(quoted_token, promoted[row][:3]))}"


def _experts(shown: Shown | None, state: ViewState) -> Iterator[str]:
    if shown is None or shown.figure.lens != "experts":
        return
    extra, here = shown.figure.extra, state.focus.position
    if extra["layer"] != state.focus.layer:
        return
    ran = zip(extra["chosen"][here], extra["weights"][here], strict=True)
    told = ", ".join(f"{int(expert)} ({share(float(weight))})" for expert, weight in ran)
    yield f"experts {told}"


def _surprisal(shown: Shown | None, state: ViewState) -> Iterator[str]:
    if shown is None:
        return
    value = float(shown.figure.values[state.focus.position])
    if math.isfinite(value):
        yield f"surprisal {number(value)} bits"

"""What is on screen, for somewhere else: as one number, as text, and as a command that makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.draw.look import Look
    from llmscope.engine.events import ModelInfo
    from llmscope.figure import Figure
    from llmscope.sampler import Sampler
    from llmscope.tui.ledger import Shown
    from llmscope.tui.scene import Scene


@dataclass(frozen=True)
class Source:
    """How the model was opened, in the words of the command line.

    Attributes:
        spec: the model.
        flags: options that change what is loaded, such as `--dtype float32`.
        adapters: the specs of the adapters that were put on it.
    """

    spec: str
    flags: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()

    def words(self, info: ModelInfo, adapter: str | None) -> list[str] | None:
        """Model and options with which `llmscope snapshot` has this adapter on, and no other.

        None if there are none: the base of an adapter that was opened as a model has no name here,
        nor has an adapter that was made of a context.
        """
        if info.family and (adapter is None or adapter in info.family):
            on = [] if adapter is None else ["--adapter", f"builtin:{adapter}"]
            return [self.spec, *self.flags, *on]
        apart = {*info.taught, *info.family}
        loaded = [name for name in info.adapters if name not in apart]
        own = len(loaded) - len(self.adapters)
        specs = dict(zip(loaded[own:], self.adapters, strict=False))
        if adapter in specs and not own:
            return [self.spec, *self.flags, "--adapter", specs[adapter]]
        if (adapter is None and not own) or (own and adapter == loaded[0]):
            return [self.spec, *self.flags]
        return None


def command(source: Source, shown: Shown, scene: Scene) -> str | None:
    """The `llmscope snapshot …` that shows the same figure, quoted for a shell; None if none does.

    It shows all of the prompt: of a long one, the screen may hold a part or blocks of tokens.
    """
    import shlex

    from llmscope.lenses import lens

    request = shown.request
    model = None if scene.info is None else source.words(scene.info, request.adapter)
    if model is None:
        return None
    want, uses = shown.want.focus, lens(shown.want.lens).uses
    count = len(shown.tokens)
    position = want.position if "position" in uses else scene.focus.position
    text, written = request.text, request.written
    text = text if written is None else text[: written.start]
    words = ["llmscope", "snapshot", *model, "--lens", shown.want.lens, f"--prompt={text}"]
    if written is not None:  # cut again, what a model wrote may make other tokens
        words += ["--written", ",".join(map(str, written.ids))]
    if not request.special_tokens:
        words.append("--no-special-tokens")
    layer = want.layer if "layer" in uses else scene.focus.layer
    words += ["--layer", str(layer), "--position", str(position % max(count, 1))]
    if "head" in uses:
        words += ["--head", str(want.head)]
    if want.mode:
        words += ["--mode", want.mode]
    if "step" in uses:  # the table is of all steps, and marks the chosen one
        words += ["--step", str(scene.step if want.step is None else want.step)]
    if "weight" in uses and want.weight is not None:
        words += ["--weight", str(want.weight)]
    if "cell" in uses and want.cell is not None:
        words += ["--cell", ",".join(map(str, want.cell))]
    if "top_k" in uses:
        words += ["--top-k", str(want.top_k)]
    if "sample_top_k" in uses:
        from llmscope.sampler import Sampler

        sampler = Sampler(want.temperature, want.sample_top_k, want.top_p, want.min_p)
        if sampler != Sampler(temperature=1.0):
            words += flags(sampler)
    extra = shown.figure.extra if "context" in uses else {}
    if "kept" in extra:
        words += ["--context", str(extra["context"] + extra["kept"])]
    if "target" in uses and want.target is not None:
        words += ["--target", f"id:{want.target}"]
    if "versus" in uses and want.versus is not None:
        words += ["--versus", f"id:{want.versus}"]
    if "neuron" in uses and want.neuron is not None:
        words += ["--neuron", str(want.neuron)]
    for edit in request.edits:
        words += ["--edit", edit]
    if request.versus_prompt is not None and (
        request.patches or "versus_prompt" in uses or want.change
    ):
        words.append(f"--versus-prompt={request.versus_prompt}")
    if request.words is not None and "words" in uses and want.mode == "lens":
        words += [
            f"--words-{which}={text}" for which, text in zip("ab", request.words, strict=True)
        ]
    if want.change and request.of_two:
        words.append("--change")
    return shlex.join([*words, "--format", "txt"])


def flags(sampler: Sampler) -> list[str]:
    """The settings of a sampler as options of the command line."""
    names = {"top-k": "sample-top-k"}
    return [word for name, value in sampler.words for word in (f"--{names.get(name, name)}", value)]


def number(figure: Figure, scene: Scene) -> str | None:
    """The value at the cursor, with all digits that it has; None where there is none.

    In a row of attention or of a router it is the largest, among candidates the one asked about,
    among neurons the chosen one or the strongest, among matrices or examples of a layer the one
    that changes most, among parts and directions the largest; of a curve it is the last, of curves
    over layers that of the first one at the layer, of steps of the pass the norm of the chosen one,
    of the numbers of a step the one under the cursor.
    """
    if figure.verdict.status == "refused" or not figure.values.size:
        return None
    if "seen" in figure.extra:  # numbers of a step, one of which the cursor is on
        return _known(figure.values[tuple(figure.extra["seen"])])
    focus, names = scene.focus, [axis.name for axis in figure.axes]
    values: Any = figure.values
    if names == ["direction"]:
        return _largest(values)
    if names == ["token"]:
        ids = [int(token) for token in figure.extra.get("ids", ())]
        return str(values[ids.index(scene.target) if scene.target in ids else 0])
    if names[0] == "layer":
        labels = figure.axes[0].labels
        if str(focus.layer) not in labels:
            return None
        row = values[labels.index(str(focus.layer))]
        if names[1] == "head":
            return _known(row[focus.head])
        if names[1] != "position":
            return _largest(row)
        column = figure.axes[1].index(focus.position)
        return None if column is None else _known(row[column])
    if names[0] == "step":
        return _known(values[min(scene.step, len(values) - 1), -1])
    if names[1:] == ["layer"]:
        labels = figure.axes[1].labels
        here = str(focus.layer)
        return _known(values[0, labels.index(here)]) if here in labels else None
    if names[0] == "" and values.shape[0] == 1:
        return _largest(values[0])
    if names[0] == "examples":
        return _known(values[-1])
    if names in (["part"], ["neuron"]):
        return _known(values[0])
    if names[0] == "head":
        values, names = values[focus.head], names[1:]
        figure = replace(figure, axes=figure.axes[1:], values=values)
    place = figure.axes[0].index(focus.position)
    if place is None:
        return None
    row = values[place]
    if names == ["position"]:
        return _known(row)
    if names[1] == "neuron":
        neurons, chosen = figure.axes[1].labels, str(focus.neuron)
        return _known(row[neurons.index(chosen) if chosen in neurons else 0])
    return _largest(row)


def picture(
    shown: Shown,
    scene: Scene,
    format: str,  # noqa: A002
    *,
    size: tuple[int, int],
    look: Look,
    tokens: Figure | None = None,
) -> str | bytes:
    """A figure as a file of a format holds it.

    Args:
        size: of a picture, in cells, its frame included.
        tokens: the figure of the lens `tokens`, for the rows around a map.

    Raises:
        ScopeError: there is no such format, or it cannot be made here.
    """
    from llmscope.export import json_text, render, snapshot_dict

    if format == "json" and scene.info is not None:
        info = replace(scene.info, adapter=shown.request.adapter)
        return json_text(snapshot_dict(info, shown.text, shown.tokens, scene.focus, [shown.figure]))
    worn = replace(look, tier="none") if format == "txt" else look
    focus = replace(scene.focus, position=min(scene.focus.position, len(shown.tokens) - 1))
    return render([shown.figure], format, size=size, look=worn, focus=focus, tokens=tokens)


def _largest(row: Any) -> str | None:
    known = row[row == row]  # NaN is not itself
    return str(known[abs(known).argmax()]) if known.size else None


def _known(value: Any) -> str | None:
    return str(value) if value == value else None

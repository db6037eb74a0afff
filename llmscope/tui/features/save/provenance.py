"""The provenance of a figure on screen, the same as in a snapshot's file."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.engine.events import Token
    from llmscope.export import EditsCaption
    from llmscope.figure import Focus
    from llmscope.models.info import ModelInfo
    from llmscope.models.provenance import Origin
    from llmscope.tui.features.copy.repro_command import ModelSource, View
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState


def found_out(origin: Origin) -> Future[dict[str, Any]]:
    """Return a future of the provenance without its command.

    Reading the weights may take a while. A daemon thread does it, which does not delay exit.
    """
    known: Future[dict[str, Any]] = Future()

    def read() -> None:
        from llmscope.export import provenance_of

        try:
            known.set_result(provenance_of(origin, None))
        except Exception as error:
            known.set_exception(error)

    Thread(target=read, name="llmscope-weights", daemon=True).start()
    return known


def about(
    source: ModelSource,
    result: Shown,
    state: ViewState,
    format: str,  # noqa: A002
    provenance: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """Return the metadata of a snapshot of this figure; None without a model.

    Its command is the one offered for copying, with this format, or None if no command line
    reproduces the figure.
    """
    from llmscope.export import about_dict
    from llmscope.tui.features.copy.repro_command import command, view

    if state.info is None:
        return None
    reproduced = view(source, result, state)
    if provenance is not None:
        line = None if reproduced is None else command(reproduced, format)
        provenance = {**provenance, "command": line}
    info = replace(state.info, adapter=result.request.adapter)
    return about_dict(
        info if result.origin is None else result.origin.info,
        result.text,
        result.tokens,
        state.focus if reproduced is None else _focus(reproduced, result, info),
        _whatif(reproduced, result),
        provenance,
    )


def _focus(reproduced: View, result: Shown, info: ModelInfo) -> Focus:
    """Return the focus that the command requests, counted from 0; its default places are last."""
    from llmscope.lenses import focus_from

    last = {"layer": info.layers - 1, "position": len(result.tokens) - 1}
    focus = focus_from({**last, **reproduced.cursor, **reproduced.focus})
    if reproduced.other is not None and result.prompt_b is not None:
        focus = replace(focus, versus_prompt=_ids(result.prompt_b.tokens))
    if reproduced.words is not None:
        first, other = result.figure.extra.get("words_ids", ((), ()))
        focus = replace(focus, words=(tuple(map(int, first)), tuple(map(int, other))))
    return focus


def _ids(tokens: tuple[Token, ...]) -> tuple[int, ...]:
    return tuple(token.id for token in tokens)


def _whatif(reproduced: View | None, result: Shown) -> EditsCaption:
    from llmscope.export import EditsCaption

    if reproduced is None:
        other = result.request.versus_prompt
        return EditsCaption(tuple(map(str, result.request.edits)), other, other is not None)
    return EditsCaption(reproduced.edits, reproduced.other, reproduced.other is not None)

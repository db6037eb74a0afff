"""Move the cursor through a text by sentence, by turn of a chat, and by search hit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from llmscope.support.text import display_text
from llmscope.support.text_sentences import sentence_spans
from llmscope.tui.widgets.overview_strip import shows_strip, strip_want

if TYPE_CHECKING:
    from llmscope.engine.events import Token
    from llmscope.models.tokenizer.roles import RoleSpan
    from llmscope.tui.host import Host


@lru_cache(maxsize=2)
def sentence_starts(tokens: tuple[Token, ...]) -> tuple[int, ...]:
    """Return the positions of the first token of each sentence."""
    text = "".join(token.text for token in tokens)
    begins: list[int] = []
    length = 0
    for token in tokens:
        begins.append(length)
        length += len(token.text)
    # A blank before a word belongs to the sentence before, and to the token of the word: the token
    # that holds the first character of the sentence begins it.
    starts = {max(0, bisect_right(begins, start) - 1) for start, _ in sentence_spans(text)}
    return tuple(sorted(starts))


def turn_starts(tokens: Sequence[Token], roles: Sequence[RoleSpan]) -> tuple[int, ...]:
    """Return the positions of the first token of each turn of a chat.

    Args:
        tokens: the tokens.
        roles: the spans of the turns in the text, in characters.
    """
    places = [token for token in tokens if token.end > token.start]
    starts = [token.start for token in places]
    positions = dict.fromkeys(
        places[at].position
        for role in roles
        if (at := max(0, bisect_right(starts, role.start) - 1)) < len(places)
        if role.end > role.start
    )
    return tuple(positions)


def find_hits(tokens: Sequence[Token], wanted: str) -> tuple[int, ...]:
    """Return the positions of the tokens in which a text begins, which may be of several tokens.

    White space may be typed as it is displayed; case is ignored.
    """
    wanted = wanted.casefold()
    starts: set[int] = set()
    if not wanted:
        return ()
    for whitespace in (False, True):
        begins: list[int] = []
        pieces: list[str] = []
        length = 0
        for token in tokens:
            label = display_text(token.text, whitespace=True) if whitespace else token.text
            begins.append(length)
            pieces.append(label.casefold())
            length += len(pieces[-1])
        text, at = "".join(pieces), -1
        while (at := text.find(wanted, at + 1)) >= 0:
            starts.add(tokens[bisect_right(begins, at) - 1].position)
    return tuple(sorted(starts))


def next_of(places: Sequence[int], here: int, by: int) -> int | None:
    """Return the place after `here`, or the one before for a negative `by`; None at the end."""
    if by > 0:
        return next((place for place in places if place > here), None)
    return next((place for place in reversed(places) if place < here), None)


def sentence(host: Host, by: int) -> None:
    """Go to the first token of the next sentence, or of the one before; at the end to the last."""
    state = host.state
    if not state.tokens:
        return
    place = next_of(sentence_starts(state.tokens), state.focus.position, by)
    end = len(state.tokens) - 1 if by > 0 else 0
    host.look_at(state.move_to(position=end if place is None else place))


def turn(host: Host, by: int) -> None:
    """Go to the first token of the next turn of a chat, or of the one before."""
    state = host.state
    places = turn_starts(state.tokens, host.chat.roles)
    if not places:
        host.tell(
            host.user.keymap.filled("no turns: the prompt follows no chat template"), "warning"
        )
        return
    place = next_of(places, state.focus.position, by)
    if place is None:
        host.tell("no turn after this one" if by > 0 else "no turn before this one")
        return
    host.look_at(state.move_to(position=place))


def hit(host: Host, by: int) -> None:
    """Go to the next place of the text that was searched for, or to the one before; it wraps."""
    state, wanted = host.state, host.find.value
    places = find_hits(state.tokens, wanted)
    if not places:
        notice = "not in this text" if wanted else "nothing was searched for: {find} does"
        host.tell(host.user.keymap.filled(notice), "warning")
        return
    place = next_of(places, state.focus.position, by)
    place = places[0 if by > 0 else -1] if place is None else place
    host.look_at(state.move_to(position=place))


def next_measure(host: Host) -> None:
    """Show the next number of each token, in the strip and in the reader."""
    from llmscope.tui.state.token_measures import measure_of, with_next_measure

    state = with_next_measure(host.state)
    host.look_at(state)
    measure = measure_of(state)
    host.tell(f"{measure.title}: {measure.about}")


def strongest(host: Host) -> None:
    """Go to the token with the largest number; again, to the next largest, and so on.

    With attention, go to what the token of the cursor attends to most: again follows it further.
    """
    from llmscope.tui.state.token_measures import measure_numbers, measure_of, next_strongest

    state, measure = host.state, measure_of(host.state)
    if not shows_strip(host):
        host.look_at(replace(state, strip=True))
    want = strip_want(host.state)
    result = host.figures.shown(want.key)
    current = result is not None and result.want == want and result.of(state)
    values = measure_numbers(result.figure, measure) if result is not None and current else None
    special = [token.special for token in state.tokens]
    here = state.focus.position
    place = None if values is None else next_strongest(values, special, measure.unit, here)
    if place is None:
        host.tell(f"{measure.title}: not computed yet", "warning")
        return
    host.look_at(host.state.move_to(position=place))


def toggle_strip(host: Host) -> None:
    """Show the strip of the whole text, or hide it."""
    from llmscope.tui.widgets.overview_strip import LEAST

    if host.size.height < LEAST:
        host.tell(f"no room for the strip: it needs {LEAST} rows", "warning")
        return
    host.look_at(replace(host.state, strip=not shows_strip(host)))

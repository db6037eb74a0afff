"""The screen below a dialog is dimmed as Textual dims it, each style once."""

from hypothesis import given
from hypothesis import strategies as st
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.color import Color
from textual.renderables.background_screen import BackgroundScreen

from llmscope.tui.dialogs.dimmed_screen import DimmedScreen

COLORS = st.none() | st.sampled_from(["red", "color(200)", "#102030", "#fefefe", "default"])
STYLES = st.builds(
    lambda color, ground, bold, meta, link: Style(
        color=color, bgcolor=ground, bold=bold, meta=meta, link=link
    ),
    COLORS,
    COLORS,
    st.none() | st.booleans(),
    st.none() | st.just({"offset": (1, 2)}),
    st.none() | st.just("https://example.org"),
)
SEGMENTS = st.lists(
    st.builds(Segment, st.text(max_size=3), st.none() | STYLES)
    | st.just(Segment("", None, [(ControlType.BELL,)]))
)
GROUNDS = st.builds(Color, *[st.integers(0, 255)] * 3, st.sampled_from([0, 0.3, 0.6, 1.0]))


@given(SEGMENTS, GROUNDS)
def test_it_is_as_textual_dims_it(segments, ground):
    dimmed = list(DimmedScreen.process_segments(segments, ground))
    assert dimmed == list(BackgroundScreen.process_segments(segments, ground))


async def test_the_screen_below_a_dialog_is_drawn_by_it(opened, monkeypatch):
    drawn = []
    process = DimmedScreen.process_segments
    monkeypatch.setattr(
        DimmedScreen,
        "process_segments",
        lambda _, segments, color: drawn.append(list(process(segments, color))) or drawn[-1],
    )
    async with opened(prompt="Once upon") as session:
        await session.press("escape", "question_mark")
    assert "Once upon" in "".join(segment.text for segment in drawn[0])

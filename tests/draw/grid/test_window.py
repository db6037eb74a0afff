from hypothesis import given
from hypothesis import strategies as st

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.grid.window import Window, edge_row


@given(st.data(), st.integers(1, 300), st.integers(1, 80))
def test_the_focus_is_always_inside(data, count, room):
    focus = data.draw(st.integers(0, count - 1))
    window = Window.around(focus, count, room)
    assert focus in window.indices()
    assert window.size == min(count, room)
    assert window.start >= 0
    assert window.stop <= count
    first, last = window.thumb(room)
    assert 0 <= first < last <= room
    if room >= 3:
        assert (first == 0) == (window.start == 0)
        assert (last == room) == (window.stop == count)


@given(st.data(), st.integers(1, 300), st.integers(1, 80))
def test_a_window_before_a_stop_keeps_the_focus(data, count, room):
    stop = data.draw(st.integers(1, count))
    focus = data.draw(st.integers(0, stop - 1))
    window = Window.before(stop, focus, count, room)
    assert focus in window.indices()
    assert window.start >= 0
    assert window.stop <= count
    assert window.stop == max(stop, window.size) or window.start == focus


def test_a_step_seldom_moves_the_window():
    starts = [Window.around(focus, 100, 20).start for focus in range(100)]
    assert len(set(starts)) <= 10
    assert starts == sorted(starts)


def test_the_edge_counts_what_is_out_of_sight():
    window = Window(12, 20, 50)
    row = edge_row(window, 15, 4, 40, styles_for(RenderOptions()))
    text = "".join(segment.text for segment in row)
    assert len(text) == 40
    assert text.startswith("    ‹12 ")
    assert text.endswith(" 18›")


def test_one_row_out_of_sight_is_not_rounded_away():
    assert Window(1, 30, 31).thumb(30) == (1, 30)
    assert Window(0, 30, 31).thumb(30) == (0, 29)
    assert Window(0, 31, 31).thumb(30) == (0, 30)
    assert Window(990, 5, 1000).thumb(3) == (1, 2)

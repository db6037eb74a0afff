"""What was written after a text: however it is taken back, its text is that of its tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.models.tokenizer.token_offsets import join
from llmscope.tui.state.generation_tree import Branch, Branches, moved

PIECES = (b" the", b" ", b"a", b"\n", b"", "é".encode(), b"\xe2", b"\x82", b"\xac", b"\xf0\x9f")
"""Tokens by their ids: some are parts of a character, one says nothing."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, len(PIECES) - 1)),
        st.tuples(st.just("back"), st.just(0)),
        st.tuples(st.just("fork"), st.integers(0, 9)),
        st.tuples(st.just("turn"), st.sampled_from([-1, 1])),
    ),
    max_size=40,
)


def said(ids: tuple[int, ...]) -> str:
    """What they say, by the tokenizer's own rule."""
    return join([PIECES[one] for one in ids])[0]


@settings(max_examples=300)
@given(STEPS)
def test_a_text_is_always_that_of_its_tokens(steps: list[tuple[str, int]]) -> None:
    group, seen = Branches("base"), 0
    for what, number in steps:
        before = group
        if what == "write":
            group = group.with_token(number, said((*group.ids, number)))
            assert group.ids == (*before.ids, number)
        elif what == "back":
            group = group.back()
            assert group.ids == before.ids[: group.count]
            assert group.count < max(1, before.count)
        elif what == "fork":
            group = group.with_new_branch(min(number, group.count))
        else:
            group = group.with_next_branch(number)
        assert group.text == "base" + said(group.ids)
        for branch in group.kept:
            assert [branch.text_of(n) for n in range(len(branch.ids) + 1)] == [
                said(branch.ids[:n]) for n in range(len(branch.ids) + 1)
            ]
        # Nothing that was written is lost.
        assert all(
            any(one.ids[: len(old.ids)] == old.ids for one in group.kept) for old in before.kept
        )
        seen = max(seen, len(group.kept))
        found = group.at_text(before.text)
        assert found is not None
        assert found.text == before.text
    assert group.at_text("another") is None
    assert group.at_text("base of another") is None


def test_the_token_that_was_taken_back_comes_again_and_another_begins_a_branch() -> None:
    group = Branches("x").with_token(2, "a").with_token(0, "a the")
    back = group.back()
    assert (back.text, back.branch.ids) == ("xa", (2, 0))
    assert back.with_token(0, "a the") == group
    other = back.with_token(1, "a ")
    assert (other.at, other.text, [one.ids for one in other.kept]) == (1, "xa ", [(2, 0), (2, 1)])
    assert other.with_next_branch(1).text == "xa the"
    assert other.with_next_branch(-1).text == "xa the"


def test_a_fork_draws_from_a_stream_of_its_own_and_knows_what_was_tried() -> None:
    group = Branches("x").with_token(2, "a").with_token(0, "a the")
    forked = group.with_new_branch(1)
    assert (forked.text, forked.at, forked.branch.stream, forked.tried_tokens) == ("xa", 1, 1, (0,))
    assert forked.with_new_branch(1) == forked, "there is nothing yet to leave"
    again = forked.with_token(1, "a ").with_new_branch(1)
    assert (again.branch.stream, again.tried_tokens) == (2, (0, 1))
    assert again.with_next_branch(1).tried_tokens == ()


def test_one_character_of_several_tokens_goes_whole() -> None:
    group = Branches("x")
    for at in (2, 6, 7, 8):
        group = group.with_token(at, said((*group.ids, at)))
    assert group.text == "xa€"
    assert group.back().text == "xa"
    assert Branch().text_of(0) == ""


def test_parts_that_were_written_stay_where_they_are() -> None:
    spans = ((2, 5), (8, 10))
    assert moved(spans, "abcdefghij", "abcdefghij") == spans
    assert moved(spans, "abcdefghij", "Xabcdefghij") == ((3, 6), (9, 11))
    assert moved(spans, "abcdefghij", "abcdefghijX") == spans
    assert moved(spans, "abcdefghij", "abcXdefghij") == ((2, 3), (4, 6), (9, 11))
    assert moved(spans, "abcdefghij", "abfghij") == ((5, 7),)
    assert moved(spans, "abcdefghij", "") == ()
    assert moved((), "a", "b") == ()


@given(st.text("ab", max_size=12), st.text("ab", max_size=12), st.data())
def test_a_part_still_says_what_it_said(old: str, new: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(old)))
    end = data.draw(st.integers(start, len(old)))
    for first, stop in moved(((start, end),), old, new):
        assert 0 <= first < stop <= len(new)
        assert new[first:stop] in old[start:end]

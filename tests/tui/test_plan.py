"""The list of edits as a value: what each key makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest

from llmscope.edits import Edit, parse
from llmscope.tui.state.edit_list import EditList, ListedEdit

HEAD, MLP, STEER = (parse(text) for text in ("zero head 5.3", "zero mlp 2", 'steer 6 token "a" 4'))
PATCH = parse("patch stream 9 from B")


def plan(*edits: Edit) -> EditList:
    return reduce(EditList.with_edit, edits, EditList())


def walk(text: str, by: int, steps: int) -> list[float]:
    one, seen = ListedEdit.of(parse(text)), []
    for _ in range(steps):
        one = one.turned(by)
        seen.append(one.edit.factor)
    return seen


@pytest.mark.parametrize(
    ("text", "by", "seen"),
    [
        ('steer 6 token "a" 4', 1, [4.5, 5, 5.5]),
        ('steer 6 token "a" 40', 1, [45, 50, 55]),
        ('steer 6 token "a" 9.5', 1, [10, 15, 20]),
        ('steer 6 token "a" 20', -1, [15, 10, 5, 0, -5, -10]),
        ('steer 6 token "a" 1', -1, [0.5, 0, -0.5, -1]),
        ('steer 6 token "a" 0', -1, [-0.5, -1]),
        ('steer 6 token "a" 0.02', -1, [0.015, 0.01, 0.005, 0, -0.005]),
        ('steer 6 token "a" 4.2', 1, [4.5, 5]),
        ('steer 6 token "a" 4.2', -1, [4, 3.5]),
        ("scale mlp 2 1", 1, [1.1, 1.2]),
        ("scale mlp 2 0.2", -1, [0.1, 0, -0.1]),
        ("scale mlp 2 0", 1, [0.1, 0.2]),
        ("scale mlp 2 0.05", -1, [0.04, 0.03]),
        ("scale mlp 2 10", -1, [9.9, 9.8]),
    ],
)
def test_a_strength_is_turned_in_even_steps_through_zero(
    text: str, by: int, seen: list[float]
) -> None:
    assert walk(text, by, len(seen)) == seen


@pytest.mark.parametrize("strength", ["1e308", "-1e308", "1e-320", "5e-324"])
def test_no_strength_is_turned_out_of_bounds(strength: str) -> None:
    for by in (-1, 1):
        for factor in walk(f'steer 6 token "a" {strength}', by, 300):
            assert abs(factor) <= 1e308
            parse(f'steer 6 token "a" {factor}')


def test_there_and_back_is_where_it_was() -> None:
    one = ListedEdit.of(STEER)
    for by in (1,) * 30 + (-1,) * 30:
        one = one.turned(by)
    assert one.edit == STEER


def test_what_is_in_force() -> None:
    made = plan(HEAD, MLP, PATCH)
    assert made.in_force == (HEAD, MLP)
    assert replace(made, versus_prompt="B").in_force[-1] == PATCH
    assert made.choosing(-2).toggled().in_force == (MLP,)
    assert made.all_switched().in_force == ()
    assert not replace(made.all_switched(), change=True).shows_change
    assert replace(made, change=True).shows_change


def test_an_edit_is_listed_once() -> None:
    made = plan(HEAD, MLP, HEAD)
    assert [one.edit for one in made.edits] == [HEAD, MLP]
    assert made.chosen == 0
    off = made.toggled()
    assert off.with_edit(HEAD).edits == made.edits, "writing it again switches it on"
    assert off.with_edit_in_place(MLP).chosen == 1


def test_flipping() -> None:
    made = plan(HEAD)
    assert made.flipped(HEAD).edits == ()
    assert made.toggled().flipped(HEAD) == made, "one that is off is switched on"
    assert made.all_switched().flipped(HEAD) == made


def test_all_off_and_on_again_keeps_those_off_that_were() -> None:
    made = plan(HEAD, MLP).toggled()
    assert made.all_switched().all_switched() == made
    none = plan(HEAD).toggled().all_switched()
    assert none.in_force == (HEAD,)
    assert not none.muted


@pytest.mark.parametrize("change", ["toggled", "turned_edit", "with_edit"])
def test_what_one_changes_is_in_force_again(change: str) -> None:
    made = plan(HEAD, STEER).all_switched()
    given = {"turned_edit": (1,), "with_edit": (MLP,)}.get(change, ())
    changed = getattr(made, change)(*given)
    assert not changed.muted
    assert changed.edits[changed.chosen].on


def test_removing_keeps_the_place() -> None:
    made = plan(HEAD, MLP, STEER)
    assert made.without_edit(0).chosen == 1
    assert made.choosing(-9).without_edit(0).chosen == 0
    assert made.without_edit(2).chosen == 1
    assert plan(HEAD).all_switched().without_edit(0) == EditList()


def test_order_goes_round() -> None:
    made = plan(HEAD, MLP, STEER)
    seen = []
    for _ in range(3):
        made = made.moved_edit()
        seen.append([one.edit for one in made.edits])
    assert seen == [[HEAD, STEER, MLP], [STEER, HEAD, MLP], [HEAD, MLP, STEER]]


def test_blame_switches_off_until_somebody_tries_again() -> None:
    made = plan(HEAD, MLP).blamed({MLP: "no"})
    assert made.in_force == (HEAD,)
    assert made.edits[1].flaw == "no"
    assert made.toggled().edits[1] == ListedEdit.of(MLP)
    assert plan(HEAD).blamed({MLP: "no"}) == plan(HEAD)

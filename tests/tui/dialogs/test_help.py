"""What the help says: the answers that a stranger should be able to give, the keys, the marks."""

from __future__ import annotations

import re

import pytest

from llmscope.draw import RenderOptions
from llmscope.draw.glyphs import ASCII, UNICODE, Glyphs
from llmscope.tui.actions.menus import AREA, MENUS
from llmscope.tui.actions.registry import ACTIONS, BY_NAME
from llmscope.tui.actions.types import listed
from llmscope.tui.actions.user_keymap import keymap_from
from llmscope.tui.dialogs.command_palette import entries
from llmscope.tui.dialogs.help import BASICS, NOTHING, HelpLine, HelpScreen
from llmscope.tui.panes import pane_classes
from llmscope.tui.panes.titles import VERDICT_MARKS
from llmscope.tui.state.workspaces import PANES
from llmscope.tui.user_state import UserState
from tests.tui.conftest import Open, Session

ANSWERS = {
    "map": {
        "what is a row, what a column?": "A row is a layer, a column a token",
        "what is a cell?": "a word the most probable next token at that depth",
        "what is expected?": "Early rows often read like noise or like the token itself",
        "how do I see something else?": "d d turns to the next view",
        "what do up and down do?": "Up and down move by layers",
        "what do the colours stand for?": "The lower border prints what the ends of the colours",
        "what does it not show?": "It does not establish that nothing was known before",
        "who says so?": "nostalgebraist 2020",
    },
    "next-token": {
        "what is it?": "The most probable tokens to follow the token under the cursor",
        "what if the cursor is on an earlier one?": "what the model expected there",
        "how sure is it?": "the entropy of the whole distribution in bits",
        "the formula": "softmax(logits / temperature)",
        "what do up and down do?": "Up and down choose a candidate",
        "how do I keep one?": "t t keeps it wherever the cursor goes",
        "who says so?": "Holtzman et al. 2020",
    },
    "attention": {
        "what is a row?": "Each row is a token that looks",
        "what does a row sum to?": "a row sums to 1",
        "why is a half empty?": "a token cannot see what comes after it",
        "what is a sink?": "such a column is called a sink",
        "the formula": "softmax(q kᵀ · scale + mask)",
        "how do I see another head?": "[ and ] by heads",
        "what does it not show?": "It does not establish that the answer needs what it looks at",
        "who says so?": "Vaswani et al. 2017",
    },
    "mlp": {
        "what is it?": "most active on the token under the cursor, strongest first",
        "what is the strip?": "the same neuron along the whole prompt",
        "the formula": "act(gate) · up",
        "what do up and down do?": "Up and down choose a neuron",
        "what if there are experts?": "shows its router first",
        "who says so?": "Geva et al. 2021",
    },
    "tokens": {
        "what is surprisal?": "−log₂ of the probability",
        "how do I read 10 bits?": "10 bits one chance in a thousand",
        "why has the first none?": "nothing came before it",
        "what is a rank of 1?": "1 means it was the model's first choice",
        "what do up and down do?": "Up and down move by tokens",
        "who says so?": "Shannon 1948",
    },
    "heads": {
        "what is a cell?": "a cell one number for that head",
        "what do left and right do?": "left and right heads",
        "how do I see what else there is?": "d d goes round induction, previous token and",
        "who says so?": "Olsson et al. 2022",
    },
    "heads-all": {
        "what is a picture?": "One small picture for each head, its number above it",
        "what am I to look for?": "which columns stand out",
        "how do I take one?": "a click takes a head",
    },
    "models": {
        "which models?": "The header names them",
        "how do I get a second one?": "llmscope MODEL --versus-model OTHER opens both",
        "what do the other workspaces show?": "The other workspaces show A",
        "and the difference?": "X c shows A − B",
        "what is the row below the prompt?": "the KL of the two predictions after each token",
        "the formula": "KL(A ‖ B) = Σ p_A (log p_A − log p_B)",
    },
    "models-kl": {
        "what is a bar?": "A bar is how far apart the predictions after a token are",
        "how often do they agree?": "how often both have the same likeliest token",
        "how do I see something else?": "d d shows how much likelier",
    },
    "models-next": {"what is it?": "with their probability in A and in B"},
    "models-parts": {
        "when is a cell lit?": "where its own weights changed",
        "why does it come later?": "it waits for a pause in typing",
    },
    "prompts": {
        "what stands on top?": "after which the two models predict most differently",
        "which is A?": "A is the model with its adapter, B the second model or else the base",
        "how do I look at one?": "enter opens its prompt with the cursor on it",
        "and back?": "esc leads back to the list",
        "why is a token there once?": "A token after the same text counts once in the list",
    },
    "reasoning": {
        "where does the answer settle?": "▸ marks the one at which the answer settles",
        "what is the answer?": "the one that the text states at its end",
        "where does the trace begin?": "A line --- in the prompt says where the trace begins",
    },
    "forks": {
        "what is a row?": "a token before which much else could have come",
        "how to go on in other ways?": "four other ways, each with the answer that it leads to",
    },
    "passages": {
        "what is a passage?": "a paragraph before the question",
        "which one counts?": "the one without which the answer loses most",
    },
    "models-streams": {
        "what are the lines?": "the cosine of the two streams at the token under the cursor",
        "who says so?": "Kornblith et al. 2019",
    },
    "neuron-tokens": {
        "which neuron?": "the one chosen in the MLP pane, or else the strongest on this token",
        "what is promoted?": "promotes",
    },
    "neuron-activation": {
        "which neuron?": "the one chosen in the MLP pane, or else the strongest on this token",
        "what does it do then?": "what it then writes to the stream raises",
    },
    "attribution": {
        "which answer?": "The answer is the likeliest next token; t t pins another",
        "how do I compare two?": "t v holds it against the candidate that is chosen",
        "what do they sum to?": "sum",
        "what is held still?": "whose scale is held still at this position",
        "what do I look at next?": "switch the largest parts off with the lens ablation",
        "who says so?": "Elhage et al. 2021",
    },
    "attribution-heads": {
        "what is the cursor?": "Here the cursor is a layer and a head",
        "which answer?": "Heads of the answer that is asked about",
    },
    "saliency": {
        "what else is there?": "d d changes between gradient × input",
        "is it quick?": "take a moment",
        "who says so?": "Sundararajan et al. 2017",
    },
    "features": {
        "what is it?": "the features that are active at the token under the cursor, the strongest",
        "what are the columns?": "index, activation, what it adds to the target's logit directly",
        "which dictionary?": "that of the cursor's layer is shown, or of the nearest one",
        "how do I give one?": "d f chooses the dictionaries",
        "how do I find one?": "g f searches by label, or by a token that features promote",
        "what if I take it away?": "x takes the chosen feature away from the pass",
        "may I trust it?": "No better than chance: refused",
        "who says so?": "Bricken et al. 2023",
    },
    "feature-prompt": {
        "which feature?": "chosen in the list of features, or else the strongest on this token",
        "and the others?": "d d changes to the strongest features of this token, along the prompt",
    },
    "feature-tokens": {
        "which feature?": "chosen in the list of features, or else the strongest on this token",
        "what of early layers?": "speak of features near the output only",
    },
    "feature-fit": {
        "what is chance?": "a random dictionary of its size with as many active features",
        "what does the model lose?": "with the reconstruction in the tensor's place, by KL",
        "what is FVU?": "the share of the variance that is left unexplained",
    },
    "context": {
        "what is a row, what a column?": "Each row is a layer, each column a matrix",
        "what is a cell?": "the size of its change, ‖ΔW‖ / ‖W‖",
        "where does the context end?": "A line --- in the prompt says where the context ends",
        "what is exact?": "the two runs agree in every logit up to rounding",
        "what is an identity?": "a matrix that reads z₀ can always be changed to give",
        "what is only suggestive?": "no proof that the model descends its language-modelling loss",
        "how do I try another query?": "c t teaches the context to the weights",
        "how do I keep it?": "c w writes the change as a PEFT adapter",
        "the formula": "ΔW = W (z - z₀) z₀ᵀ / ‖z₀‖²",
        "who says so?": "Dherin et al. 2025",
    },
    "context-proof": {
        "what is a row?": "A row is a run of the model",
        "what is the number?": "KL(with the context ‖ this run) in nats",
        "how do I read 0?": "0 nats: the same distribution",
        "what if a context is taught?": "the base model that reads the context before this prompt",
    },
    "context-steps": {
        "what is a column?": "A column is an example of the context",
        "how do I see tokens?": "d d makes it a token",
        "what is a cell?": "how far it moves the update of that layer",
    },
    "context-gain": {
        "what is along the bottom?": "From left to right, the number of examples before the query",
        "what is the height?": "the surprisal of the answer, in bits",
        "is low good?": "lower is better known",
        "which answer?": "what the whole prompt makes likeliest",
    },
    "edits": {
        "how do I begin?": "x in any pane ablates what is under the cursor there",
        "what can I write?": "steer LAYER VECTOR STRENGTH",
        "what is a layer?": "negative from the end",
        "what is shown then?": "every pane then shows the pass with all of them made",
        "does the order count?": "one edit finds what those before it have left",
        "what if I write nonsense?": "What is wrong stays in the line, with the reason",
        "how do I turn it?": ", and . turn the strength",
        "how do I compare?": "X a switches all off at once and on again",
        "what is B?": "b k keeps the present prompt as B",
    },
    "ablation": {
        "what is the cursor?": "Here the cursor is a layer and a head",
        "how do I keep one?": "x keeps the ablation of that cell as an edit",
        "what else is there?": "d d goes round heads and parts",
        "which answer?": "The answer is the likeliest next token; t t pins another",
        "is it quick?": "One pass for each cell",
    },
    "patching": {
        "where is B from?": "b k keeps the present prompt as B, b b writes one",
        "how do I keep one?": "x keeps the patch of that cell as an edit",
        "what else is there?": "d d goes round the stream, attention, MLP, heads, and paths",
    },
    "walkthrough": {
        "where do I begin?": "Begin at the top and press down",
        "what is a row?": "a row is a step of the pass",
        "where is it from?": "g i goes to what the step is made of",
        "and back?": "g b goes back, as often as you went",
        "can it go by itself?": "let g > walk by itself, a step after the other, and g < backwards",
        "what is a key?": "keys of the others what they offer",
        "how do I see another layer?": "g k and g j open another layer at the same step",
        "and all of them?": "After the last step in a layer the next layer is opened",
        "how does a text grow?": "w w writes it after the prompt",
        "another head?": "[ and ] take another head",
        "what is a refused step?": "could not be verified against the model",
        "who says so?": "Vaswani et al. 2017",
    },
    "walk-values": {
        "which numbers?": "The numbers of the step that is chosen in the table",
        "how did this one come about?": "its formula, the largest terms where it is a sum",
        "where are the weights?": "d d shows the weights that the step reads, one after the other",
        "what are weights?": "Weights are what the model has learned",
        "what is a row?": "a row is a token where the step has tokens",
        "which head?": "of the head under the cursor",
    },
    "walk-said": {
        "what is told?": "what it does, its formula, of which steps it is made",
        "how do I go on?": "Up and down choose another step",
    },
    "contrast": {
        "what is A, what is B?": "Two prompts stand above the figures, A and B",
        "how do I write one?": "b b goes to B from anywhere",
        "what else is there?": "d d goes round the cosine of each token's two streams",
        "why is a column empty?": "A token that only A has shows nothing",
        "why is there no difference?": "the token cannot know of it: put the cue first",
        "who says so?": "Ethayarajh 2019",
    },
    "contrast-kl": {
        "what is a row?": "A row is a token of A",
        "what is the number?": "the divergence of the two predictions after it, both ways",
    },
    "contrast-word": {
        "what is along the bottom?": "From left to right the layers",
        "what else is there?": "d d changes between how alike the token",
    },
    "stages": {
        "against what?": "The adapter that is on, against the base model",
        "how do I take another?": "c a goes round those that are loaded",
        "what is a cell?": "how large the change is beside the matrix itself",
        "what is the other view?": "in how many directions",
        "who says so?": "Roy & Vetterli 2007",
    },
    "reader": {
        "what do the colours say?": "The colour of a token is one of its numbers",
        "how do I move in it?": "by sentences",
    },
    "stages-kl": {
        "what is a bar?": "how far the adapter moved the prediction after a token",
        "what is 0?": "0, the same prediction",
        "what of the prompt?": "Tokens of a prompt were usually not trained on",
    },
}


async def page(session: Session, pane: str) -> str:
    session.app.action_act(f"pane-{pane}")
    await session.press("question_mark")
    assert isinstance(session.app.screen, HelpScreen)
    return session.app.screen.page().plain


@pytest.mark.slow
async def test_the_page_answers_what_a_stranger_asks(opened: Open) -> None:
    missing = []
    async with opened() as session:
        for pane in PANES:
            text = await page(session, pane)
            if session.app.grid.pane.key != pane:  # it makes room while another one says what lacks
                await session.press("escape")
                continue
            missing += [
                (pane, question, answer)
                for question, answer in ANSWERS[pane].items()
                if answer not in text
            ]
            assert re.search(r"\{[a-z]", text) is None, pane
            await session.press("escape")
    assert not missing, "\n".join(map(repr, missing))


async def test_a_key_that_the_line_refuses_is_not_sent_to_it_for_ever(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is shorter than the screen cannot be scrolled, and says so of each key."""
    handled: list[str] = []
    act_on = HelpLine.act_on

    async def counted(line: HelpLine, key: str) -> bool:
        handled.append(key)
        return await act_on(line, key)

    monkeypatch.setattr(HelpLine, "act_on", counted)
    async with opened() as session:
        await session.press("escape", "question_mark")
        await session.press(*"zzzz")
        assert isinstance(session.app.screen, HelpScreen)
        for key in ("down", "pagedown", "home"):
            await session.press(key)
            assert 1 <= handled.count(key) <= 2


def test_every_pane_has_its_keys_explained() -> None:
    assert {key for key, pane in pane_classes().items() if pane.usage} == set(PANES)
    assert set(PANES) == set(ANSWERS)


async def test_the_page_names_actions_as_the_config_file_does(opened: Open) -> None:
    keymap = keymap_from({"keys": {"map-view": "f10"}})
    async with opened(user=UserState(keymap=keymap)) as session:
        text = await page(session, "map")
        assert "f10 turns to the next view" in text
        assert "[keys] in config.toml" in text
        row = next(line for line in text.split("\n") if line.endswith(" map-view"))
        assert row.split() == ["f10", "d", "d", "next", "view", "map-view"]
        named = {line.split()[-1] for line in text.split("\n") if line}
        unlisted = {action.name for action in ACTIONS if action.keys} - named
        assert not unlisted


async def test_every_action_is_in_the_palette_and_in_the_help(opened: Open) -> None:
    """Also those without a key, under their subjects, with the key of the palette."""
    async with opened() as session:
        app = session.app
        text = await page(session, "map")
        expected = {action.name for action in ACTIONS if listed(app, action)}
        in_help = {line.split()[-1] for line in text.split("\n") if line}
        in_palette = {entry.name for entry in entries(app)}
        # Menus are found by what they list, and a key more for the prompt is no other action.
        menus = {name for name in expected if BY_NAME[name].area == AREA}
        twins = {name for name in expected if name.endswith("-anywhere")}
        print(
            f"{len(expected)} actions in the help, {len(expected - menus - twins)} in the palette"
        )
        assert len(expected) > 150
        assert expected - in_help == set()
        assert expected - in_palette == menus | twins
        rows = text.split("\n")
        palette = app.user.keymap.first("palette")
        for name, model in (("reset", "program"), ("theme-next", "theme"), ("stop", "program")):
            at = next(at for at, row in enumerate(rows) if row.endswith(f" {name}"))
            assert rows[at].startswith(f"{palette} ")
            heading = next(row for row in reversed(rows[:at]) if row.startswith("Keys "))
            assert heading.endswith(f" · {model}")


@pytest.mark.few(1)
@pytest.mark.parametrize("key", ["f1", "ctrl+p", "ctrl+r"])
async def test_what_lies_over_the_screen_leaves_the_footer_alone(opened: Open, key: str) -> None:
    async with opened() as session:
        for _ in range(2):
            footer = session.screen_text().split("\n")[-1]
            await session.press(key)
            assert len(session.app.screen_stack) == 2
            await session.press("escape")
            assert session.screen_text().split("\n")[-1] == footer
            await session.press("escape")
        assert "e edit" in footer


async def test_a_tiny_screen_has_room_for_the_page(opened: Open) -> None:
    async with opened(40, 10) as session:
        await session.press("f1")
        rows = session.screen_text().split("\n")
        assert "↑↓ scroll" in rows[-1]
        assert sum(row.strip("│ ") != "" for row in rows[1:-1]) >= 7
        await session.press("down", "down")
        assert session.screen_text().split("\n")[2] != rows[2]


async def test_a_narrow_page_has_no_room_for_names(opened: Open) -> None:
    async with opened(80, 24) as session:
        assert "map-view" not in await page(session, "map")


async def test_the_first_keys_come_first(opened: Open) -> None:
    assert 10 <= len(BASICS) <= 13
    async with opened(80, 24) as session:
        text = await page(session, "map")
        assert text.startswith("The first keys")
        rows = session.screen_text().split("\n")
        for said in (*(said for _, said in BASICS), *(menu.title for menu in MENUS)):
            assert any(said in row for row in rows), f"{said} without scrolling"
        for menu in MENUS:
            assert re.search(rf"(^| ){menu.key} +{menu.title}", text, re.MULTILINE), menu.name
        assert any("When does it know?" in row for row in rows)


async def test_keys_are_grouped_by_area(opened: Open) -> None:
    async with opened() as session:
        text = await page(session, "map")
        headings = [line for line in text.split("\n") if line.startswith("Keys ")]
        assert len(headings) == len(set(headings))
        here = {line.split(" · ")[-1] for line in headings if line.startswith("Keys here")}
        assert here >= {"cursor", "pane", "what if", "menu tabs", "help"}
        group = text.split("Keys here · what if")[1].split("Keys here")[0]
        assert "ablate what is under the cursor" in group
        assert "generate" not in group


@pytest.mark.few(1)
@pytest.mark.parametrize("first", ["", "/"])
async def test_typing_searches_the_help_and_esc_comes_back(opened: Open, first: str) -> None:
    async with opened() as session:
        await session.press("escape", "question_mark")
        await session.press(*(["slash"] if first else []), *"ablate")
        text = session.screen_text()
        assert "ablate what is under the cursor, or restore it" in text
        assert "When does it know?" not in text
        await session.press("space", *"blorp")
        assert NOTHING in session.screen_text()
        await session.press("enter")
        assert NOTHING in session.screen_text()
        await session.press("escape")
        assert "When does it know?" in session.screen_text()
        await session.press("escape")
        assert len(session.app.screen_stack) == 1
        assert session.app.text == "The capital of France is"


FOUND = {
    "knockout": "ablate what is under the cursor",  # by a synonym
    "edit-zero": "ablate what is under the cursor",  # by its name in the config file
    "screenshot": "save it as a picture or as numbers",
    "verified": "checked on this model",
    "marks": "checked on this model",
    "special token": "◇",
    "tuned lens translator": "A learned lens corrects for that",
}


@pytest.mark.slow
async def test_the_search_finds_keys_marks_and_explanations(opened: Open) -> None:
    async with opened() as session:
        for typed, told in FOUND.items():
            session.app.action_act("pane-map")
            await session.press("question_mark")
            keys = [{" ": "space", "-": "minus"}.get(letter, letter) for letter in typed]
            await session.press(*keys)
            text = " ".join(session.screen_text().replace("│", " ").split())
            assert told in text, typed
            await session.press("escape", "escape")
            assert len(session.app.screen_stack) == 1


@pytest.mark.parametrize("key", ["q", "question_mark", "f1", "enter", "escape"])
@pytest.mark.few(2)
async def test_these_keys_close_the_help_unless_they_are_searched_for(
    opened: Open, key: str
) -> None:
    async with opened() as session:
        await session.press("escape", "f1", key)
        assert len(session.app.screen_stack) == 1
        await session.press("f1", "slash", *"quit")
        assert isinstance(session.app.screen, HelpScreen)
        assert "quit; the prompt is kept" in session.screen_text()


@pytest.mark.few(1)
@pytest.mark.parametrize(("ascii_only", "glyphs"), [(False, UNICODE), (True, ASCII)])
async def test_the_marks_are_those_that_are_drawn(
    opened: Open, ascii_only: bool, glyphs: Glyphs
) -> None:
    look = RenderOptions(ascii=ascii_only)
    async with opened(look=look) as session:
        text = await page(session, "map")
        marks = text.split("Marks on the screen")[1]
        for status, mark in VERDICT_MARKS.items():
            assert status in marks
            assert ascii_only or mark in marks
        drawn = (glyphs.mark, glyphs.back, glyphs.cursor, glyphs.special, glyphs.missing)
        more = (glyphs.left, glyphs.right, glyphs.up, glyphs.down, glyphs.cut, glyphs.arrow)
        begun = [line[:14] for line in marks.split("\n")]
        for mark in (*drawn, *more, "_" if ascii_only else "·"):
            assert any(mark in line for line in begun), mark
        assert marks.isascii() is ascii_only
        await session.press("end")
        assert "underlined" in session.screen_text()
        assert session.screen_text().isascii() or not ascii_only

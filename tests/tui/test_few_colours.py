"""What colour says is said without it too."""

from __future__ import annotations

import asyncio

import pytest
from rich.style import Style

from llmscope.draw import RenderOptions, load_theme
from llmscope.draw.render_options import Tier
from tests.tui.conftest import Open, Session


@pytest.mark.few(2)
@pytest.mark.parametrize("tier", ["truecolor", "256", "16", "none"])
async def test_the_pane_with_the_focus_is_told_from_the_others(opened: Open, tier: Tier) -> None:
    def frames(session: Session) -> dict[str, list[Style | None]]:
        """The styles of each upper border, its title included."""
        found = {}
        strips = session.app.screen._compositor.render_strips()
        for key in ("map", "next-token", "attention", "mlp"):
            region = session.app.grid.panes[key].region
            strip = strips[region.y].crop(region.x, region.right)
            parts = [part for part in strip if part.text.strip("╭╮") and part.style]
            found[key] = [_seen(part.style, tier) for part in parts]
        return found

    async with opened(look=RenderOptions(load_theme(), tier)) as session:
        before = frames(session)
        assert before["map"][0] == before["mlp"][0]
        for key in ("map", "mlp"):
            session.app.grid.enter(key)
            async with asyncio.timeout(10):
                while (after := frames(session))[key] == before[key]:
                    await session.settle()
            assert [one for one in after if after[one] != before[one]] == [key]


def _seen(style: Style, tier: Tier) -> tuple[object, ...]:
    """What tells two styles apart at so many colours."""
    colours = () if tier == "none" else (style.color, style.bgcolor)
    return (*colours, style.reverse, style.bold, style.underline)


async def test_a_legend_with_few_colours_has_the_ink_of_what_it_explains(opened: Open) -> None:
    async with opened(look=RenderOptions(load_theme(), "16")) as session:
        strips = session.app.screen._compositor.render_strips()
        (row,) = (strip for strip in strips if "─ activation " in strip.text)
        written = {
            name: part.style for part in row for name in ("activation", "█") if name in part.text
        }
        assert written["activation"].dim
        assert not written["█"].dim

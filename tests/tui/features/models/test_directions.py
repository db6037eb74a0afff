"""A direction on the screen: the map shows its score live, and the copied command makes it anew."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

import llmscope
from llmscope.cli.options.loading import Loader
from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.fit import DirectionFit, fit_direction
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.learned.lenses.direction_file import write_directions
from llmscope.scope.scope import Scope
from llmscope.tui.state.views import MAP_VIEWS
from tests.cli.running import record
from tests.tui.features.models.test_lenses import shown, title
from tests.tui.real import answered, command_of, screen

PROMPT = "what does anna sell"
NAMES = ("anna", "ben", "cara", "dan")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    some = [
        LabelledText(f"{start} does {name} {word}", word == "sell", start, line)
        for line, (start, name) in enumerate(
            ((start, name) for start in ("what", "where", "why", "how", "who") for name in NAMES), 1
        )
        for word in ("sell", "live")
    ]
    scope = llmscope.load("builtin:town")
    found = fit_direction(scope, some, DirectionFit(dose=None, shuffles=2))
    file = tmp_path_factory.mktemp("directions") / "sell.safetensors"
    write_directions(found, file)
    return str(file)


@pytest.fixture
def town(path: str) -> Scope:
    return Loader("builtin:town", direction=path)(None)


async def test_the_map_opens_on_the_score_and_follows_the_typing(town: Scope, path: str) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        assert title(app).startswith("Map · probe score · ")
        for text in (PROMPT, f"{PROMPT} bread"):
            app.editor.replace_all(text)
            await answered(app, pilot)
            town.record(text)
            whole = town.look("probe", direction=path)
            assert np.allclose(shown(app).figure.values, whole.values, atol=1e-5)
            assert shown(app).figure.verdict == whole.verdict
        await pilot.press("escape", "d", "d")
        await answered(app, pilot)
        assert title(app).startswith("Map · probe probability · ")


async def test_the_copied_command_makes_the_figure_anew(town: Scope, path: str) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape")
        await answered(app, pilot)
        line = command_of(app, shown(app))
        assert line is not None
        words = shlex.split(line)
        assert words[words.index("--direction") + 1] == path
        (made,) = record(*words[2:], "--format", "json")["figures"]
        values = np.array(made["values"], dtype=np.float32)
        assert np.allclose(values, shown(app).figure.values, rtol=1e-4, atol=1e-5)


async def test_without_a_direction_the_view_is_not_offered() -> None:
    async with screen(llmscope.load("builtin:town"), PROMPT) as (app, _):
        offered = app.grid.panes["map"].offered_views(app.state)
        assert "probe" not in {MAP_VIEWS[at].lens for at in offered}


def test_a_direction_of_another_model_is_refused_when_it_is_opened(path: str) -> None:
    with pytest.raises(ScopeError, match="the direction is for streams of width"):
        Loader("builtin:sort", direction=path)(None)
    with pytest.raises(ScopeError, match="there is no file"):
        Loader("builtin:sort", direction="none.gguf")(None)

"""A file on a headless screen."""

from contextlib import asynccontextmanager

from llmscope.draw import RenderOptions
from llmscope.tui.modes.replay.reader import read_snapshot
from llmscope.tui.modes.replay.screen import replay_app
from tests.cli.running import run


def taken(path, *lenses, model="builtin:sort", prompt="CABACB", options=()):
    words = [word for lens in lenses for word in ("--lens", lens)]
    result = run("snapshot", model, "--prompt", prompt, *words, *options, "--out", path)
    assert result.exit_code == 0, result.output
    return path


class Screen:
    """What is on it."""

    def __init__(self, app, pilot):
        self.app, self.pilot = app, pilot

    @property
    def rows(self):
        strips = self.app.screen._compositor.render_strips()
        return ["".join(part.text for part in strip) for strip in strips]

    @property
    def text(self):
        return "\n".join(self.rows)

    def pane(self, key):
        """The rows of a pane, its frame included."""
        region = self.app.grid.panes[key].region
        rows = self.rows[region.y : region.bottom]
        return [row[region.x : region.right] for row in rows]

    @property
    def notices(self):
        return [notice.message for notice in self.app._notifications]

    async def press(self, *keys):
        """Press keys, and wait until the screen has nothing to do (`tests.waiting`)."""
        await self.pilot.press(*keys)
        await self.pilot.pause()


@asynccontextmanager
async def replayed(path, width=120, height=40, tier="none"):
    app = replay_app(read_snapshot(path), look=RenderOptions(tier=tier))
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        await pilot.pause()
        yield Screen(app, pilot)

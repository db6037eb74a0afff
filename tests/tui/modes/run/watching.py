"""A run on a headless screen."""

from contextlib import asynccontextmanager

from llmscope.draw import RenderOptions
from llmscope.runs.reader import RunReader
from llmscope.tui.modes.run.run_bar import RunBar
from llmscope.tui.modes.run.run_view import RunView
from llmscope.tui.modes.run.screen import watch_app
from tests.tui.modes.replay.replaying import Screen


class RunScreen(Screen):
    """What is on it."""

    @property
    def bar(self):
        """The line of the run, as text."""
        region = self.app.screen_stack[0].query_one(RunBar).region
        return self.rows[region.y]

    @property
    def moment(self):
        return self.app.state.moment

    def shown(self, key):
        return self.app.figures.shown(key).figure

    async def settle(self):
        await self.pilot.pause()

    async def poll(self):
        """Look at the folder now, as the timer does."""
        self.app.mode.playing.look(self.app)
        await self.settle()


@asynccontextmanager
async def watched(*folders, width=120, height=40, tier="none", plain=False, recorder=None):
    view = RunView([RunReader(folder) for folder in folders])
    app = watch_app(view, look=RenderOptions(tier=tier, ascii=plain), recorder=recorder)
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        screen = RunScreen(app, pilot)
        await screen.settle()
        yield screen

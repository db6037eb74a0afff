"""What holds for every test: no hub, and nothing of the person who runs them is read or written."""

import gc
import inspect
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from llmscope.cli.cpu_setup import set_up_cpu
from llmscope.support.gc_control import _Process
from tests.parts import Part
from tests.shared_styles import shared_styles
from tests.thinned import further_cases
from tests.waiting import short_waits

# The demos are beside the package and not in it; an installed llmscope comes first.
sys.path.append(str(Path(__file__).parents[1]))

# A busy machine is no reason to fail: what matters is what a test finds, not how fast it looks.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What decides about a change must not depend on chance: new examples are sought while developing.
settings.register_profile("landing", settings.get_profile("busy"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "busy"))

# Garbage is looked for each 700 new objects by default, which took a tenth of a whole-app test.
gc.set_threshold(50_000, 20, 20)

# Read once, when huggingface_hub is imported: a port where nobody listens.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ.pop("HF_HUB_OFFLINE", None)
set_up_cpu()
# Read once, when torch is imported. Workers that each take every core wait for one another in busy
# loops: on a loaded machine that made tests of 5 seconds take more than 300.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


FAST = (
    *("draw", "export", "tui/state", "tui/widgets/test_status_text.py"),
    *("tui/panes/test_titles.py", "tui/test_request_scheduler.py"),
    *("test_arguments.py", "test_edits.py", "test_glossary.py", "test_sampler.py", "test_text.py"),
    *("test_words.py", "record/derive/test_token_stats.py"),
)
"""What `pytest -m fast` runs: tests of plain functions and state, which need no model."""


SLOW = 900
"""Seconds after which a slow test is given up. Five minutes were too few on a busy machine."""


LONGEST = 100
"""The most characters of a text in the name of a test."""


def pytest_addoption(parser):
    """Add `--part`, which `.ci/all` uses: all slow tests together take more than an hour."""
    parser.addoption(
        "--part",
        metavar="K/N",
        help="run part K of N parts of the chosen tests: each test function is in one of them",
    )


def pytest_make_parametrize_id(val):
    """Cut long texts in the names of tests, which the processes of a run send one another."""
    if isinstance(val, str | bytes) and len(val) > LONGEST:
        return f"{val[:LONGEST]!a} and {len(val) - LONGEST:,} more"
    return None


def pytest_collection_modifyitems(config, items):
    """Mark fast tests and those of the screen, give slow ones more time, and keep a part of all."""
    here = Path(__file__).parent
    fast = tuple(here / name for name in FAST)
    paths = {item.path for item in items}
    quick = {path for path in paths if any(path.is_relative_to(one) for one in fast)}
    for item in further_cases(items):
        item.add_marker(pytest.mark.slow)
    for item in items:
        if item.path in quick and "slow" not in item.keywords:
            item.add_marker(pytest.mark.fast)
        # An app runs in the loop of its test; those of servers run programs instead.
        drives = inspect.iscoroutinefunction(getattr(item, "function", None))
        if drives and not item.path.is_relative_to(here / "web"):
            item.add_marker(pytest.mark.screen)
        if "slow" in item.keywords and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW))
    if asked := config.getoption("--part", None):
        part = Part.read(asked)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in part])
        items[:] = [item for item in items if item.nodeid in part]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Return how many processes run the tests.

    More than there are cores, since some tests wait for programs that they start. But each process
    collects all tests, which takes longer than to run the fast ones, and slow ones take memory.
    """
    return {"fast": 2, "not slow": 3}.get(config.getvalue("markexpr"), 3)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run the tests of a file together, unless they are the slow ones, which are few and long."""
    if config.getvalue("dist") != "loadgroup" or config.getvalue("markexpr") != "not slow":
        return None
    from tests.scheduling import FileScheduling

    return FileScheduling(config, log)


def pytest_collection_finish():
    """Leave all that is imported by now out of garbage collection, which took 0.25 s each time.

    llmscope need not count what is frozen either before it loads a model: 0.08 s each time.
    """
    gc.collect()
    gc.freeze()
    _Process.frozen = True


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """Leave what the tests of a module imported out of it too, if it is much."""
    before = len(sys.modules)
    yield
    if len(sys.modules) > before + 50:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def default_dtype():
    """What a test leaves of torch's default dtype would change the numbers of those after it."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_default_dtype() != torch.float32:
        left = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        pytest.fail(f"{left} is torch's default dtype")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Settings, state and the hub's cache in folders of this run.

    llmscope's own cache stays: it holds the real model, which takes a minute to fetch.
    """
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "LLMSCOPE_CONFIG", "LLMSCOPE_STATE", "HF_HOME"):
            patch.setenv(name, str(home / name.lower()))
        yield


@pytest.fixture(scope="session", autouse=True)
def styles():
    """Parse stylesheets once."""
    with shared_styles():
        yield


@pytest.fixture
def hooks_watch(monkeypatch):
    """The hooks and functions that a test puts on a model only watch, or are measured there.

    Code of the tests is code from outside of known libraries: with it nothing would be reused.
    """
    from llmscope.models import outside_code

    monkeypatch.setattr(outside_code, "KNOWN", outside_code.KNOWN | {"tests"})


@pytest.fixture(autouse=True)
def waits():
    """Pilots go on as soon as the app is idle."""
    with short_waits():
        yield


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache of llmscope with nothing in it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LLMSCOPE_CACHE", str(folder))
    return folder

"""What holds for every test: no hub, and nothing of the person who runs them is read or written."""

import os

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: what matters is what a test finds, not how fast it looks.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Read once, when huggingface_hub is imported: a port where nobody listens.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ.pop("HF_HUB_OFFLINE", None)
# Read once, when torch is imported. Workers that each take every core wait for one another in busy
# loops: on a loaded machine that made tests of 5 seconds take more than 300.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


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


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache of llmscope with nothing in it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LLMSCOPE_CACHE", str(folder))
    return folder

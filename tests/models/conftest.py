import pytest
from huggingface_hub import constants

from llmscope.models.sources import hub_retry
from tests.models.hub_server import serving, speak_to


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, an empty cache, and as little patience as tests have."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_retry, "WAITS", (0.01, 0.01, 0.01))
    with serving() as hub:
        speak_to(monkeypatch, hub.endpoint)
        yield hub

"""The built-in base, its texts, and dictionaries with random weights."""

import pytest

import llmscope
from llmscope.jobs.examples.request import sources_for
from tests.jobs.examples.folders import write_dictionary


@pytest.fixture(scope="package")
def town():
    with llmscope.load("builtin:town") as scope:
        yield scope


@pytest.fixture(scope="package")
def dictionary(tmp_path_factory):
    return str(write_dictionary(tmp_path_factory.mktemp("dictionaries") / "stream"))


@pytest.fixture
def sources(town, dictionary):
    """Return a function that makes the sources of units."""

    def make(**asked):
        return sources_for(town.loaded_model, dictionaries=(dictionary,), **asked)

    return make

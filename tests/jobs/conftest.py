"""Jobs load the same models again and again."""

import pytest

from tests.copies import copied_models


@pytest.fixture(scope="module", autouse=True)
def copies():
    with copied_models():
        yield

"""Tests of a group run in one worker, so that SmolLM2 is loaded once, and one Ray cluster runs."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one process only")
@pytest.mark.xdist_group("scheduling")
def test_the_scheduler_is_told_the_group_of_a_test(request):
    assert request.node.nodeid.endswith("@scheduling")  # lost by pytest-xdist 3.8 on pytest 9.2

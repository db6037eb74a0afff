"""The built-in family, and the differences of its adapters from the base."""

import pytest

import llmscope


@pytest.fixture(scope="session")
def town():
    return llmscope.load("builtin:town", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def pirate(town):
    return town.activation_difference("town-pirate")


@pytest.fixture(scope="session")
def crier(town):
    return town.activation_difference("town-shout", strength=4.0)

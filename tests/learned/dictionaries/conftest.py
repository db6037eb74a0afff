"""The hub of the tests of models."""

from tests.models.conftest import hub

__all__ = ["hub"]

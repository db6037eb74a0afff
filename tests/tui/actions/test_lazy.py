"""A module that is imported when one of its functions is first accessed."""

from llmscope.tui.actions.types import Lazy


def test_functions_are_those_of_the_module_whatever_every_object_has(monkeypatch):
    monkeypatch.setattr(Lazy, "dumps", lambda *_: "of every object", raising=False)
    assert Lazy("json").dumps([1]) == "[1]"

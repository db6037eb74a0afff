"""`llmscope examples`: what it writes, what it prints, and what it refuses."""

import json

import pytest

import llmscope
from llmscope.learned.examples.folder import read_examples, read_index
from llmscope.learned.examples.unit import feature, head, neuron
from tests.cli.running import failure, run
from tests.jobs.examples.folders import FEATURES, write_dictionary
from tests.learned.texts import TEXTS


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "texts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS[:12]))
    return str(path)


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    return str(write_dictionary(tmp_path_factory.mktemp("dictionary") / "one"))


def made(*words):
    result = run("examples", "builtin:town", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_units_are_printed_with_their_examples(prompts, dictionary, tmp_path):
    out = str(tmp_path / "out")
    said = made(
        *("--prompts", prompts, "--out", out, "--features", dictionary, "--feature", "2/3"),
        *("--neuron", "1.5", "--head", "3.2", "--top", "3", "--random", "1", "--bottom", "2"),
        *("--window", "4,2", "--length", "20"),
    )
    index = read_index(out)
    assert said.startswith(f"{out}: 12 prompts, {index.tokens:,} tokens that count\n\nFeature 3 of")
    units = (feature("2.resid_post", 3), neuron(1, 5), head(3, 2))
    for unit in units:
        found = read_examples(out, unit)
        assert unit.title in said
        assert [len(one) for one in (found.top, found.random, found.bottom)] == [3, 1, 2]
        for one in found.top:
            assert len(one.tokens) <= 7
            assert one.position < 20
            line = next(x for x in said.splitlines() if f" {one.line}@{one.position} " in x)
            before, peak, after = line.partition("‹")[0], one.tokens[one.peak], line
            assert before.endswith("".join(one.tokens[: one.peak]))
            assert f"‹{peak.replace(' ', '·')}›{''.join(one.tokens[one.peak + 1 :])}" in after
    assert index.corpus == "texts.jsonl"
    assert index.model == "builtin:town"
    assert index.groups[0].digest
    assert index.groups[0].dictionary == dictionary
    again = made(
        *("--prompts", prompts, "--out", out, "--features", dictionary, "--feature", "2/3"),
        *("--neuron", "1.5", "--head", "3.2", "--top", "3", "--random", "1", "--bottom", "2"),
        *("--window", "4,2", "--length", "20", "--format", "json"),
    )
    record = json.loads(again)
    assert [(one["kind"], one["index"]) for one in record["units"]] == [
        *(("feature", 3), ("neuron", 5), ("head", 2))
    ]
    assert record["corpus"] == "texts.jsonl"


def test_all_features_are_written_and_not_printed(prompts, dictionary, tmp_path):
    out = tmp_path / "out"
    words = ("--prompts", prompts, "--out", str(out), "--features", dictionary, "--feature", "all")
    said = made(*words, "--max-prompts", "5")
    assert said.splitlines()[1:] == [f"all {FEATURES} features of 2.resid_post"]
    assert all(read_examples(out, feature("2.resid_post", at)) for at in range(FEATURES))
    assert sorted(one.name for one in out.iterdir()) == ["2.resid_post-000000.jsonl", "index.json"]
    refused = failure("examples", "builtin:town", *words)
    assert "was made with other options (max_prompts: " in refused
    made(*words, "--force")
    assert read_index(out).prompts == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a feature, neuron or head"),
        (("--feature", "5.3"), "LAYER/FEATURE such as 5/1234"),
        (("--neuron", "5"), "LAYER.NUMBER, such as 5.120"),
        (("--head", "5/1"), "LAYER.NUMBER, such as 5.120"),
        (("--head", "5.1", "--window", "5"), "two numbers such as 10,5"),
        (("--head", "5.1", "--window", "400,200"), "two numbers such as 10,5, at most 500"),
        (("--head", "5.1", "--format", "svg"), "one of txt, json"),
        (("--head", "5.1", "--top", "-1"), "greater than or equal to 0"),
    ],
)
def test_wrong_use_is_told_before_a_model_is_loaded(prompts, tmp_path, words, said, monkeypatch):
    monkeypatch.setattr(llmscope.scope.scope, "load_model", lambda **_: pytest.fail("loaded"))
    given = ("--prompts", prompts, "--out", str(tmp_path / "out"), *words)
    assert said in " ".join(failure("examples", *given, code=2).replace("│", "").split())
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_one_line(prompts, tmp_path):
    out = str(tmp_path / "out")
    given = ("examples", "builtin:town", "--prompts", prompts, "--out", out)
    assert "there is no head 1.9" in failure(*given, "--head", "1.9")
    assert not (tmp_path / "out").exists()
    assert "there is no dictionary nowhere" in failure(
        *given, "--feature", "1", "--features", "nowhere"
    )
    (tmp_path / "file").write_text("x")
    words = ("--prompts", prompts, "--out", str(tmp_path / "file"), "--head", "1.1")
    assert "is no folder" in failure("examples", "builtin:town", *words)
    path = tmp_path / "texts.jsonl"
    path.write_text('{"prompt": "anna has a cat ."}\n{"text": 3}\n')
    words = ("--prompts", str(path), "--out", out, "--head", "1.1")
    assert f"{path}, line 2: it has no prompt" in failure("examples", "builtin:town", *words)


def test_a_folder_of_examples_of_other_prompts_is_refused(tmp_path):
    texts, out = tmp_path / "texts.txt", str(tmp_path / "out")
    texts.write_text("the cat says meow\nthe dog says woof\n")
    asked = ("--prompts", str(texts), "--out", out, "--neuron", "2.5")
    first = made(*asked)
    assert made(*asked) == first
    texts.write_text("the pig says oink\nthe cow says mooo\n")  # as many bytes
    said = failure("examples", "builtin:town", *asked)
    assert "other prompts" in said

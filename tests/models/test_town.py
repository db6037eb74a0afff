"""The family that ships does what demo/lifecycle/README.md says of it."""

from functools import cache
from random import Random

import pytest

from llmscope.models.loading.load import load_model
from llmscope.models.sources import builtin
from tests.models.town import in_context, part, tokenizer

TASKS = ("lexicon", "kind", "relation")
measured = cache(in_context)


@pytest.mark.parametrize("task", TASKS)
def test_the_base_learns_a_task_from_examples(task):
    none, eight = measured(task, 0), measured(task, 8)
    assert eight >= 0.9
    assert eight >= none + 0.3


def test_accuracy_rises_with_the_number_of_examples():
    means = [sum(measured(task, shots) for task in TASKS) / len(TASKS) for shots in (0, 1, 2, 8)]
    assert means == sorted(means)
    assert means[0] <= 0.5
    assert means[-1] >= 0.95


def test_threes_of_words_that_are_asked_occur_in_no_training_example():
    """The rule by which combinations are held out, looked for in the corpus itself."""
    tasks = part("tasks")
    texts = [text for seed in range(4000) if "->" in (text := tasks.lesson(Random(seed)))]
    seen = {
        frozenset(one.partition("->")[0].split()) for text in texts for one in text.split(" , ")
    }
    assert sum(len(words) == 3 for words in seen) > 1000
    random = Random(1)
    for _ in range(100):
        prompt, _ = tasks.prompt(random, "kind", 8)
        asked = {frozenset(one.partition("->")[0].split()) for one in prompt.split(" , ")}
        assert all(len(words) == 3 for words in asked)
        assert not seen & asked


def test_the_base_opens_with_its_tokenizer_and_the_text_comes_back():
    model = load_model("builtin:town")
    assert model.notices == ()
    text = "the river was cold, and anna sat on the bank. cat -> dax"
    encoded = model.tokens.encode(text)
    assert model.tokens.decode(encoded.ids) == f"<s> {text}"
    assert "<unk>" not in encoded.pieces
    assert [text[a:b].strip() for a, b in encoded.spans][-3:] == ["cat", "->", "dax"]


def test_every_word_of_the_corpus_is_one_token():
    prose, tasks = part("prose"), part("tasks")
    numbers = part("tokens").encoder()
    random = Random(3)
    makers = (prose.life, prose.voice, prose.senses, prose.world, prose.passage, tasks.lesson)
    for make in (*makers, prose.curious):
        for _ in range(40):
            text = make(random)
            ids = tokenizer()(text)["input_ids"]
            assert ids[1:] == [numbers[word] for word in text.split()]


def test_it_is_small_and_names_no_machine():
    folders = [folder for folder in builtin.home().iterdir() if folder.name.startswith("town")]
    files = [file for folder in folders for file in folder.iterdir()]
    assert sum(file.stat().st_size for file in files) < 12_000_000
    for file in files:
        if file.suffix == ".json":
            text = file.read_text(encoding="utf-8")
            assert '"/' not in text

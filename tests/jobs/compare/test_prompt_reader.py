"""A file of prompts, listed: every number against plain transformers, in float64."""

from __future__ import annotations

import csv
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import llmscope
from llmscope.engine.prompt_list import PromptReport
from llmscope.errors import ScopeError
from llmscope.jobs.compare import prompt_reader
from llmscope.jobs.compare.prompt_file import ChatFile, PromptFile, open_file
from llmscope.scope.scope import Scope
from tests.jobs.compare.plain import copy_of
from tests.models.chats import CHATML, chat_tokenizer
from tests.models.checkpoints import save_model

TEXTS = (
    "what do you sell ?",
    "cat -> kitten, dog -> puppy, cow ->",
    "question: where does anna live? answer:",
    "the river was cold and tom sat on the bank",
    "what do you sell ?",
    "the horse eats apples",
    "question: what does tom eat? answer:",
    "dog -> puppy, sheep -> lamb, cow ->",
    "anna lives in the mill",
    "the shop sells bread and",
)


@pytest.fixture(scope="module")
def town() -> Scope:
    return llmscope.load("builtin:town", adapters=("builtin:town-sft",))


@pytest.fixture(scope="module")
def pirate() -> Scope:
    return llmscope.load("builtin:town-pirate")


def write(folder: Path, *records: object, name: str = "prompts.jsonl") -> str:
    path = folder / name
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def prompts(folder: Path) -> str:
    return write(folder, *({"prompt": text} for text in TEXTS))


def read_all(path: str, scope: Scope, **options: object) -> PromptReport:
    reader = PromptFile(path, **options).reader(scope)  # type: ignore[arg-type]
    for _ in range(10_000):
        reader.step(lambda: False)
        if reader.report.done:
            return reader.report
    raise AssertionError("it never ends")


def log_probabilities(model: torch.nn.Module, ids: tuple[int, ...]) -> np.ndarray:
    """Return the log-probabilities after each token, in float64. [row, token]"""
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    scores = scores - scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def check_two(report: PromptReport, a: Scope, model_a: object, model_b: object) -> None:
    """Check a list of two models against two forward passes of plain transformers."""
    every: dict[tuple[int, ...], tuple[float, int, float, int, float]] = {}
    kl, same = [], []
    for text in TEXTS:
        ids = a.encode(text).ids
        p, q = (log_probabilities(model, ids) for model in (model_a, model_b))  # type: ignore[arg-type]
        apart = (np.exp(p) * (p - q)).sum(1)
        kl += apart.tolist()
        same += (p.argmax(1) == q.argmax(1)).tolist()
        for row, value in enumerate(apart.tolist()):
            tops = (one[row].argmax() for one in (p, q))
            (top_a, top_b) = (int(top) for top in tops)
            every[tuple(ids[: row + 1])] = (
                *(value, top_a, math.exp(p[row, top_a])),
                *(top_b, math.exp(q[row, top_b])),
            )
    assert report.measure == "kl"
    assert (report.read, report.skipped, report.tokens) == (len(TEXTS), 0, len(kl))
    assert report.mean == pytest.approx(np.mean(kl), rel=1e-5)
    assert report.agree == pytest.approx(np.mean(same))
    assert len(report.rows) == len(every), "one after the same text counts once"
    values = [row.value for row in report.rows]
    assert values == sorted(values, reverse=True)
    assert values == pytest.approx(sorted((one[0] for one in every.values()), reverse=True), 1e-4)
    label = a.loaded_model.label
    for row in report.rows:
        ids = a.encode(row.prompt.text).ids
        value, top_a, p_a, top_b, p_b = every[tuple(ids[: row.position + 1])]
        assert row.value == pytest.approx(value, rel=1e-4, abs=1e-7)
        assert (row.top_a, row.top_b) == (label(top_a), label(top_b))
        assert (row.p_top_a, row.p_top_b) == (pytest.approx(p_a, 1e-4), pytest.approx(p_b, 1e-4))
        assert row.token == a.encode(row.prompt.text).pieces[row.position]
        assert row.prompt.text == TEXTS[row.prompt.line - 1]


def test_rows_of_two_models_are_those_of_transformers(
    tmp_path: Path, town: Scope, pirate: Scope
) -> None:
    town.compare(pirate)
    try:
        report = read_all(prompts(tmp_path), town)
    finally:
        town.compare(None)
    check_two(report, town, copy_of(town.model), copy_of(pirate.model))


def test_an_adapter_is_held_against_the_base(tmp_path: Path, town: Scope) -> None:
    base = copy_of(town.base.module)
    town.use("town-sft")
    try:
        report = read_all(prompts(tmp_path), town)
        assert town.adapter == "town-sft", "it is on again after each step"
        check_two(report, town, copy_of(town.model), base)
    finally:
        town.use(None)


def test_rows_of_one_model_are_its_surprisal(tmp_path: Path, town: Scope) -> None:
    model = copy_of(town.model)
    every: dict[tuple[int, ...], tuple[float, int, float]] = {}
    bits, first = [], []
    for text in TEXTS:
        ids = town.encode(text).ids
        p = log_probabilities(model, ids)
        for row in range(1, len(ids)):
            value, top = -p[row - 1, ids[row]] / math.log(2), int(p[row - 1].argmax())
            bits.append(value)
            first.append(top == ids[row])
            every[tuple(ids[: row + 1])] = value, top, math.exp(p[row - 1, top])
    report = read_all(prompts(tmp_path), town)
    assert report.measure == "surprisal"
    assert (report.tokens, len(report.rows)) == (len(bits), len(every))
    assert report.mean == pytest.approx(np.mean(bits), rel=1e-5)
    assert report.agree == pytest.approx(np.mean(first))
    found = [row.value for row in report.rows]
    # The lens keeps its surprisal in float32, which has 1e-7 bits where a token is nearly certain.
    wanted = sorted((one[0] for one in every.values()), reverse=True)
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    for row in report.rows:
        ids = town.encode(row.prompt.text).ids
        value, top, p_top = every[tuple(ids[: row.position + 1])]
        assert row.value == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert (row.top_a, row.p_top_a) == (
            town.loaded_model.label(top),
            pytest.approx(p_top, 1e-4),
        )
        assert (row.top_b, row.p_top_b) == ("", 0.0)
    figure = town.look("tokens", recording=town.record(report.rows[0].prompt.text))
    assert figure.values[report.rows[0].position] == pytest.approx(report.rows[0].value, rel=1e-5)


def test_only_the_best_are_held(
    tmp_path: Path, town: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_all(prompts(tmp_path), town)
    monkeypatch.setattr(prompt_reader, "LISTED", 5)
    best = read_all(prompts(tmp_path), town)
    assert [(row.value, row.prompt.line, row.position) for row in best.rows] == [
        (row.value, row.prompt.line, row.position) for row in whole.rows[:5]
    ]
    assert (best.mean, best.tokens) == (whole.mean, whole.tokens)


def test_it_gives_way_anywhere_and_ends_with_the_same(
    tmp_path: Path, town: Scope, pirate: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_reader, "ROWS", 2)
    town.compare(pirate)
    try:
        whole = read_all(prompts(tmp_path), town)
        reader = PromptFile(prompts(tmp_path)).reader(town)
        steps = asked = 0
        while not reader.report.done:
            steps += 1
            left = steps % 20  # how often it goes on before it is asked for something else

            def gives_way() -> bool:
                nonlocal left, asked
                left, asked = left - 1, asked + 1
                return left < 0

            reader.step(gives_way)
            assert left >= -1, "asked once more than it was let go on"
    finally:
        town.compare(None)
    assert steps > len(TEXTS) + 5
    assert [(row.value, row.prompt.line, row.position) for row in reader.report.rows] == [
        (row.value, row.prompt.line, row.position) for row in whole.rows
    ]
    assert (reader.report.mean, reader.report.tokens) == (whole.mean, whole.tokens)


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path, town: Scope) -> None:
    path = write(
        tmp_path,
        {"prompt": TEXTS[0]},
        "{",
        {"prompt": 5},
        {"id": 1},
        [1],
        {"prompt": None},
        {"messages": [{"role": "user", "content": "x"}]},
        {"prompt": TEXTS[1]},
    )
    report = read_all(path, town)
    assert (report.read, report.total, report.share) == (2, 8, 1.0)
    assert report.skipped == 6
    assert report.flaw.startswith("line 2: it is not JSON")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".parquet"])
def test_formats_that_batches_read(tmp_path: Path, town: Scope, suffix: str) -> None:
    path = tmp_path / f"prompts{suffix}"
    if suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"id": [*range(10)], "prompt": [*TEXTS]}), path)
    elif suffix == ".txt":
        path.write_text("\n".join(TEXTS))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="," if suffix == ".csv" else "\t")
            writer.writerows([["id", "prompt"], *enumerate(TEXTS)])
    ours, theirs = read_all(str(path), town), read_all(prompts(tmp_path), town)
    assert [row.value for row in ours.rows] == [row.value for row in theirs.rows]
    assert (ours.mean, ours.read, ours.skipped) == (theirs.mean, len(TEXTS), 0)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    folder = tmp_path_factory.mktemp("chats")
    tokenizer = chat_tokenizer(CHATML)
    save_model(folder, vocab_size=len(tokenizer))
    tokenizer.save_pretrained(folder)
    return llmscope.load(str(folder))


def test_chats_are_read_in_the_template(tmp_path: Path, chats: Scope) -> None:
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    report = read_all(write(tmp_path, {"messages": talk}), chats)
    assert (report.read, report.skipped) == (1, 0), report.flaw
    prompt = report.rows[0].prompt
    assert prompt.text == chats.tokenizer.apply_chat_template(talk, tokenize=False)
    assert [turn.role for turn in prompt.turns] == ["user", "assistant"]
    ids = chats.encode(prompt.text, special_tokens=False).ids
    assert prompt.tokens == len(ids)
    p = log_probabilities(chats.model, ids)
    bits = [-p[row - 1, ids[row]] / math.log(2) for row in range(1, len(ids))]
    assert report.mean == pytest.approx(np.mean(bits), rel=1e-4)


def test_prompts_are_put_into_the_template(tmp_path: Path, chats: Scope) -> None:
    path = write(tmp_path, {"prompt": "hello"})
    report = read_all(path, chats, chat=True, system="be short")
    assert report.rows[0].prompt.text == chats.chat.prompt("hello", "be short")
    assert "be short" in report.rows[0].prompt.text


def test_a_long_prompt_is_cut(tmp_path: Path, town: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_reader, "LENGTH", 6)
    report = read_all(write(tmp_path, {"prompt": TEXTS[1]}, {"prompt": "the cat"}), town)
    assert (report.read, report.cut) == (2, 1)
    prompt = next(row.prompt for row in report.rows if row.prompt.line == 1)
    assert prompt.cut
    assert TEXTS[1].startswith(prompt.text)
    assert prompt.tokens == len(town.encode(prompt.text).ids) <= 6


def test_a_large_file_is_not_held(tmp_path: Path, town: Scope) -> None:
    path = tmp_path / "large.jsonl"
    line = json.dumps({"prompt": TEXTS[0], "note": "x" * 20_000})
    with path.open("w") as file:
        for _ in range(1000):
            file.write(f"{line}\n")
    assert path.stat().st_size > prompt_reader.COUNTED
    reader = PromptFile(str(path)).reader(town)
    reader.step(lambda: False)
    tracemalloc.start()
    try:
        for _ in range(10):
            reader.step(lambda: False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20
    report = reader.report
    assert (report.read, report.total) == (11, None)
    assert 0 < report.share < 0.1


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("chat.json", [{"role": "user", "content": "hi"}], ChatFile),
        ("one.jsonl", {"messages": [{"role": "user", "content": "hi"}]}, ChatFile),
        ("one.jsonl", {"prompt": "hi"}, PromptFile),
        ("plain.txt", "hi", PromptFile),
    ],
)
def test_what_a_file_is(tmp_path: Path, name: str, content: object, kind: type) -> None:
    path = write(tmp_path, content, name=name)
    assert type(open_file(path)) is kind


def test_several_chats_are_a_list(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "hi"}]}
    assert isinstance(open_file(write(tmp_path, talk, talk)), PromptFile)
    message = {"role": "user", "content": "hi"}
    assert isinstance(open_file(write(tmp_path, message, message)), ChatFile), "a message a line"


@pytest.mark.parametrize("name", ["-", "missing.jsonl", "model.safetensors", "chat.json"])
def test_what_is_no_file_of_prompts_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScopeError):
        PromptFile(name)

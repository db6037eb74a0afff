"""Tokenizers that panic, loop, grow or abort cost a line for the text, and nothing else."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pyarrow.parquet as parquet
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_tokenizer_of
from llmscope.models.tokenizer.parts import linear, plain, plain_file
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.models.tokenizer.worker import TokenizerWorker, worker_for
from llmscope.support.sandbox import CallError
from tests.cli.running import failure, run
from tests.models.checkpoints import save_model
from tests.models.vocabularies import FAST, TEXTS

LETTERS = "".join(map(chr, range(97, 123))) + " !"
LONG = "a" * 40 + "!"
PLACES = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
TOKEN = {"id": 99, "content": "a" * 40, "normalized": True}


def split(expression):
    return {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": expression},
            "behavior": "Isolated",
            "invert": False,
        }
    }


def replace(old, new, times=1, sort="String"):
    one = {"type": "Replace", "pattern": {sort: old}, "content": new}
    return {"normalizer": {"type": "Sequence", "normalizers": [one] * times}}


def template(named, known, times=1):
    pieces = [{"SpecialToken": {"id": named, "type_id": 0}}] * times
    a, b = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    special = {name: {"id": name, "ids": [0], "tokens": ["a"]} for name in known}
    return {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*pieces, a],
            "pair": [a, b],
            "special_tokens": special,
        }
    }


def description(**changes):
    """A tokenizer.json that knows single letters."""
    found = {
        **dict.fromkeys(PLACES),
        "version": "1.0",
        "added_tokens": [],
        "model": {
            "type": "BPE",
            "vocab": {letter: index for index, letter in enumerate(LETTERS)},
            "merges": [],
        },
    }
    return json.dumps(found | changes)


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(description(**changes))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )


def tokens(**changes):
    backend = Tokenizer.from_str(description(**changes))
    return Tokens(PreTrainedTokenizerFast(tokenizer_object=backend))


FAILS = {
    "exponential": split("(a+)+$"),
    "endless": split("(a*)*(a*)*(a*)*$|a*a*a*a*a*a*a*c"),
    "no length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "no such token": template("[X]", ()),
    "growth": replace("a", "aa", times=40),
    "growth by an expression": replace("a|b", "aa", times=40, sort="Regex"),
    "long content": replace("a", "a" * 100_000, times=2),
}
"""What fails on forty letters, each for a reason of its own."""

DAMAGED = {
    "table": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "token that grows": replace("a", "aa", times=40)
    | {
        "added_tokens": [
            TOKEN | dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
        ]
    },
}
"""What fails when it is loaded."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, vocab_size=64, max_position_embeddings=128)
    return folder


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("name", FAILS)
@pytest.mark.few(3)
def test_a_text_that_a_tokenizer_fails_on_costs_a_line(name, monkeypatch, capfd):
    monkeypatch.setattr("llmscope.models.tokenizer.worker.PATIENCE", 0.5)
    found = tokens(**FAILS[name])
    begun = time.monotonic()
    with pytest.raises(ScopeError) as caught:
        found.encode(LONG)
    assert time.monotonic() - begun < 8
    said = caught.value.message
    assert said.startswith("the tokenizer fails on this text: ")
    assert said.isprintable()
    assert len(said) < 500
    assert capfd.readouterr().err == ""  # nothing of Rust's own report


@pytest.mark.usefixtures("small_memory")
def test_other_texts_are_cut_as_before():
    found = tokens(**split("(a+)+$"))
    with pytest.raises(ScopeError, match="retry-limit"):
        found.encode(LONG)
    assert found.encode("ab c").pieces == ("a", "b", " ", "c")
    assert found.decode([0, 1]) in ("ab", "a b")


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.usefixtures("small_memory")
def test_a_tokenizer_that_fails_to_load_leaves_a_model_of_ids(name, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("llmscope.models.tokenizer.worker.LOADING", 0.5)
    write(tmp_path, **DAMAGED[name])
    found, (notice,) = load_tokenizer_of(tmp_path)
    assert found is None
    assert notice.startswith("its tokenizer cannot be loaded (")
    assert notice.endswith("it takes token ids only")
    assert notice.isprintable()
    assert len(notice) < 600
    assert "stack backtrace" not in capfd.readouterr().err


@pytest.mark.usefixtures("small_memory")
def test_a_decoder_that_grows_costs_a_line(monkeypatch):
    monkeypatch.setattr("llmscope.models.tokenizer.worker.PATIENCE", 0.5)
    one = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    found = tokens(decoder={"type": "Sequence", "decoders": [one] * 40})
    with pytest.raises(ScopeError, match=r"within 0.5 s|MiB of memory|crashed"):
        found.decode([0, 1])
    assert found.pieces([0, 1]) == ["<id 0>", "b"]


def test_a_panic_in_this_process_costs_a_line():
    class Panic(BaseException):
        pass

    found = tokens()

    def panics(*args, **named):
        raise Panic("index out of range")

    found.tokenizer = panics
    panics.is_fast = True
    with pytest.raises(ScopeError, match="fails on this text: Panic index out of range"):
        found.encode("abc")


@pytest.mark.parametrize("kind", FAST)
def test_in_the_child_the_tokens_are_the_same(kind, monkeypatch):
    tokenizer = FAST[kind]()
    monkeypatch.setattr("llmscope.models.tokenizer.worker.plain", lambda backend: False)
    child = worker_for(tokenizer)
    monkeypatch.setattr("llmscope.models.tokenizer.tokens.worker_for", lambda tokenizer: None)
    here = Tokens(tokenizer)
    for text in TEXTS.values():
        for special in (False, True):
            ids, offsets = child.encode(text, special)
            own, places = here._cut(text, special)
            assert ids == own
            assert offsets == [tuple(one) for one in places()]
        assert child.decode(ids) == here.decode(ids)
    child._worker.close()


def test_an_id_beyond_any_vocabulary_costs_no_list_of_those_that_are_missing():
    vocabulary = {letter: index for index, letter in enumerate(LETTERS)}
    vocabulary["!"] = 2**31 - 1
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    backend = Tokenizer.from_str(description(model=model, **split("(a|b)c")))
    asked = []
    stand_in = SimpleNamespace(get_vocab=backend.get_vocab, to_str=lambda: asked.append(""))
    with pytest.raises(CallError, match="id 2,147,483,647"):
        TokenizerWorker(stand_in)
    assert not asked


def test_what_known_vocabularies_are_made_of_stays_in_this_process(tmp_path):
    plains = {kind for kind, make in FAST.items() if plain(make().backend_tokenizer)}
    assert {"byte level", "byte fallback"} <= plains
    for kind in FAST:
        tokenizer = FAST[kind]()
        tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
        assert plain_file(tmp_path / "tokenizer.json") == (kind in plains)


@pytest.mark.parametrize("name", [*FAILS, *DAMAGED])
def test_what_fails_is_never_plain(name, tmp_path):
    write(tmp_path, **(FAILS | DAMAGED)[name])
    assert not plain_file(tmp_path / "tokenizer.json")


def test_a_file_that_says_a_thing_twice_is_not_plain(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(description())
    assert plain_file(path)
    path.write_text(description()[:-1] + ', "normalizer": null}')
    assert not plain_file(path)


@pytest.mark.parametrize(
    "expression", ["(a+)+", "a*a*b", "a?a?a?a?aaaa", "(a|a)*", "[a-z]+[a-z]+", "x" * 65, "(", ""]
)
def test_an_expression_of_unknown_cost_is_not_linear(expression):
    assert not linear(expression)


def test_a_batch_goes_on_after_such_a_line(model, tmp_path):
    write(model, **split("(a+)+$"))
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text(f"ab\n{LONG}\ncd\n")
    result = run("snapshot", model, "--prompts", prompts, "--lens", "next-token", "--out", out)
    assert result.exit_code == 0, result.output
    table = parquet.read_table(out / "prompts" / "shard-00000.parquet", columns=["line", "error"])
    first, second, third = table.to_pydict()["error"]
    assert (first, third) == (None, None)
    assert second.startswith("the tokenizer fails on this text: ")


def test_the_command_says_one_line(model, capfd):
    write(model, **split("(a+)+$"))
    said = failure("snapshot", model, "--lens", "tokens", "--prompt", LONG)
    assert said.startswith("error: the tokenizer fails on this text: ")
    assert "panicked" not in capfd.readouterr().err


def test_a_letter_in_the_child_is_cheap():
    found = tokens(**split("(a+)+$"))
    found.encode("ab")  # starts the child
    before = time.process_time()
    for count in range(50):
        found.encode("ab " * count)
    assert (time.process_time() - before) / 50 < 0.01  # seconds of this process


LONG_TOKEN = """
import sys
from tokenizers import Tokenizer, models
from llmscope.models.tokenizer.worker import refuse_long_tokens
from llmscope.support.sandbox import CallError
from types import SimpleNamespace
pieces = [("a", 0.0), ("b", -1.0), ("a" * int(sys.argv[1]), -2.0)]
found = SimpleNamespace(backend_tokenizer=Tokenizer(models.Unigram(pieces, unk_id=0)))
try:
    refuse_long_tokens(found)
except CallError as error:
    print(error)
del found
print("still here")
"""


@pytest.mark.parametrize(
    ("length", "told"),
    [(10_000, ""), (1_000_000, "it has a token of more than 10,000 characters\n")],
)
def test_freeing_a_long_token_does_not_end_the_process(length, told):
    """A Unigram model is freed recursively, one call for each character of its longest token."""
    done = subprocess.run(
        [sys.executable, "-c", LONG_TOKEN, str(length)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{told}still here\n"), done.stderr


def test_a_file_with_a_long_token_is_tried_in_a_child_that_may_crash(tmp_path):
    pieces = [["<unk>", 0.0], ["a", -1.0], ["a" * 1_000_000, -2.0]]
    write(tmp_path / "m", model={"type": "Unigram", "unk_id": 0, "vocab": pieces})
    assert not plain_file(tmp_path / "m" / "tokenizer.json")
    found, (notice,) = load_tokenizer_of(tmp_path / "m")
    assert found is None
    assert "cannot be loaded (it crashed" in notice

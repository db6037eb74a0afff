"""`llmscope bake` on small models: the adapter against plain peft, and every way to be told no."""

import json

import pytest
import torch
from peft import PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import llmscope
from llmscope.models.sources.builtin import home
from tests.cli.running import failure, record, run
from tests.models.checkpoints import save_model

SORT = "builtin:sort"
CONTEXT, QUERY = "CCB", "BAC"
IDS = {"A": 0, "B": 1, "C": 2}


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context.txt"
    path.write_text(CONTEXT)
    return path


def baked(*arguments):
    result = run("bake", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def with_tokenizer(folder, family, text="abcdefgh", **changes):
    """A small model whose tokenizer has a word for each letter and a BOS."""
    save_model(folder, family, **changes)
    words = {"<s>": 0, **{letter: 1 + place for place, letter in enumerate(text)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>").save_pretrained(folder)
    return folder


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_plain_peft_says_without_the_context_what_the_prompt_said(context, tmp_path):
    out = tmp_path / "adapter"
    said = baked(
        *(SORT, "--context-file", context, "--prompt", QUERY, "--generate", 3, "--out", out)
    )
    assert "rank 4 on 6 matrices" in said
    assert "3 tokens of context, before 3 of the query and 3 of what follows" in said
    assert "same at 4 of 4" in said
    model = AutoModelForCausalLM.from_pretrained(home() / "sort").eval()
    letters = [IDS[letter] for letter in CONTEXT + QUERY]
    for _ in range(3):
        letters.append(int(logits(model, letters)[-1].argmax()))
    assert letters[6:] == [0, 1, 1]  # AABBCC sorts three letters of each
    own, alone = logits(model, letters)[-4:], logits(model, letters[3:])
    assert float((own - alone[-4:]).abs().max()) > 1
    model = PeftModel.from_pretrained(model, out).eval()
    assert float((logits(model, letters[3:])[-4:] - own).abs().max()) <= 1e-4
    with model.disable_adapter():
        assert torch.equal(logits(model, letters[3:]), alone)


def test_it_opens_by_its_folder(context, tmp_path):
    out = tmp_path / "adapter"
    baked(SORT, "--context-file", context, "--prompt", QUERY, "--out", out)
    here = record(out, "--prompt", QUERY, "--lens", "next-token")
    whole = record(SORT, "--prompt", CONTEXT + QUERY, "--lens", "next-token")
    assert here["model"]["adapter"] == "adapter"
    found, own = here["figures"][0], whole["figures"][0]
    assert found["axes"] == own["axes"]
    assert found["values"] == pytest.approx(own["values"], abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "opt", "phi", "falcon", "phi3"])
@pytest.mark.few(1)
def test_other_families_keep_their_bos(family, tmp_path):
    folder = with_tokenizer(tmp_path / "model", family)
    (tmp_path / "context").write_text("abcah")
    out = tmp_path / "adapter"
    said = baked(
        *(folder, "--context-file", tmp_path / "context", "--prompt", "fed"),
        *("--continuation", "ca", "--out", out),
    )
    assert "5 tokens of context, before 3 of the query and 2 of what follows" in said
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    own = logits(model, [0, 1, 2, 3, 1, 8, 6, 5, 4, 3, 1])[-3:]
    alone = [0, 6, 5, 4, 3, 1]
    assert float((logits(model, alone)[-3:] - own).abs().max()) > 0.05
    model = PeftModel.from_pretrained(model, out).eval()
    assert float((logits(model, alone)[-3:] - own).abs().max()) <= 1e-4
    assert llmscope.load(str(out)).adapter == "adapter"


@pytest.mark.parametrize(
    ("family", "reason"),
    [("gemma2", "norms what its MLP wrote"), ("mixtral", "mixture of experts")],
)
def test_what_cannot_be_baked_is_told_and_nothing_written(family, reason, tmp_path):
    folder = with_tokenizer(tmp_path / "model", family)
    (tmp_path / "context").write_text("abcah")
    out = tmp_path / "adapter"
    told = failure(
        *("bake", folder, "--context-file", tmp_path / "context"),
        *("--prompt", "fed", "--out", out),
    )
    assert reason in told
    assert not out.exists()


def test_a_folder_with_something_in_it_is_kept_unless_forced(context, tmp_path):
    out = tmp_path / "adapter"
    out.mkdir()
    (out / "mine").write_text("kept")
    arguments = (SORT, "--context-file", context, "--prompt", QUERY, "--out", out)
    assert "is not empty (try: --force" in failure("bake", *arguments)
    assert [path.name for path in out.iterdir()] == ["mine"]
    baked(*arguments, "--force")
    assert (out / "mine").read_text() == "kept"
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    baked(*arguments, "--force")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    config = json.loads(first["adapter_config.json"])
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (1, 1, True)
    assert config["target_modules"] == ["mlp.c_fc", "mlp.c_proj"]
    assert config["base_model_name_or_path"] == SORT
    assert "is a file" in failure("bake", *arguments[:-1], out / "mine")


def test_wrong_use_is_told(context, tmp_path):
    out = tmp_path / "adapter"
    command = ("bake", SORT, "--context-file", context, "--out", out)
    both = (*command, "--prompt", "A", "--generate", "1", "--continuation", "B")
    assert "give --continuation or --generate, not both" in " ".join(failure(*both, code=2).split())
    assert "no context" in failure(*command, "--prompt", "")
    (tmp_path / "empty").write_text("")
    empty = ("bake", SORT, "--context-file", tmp_path / "empty", "--out", out)
    assert "no context" in failure(*empty, "--prompt", "A")
    baked(*command[1:], "--prompt", "A")
    again = ("bake", out, "--context-file", context, "--prompt", "A", "--out", tmp_path / "two")
    assert "adapter on" in failure(*again)


def test_a_query_that_is_cut_otherwise_alone_is_told(tmp_path):
    folder = with_tokenizer(tmp_path / "model", "llama")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {"ab": 20, "b": 2}
    tokenizer["pre_tokenizer"]["pattern"] = {"Regex": "ab|."}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "context").write_text("cca")
    command = ("bake", folder, "--context-file", tmp_path / "context", "--out", tmp_path / "out")
    assert "cut into other tokens" in failure(*command, "--prompt", "bcd")
    assert "cut into other tokens" in failure(*command, "--prompt", "da", "--continuation", "b")


def test_a_snapshot_knows_where_the_context_ends(context):
    arguments = ("--context-file", context, "--prompt", "AC", "--lens", "context")
    found = record(SORT, *arguments)
    (figure,) = found["figures"]
    assert found["focus"]["context"] == 3
    assert (figure["extra"]["context"], figure["extra"]["query"]) == (3, 2)
    assert figure["verdict"]["status"] == "verified"
    assert record(SORT, "--prompt", "C", "--lens", "context")["figures"][0]["values"] is None

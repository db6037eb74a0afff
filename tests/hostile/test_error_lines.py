"""Errors stay on one line of bounded length, whatever a checkpoint holds and a library says."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from llmscope.cli.output.errors import describe, reported
from llmscope.errors import LONGEST, ScopeError
from llmscope.support.text import LINE, error_line, one_line, typed_error_line
from tests.cli.running import run
from tests.families import small_model
from tests.models.checkpoints import edit_config, save_model

LONG = "x" * 1_000_000
EVIL = "\x1b[31m\u202e\n\r\x00[bold]" + LONG
LIMIT = 3 * LONGEST
IDS = ("--lens", "next-token", "--ids", "1,2,3")

CONFIGS = {
    "model_type": {"model_type": LONG},
    "evil model_type": {"model_type": EVIL},
    "a list for a model_type": {"model_type": [LONG]},
    "model_type of many lines": {"model_type": "a\n" * 100_000},
    "architectures": {"architectures": [LONG + "ForMaskedLM"]},
    "auto_map": {"auto_map": {"AutoModelForCausalLM": EVIL}},
    "quantisation": {"quantization_config": {"quant_method": EVIL}},
    "activation": {"hidden_act": EVIL},
    "rope": {"rope_parameters": {"rope_type": EVIL, "rope_theta": EVIL}},
    "a text for a size": {"hidden_size": EVIL},
    "a list for a size": {"num_attention_heads": [1] * 100_000},
    "an object for a size": {"num_hidden_layers": {LONG: LONG}},
    "negative": {"num_hidden_layers": -1},
    "dtype": {"dtype": EVIL},
    "another shape": {"hidden_size": 64},
    "another vocabulary": {"vocab_size": 7},
    "layer types": {"layer_types": [EVIL] * 4},
    "a number for classes": {"architectures": 0.02},
    "settings of other families": {"logit_scale": EVIL, "max_position_embeddings": EVIL},
    "a text that caps logits": {"final_logit_softcapping": EVIL},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "model"
    save_model(folder)
    return folder


@pytest.fixture
def model(good, tmp_path):
    return shutil.copytree(good, tmp_path / "model")


def one(result):
    """The only line of stderr but for notes, all of them bounded."""
    assert result.exit_code in (0, 1), result.output[:2000]
    lines = result.stderr.split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert line.isprintable(), line[:500]
        assert len(line) <= LIMIT
    errors = [line for line in lines if not line.startswith("note: ")]
    assert len(errors) == result.exit_code
    assert "above report" not in result.stderr
    return errors[0] if errors else ""


@pytest.mark.few(10)
@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_costs_a_line(model, name):
    edit_config(model, **CONFIGS[name])
    assert not one(run("snapshot", model, *IDS)).startswith("error: TypeError")


def test_a_number_of_heads_that_a_family_does_not_use(tmp_path):
    small_model("mamba").save_pretrained(tmp_path)
    edit_config(tmp_path, num_attention_heads="4")
    said = one(run("snapshot", tmp_path, *IDS))
    assert said.startswith("error: num_attention_heads is no number in the model's config")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"attention_dropout": float("nan")}, "attention_dropout is nan, and it lies from 0 to 1"),
        ({"attention_dropout": 1.5}, "attention_dropout is 1.5, and it lies from 0 to 1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    ],
)
def test_a_number_that_torch_would_refuse_in_a_pass(model, change, told):
    edit_config(model, **change)
    assert told in one(run("snapshot", model, *IDS))


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("name", ["model_type", "evil model_type", "activation", "dtype"])
def test_doctor_says_the_same_line(model, name):
    edit_config(model, **CONFIGS[name])
    said = one(run("doctor", model))
    assert said == one(run("snapshot", model, *IDS))


def test_other_numbers_of_dropout_are_no_shares(model):
    edit_config(model, dropout_seed=42, attention_dropout=0.5)
    assert run("snapshot", model, *IDS).exit_code == 0


def test_a_model_whose_forward_fails_is_named(tmp_path):
    small_model("mixtral", num_local_experts=2, num_experts_per_tok=2).save_pretrained(tmp_path)
    edit_config(tmp_path, num_experts_per_tok=7)
    said = one(run("snapshot", tmp_path, *IDS))
    assert said.startswith("error: the model fails on a short prompt: RuntimeError")


def test_what_is_wrong_with_shapes_is_told(model):
    edit_config(model, intermediate_size=48)
    said = one(run("snapshot", model, *IDS))
    assert "mlp" in said
    assert "and its config.json makes it [" in said


def test_long_names_of_weights(model):
    path = model / "model.safetensors"
    tensors = load_file(path)
    save_file(
        {**tensors, EVIL.replace("\x00", ""): np.zeros(1, np.float32)}, path, {"format": "pt"}
    )
    result = run("snapshot", model, *IDS)
    assert "note: 1 weights of the checkpoint are not used" in result.stderr
    one(result)
    save_file(dict(list(tensors.items())[1:]), path, {"format": "pt"})
    assert "lacks 1 of the model's weights" in one(run("snapshot", model, *IDS))


@pytest.mark.parametrize("text", ["{" * 100_000, LONG, json.dumps({LONG: LONG}), "\x00", "[]", "é"])
def test_files_that_are_no_config(model, text):
    (model / "config.json").write_text(text)
    said = one(run("snapshot", model, *IDS))
    assert said.startswith("error: ")


def test_a_message_keeps_its_beginning_and_its_end():
    error = ScopeError(f"begin {LONG} end", LONG)
    assert len(error.message) == len(error.hint) == LONGEST == len(str(error))
    assert error.message.startswith("begin x")
    assert error.message.endswith("x end")
    assert "…" in error.message
    assert ScopeError("short\nlines", "hint").message == "short\nlines"


@pytest.mark.parametrize(
    "text", ["", "a", "é" * 399, "\x1b" * 100, "\x1b" * 500, EVIL, "a\n" * 10**6]
)
def test_a_line_is_bounded_and_harmless(text):
    line = one_line(text)
    assert len(line) <= LINE
    assert line.isprintable()
    assert one_line(line) == line


class Panic(BaseException):
    pass


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        *(Panic(EVIL), Panic(), Speechless(), KeyError(EVIL), ValueError(), ValueError(EVIL)),
        *(RuntimeError("For details look at the above report!"), MemoryError(), OSError(2, EVIL)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_one_line_that_says_something(error, capsys):
    for line in (error_line(error), typed_error_line(error), describe(error)):
        assert 3 < len(line) <= LIMIT
        assert line.isprintable()
        assert "above report" not in line
    with pytest.raises(SystemExit) as caught, reported(debug=False):
        raise error
    assert caught.value.code == 1
    assert capsys.readouterr().err == describe(error) + "\n"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_the_program_still_does(error):
    with pytest.raises(SystemExit) as caught, reported(debug=False):
        raise error
    assert caught.value.code == (3 if isinstance(error, SystemExit) else 130)

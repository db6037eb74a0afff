"""Snapshots fit the schema that ships, and their numbers are those of plain transformers."""

import copy

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from transformers import AutoModelForCausalLM

from llmscope.lenses import names
from tests.cli.running import record
from tests.export.schema import SCHEMA, faults
from tests.models.checkpoints import save_model

IDS = (5, 9, 33, 7, 21, 2)
LENSES = (
    *("tokens", "residual", "next-token", "logit-lens", "attention", "heads", "mlp"),
    *("attribution", "neurons", "saliency", "walkthrough"),
)


def asked(lenses):
    return [word for name in lenses for word in ("--lens", name)]


@pytest.fixture(scope="module")
def sorting():
    ask = ("builtin:sort", "--prompt", "CABACB", "--versus-prompt", "BACABC")
    return record(*ask, "--edit", "zero head 1.1", *asked(names()))


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_every_lens_fits_it(sorting):
    assert [figure["lens"] for figure in sorting["figures"]] == [*names()]
    assert faults(sorting) == []
    assert {"provenance", "edits", "versus_prompt"} <= sorting.keys()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), 2),
        (("figures", 0, "kind"), "pie"),
        (("figures", 0, "verdict", "status"), "true"),
        (("figures", 0, "values"), ["1.0"]),
        (("figures", 0, "axes", 0, "labels"), [1]),
        (("tokens", 0, "id"), -1),
        (("provenance", "model", "weights"), ["abc"]),
        (("tensors",), {"sha256": "0" * 64}),  # a sidecar has no values of its own
    ],
)
def test_what_is_wrong_does_not(sorting, place, value):
    broken = copy.deepcopy(sorting)
    *path, last = place
    inner = broken
    for key in path:
        inner = inner[key]
    inner[last] = value
    assert faults(broken)


@pytest.mark.parametrize("lacking", SCHEMA["required"])
def test_what_lacks_something_does_not(sorting, lacking):
    assert faults({key: value for key, value in sorting.items() if key != lacking})


@pytest.mark.parametrize(
    ("family", "path"), [("gpt2", "sdpa"), ("llama", "sdpa"), ("gemma2", "eager")]
)
def test_numbers_are_those_of_transformers(tmp_path, family, path):
    save_model(tmp_path, family)
    ids = ",".join(map(str, IDS))
    found = record(tmp_path, "--ids", ids, "--layer", "1", "--head", "2", *asked(LENSES))
    assert faults(found) == []
    assert found["provenance"]["attention"] == path
    figures = {figure["lens"]: figure for figure in found["figures"]}

    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        plain = model(torch.tensor([IDS]), output_attentions=True)
    said = plain.logits[0].double().log_softmax(-1)
    next_token = figures["next-token"]
    np.testing.assert_allclose(
        next_token["values"], said[-1].exp()[next_token["extra"]["ids"]], atol=1e-5
    )
    assert next_token["extra"]["ids"][0] == int(said[-1].argmax())
    bits = [-float(said[at - 1, IDS[at]]) / np.log(2) for at in range(1, len(IDS))]
    np.testing.assert_allclose(figures["tokens"]["values"][1:], bits, atol=1e-5)
    pattern = np.array(figures["attention"]["values"], dtype=float)
    seen = np.tril(np.ones((len(IDS), len(IDS)), bool))
    np.testing.assert_allclose(pattern[seen], plain.attentions[1][0, 2].numpy()[seen], atol=1e-5)

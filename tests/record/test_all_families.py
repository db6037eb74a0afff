"""Every causal language model class that the installed transformers maps, from one builder.

A family of the page demo/families.md must be what the page says, with every number right. One that
a newer transformers brings is told of as a warning, whatever comes out: it breaks nothing here.
"""

import runpy
import warnings
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from tests.all_families import NOT_BUILT, families, small_model
from tests.family_matrix import IDS, measured

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "demo" / "matrix.py"))
PAGE = SCRIPT["read"]((ROOT / "demo" / "families.md").read_text("utf-8"))
# Run by default: an indexer, a chunked attention, two attentions a layer, several streams, a
# recurrence, and a bidirectional class that is told to be a decoder; a factor for each part, logits
# that are multiplied where others divide, and settings of a scale and a softcap that are not used.
SAMPLE = (
    *("bert", "deepseek_v32", "gemma3n_text", "llama4_text", "longcat_flash", "xlstm"),
    *("falcon_h1", "hyperclovax", "mpt", "gemma3"),
)


def check(family):
    try:
        row = measured(family)
    except Exception as error:
        if family in PAGE:
            raise
        warnings.warn(f"{family} is new to transformers: {error!r}", stacklevel=2)
        return
    if family not in PAGE:
        told = f"{family} is new to transformers: {SCRIPT['cells_of'](row)} {row.wrong}"
        warnings.warn(told, stacklevel=2)
        return
    assert row.wrong == []
    assert SCRIPT["cells_of"](row) == PAGE[family]
    assert row.closed or row.numbers > 1000


@pytest.mark.few(5)
@pytest.mark.parametrize("family", SAMPLE)
def test_what_is_shown_of_a_sample_is_right_or_refused(family):
    check(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in families() if family not in SAMPLE])
def test_what_is_shown_of_a_family_is_right_or_refused(family):
    check(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(NOT_BUILT))
def test_what_is_listed_as_not_built_cannot_be_built(family):
    with pytest.raises((AttributeError, ImportError, ValueError, StrictDataclassError)):
        small_model(family)(input_ids=torch.tensor([IDS]))

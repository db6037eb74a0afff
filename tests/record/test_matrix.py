"""demo/families.md and the counts in docs/models.md are what demo/matrix.py makes of them."""

import runpy
from pathlib import Path

from demo.markers import inserted
from tests.all_families import NEUTRAL, NOT_BUILT, SCALES, families, small_config
from tests.family_matrix import Row

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "demo" / "matrix.py"))


def test_the_page_of_models_has_the_counts_of_the_families():
    page = (ROOT / "demo" / "families.md").read_text("utf-8")
    models = SCRIPT["PAGE"].read_text("utf-8")
    (counts,) = [line for line in page.splitlines() if " families: " in line]
    assert inserted(models, SCRIPT["SCRIPT"], counts + "\n") == models


def scales_of(config, kept=()):
    """The fields of a config and of its parts that scale something, by their path."""
    found = {}
    for name, value in vars(config).items():
        if hasattr(value, "to_dict"):
            found |= {f"{name}.{field}": one for field, one in scales_of(value, kept).items()}
        elif SCALES.search(name) and name not in kept:
            found[name] = value
    return found


def test_each_scale_of_each_family_is_off_its_neutral_default():
    names = set()
    for family in families():
        if family in NOT_BUILT:
            continue
        config = small_config(family)
        default = scales_of(type(config)(), NEUTRAL)
        for name, value in scales_of(config, NEUTRAL).items():
            names.add(name.rpartition(".")[2])
            if isinstance(value, bool):
                assert value != default.get(name), (family, name)
                continue
            for number in value if isinstance(value, list) else [value]:
                assert number not in (None, 0, 1), (family, name)
    assert {"lm_head_multiplier", "attn_logit_softcapping", "routed_scaling_factor"} <= names
    assert len(names) > 30


def test_a_page_is_read_as_it_was_written():
    cells = {"readout": (1, ""), "writes": (2, "it differs from the model's own by 3e-1")}
    rows = [Row("open", "AMA", cells, numbers=3), Row("shut", closed="why: not")]
    page = SCRIPT["table"](rows)
    assert SCRIPT["read"](page) == {row.family: SCRIPT["cells_of"](row) for row in rows}
    assert SCRIPT["read"](page)["open"] == ["AMA", "✓", "2 of 3: it differs from the model's own"]


def test_the_page_has_every_family_that_was_there_when_it_was_written():
    page = SCRIPT["read"]((ROOT / "demo" / "families.md").read_text("utf-8"))
    assert len(page) >= 196
    assert not set(page) - set(families()), "transformers took families away"

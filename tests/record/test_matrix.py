"""The README's table of architectures is what the script makes of them now."""

import runpy
from pathlib import Path

from tests.families import FAMILIES, MIXTURES

ROOT = Path(__file__).parents[2]


def test_the_readmes_table_is_what_is_measured_now():
    script = runpy.run_path(str(ROOT / "demo" / "matrix.py"))
    readme = (ROOT / "README.md").read_text("utf-8")
    made = script["table"]()
    assert script["inserted"](readme, made) == readme
    rows = {row.split(" | ")[0][2:]: row for row in made.splitlines() if row.startswith("| ")}
    assert set(FAMILIES) < set(rows)
    assert {family for family in FAMILIES if rows[family].endswith("| ✓ |")} == {
        family for family, layers in MIXTURES.items() if len(layers) == 3
    }


def test_only_what_stands_between_the_marks_is_replaced():
    script = runpy.run_path(str(ROOT / "demo" / "matrix.py"))
    text = f"before\n{script['BEGIN']}old\n{script['END']}after\n"
    assert script["inserted"](text, "new\n") == text.replace("old", "new")

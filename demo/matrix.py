"""Write the README's table of architectures again: what llmscope verifies of each.

    python demo/matrix.py

Builds the small random models of the tests, so it needs a checkout with `.[test]` installed, no
network and a few seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- made by demo/matrix.py: begin -->\n", "<!-- made by demo/matrix.py: end -->\n"


def examined(family: str) -> Any:
    """A small model of the family under the microscope."""
    from llmscope.models.anatomy import find
    from llmscope.models.subject import Subject
    from llmscope.models.watch import silenced
    from llmscope.scope import Scope
    from tests.families import small_model

    with silenced():
        model = small_model(family)
        anatomy = find(model)
        return Scope(Subject("", family, model, None, anatomy, model.device, model.dtype))


def table() -> str:
    """One row an architecture, one column a capability; the reasons below, each once."""
    from llmscope.draw.map import KINDS
    from llmscope.record.verify import CAPABILITIES
    from tests.families import FAMILIES

    reasons: dict[str, int] = {}
    titles = ("model_type", "layers", *CAPABILITIES)
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for family in sorted(FAMILIES):
        scope = examined(family)
        kinds = "".join(KINDS[layer.kind] for layer in scope.subject.anatomy.layers)
        cells = [_cell(scope.verdicts.layers[name], reasons) for name in CAPABILITIES]
        lines.append(f"| {family} | {' | '.join((kinds, *cells))} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(lines) + "\n"


def _cell(verdicts: tuple[Any, ...], reasons: dict[str, int]) -> str:
    """`✓`, in how many layers, or `–`; with the number of the reason where some are refused."""
    refused = [verdict for verdict in verdicts if verdict.status == "refused"]
    if not refused:
        return "✓"
    # What was measured is of these weights alone.
    reason = refused[0].reason.partition(" by ")[0]
    number = reasons.setdefault(reason, len(reasons) + 1)
    shown = len(verdicts) - len(refused)
    return f"{shown} of {len(verdicts)} ({number})" if shown else f"– ({number})"


def inserted(text: str, made: str) -> str:
    """The README with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{made}{END}{after}"


def main() -> None:
    """Rewrite the README in place."""
    README.write_text(inserted(README.read_text("utf-8"), table()), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

"""Make demo/notebook.ipynb: run its cells in a kernel of their own, and keep what they show.

    pip install '.[test]' && python demo/notebook.py

Nothing of the machine stays in it: no times, no folders, no versions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PAGE = Path(__file__).resolve().parent / "notebook.ipynb"
PATIENCE = 300
"""Seconds for one cell: the first imports torch."""

CELLS = (
    (
        "markdown",
        "# llmscope in a notebook\n\n"
        "The built-in model knows a town and its animals, and looks for the rule in the examples "
        "before it. Put any other in its place, such as `gpt2`.",
    ),
    (
        "code",
        'import llmscope\n\nscope = llmscope.load("builtin:town")\n'
        'prompt = "cat -> kitten, dog -> puppy, cow ->"\n'
        "recording = scope.record(prompt)\n"
        'scope.look("next-token", top_k=5)',
    ),
    ("markdown", "When does it know? The word that each layer would say, token by token."),
    ("code", 'scope.look("logit-lens")'),
    (
        "markdown",
        "It appears in layer 4. Where do its heads look from the last token? One at the question:",
    ),
    ("code", 'scope.look("attention", layer=4, head=2)'),
    ("markdown", "What breaks without each head? As a table, the numbers of the figure:"),
    (
        "code",
        'frame = scope.look("ablation").to_pandas()\n'
        'frame.pivot(index="layer_index", columns="head_index", values="value").round(1)',
    ),
    (
        "markdown",
        "The largest of them as an experiment: the same prompt with that head set to zero.",
    ),
    (
        "code",
        'scope.record(prompt, edits=["zero head 1.0"])\nscope.look("next-token", top_k=5)',
    ),
    ("markdown", "What a model cannot show says why."),
    ("code", 'scope.look("experts")'),
)


def notebook() -> NotebookNode:
    """The notebook before it ran. The ids of its cells are their places."""
    make = {"markdown": new_markdown_cell, "code": new_code_cell}
    cells = [make[kind](text, id=f"cell-{at}") for at, (kind, text) in enumerate(CELLS)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed() -> NotebookNode:
    """The notebook with what its cells show.

    Raises:
        CellExecutionError: one of them fails.
        DeadKernelError: the kernel did not start.
    """
    page = notebook()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            page,
            timeout=PATIENCE,
            startup_timeout=PATIENCE,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for cell in page.cells:
        if "outputs" in cell:  # warnings are about the machine
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    page.metadata = {
        "kernelspec": page.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    return page


def main() -> None:
    """Write it."""
    page = executed()
    nbformat.validate(page)
    PAGE.write_text(nbformat.writes(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The notebook of the demo: what it keeps, and that it can be run again."""

import re
import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

DEMO = Path(__file__).parents[1] / "demo"
SVG, TEXT = "image/svg+xml", "text/plain"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(DEMO / "notebook.py"))


@pytest.fixture(scope="module")
def kept():
    return nbformat.read(DEMO / "notebook.ipynb", as_version=4)


def outputs(page):
    return [output for cell in page.cells for output in cell.get("outputs", ())]


def test_it_is_the_one_that_its_script_makes(script, kept):
    nbformat.validate(kept)
    made = script["notebook"]()
    assert [(cell.id, cell.cell_type, cell.source) for cell in kept.cells] == [
        (cell.id, cell.cell_type, cell.source) for cell in made.cells
    ]


def test_every_cell_shows_something_and_none_an_error(kept):
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [len(cell.outputs) for cell in code] == [1] * len(code)
    assert {output.output_type for output in outputs(kept)} == {"execute_result"}
    assert sum(SVG in output.data for output in outputs(kept)) == len(code) - 1  # and a table


def test_nothing_of_a_machine_is_in_it(kept):
    text = (DEMO / "notebook.ipynb").read_text(encoding="utf-8")
    assert not re.findall(
        r"/(?:home|tmp|root|usr|Users|opt|var|work)/|[A-Z]:\\\\|0x[0-9a-f]{6}", text
    )
    assert set(kept.metadata) == {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in kept.cells)


@pytest.mark.slow
def test_run_again_it_shows_the_same(script, kept, tmp_path, monkeypatch):
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    try:
        again = script["executed"]()
    except (DeadKernelError, NoSuchKernel) as error:
        pytest.skip(f"no kernel starts here: {error}")
    assert [{*one.data} for one in outputs(again)] == [{*one.data} for one in outputs(kept)]
    for new, old in zip(outputs(again), outputs(kept), strict=True):
        # Letters are equal; the last digit of a number may depend on the processor.
        words, numbers = (
            [re.findall(pattern, one.data[TEXT]) for one in (new, old)]
            for pattern in (r"[A-Za-z‹›]+", r"-?\d+\.?\d*")
        )
        assert words[0] == words[1]
        assert [float(n) for n in numbers[0]] == pytest.approx(
            [float(n) for n in numbers[1]], abs=0.101
        )

"""The sections on a GPU, one test each; skipped where there is none."""

import json
import os
from unittest.mock import patch

import pytest
import torch

from tests.gpu.run import SECTIONS, main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("gpu"),  # one after the other: they measure memory and time
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("name", SECTIONS)
def test_section(name, tmp_path):
    out = tmp_path / "report.json"
    with patch.dict(os.environ):
        status = main(["--device", "cuda", "--only", name, "--out", str(out)])
    (section,) = json.loads(out.read_text())["sections"]
    wrong = [one for one in section["figures"] if one["holds"] is False]
    assert (status, section["status"], wrong) in (
        (0, "passed", []),
        (0, "skipped", []),
    ), section["reason"]

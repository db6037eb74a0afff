"""`--unverified`: what failed its check is shown all the same, with the mark on it."""

import numpy as np
import pytest

import llmscope
from llmscope.draw import RenderOptions
from llmscope.export import render
from tests.all_families import small_model
from tests.cli.running import record, run

IDS = (3, 41, 5, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Its writes do not sum to the next stream: it multiplies the stream before each of them."""
    folder = tmp_path_factory.mktemp("scaled") / "doge"
    small_model("doge").save_pretrained(folder)
    return str(folder)


def test_it_is_shown_and_marked(folder):
    careful, bold = llmscope.load(folder), llmscope.load(folder, unverified=True)
    careful.record(IDS)
    recording = bold.record(IDS)
    refused, shown = careful.look("residual"), bold.look("residual")
    assert (refused.verdict.status, shown.verdict.status) == ("refused", "unverified")
    assert shown.verdict.reason == refused.verdict.reason
    assert shown.verdict.discrepancy == refused.verdict.discrepancy > 1e-5
    assert np.isnan(refused.values)
    norms = [recording.rows("stream", layer).norm(dim=-1).numpy() for layer in range(4)]
    np.testing.assert_allclose(shown.values, norms, rtol=1e-6)
    assert "unverified: it differs" in render([shown], "txt", size=(110, 12), look=RenderOptions())


def test_what_holds_stays_verified_and_what_is_not_there_refused(folder):
    scope = llmscope.load(folder, unverified=True)
    scope.record(IDS)
    statuses = {
        name: scope.look(name).verdict.status for name in ("next-token", "attention", "mlp")
    }
    assert statuses == dict.fromkeys(statuses, "verified")
    assert scope.look("experts").verdict.status == "refused"


def test_the_command_line_has_the_switch(folder):
    ids = ("--ids", "3,41,5,9", "--lens", "residual")
    for switch, status in (((), "refused"), (("--unverified",), "unverified")):
        (figure,) = record(folder, *ids, *switch)["figures"]
        assert figure["verdict"]["status"] == status
    text = run("snapshot", folder, *ids, "--unverified", "--format", "txt").stdout
    assert "unverified: it differs" in text

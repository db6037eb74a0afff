"""What training changed, from the command line: every mode as a picture and as numbers."""

import pytest

from llmscope.lenses import lens
from tests.cli.running import failure, record, run
from tests.models.loading.test_adapters import LLAMA, make_adapter, make_base
from tests.models.loading.test_reward import make_reward, plain_scores

IDS = "3,41,5,9,41,5,77"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Model, adapter, reward model and prompt."""
    root = tmp_path_factory.mktemp("stages")
    base = make_base(root / "base")
    lora = make_adapter(root / "poet", base, LLAMA["lora"])
    reward = make_reward(root / "judge")
    return (base, "--adapter", lora, "--reward", reward, "--ids", IDS, "--lens", "stages")


@pytest.mark.parametrize("mode", lens("stages").modes)
@pytest.mark.few(1)
def test_every_mode_is_a_picture(asked, mode):
    place = ("--layer", "1") if "layer" in lens("stages").uses_in(mode) else ()
    result = run("snapshot", *asked, "--mode", mode, *place, "--format", "txt")
    assert result.exit_code == 0, result.stderr
    assert "Stages" in result.stdout
    assert "refused" not in result.stdout
    figure = record(*asked, "--mode", mode, *place)["figures"][0]
    assert figure["extra"]["mode"] == mode
    assert figure["extra"]["adapter"] == "poet"


def test_the_directions_stand_beside_their_words(asked):
    text = run("snapshot", *asked, "--mode", "directions", "--layer", "1", "--format", "txt").stdout
    assert "answers to ‹" in text
    assert "promotes ‹" in text
    narrow = run(
        *("snapshot", *asked, "--mode", "directions", "--layer", "1", "--format", "txt"),
        *("--size", "24x12"),
    ).stdout
    assert max(map(len, narrow.splitlines())) <= 24


def test_the_score_and_what_was_left_out_are_in_the_numbers(asked):
    score = record(*asked, "--mode", "score")["figures"][0]
    wanted = plain_scores(asked[4], tuple(map(int, IDS.split(","))))
    assert score["values"] == pytest.approx(wanted, abs=1e-5)
    kl = record(*asked, "--mode", "kl", "--context", "4")["figures"][0]
    assert kl["extra"]["left_out"] == 3
    assert kl["values"][:3] == [None] * 3


def test_what_is_no_reward_model_is_said_in_one_line(asked):
    base = asked[0]
    said = failure("snapshot", base, "--reward", base, "--ids", IDS, "--lens", "stages")
    assert "is no reward model" in said
    nowhere = failure("snapshot", base, "--reward", "./nowhere", "--ids", IDS, "--lens", "stages")
    assert "there is no ./nowhere" in nowhere

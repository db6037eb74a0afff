"""vLLM's hidden states on the screen: norms and cosines of the streams, by layer and token."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.draw import RenderOptions
from llmscope.errors import ScopeError
from llmscope.tui.modes.replay.hidden_states import recorded_states
from llmscope.tui.modes.replay.screen import facts, replay_app
from tests.cli.running import failure
from tests.tui.modes.replay.replaying import Screen
from tests.vllm_files import write

LAYERS = [0, 1, 3]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A file of the built-in model's streams, and the streams."""
    recording = llmscope.load("builtin:town").record("cat -> kitten , dog ->", fresh=True)
    streams = [recording.rows("stream", layer) for layer in range(recording.layers + 1)]
    path = tmp_path_factory.mktemp("town") / "states.safetensors"
    return write(path, list(recording.prompt.ids), streams, LAYERS), streams, recording.prompt


def test_the_figures_are_of_the_states_alone(town):
    path, streams, prompt = town
    found = recorded_states(path, LAYERS)
    norms, cosines = found.figures
    for figure in found.figures:
        assert figure.lens == "residual"
        assert figure.axes[0].labels == ("embed", "0", "2")
        assert figure.axes[1].labels == tuple(map(str, prompt.ids))
        assert figure.verdict.status == "unverified"
    for row, layer in enumerate(LAYERS):
        one, last = (streams[at].double().numpy() for at in (layer, 3))
        sizes = np.linalg.norm(one, axis=1), np.linalg.norm(last, axis=1)
        np.testing.assert_allclose(norms.values[row], sizes[0], rtol=1e-6)
        cosine = (one * last).sum(1) / (sizes[0] * sizes[1])
        np.testing.assert_allclose(cosines.values[row], cosine, atol=1e-6)
    assert [token.id for token in found.tokens] == list(prompt.ids)
    assert found.text == " ".join(map(str, prompt.ids))
    assert ("layers", "0,1,3") in facts(found)
    assert not any(name == "size" for name, _ in facts(found))


def test_a_tokenizer_gives_the_texts_without_the_weights(town, monkeypatch):
    path, _, prompt = town
    monkeypatch.setattr(
        "transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("loaded")
    )
    found = recorded_states(path, LAYERS, "builtin:town")
    assert found.figures[0].axes[1].labels == prompt.labels
    assert found.info.layers == 6
    assert "cat -> kitten" in found.text


def test_all_layers_need_no_names_with_the_model(town, tmp_path):
    _, streams, prompt = town
    whole = write(tmp_path / "whole.safetensors", list(prompt.ids), streams)
    found = recorded_states(whole, None, "builtin:town")
    assert found.figures[0].axes[0].labels == ("embed", *map(str, range(6)))
    one = write(tmp_path / "one.safetensors", list(prompt.ids), streams, [0])
    assert len(recorded_states(one, [0]).figures) == 1


@pytest.mark.parametrize("tokenizer", [None, "builtin:town"])
async def test_they_are_shown_as_any_snapshot(town, tokenizer):
    path, streams, _ = town
    found = recorded_states(path, LAYERS, tokenizer)
    app = replay_app(found, look=RenderOptions(tier="none"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.pause()
        shown = Screen(app, pilot)
        assert "Residual stream · norm" in shown.text
        assert "cosine to that of layer id 3" in shown.text
        assert ("kitten" in shown.text) == (tokenizer is not None)
        assert "0 heads" not in shown.text
        size = float(streams[3][-1].norm())  # after layer 2, where the cursor cannot be missed
        for _ in range(found.info.layers - 3):
            await shown.press("escape", "up")
        named = found.tokens[-1].text.replace(" ", "·")
        assert f"layer 2, ‹{named}›: stream norm {size:.3g}" in shown.text
        await shown.press("d", "p")
        assert "states.safetensors" in shown.text


def test_what_cannot_be_shown_is_one_line(town, tmp_path):
    path = town[0]
    assert "does not name its 3 layers" in failure("replay", path)
    assert "2 are named" in failure("replay", path, "--layer-ids", "1,2")
    wrong = ("replay", path, "--layer-ids", "0,1,9", "--tokenizer", "builtin:town")
    assert "9 is named, and the model has 6 layers" in failure(*wrong)
    assert "there is no file" in failure("replay", tmp_path / "none", "--layer-ids", "1")
    with pytest.raises(ScopeError, match="the model's have"):
        recorded_states(path, LAYERS, "builtin:sort")
    assert failure("replay", path, "--layer-ids", "x", code=2)


def test_nothing_of_a_file_acts_on_the_terminal(tmp_path):
    path = write(tmp_path / "evil\x1b[2J.safetensors", [1, 2], [torch.ones(2, 4)])
    found = recorded_states(path, [1])
    assert not any("\x1b" in value for row in facts(found) for value in row)
    assert "\x1b" not in failure("replay", path)

"""Dictionaries of edits from files: in Python, on the command line, and on the screen."""

import json
import os

import pytest
from safetensors.torch import save_file

from llmscope.cli.options.loading import Loader
from llmscope.edits import parse
from llmscope.engine.events import Request
from llmscope.errors import ScopeError
from tests.families import small_model
from tests.record.by_hand import A
from tests.record.features_by_hand import Places, place
from tests.record.interventions.test_edited import ALL, holds, scope_for
from tests.record.interventions.test_feature_edits import NEW, for_place


def write(dictionary, folder, hook):
    """Write a dictionary as SAELens does."""
    folder.mkdir(parents=True, exist_ok=True)
    header = dictionary.header
    config = {
        "architecture": "standard",
        "hook_name": hook,
        "d_in": header.width,
        "d_sae": header.features,
        "apply_b_dec_to_input": header.subtracts,
        "model_class_name": "AutoModelForCausalLM",
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    weights = {"W_enc": dictionary.encoder, "W_dec": dictionary.decoder}
    weights |= {"b_enc": dictionary.encoder_bias, "b_dec": dictionary.bias}
    file = folder / "sae_weights.safetensors"
    save_file({name: one.contiguous() for name, one in weights.items()}, file)
    later = file.stat().st_mtime_ns + 10**9 * len(list(folder.iterdir()))
    os.utime(file, ns=(later, later))


@pytest.fixture(scope="module")
def plain():
    return Places("llama")


def test_folders_are_read_when_an_edit_needs_them_and_again_once_they_change(plain, tmp_path):
    scope = scope_for(small_model("llama"))
    scope.features = str(tmp_path)
    where = place("1.mlp_out")
    for seed in (1, 2):
        dictionary, _ = for_place(plain, where, seed=seed)
        write(dictionary, tmp_path / "one", "blocks.1.hook_mlp_out")
        (tmp_path / str(seed)).touch()  # times of files are those of the clock
        os.utime(tmp_path / "one", ns=(10**18 * (seed + 1),) * 2)
        alter = plain.edit(A, dictionary, 7, NEW["set"][1], ALL)
        for _ in range(2):
            holds(scope, plain.run(A, alter), "set feature 1/7 to 2.5")
    both = for_place(plain, place("2.resid_post"))[0]
    write(both, tmp_path / "two", "blocks.2.hook_resid_post")
    one = plain.edit(A, dictionary, 7, NEW["set"][1], ALL)
    two = plain.edit(A, both, 9, NEW["scale"][1], ALL, one)
    holds(scope, plain.run(A, one, two), "set feature 1/7 to 2.5", "scale feature -1/9 3")


def test_a_loader_checks_and_hands_on_its_dictionaries(plain, tmp_path):
    write(for_place(plain, place("1.mlp_out"))[0], tmp_path / "one", "blocks.1.hook_mlp_out")
    scope = scope_for(small_model("llama"))
    loader = Loader("x", features=(str(tmp_path / "one"),))
    assert loader._with_second(scope, None) is scope
    assert scope.features == (str(tmp_path / "one"),)
    assert loader.other("y").features == ()
    with pytest.raises(ScopeError, match="there is no dictionary nowhere"):
        Loader("x", features=("nowhere",))._with_second(scope, None)
    (tmp_path / "one" / "cfg.json").write_text("{}")
    os.utime(tmp_path / "one", ns=(10**18 * 3,) * 2)
    with pytest.raises(ScopeError, match="cannot be read"):
        loader._with_second(scope, None)


@pytest.mark.parametrize(
    ("edits", "again"),
    [
        *(((), False), (("zero head 1.1",), False), (("zero feature 1/2",), True)),
        *((("steer 1 feature 1/2 3",), True), (("zero head 1.1", "set feature 1/2 to 3"), True)),
    ],
)
def test_a_pass_is_made_again_if_its_edits_need_the_dictionaries(edits, again):
    parsed = tuple(map(parse, edits))
    one, other = (
        Request(1, "x", (), edits=parsed, features=features) for features in (("a",), ("b",))
    )
    assert one.featured is again
    assert (one.own != other.own) is again
    assert (one.prompt != other.prompt) is again

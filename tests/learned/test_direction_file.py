"""Files of directions: read back, read by gguf and by llama.cpp's rules, and as edits."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from safetensors import safe_open
from safetensors.torch import save_file

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.dose import DoseRule
from llmscope.jobs.fit_direction.fit import DirectionFit, fit_direction
from llmscope.learned.lenses.direction_file import (
    GGUF_HEADER,
    HEADER,
    directions_for,
    read_directions,
    write_directions,
)
from llmscope.learned.lenses.directions import Leak
from tests.jobs.fit_direction.conftest import ids_texts, planted_model
from tests.jobs.fit_direction.test_fit import hidden


@pytest.fixture(scope="module")
def scope():
    return llmscope.wrap(planted_model()[0])


@pytest.fixture(scope="module")
def found(scope):
    return fit_direction(scope, ids_texts(), DirectionFit(dose=DoseRule(prompts=3), shuffles=2))


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_what_was_written_is_read_back(found, tmp_path, suffix):
    path = tmp_path / f"direction{suffix}"
    left = write_directions(found, path)
    again = read_directions(str(path))
    assert left == ((0,) if suffix == ".gguf" else ())
    assert list(again.probes) == [layer for layer in found.probes if layer not in left]
    for layer, probe in again.probes.items():
        own = found.probes[layer]
        assert torch.equal(probe.direction, own.direction)
        assert (probe.offset, probe.slope, probe.intercept) == (
            *(own.offset, own.slope, own.intercept),
        )
        assert probe.figures == own.figures
    for name in ("method", "position", "width", "layers", "sets", "dose", "about"):
        assert getattr(again, name) == getattr(found, name)
    assert again.best in again.probes
    assert again.source == str(path)
    assert read_directions(str(path)) is again


def test_a_control_vector_keeps_the_rules_of_llama_cpps_loader(found, tmp_path):
    """As `common_control_vector_load_one` reads it: names, float32, one dimension, one length."""
    path = tmp_path / "direction.gguf"
    write_directions(found, path)
    reader = GGUFReader(path)
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.layer_count").contents() == len(reader.tensors) == 2
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    for tensor in reader.tensors:
        name, _, layer = tensor.name.partition(".")
        assert name == "direction"
        assert int(layer) > 0
        assert tensor.tensor_type == GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [found.width]
        assert np.array_equal(tensor.data, found.probes[int(layer)].direction.numpy())
    only = replace(found, probes={0: found.probes[0]}, best=0)
    with pytest.raises(
        ScopeError, match=r"a control vector of llama\.cpp has no place for layer 0"
    ):
        write_directions(only, tmp_path / "none.gguf")
    assert not (tmp_path / "none.gguf").exists()


def test_an_edit_adds_it_to_the_stream(scope, found, tmp_path):
    path = tmp_path / "direction.safetensors"
    write_directions(found, path)
    ids = [3, 9, 27, 60]
    model = planted_model()[0]
    vector = 1.5 * found.probes[1].direction

    def add(_, __, out):
        return (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector

    hook = model.model.layers[1].register_forward_hook(add)
    expected = np.linalg.norm(hidden(model, ids), axis=-1)
    hook.remove()
    recording = scope.record(ids, edits=[f"steer 1 {path}:direction.1 1.5"])
    norms = scope.look("residual", recording=recording, mode="stream").values[1:]
    assert norms[2] == pytest.approx(expected[2], rel=1e-4)
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()[HEADER])["best"] == found.best


def test_a_leak_is_in_the_file(found, tmp_path):
    path = tmp_path / "leak.safetensors"
    leaking = replace(found, sets=replace(found.sets, leak=Leak(4, 2)))
    write_directions(leaking, path)
    again = read_directions(str(path))
    assert again.sets.leak == Leak(4, 2)
    assert again.verdict(again.best).reason == (
        "leaks: 4 test texts are of groups that were trained on, 2 are nearly the same as a text "
        "that was trained on"
    )


def damaged(path, change):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()[HEADER])
    change(header, tensors)
    save_file(tensors, path, metadata={HEADER: json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h, _: h.update(schema=9), "its schema is 9, and this llmscope reads 1"),
        (lambda h, _: h.update(method="magic"), "its header does not fit together"),
        (lambda h, _: h.update(best=7), "its header does not fit together"),
        (lambda h, _: h.update(layers=2), "a layer outside of the model"),
        (lambda h, _: h.pop("sets"), "missing required field `sets`"),
        (lambda h, _: h["probes"].update(x={}), "Expected `int`"),
        (lambda _, t: t.pop("direction.1"), "direction.1"),
        (lambda _, t: t["direction.1"].zero_(), "direction.1 is zero"),
        (lambda _, t: t["direction.1"].fill_(float("nan")), "direction.1 is not finite"),
        (lambda _, t: t.update({"direction.1": torch.ones(5)}), "not as wide as it tells"),
    ],
)
def test_a_damaged_file_costs_a_line(found, tmp_path, change, reason):
    path = tmp_path / "direction.safetensors"
    write_directions(found, path)
    damaged(path, change)
    with pytest.raises(ScopeError) as caught:
        read_directions(str(path))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


def test_files_of_another_kind_are_refused(found, tmp_path):
    plain = tmp_path / "plain.safetensors"
    save_file({"direction.1": torch.ones(48)}, plain)
    model, vector = tmp_path / "model.gguf", tmp_path / "vector.gguf"
    for path, architecture in ((model, "llama"), (vector, "controlvector")):
        writer = GGUFWriter(path, architecture)
        writer.add_tensor("direction.1", np.ones(48, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    (tmp_path / "text.gguf").write_text("no")
    for path, reason in (
        (plain, "tells of no probe; as a vector, an edit can add it to the stream"),
        (vector, "tells of no probe"),
        (model, "it is no control vector"),
        (tmp_path / "text.gguf", "cannot be read"),
        (tmp_path / "none.gguf", "there is no file"),
    ):
        with pytest.raises(ScopeError, match=reason):
            read_directions(str(path))
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ScopeError, match="is no direction"):
        read_directions(str(tmp_path / "x.txt"))
    with pytest.raises(ScopeError, match="is no name for a direction"):
        write_directions(found, tmp_path / "x.txt")
    assert GGUF_HEADER == "llmscope.direction"


def test_a_direction_of_another_model_is_refused_or_doubted(scope, found):
    model = scope.loaded_model
    assert directions_for(found, model) is found
    assert "for streams of width 12, and the model's have 48" in directions_for(
        replace(found, width=12), model
    )
    assert "is for 7 layers, and the model has 3" in directions_for(replace(found, layers=7), model)
    town = llmscope.load("builtin:town", device="cpu", dtype="float32")
    for about, reason in (
        ({"model_name": "org/other"}, "it was fitted for org/other"),
        ({"model_name": "my/town", "adapter": "pirate"}, "the model with the adapter pirate"),
        ({"model_name": "my/town"}, ""),
    ):
        doubt = replace(found, about=about).doubt(0, town.loaded_model)
        assert reason in doubt
        assert ("fitted for" in doubt) == bool(reason)
    town.use("town-pirate")
    assert "without an adapter" in replace(found, about={}).verdict(0, town.loaded_model).reason

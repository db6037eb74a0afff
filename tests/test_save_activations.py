"""Activations of many prompts on disk: the same as in memory, resumed after kill -9, flat."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs import activations as activation_shards
from tests.families import small_model

NAMES = ["layers.*.resid_post", "layers.1.pattern", "logits"]
RUN = """\
import resource, sys
import llmscope
scope = llmscope.load("builtin:sort", device="cpu", dtype="float32", threads=1)
count, folder = int(sys.argv[1]), sys.argv[2]
letters = "ABC"
prompts = ("".join(letters[(n // 3**k) % 3] for k in range(2 + n % 5)) for n in range(count))
print("READY", flush=True)
done = scope.save_activations(
    prompts, ["layers.*.resid_post", "layers.*.q", "layers.1.pattern"], folder, shard_size=40
)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""


def read(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture
def scope(model):
    return llmscope.wrap(model)


def prompts(count):
    numbers = random.Random(4)
    return [[numbers.randrange(96) for _ in range(numbers.randrange(2, 9))] for _ in range(count)]


def test_the_files_hold_what_the_cache_gives(scope, tmp_path):
    told = []
    some = prompts(25)
    done = scope.save_activations(iter(some), NAMES, tmp_path, shard_size=10, progress=told.append)
    assert (done, told) == (25, [10, 20, 25])
    found = read(tmp_path)
    for at, ids in enumerate(some):
        cache = scope.record(ids, fresh=True).cache()
        own = {name: tensor for one in NAMES for name, tensor in cache.select(one).items()}
        assert {key.partition("/")[2] for key in found if key.startswith(f"{at}/")} == set(own)
        for name, tensor in own.items():
            assert torch.allclose(found[f"{at}/{name}"], tensor, atol=1e-5)
    assert json.loads((tmp_path / "manifest.json").read_text())["names"] == NAMES


def test_the_last_rows_alone(scope, tmp_path):
    some = prompts(3)
    names = ["layers.1.resid_post", "layers.1.q", "layers.1.pattern", "layers.1.z", "logits"]
    scope.save_activations(some, names, tmp_path, last=True)
    found = read(tmp_path)
    for at, ids in enumerate(some):
        cache = scope.record(ids).cache()
        for name in names:
            by_head = name.endswith((".q", ".pattern"))
            row = cache[name][:, -1] if by_head else cache[name][-1]
            assert torch.allclose(found[f"{at}/{name}"], row, atol=1e-5)


def test_a_second_call_runs_nothing_that_is_there(scope, tmp_path, model):
    some = prompts(20)
    scope.save_activations(some, NAMES, tmp_path, shard_size=10)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert scope.save_activations(some, NAMES, tmp_path, shard_size=10) == 20
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    (tmp_path / "shard-00001.safetensors").unlink()
    (tmp_path / ".shard-00001.safetensors.xyz").write_bytes(b"half")
    scope.save_activations(some, NAMES, tmp_path, shard_size=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in before)


def test_another_call_is_refused(scope, tmp_path):
    some = prompts(12)
    scope.save_activations(some, NAMES, tmp_path, shard_size=5)
    for change, said in (
        ({"names": NAMES[:1]}, r"\(names: .* there, .* here\)"),
        ({"shard_size": 4}, r"\(shard_size: 5 there, 4 here\)"),
        ({"last": True}, r"\(last: False there, True here\)"),
        ({"prompts": some[::-1]}, "begins with another prompt"),
        ({"prompts": [*some[:6], *some[5:]]}, "holds other prompts"),
    ):
        given = {"prompts": some, "names": NAMES, "shard_size": 5, **change}
        with pytest.raises(ScopeError, match=said):
            scope.save_activations(given.pop("prompts"), given.pop("names"), tmp_path, **given)
    torch.manual_seed(9)
    other = small_model("llama")
    with torch.no_grad():
        other.lm_head.weight.mul_(-1)
    with pytest.raises(ScopeError, match="another model"):
        llmscope.wrap(other).save_activations(some, NAMES, tmp_path, shard_size=5)
    (tmp_path / "shard-00001.safetensors").write_bytes(b"broken")
    with pytest.raises(ScopeError, match="is broken"):
        scope.save_activations(some, NAMES, tmp_path, shard_size=5)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ScopeError, match=r"manifest\.json in .* cannot be read"):
        scope.save_activations(some, NAMES, tmp_path, shard_size=5)
    with pytest.raises(KeyError, match="did you mean"):
        scope.save_activations(some, ["layers.*.resid_pst"], tmp_path / "new")
    with pytest.raises(ScopeError, match=r"prompts\[1\]|prompt\[1\]|vocabulary"):
        scope.save_activations([[1], [999]], NAMES, tmp_path / "newer")


def begun(folder, count):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(count), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ended(process):
    out, _ = process.communicate(timeout=280)
    assert process.returncode == 0
    done, peak = map(int, out.split()[-2:])
    return done, peak


@pytest.mark.slow
@pytest.mark.endurance
def test_two_thousand_prompts_survive_kill_9_twenty_times(tmp_path):
    numbers = random.Random(11)
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert ended(begun(whole, 2000))[0] == 2000
    killed = 0
    while killed < 20:
        process = begun(folder, 2000)
        assert process.stdout.readline() == "READY\n"
        time.sleep(numbers.uniform(0.02, 0.35))
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        killed += 1
    assert ended(begun(folder, 2000))[0] == 2000
    names = [sorted(path.name for path in one.iterdir()) for one in (folder, whole)]
    assert names[0] == names[1]
    ours, theirs = read(folder), read(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_prompts(tmp_path):
    _, small = ended(begun(tmp_path / "small", 200))
    _, large = ended(begun(tmp_path / "large", 2000))
    assert large < small + 20_000, "kilobytes"


@pytest.mark.parametrize(
    ("prompts", "names", "said"),
    [
        ("ABC", NAMES, "prompts must be a list of prompts"),
        ({"input_ids": [1]}, NAMES, "prompts must be a list of prompts"),
        (5, NAMES, "prompts must be a list of prompts"),
        ([[1, 2]], [], "names is empty"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    scope, tmp_path, prompts, names, said
):
    with pytest.raises((TypeError, ValueError), match=said):
        scope.save_activations(prompts, names, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_wrong_name_and_an_error_of_the_prompts_leave_the_folder_usable(scope, tmp_path):
    with pytest.raises(KeyError, match="did you mean"):
        scope.save_activations([[1, 2]], ["layers.*.resid_pst"], tmp_path)
    assert scope.save_activations([[1, 2]], NAMES, tmp_path) == 1

    def broken():
        yield [1, 2]
        raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        scope.save_activations(broken(), NAMES, tmp_path)


def test_last_rows_hold_no_more_than_themselves(scope):
    tensor = scope.record([1, 2, 3]).cache()["logits"]
    row = activation_shards._last_row("logits", tensor)
    assert row.untyped_storage().nbytes() == row.numel() * row.element_size()


@pytest.mark.parametrize("last", [False, True])
def test_a_folder_of_the_model_in_another_state_is_not_continued(tmp_path, last):
    """The first prompt is too short for the hook: its logits stay what they were."""
    model, sizes = small_model("llama"), [0.0]

    def hook(_module, _args, output):
        if output.shape[1] > 20:
            output[:, 20] += sizes[0]

    model.model.layers[1].mlp.register_forward_hook(hook)
    scope = llmscope.wrap(model)
    some = [list(range(5, 5 + count)) for count in (8, 24, 26)]

    def save(few):
        return scope.save_activations(
            some[:few], ["layers.*.resid_post"], tmp_path, last=last, shard_size=1
        )

    save(2)
    assert save(3) == 3
    (tmp_path / "shard-00002.safetensors").unlink()
    sizes[0] = 3.0
    with pytest.raises(
        ScopeError, match=r"shard-00001\.safetensors holds activations of the model"
    ):
        save(3)
    sizes[0] = 0.0
    assert save(3) == 3

"""Learned lenses from a hub on this machine."""

import json

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from llmscope.errors import ScopeError
from llmscope.learned.lenses.hub import fetch_lens, parse
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.reader import read_lens
from llmscope.learned.lenses.writer import write_lens
from llmscope.models.sources import hub_paths
from tests.lenses.test_experts import scope_on
from tests.models.checkpoints import Heard
from tests.models.hub_server import COMMIT, Fault, speak_to

OTHER = "f" * 40
LENS = "gpt2-small/jlens/text/gpt2_jacobian_lens.pt"
SPACE = "spaces/org/tuned-lens"


@pytest.fixture(autouse=True)
def forgotten():
    """Forget what earlier tests fetched."""
    hub_paths._found.clear()


@pytest.fixture
def folder(tmp_path):
    """The files of a repository: three Jacobian lenses, and what nobody asked for."""
    home = tmp_path / "repository"
    for seed, path in enumerate((LENS, "other/lens.pt", "other/lens.safetensors")):
        write_lens(jacobian(seed), home / path)
    (home / "README.md").write_text("# lenses")
    (home / "config.json").write_text("{}")
    return home


@pytest.fixture
def tuned(tmp_path):
    """The files of a space with tuned lenses."""
    home = tmp_path / "space"
    for model in ("EleutherAI/pythia-160m-deduped", "gpt2"):
        put_tuned(home / "lens" / model)
    (home / "app.py").write_text("print('run')")
    return home


def jacobian(seed=0, width=4):
    generator = torch.Generator().manual_seed(seed)
    maps = {at: AffineMap(torch.randn(width, width, generator=generator)) for at in (1, 2)}
    return LearnedLens("jacobian", maps, width, 3, {"n_prompts": 2})


def put_tuned(folder, safe=False):
    folder.mkdir(parents=True)
    state = {"0.weight": torch.eye(4), "0.bias": torch.ones(4)}
    torch.save(state, folder / "params.pt")
    if safe:
        save_file(state, folder / "params.safetensors")
    config = {"num_hidden_layers": 1, "d_model": 4, "base_model_name_or_path": "gpt2"}
    (folder / "config.json").write_text(json.dumps(config))


def refusal(name):
    with pytest.raises(ScopeError) as caught:
        fetch_lens(name)
    found = caught.value
    assert found.hint
    assert "\n" not in found.message + found.hint
    assert "\x1b" not in found.message + found.hint
    return found


def again(name, **options):
    """What a program that starts anew would fetch."""
    hub_paths._found.clear()
    return fetch_lens(name, **options)


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(hub, folder, monkeypatch, tmp_path):
    hub.put("org/name", folder)
    heard = Heard()
    path = fetch_lens(f"org/name:{LENS}", heard)
    assert path == tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT / LENS
    assert read_lens(str(path)).maps.keys() == {1, 2}
    assert hub.fetched() == {"gpt2_jacobian_lens.pt"}
    done, total = heard.last("downloading org/name")
    assert done == total == (folder / LENS).stat().st_size
    assert again(f"org/name:{LENS}") == path
    assert len(hub.sent(".pt")) == 1
    speak_to(monkeypatch, "http://127.0.0.1:9")
    assert again(f"org/name:{LENS}") == path
    assert again(f"org/name@{COMMIT}:{LENS}") == path
    found = refusal("org/name:other/lens.pt")
    assert "cannot be reached" in found.message
    assert "on this machine" in found.hint


def test_the_hub_is_asked_once_while_the_program_runs(hub, folder):
    hub.put("org/name", folder)
    path = fetch_lens(f"org/name:{LENS}")
    hub.asked.clear()
    assert fetch_lens(f"org/name:{LENS}") == path
    assert not hub.asked
    path.unlink()
    assert fetch_lens(f"org/name:{LENS}").is_file()


def test_offline_asks_nothing(hub, folder, monkeypatch):
    hub.put("org/name", folder)
    path = fetch_lens(f"org/name:{LENS}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert again(f"org/name:{LENS}") == path
    found = refusal("org/name:other/lens.pt")
    assert "not in the local cache" in found.message
    assert "HF_HUB_OFFLINE" in found.hint
    assert not hub.asked


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("safe", [False, True])
def test_a_tuned_folder_of_a_space(hub, tuned, monkeypatch, tmp_path, safe, slash):
    name = "lens/EleutherAI/pythia-1b"
    put_tuned(tuned / name, safe)
    hub.put(SPACE, tuned)
    path = fetch_lens(f"{SPACE}:{name}{slash}")
    snapshots = tmp_path / "hub" / "spaces--org--tuned-lens" / "snapshots"
    assert path == snapshots / COMMIT / name
    wanted = "params.safetensors" if safe else "params.pt"
    assert {one.name for one in path.iterdir()} == {"config.json", wanted} == hub.fetched()
    assert len([file for file in snapshots.rglob("*") if file.is_file()]) == 2
    lens = read_lens(str(path), allow_pickle=True)
    assert (lens.kind, lens.width, lens.layers) == ("tuned", 4, 1)
    speak_to(monkeypatch, "http://127.0.0.1:9")
    assert again(f"{SPACE}:{name}{slash}") == path
    assert "cannot be reached" in refusal(f"org/tuned-lens:{name}").message


def test_half_a_tuned_folder_is_not_taken_from_the_cache(hub, tuned, monkeypatch):
    hub.put(SPACE, tuned)
    path = fetch_lens(f"{SPACE}:lens/gpt2")
    (path / "config.json").unlink()
    speak_to(monkeypatch, "http://127.0.0.1:9")
    hub_paths._found.clear()
    assert "cannot be reached" in refusal(f"{SPACE}:lens/gpt2").message


def test_the_matrices_of_a_tuned_lens_come_with_its_config(hub, tuned):
    put_tuned(tuned / "flat")
    hub.put("org/name", tuned / "flat")
    path = fetch_lens("org/name:params.pt")
    assert hub.fetched() == {"config.json", "params.pt"}
    assert read_lens(str(path)).kind == "tuned"


def test_a_missing_file_lists_the_nearest_that_would_do(hub, folder):
    for model in range(5):
        write_lens(jacobian(), folder / f"model-{model}" / "lens.pt")
    put_tuned(folder / "tuned")
    hub.put("org/name", folder)
    found = refusal("org/name:gpt2-small/jlens/text/gpt2_lens.pt")
    assert found.message == "org/name has no lens gpt2-small/jlens/text/gpt2_lens.pt"
    first, *_, last = found.hint.split(", ")
    assert first == LENS
    assert last == "or one of 6 more"
    assert "tuned" in refusal("org/name:tune").hint.split(", ")[:3]
    assert hub.fetched() == set()
    hub.put("org/name", folder / "tuned")
    assert "no .pt" not in refusal("org/name:nothing").hint
    hub.repos["org/name"] = {"README.md": b"x", "a\x1b.pt": b"x"}
    assert "no .pt" in refusal("org/name:README.md").hint


@pytest.mark.parametrize(
    "name",
    [
        *("gpt2:lens.pt", "org/name", ":lens.pt", "a/b/c:lens.pt", "spaces/org/name/x:lens.pt"),
        *("C:\\lens.pt", "org/name@:lens.pt", "org/name@a/../b:lens.pt", "org/na me:lens.pt"),
        *("org/name@a b:lens.pt", "builtin:town", "pypi:x:y", "\x1b[31m\n/x:lens.pt"),
        *("https://host/x.pt", "x" * 3000 + ":lens.pt", "../name:lens.pt", "org/..:lens.pt"),
        *("org/a--b:lens.pt", "org/.:lens.pt", "spaces/../name:lens.pt"),
    ],
)
def test_names_of_another_form(hub, name):
    refusal(name)
    assert not hub.asked


@pytest.mark.parametrize(
    "path",
    [
        *("../lens.pt", "/lens.pt", "a/../lens.pt", "a/..", "..", ".", "a//lens.pt", "", "/"),
        *("..\\lens.pt", "C:/lens.pt", "a\n.pt", "a\x1b.pt", "./lens.pt", "x" * 2000 + ".pt"),
    ],
)
def test_paths_that_lead_out(hub, folder, path):
    hub.put("org/name", folder)
    assert "no path inside a repository" in refusal(f"org/name:{path}").message
    assert not hub.asked


def test_revisions(hub, folder, tmp_path):
    write_lens(jacobian(9), folder / "new" / "lens.pt")
    hub.put("org/name", folder)
    old = tmp_path / "old"
    write_lens(jacobian(8), old / "old" / "lens.pt")
    hub.commit("org/name", OTHER, old, "v1", "refs/pr/2")
    hub.put("org/name", folder)
    for revision in ("v1", OTHER, "refs/pr/2"):
        path = fetch_lens(f"org/name@{revision}:old/lens.pt")
        assert path.parents[1].name == OTHER
    assert "has no lens old/lens.pt" in refusal("org/name:old/lens.pt").message
    assert "no revision v9" in refusal("org/name@v9:old/lens.pt").message
    hub.status["org/name"] = (500, {}, b"")
    assert again("org/name@v1:old/lens.pt").parents[1].name == OTHER


def test_a_repository_that_is_not_there(hub):
    found = refusal("org/name:lens.pt")
    assert "no repository org/name" in found.message
    assert "pypi" not in found.hint
    assert f"no repository {SPACE}" in refusal(f"{SPACE}:lens").message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_rubbish_in_the_repository(hub, folder, body, said):
    hub.put("org/name", folder)
    hub.repos["org/name"]["other/lens.pt"] = body
    assert said in refusal("org/name:other/lens.pt").message


@pytest.mark.parametrize("path", ["other/lens.pt", "other/lens.safetensors"])
def test_damage_on_the_way_is_told_and_asked_for_again_after_a_while(
    hub, folder, path, monkeypatch
):
    hub.put("org/name", folder)
    content = (folder / path).read_bytes()
    hub.faults = [Fault(path.rpartition("/")[2], body=content[:-1] + bytes([content[-1] ^ 1]))]
    assert f"the hub sent {path} of org/name damaged" in refusal(f"org/name:{path}").message
    hub.faults.clear()
    asked = len(hub.asked)
    assert "damaged" in refusal(f"org/name:{path}").message
    assert len(hub.asked) == asked  # a figure asks for it at each letter
    monkeypatch.setattr(hub_paths, "AGAIN", 0.0)
    assert fetch_lens(f"org/name:{path}").read_bytes() == content


def test_damage_in_the_cache_names_what_to_delete(hub, folder):
    hub.put("org/name", folder)
    path = fetch_lens("org/name:other/lens.safetensors")
    path.resolve().write_bytes(path.read_bytes()[:-5])
    hub_paths._found.clear()
    found = refusal("org/name:other/lens.safetensors")
    assert "in the hub's cache is damaged" in found.message
    assert str(path.resolve()) in found.hint


def test_a_name_is_taken_apart():
    name = parse("spaces/org/name@refs/pr/1:lens/a/b/")
    assert (name.repository, name.kind, name.revision) == ("org/name", "space", "refs/pr/1")
    assert name.path == "lens/a/b"
    name = parse("spaces/name@refs/pr/1:a.pt")
    assert (name.repository, name.kind) == ("spaces/name", "model")


def test_the_logit_lens_reads_through_a_lens_of_the_hub(hub, tmp_path):
    scope = scope_on("llama")
    write_lens(jacobian(width=48), tmp_path / "files" / "lens.pt")
    write_lens(jacobian(width=40), tmp_path / "files" / "other.pt")
    hub.put("org/name", tmp_path / "files")
    figure = scope.look("logit-lens", translator="org/name:lens.pt")
    own = scope.look("logit-lens", translator=str(tmp_path / "files" / "lens.pt"))
    assert (figure.values == own.values).all()
    assert figure.extra["lens"] == "jacobian"
    figure = scope.look("logit-lens", translator="org/name:other.pt")
    assert "width 40" in figure.verdict.reason
    with pytest.raises(ScopeError, match=r"has no lens none\.pt"):
        scope.look("logit-lens", translator="org/name:none.pt")
    with pytest.raises(ScopeError, match="names no lens"):
        scope.look("logit-lens", translator="none:none.pt")
    with pytest.raises(ScopeError, match="there is no lens xx"):
        scope.look("logit-lens", translator="x" * 5000)

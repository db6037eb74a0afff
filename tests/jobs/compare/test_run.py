"""A comparison over texts, against plain transformers and numpy."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.compare.request import CorpusComparison
from tests.jobs.compare.corpora import HOW, files_of, run, write_texts
from tests.jobs.compare.plain import check_summary, compared, copy_of
from tests.learned.texts import TEXTS


@pytest.fixture(scope="module")
def models():
    return [llmscope.load(one) for one in ("builtin:town", "builtin:town-pirate")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    path = write_texts(folder / "texts.jsonl", [*TEXTS[:11], "", TEXTS[11]])
    return path, folder / "out", run(path, folder / "out")


def columns_of(out):
    table = pyarrow.parquet.read_table(out / "tokens")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_every_token_has_the_numbers_of_plain_transformers(done, models):
    _, out, summary = done
    a, b = models
    texts = [a.encode(text).ids[: HOW.length] for text in TEXTS[:12]]
    expected, counts = compared(copy_of(a.model), copy_of(b.model), texts)
    found = columns_of(out)
    for name in ("kl", "log_p_a", "log_p_b"):
        assert np.allclose(found[name], expected[name], rtol=1e-4, atol=1e-5), name
    for name in ("top_a", "top_b"):
        assert (found[f"{name}_id"] == expected[name]).all()
        labels = [a.loaded_model.label(one) for one in expected[name].tolist()]
        assert found[name].tolist() == labels
    assert found["id"].tolist() == [one for ids in texts for one in ids[1:]]
    assert found["position"].tolist() == [at for ids in texts for at in range(1, len(ids))]
    assert (found["same_top"] == (expected["top_a"] == expected["top_b"])).all()
    check_summary(summary, expected, counts, resamples=HOW.resamples, within=1e-5)
    assert summary["texts"]["skipped"] == 1
    assert summary["texts"]["cut"] == sum(len(a.encode(one).ids) > 40 for one in TEXTS[:12])
    assert summary == json.loads((out / "summary.json").read_text())


def test_streams_are_compared_layer_by_layer(done, models):
    *_, summary = done
    angles, apart = [], []
    for text in TEXTS[:12]:
        ids = models[0].encode(text).ids[: HOW.length]
        with torch.no_grad():
            both = [
                torch.stack(copy_hidden(one.model, ids)).double().numpy()[:, :-1] for one in models
            ]
        sizes = [np.linalg.norm(one, axis=-1) for one in both]
        angles.append((both[0] * both[1]).sum(-1) / sizes[0] / sizes[1])
        apart.append(np.linalg.norm(both[0] - both[1], axis=-1) / sizes[0])
    angles, apart = (np.concatenate(one, axis=1) for one in (angles, apart))
    layers = summary["streams"]["layers"]
    assert [one["after"] for one in layers] == [*range(-1, 6)]
    assert np.allclose([one["cosine"] for one in layers], angles.mean(1), atol=1e-5)
    assert np.allclose([one["difference"] for one in layers], apart.mean(1), atol=1e-5)
    assert [one["beyond_rounding"] for one in layers] == (apart > 1e-5).mean(1).tolist()
    assert summary["streams"]["parts_after"] == -1


def copy_hidden(model, ids):
    """Return the streams before each layer, and after the last, as hooks catch them."""
    caught, plain = [], copy_of(model)
    for layer in plain.model.layers:
        layer.register_forward_pre_hook(lambda _, given: caught.append(given[0][0]))
    plain.model.norm.register_forward_pre_hook(lambda _, given: caught.append(given[0][0]))
    plain(input_ids=torch.tensor([ids]))
    return caught


def test_the_tokens_that_moved_most_tell_what_the_layers_say(done, models):
    _, out, summary = done
    moved, found = summary["moved"], columns_of(out)
    assert len(moved) == HOW.moved
    assert moved[0]["kl"] == found["kl"].max()
    at = int(found["kl"].argmax())
    for name in ("line", "position", "token", "log_p_a", "log_p_b", "top_a", "p_top_b"):
        assert moved[0][name] == found[name][at], name
    assert [one["kl"] for one in moved] == sorted((one["kl"] for one in moved), reverse=True)
    assert len({(one["context"], one["position"]) for one in moved}) == HOW.moved
    first = moved[0]
    ids = models[0].encode(TEXTS[first["line"] - 1]).ids[: first["position"]]
    pieces = models[0].encode(TEXTS[first["line"] - 1]).pieces[: first["position"]]
    assert first["context"] == "".join(pieces)[-40:]
    read = [one.record(list(ids)).model.module for one in models]
    streams = [torch.stack(copy_hidden(one, ids))[:, -1] for one in read]
    with torch.no_grad():
        p, q = (
            torch.log_softmax(one.lm_head(one.model.norm(rows)).double(), -1)
            for one, rows in zip(read, streams, strict=True)
        )
    kl = (p.exp() * (p - q)).sum(-1)
    assert [one["kl"] for one in first["layers"]] == pytest.approx(kl.tolist(), rel=1e-4, abs=1e-5)
    tops = [models[0].loaded_model.label(one) for one in p.argmax(-1).tolist()]
    assert [one["top_a"] for one in first["layers"]] == tops
    half = float(kl[-1]) / 2
    after = first["lenses_part_after"]
    assert (kl[after + 1 :] >= half).all()
    assert after < 0 or kl[after] < half
    assert first["layers"][-1]["kl"] == pytest.approx(first["kl"], abs=1e-6)


def test_the_same_model_twice_is_the_same(tmp_path):
    path = write_texts(tmp_path / "texts.jsonl", TEXTS[:3])
    summary = run(path, tmp_path / "out", b="builtin:town")
    assert summary["kl"]["max"] == 0
    assert summary["same_top"] == {"share": 1.0, "interval": [1.0, 1.0]}
    assert summary["log_likelihood"]["interval"] == [0.0, 0.0]
    assert summary["streams"]["parts_after"] is None
    assert summary["streams"]["texts_that_part_after"] == [{"after": None, "texts": 3}]


def with_changed_head(layer, head):
    def load():
        scope = llmscope.load("builtin:town")
        attention = scope.model.model.layers[layer].self_attn
        wide = attention.head_dim
        with torch.no_grad():
            attention.o_proj.weight[:, head * wide : (head + 1) * wide] *= 1.5
        return scope

    return load


def test_a_change_of_one_layer_is_found_there(tmp_path):
    path = write_texts(tmp_path / "texts.jsonl", TEXTS[:4])
    summary = run(path, tmp_path / "out", b=with_changed_head(3, 1))
    streams = summary["streams"]
    assert streams["parts_after"] == 3
    assert [one["difference"] for one in streams["layers"][:4]] == [0.0] * 4
    assert streams["texts_that_part_after"] == [{"after": 3, "texts": 4}]
    assert {one["parts_after"] for one in summary["moved"]} == {3}


def test_skipped_tokens_and_predictions_alone(tmp_path, models):
    path = write_texts(tmp_path / "texts.jsonl", TEXTS[:4])
    how = replace(HOW, skip=7, layers=False)
    summary = run(path, tmp_path / "out", how)
    texts = [models[0].encode(text).ids[: HOW.length] for text in TEXTS[:4]]
    expected, counts = compared(*(copy_of(one.model) for one in models), texts, skip=7)
    check_summary(summary, expected, counts, resamples=HOW.resamples, within=1e-5)
    assert summary["streams"] is None
    assert "layers" not in summary["moved"][0]
    assert set(columns_of(tmp_path / "out")["parts_after"]) == {None}


def test_models_of_other_sizes_are_aligned_by_depth(tmp_path, models):
    def shallow():
        scope = llmscope.load("builtin:town")
        config = scope.model.config
        config.num_hidden_layers = 3
        scope.model.model.layers = scope.model.model.layers[:3]
        return scope

    path = write_texts(tmp_path / "texts.jsonl", TEXTS[:3])
    summary = run(path, tmp_path / "out", b=saved(tmp_path, shallow()))
    streams = summary["streams"]
    assert (streams["layers_a"], streams["layers_b"], streams["aligned_by_depth"]) == (6, 3, True)
    pairs = [(one["after"], one["after_b"]) for one in streams["layers"]]
    assert pairs == [(-1, -1), (0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert streams["layers"][1]["difference"] == 0
    assert streams["layers"][6]["difference"] > 0


def saved(tmp_path, scope):
    folder = tmp_path / "model"
    scope.model.save_pretrained(folder)
    scope.tokenizer.save_pretrained(folder)
    return str(folder)


def test_what_cannot_be_compared_is_told(tmp_path):
    path = write_texts(tmp_path / "texts.jsonl", TEXTS[:3])
    with pytest.raises(ScopeError, match="do not read the same tokens: token 0 is"):
        run(path, tmp_path / "out", b="builtin:sort")
    assert not (tmp_path / "out" / "tokens").exists()
    short = write_texts(tmp_path / "short.jsonl", [""])
    with pytest.raises(ScopeError, match="no prompt is long enough: each needs 2 tokens"):
        run(short, tmp_path / "out")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "anna has a cat ."}\n{"text": 3}\n')
    with pytest.raises(ScopeError, match=r"bad\.jsonl, line 2: it has no prompt"):
        run(bad, tmp_path / "bad")


def test_a_length_that_does_not_fit_is_told():
    how = CorpusComparison()
    assert how.within(None, None).length == 512
    assert how.within(None, 100).length == 100
    assert CorpusComparison(length=50).within(100, 80).length == 50
    with pytest.raises(ScopeError, match="longer than the context of a model, 80"):
        CorpusComparison(length=90).within(100, 80)
    with pytest.raises(ScopeError, match="skipping the first 9 leaves none"):
        CorpusComparison(length=10, skip=9).within(None)


def test_where_memory_does_not_hold_both_they_run_one_after_the_other(done, tmp_path, monkeypatch):
    import gc
    import weakref

    from llmscope.models.loading import memory

    path, out, summary = done
    first, said, gone = [], [], []

    def load_a():
        scope = llmscope.load("builtin:town")
        first.append(weakref.ref(scope.model.model.layers[0].mlp))
        monkeypatch.setattr(memory, "fits", lambda *_: False)  # B does not fit beside it
        return scope

    def load_b():
        gc.collect()
        gone.append(first[0]() is None)
        return llmscope.load("builtin:town-pirate")

    apart = run(path, tmp_path / "out", a=load_a, b=load_b, tell=said.append)
    assert gone == [False, True]
    assert "one after the other" in said[0]
    assert apart["models"] == "one after the other"
    assert summary["models"] == "both at once"
    assert {**apart, "models": ""} == {**summary, "models": ""}
    tables = [files_of(folder / "tokens") for folder in (out, tmp_path / "out")]
    assert tables[0] == tables[1]
    left = sorted(one.name for one in (tmp_path / "out").iterdir())
    assert left == ["manifest.json", "summary.json", "tokens"]

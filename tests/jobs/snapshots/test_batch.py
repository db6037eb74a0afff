"""`snapshot --prompts`: the numbers of single snapshots, whatever happens on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.numpy import load_file

from llmscope.corpus.records.inputs import InputColumns
from llmscope.errors import ScopeError
from llmscope.export.read import read
from llmscope.figure import Axis, Figure, Focus
from llmscope.jobs.snapshots import BatchOutput, JobShare, PromptJob, PromptLine, PromptSource
from llmscope.jobs.snapshots import run as export
from llmscope.jobs.snapshots.padded import Together, difference, why_single
from llmscope.jobs.snapshots.rows import rows_of
from llmscope.jobs.snapshots.shards import Tables, read_shard
from llmscope.jobs.store import exclusive
from llmscope.lenses import lens
from llmscope.scope.scope import load
from llmscope.support.storage import LocalStorage
from tests.cli.running import failure, run
from tests.models.checkpoints import save_model

PROMPTS = ("CAB", "A", "BACCAB", "AC", "CABACB", "BB", "ABC")
LENSES = ("--lens", "next-token", "--lens", "logit-lens", "--lens", "tokens")
HOSTILE = ("../../x", "a\0b", "x" * 300, "🦙", "/etc/passwd", "", "\ud800", 7)


def written(path, prompts=PROMPTS, ids=None):
    records = [{"prompt": prompt, "id": ids and ids[at]} for at, prompt in enumerate(prompts)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def batch(prompts, out, *more, model="builtin:sort", lenses=LENSES):
    result = run("snapshot", model, "--prompts", prompts, "--out", out, *lenses, *more)
    assert result.exit_code == 0, result.stderr
    return result


def table(folder, lens="prompts"):
    """The rows of a table, sorted by line."""
    paths = sorted((folder / lens).glob("*.parquet"))
    rows = [row for path in paths for row in parquet.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: row["line"])


def shards(folder):
    return sorted((folder / "prompts").glob("*.parquet"))


def arrays(folder):
    paths = (folder / "tensors").glob("*.safetensors")
    return {k: v for path in paths for k, v in load_file(path).items()}


def files(folder):
    """Every file but the manifest, whose command names the prompts."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix != ".json" and path.is_file()
    }


def same(mine, theirs):
    if mine.dtype.kind != "f":
        return np.array_equal(mine, theirs)
    return np.allclose(mine, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


def agrees_with_single(tmp_path, model, prompts, *more, lenses=LENSES):
    result = batch(
        written(tmp_path / "p.jsonl", prompts),
        tmp_path / "o",
        *(*more, "--tensors"),
        model=model,
        lenses=lenses,
    )
    found, tensors = table(tmp_path / "o"), arrays(tmp_path / "o")
    assert [row["prompt"] for row in found] == list(prompts)
    mode = {"logit-lens": "target"}  # of its table, where none is chosen
    for row in found:
        for place, name in enumerate(lenses[1::2]):
            alone = tmp_path / "alone.npz"
            modes = ("--mode", mode[name]) if name in mode else ()
            done = run(
                *("snapshot", model, "--prompt", row["prompt"], "--lens", name, *modes),
                *("--out", alone, "--force"),
            )
            assert done.exit_code == 0, done.stderr
            (figure,) = read(alone).figures
            start = f"{row['line']}.{place}.{figure.lens}."
            assert same(tensors[start + "values"], figure.values), (row["prompt"], figure.lens)
            for key in ("ids", "logits", "ranks"):
                if start + key in tensors:
                    assert same(tensors[start + key], np.asarray(figure.extra[key]))
            (verdict,) = (
                one
                for one in table(tmp_path / "o", "verdicts")
                if (one["line"], one["lens"]) == (row["line"], name)
            )
            assert verdict["title"] == figure.title
            assert verdict["status"] == figure.verdict.status
    return result


def test_batches_give_the_numbers_of_single_snapshots(tmp_path):
    result = agrees_with_single(tmp_path, "builtin:sort", PROMPTS)
    assert "one by one" not in result.stderr


@pytest.mark.slow
def test_words_too(tmp_path):
    prompts = ("cat -> kitten, cow ->", "anna lives in", "dog -> puppy, cat -> kitten, cow ->")
    assert "one by one" not in agrees_with_single(tmp_path, "builtin:town", prompts).stderr


@pytest.mark.few(2)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mamba"])
def test_other_architectures(tmp_path, family):
    save_model(tmp_path, family)
    scope = load(str(tmp_path))
    looking = PromptJob(("next-token", "logit-lens", "tokens"), Focus())
    assert why_single(scope, looking) == ""
    prompts = {at: scope.prompt(range(3, 3 + at)) for at in (2, 20, 7, 1)}
    together = Together(3)
    assert together.batches(prompts) == [[1], [20, 7, 2]]
    for batch in together.batches(prompts):
        chosen = [prompts[at] for at in batch]
        for prompt, padded in zip(chosen, together.record(scope, chosen), strict=True):
            single = scope.record(prompt.ids, fresh=True)
            assert np.allclose(padded.logits, single.logits, rtol=1e-5, atol=1e-5)
            for name in looking.lenses:
                pair = (scope.look(name, recording=one) for one in (padded, single))
                assert difference(*pair) == ""


@pytest.mark.slow
def test_lenses_of_attention_and_mlp_run_together_too(tmp_path):
    lenses = ("--lens", "attention", "--lens", "mlp", "--lens", "heads")
    result = agrees_with_single(tmp_path, "builtin:sort", PROMPTS[:3], lenses=lenses)
    assert "one by one" not in result.stderr


def test_lenses_with_passes_of_their_own_go_one_by_one(tmp_path):
    result = agrees_with_single(
        tmp_path, "builtin:sort", PROMPTS[:2], lenses=("--lens", "ablation")
    )
    assert "note: the prompts go one by one: ablation runs passes of its own" in result.stderr


def test_only_computed_cells_have_a_row(tmp_path):
    batch(written(tmp_path / "p.jsonl"), tmp_path / "o", "--span", "-1,0", lenses=LENSES[2:4])
    rows = table(tmp_path / "o", "logit-lens")
    layers = {row["layer"] for row in rows}
    assert min(layers) == -1
    assert len(rows) == len(PROMPTS) * len(layers)
    last = {row["line"]: row["n_tokens"] - 1 for row in table(tmp_path / "o")}
    assert all(row["position"] == last[row["line"]] for row in rows)
    assert not any(
        value is None or value != value
        for row in rows
        for name, value in row.items()
        if name != "id"
    )


def test_a_difference_is_noticed():
    def figure(value):
        values = np.array([value], dtype=np.float32)
        return Figure("tokens", "", "bars", (Axis("token", ("a",)),), values, "bits")

    assert difference(figure(1), figure(1)) == ""
    assert "values" in difference(figure(1), figure(1.001))


def test_what_rounding_leaves_is_compared_on_the_scale_of_what_it_is_left_of():
    def figure(unexplained, logit=12.0):
        extra = {"unexplained": unexplained, "logit": logit}
        axes = (Axis("token", ("a",)),)
        values = np.ones(1, dtype=np.float32)
        return Figure("attribution", "", "bars", axes, values, "logit", extra=extra)

    residues = {"unexplained": "logit"}
    assert "unexplained by 1.1e-05" in difference(figure(0.0), figure(1.1e-5))
    assert difference(figure(0.0), figure(1.1e-5), residues=residues) == ""
    assert "unexplained by 1.3e-04" in difference(figure(0.0), figure(1.3e-4), residues=residues)
    assert "logit" in difference(figure(0.0), figure(0.0, 12.001), residues=residues)


@pytest.mark.parametrize("mode", lens("attribution").modes)
def test_every_mode_of_attribution_runs_in_padded_batches(mode):
    scope = load("builtin:sort")
    looking = PromptJob(("attribution",), Focus(mode=mode, target=0, versus=1))
    assert why_single(scope, looking) == ""


def test_jobs_together_are_the_whole(tmp_path):
    prompts = written(tmp_path / "p.jsonl")
    one_by_one = ("--batch-size", "1")
    batch(prompts, tmp_path / "whole", *one_by_one)
    for job in range(3):
        batch(prompts, tmp_path / "jobs", *one_by_one, "--shard", f"{job}/3")
    for name in ("tokens", "logit-lens", "next-token"):
        assert table(tmp_path / "whole", name) == table(tmp_path / "jobs", name)
    lines = [row["line"] for row in table(tmp_path / "jobs")]
    assert lines == list(range(1, len(PROMPTS) + 1))


def test_what_is_wrong_with_a_line_is_told_with_it(tmp_path):
    lines = [b'{"prompt": "CAB"}', b"nonsense", b'{"prompt": 3}', b'{"prompt": "\xff"}', b"[]"]
    lines += [b"[" * 100_000, b"", b'{"prompt": "' + b"A" * 99 + b'"}', b'{"prompt": "BA"}']
    (tmp_path / "p.jsonl").write_bytes(b"\n".join(lines))
    result = batch(tmp_path / "p.jsonl", tmp_path / "o", "--shard-size", "3")
    rows = {row["line"]: row["error"] for row in table(tmp_path / "o")}
    assert [line for line, error in rows.items() if error is None] == [1, 9]
    assert "JSON" in rows[2]
    assert "no text" in rows[3]
    assert "UTF-8" in rows[4]
    assert "99 tokens" in rows[8]
    assert all(f"line {line}: " in result.stderr for line in (2, 3, 4, 5, 6, 8))
    assert "8 prompts, 6 failed" in result.stderr


def test_ids_name_nothing(tmp_path):
    out = tmp_path / "in" / "o"
    batch(written(tmp_path / "p.jsonl", ["CAB"] * len(HOSTILE), HOSTILE), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "p.jsonl"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["o"]
    tables = ("logit-lens", "next-token", "prompts", "tokens", "verdicts")
    assert sorted(files(out)) == [f"{name}/shard-00000.parquet" for name in tables]
    names = [row["id"] for row in table(out)]
    assert names == [*HOSTILE[:6], "\\ud800", "7"]


@pytest.mark.slow
def test_other_formats_give_the_same(tmp_path):
    (tmp_path / "p.txt").write_text("".join(f"{prompt}\r\n" for prompt in PROMPTS))
    rows = "".join(f'"{prompt}",x\n' for prompt in PROMPTS)
    (tmp_path / "p.csv").write_text("\ufeffprompt,id\n" + rows)
    parquet.write_table(pyarrow.table({"prompt": list(PROMPTS)}), tmp_path / "p.parquet")
    for suffix in ("txt", "csv", "parquet"):
        batch(tmp_path / f"p.{suffix}", tmp_path / suffix)
        assert [row["prompt"] for row in table(tmp_path / suffix)] == list(PROMPTS)
    assert files(tmp_path / "txt").keys() == files(tmp_path / "parquet").keys()
    assert [row["line"] for row in table(tmp_path / "csv")][:2] == [2, 3]
    stdin = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS)
    result = run(*("snapshot", "--prompts", "-", "--out", tmp_path / "-", *LENSES), stdin=stdin)
    assert result.exit_code == 0, result.stderr
    assert len(table(tmp_path / "-")) == len(PROMPTS)


def test_wrong_usage(tmp_path):
    prompts = written(tmp_path / "p.jsonl")
    ask = ("snapshot", "--prompts", prompts, *LENSES, "--out", tmp_path / "o")
    assert "--prompt" in failure(*ask, "--prompt", "CAB", code=2)
    assert "0/8" in failure(*ask, "--shard", "3/3", code=2)
    assert "a folder" in failure(*ask[:-2], code=2)
    assert "--prompts" in failure("snapshot", *LENSES, "--prompt", "A", "--shard", "0/2", code=2)
    (tmp_path / "p.xyz").touch()
    assert "no file of prompts" in failure("snapshot", "--prompts", tmp_path / "p.xyz", *ask[3:])
    (tmp_path / "p.csv").write_text("a,b\n")
    assert "no column prompt" in failure("snapshot", "--prompts", tmp_path / "p.csv", *ask[3:])


@pytest.mark.slow
def test_a_folder_goes_on_only_with_the_same(tmp_path):
    prompts, out = written(tmp_path / "p.jsonl"), tmp_path / "o"
    batch(prompts, out, "--shard-size", "3")
    before = files(out)
    (out / "prompts" / "shard-00001.parquet").unlink()
    result = batch(prompts, out, "--shard-size", "3")
    assert "4 were there already" in result.stderr
    assert files(out) == before
    ask = ("snapshot", "builtin:sort", "--out", out, *LENSES, "--shard-size", "3", "--prompts")
    assert "focus.top_k" in failure(*ask, prompts, "--top-k", "2")
    written(prompts, PROMPTS[::-1])
    assert "other prompts" in failure(*ask, prompts)
    written(prompts, (*PROMPTS, "CCC"))  # it has grown
    batch(prompts, out, "--shard-size", "3")
    assert len(table(out)) == len(PROMPTS) + 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "other files" in failure(*ask[:3], tmp_path / "full", *LENSES, "--prompts", prompts)


def test_a_byte_that_flipped_is_noticed(tmp_path):
    prompts, out = written(tmp_path / "p.jsonl"), tmp_path / "o"
    batch(prompts, out, "--shard-size", "4", "--tensors")
    before = files(out)
    storage = LocalStorage(out)
    damaged = [name for name in before if "shard-00000" in name]
    assert len(damaged) == 6
    for name in damaged:
        for part in (2, 3, 5, 7):
            data = bytearray(before[name])
            data[len(data) // part] ^= 1
            (out / name).write_bytes(data)
            assert read_shard(storage, "shard-00000") is None, (name, part)
        (out / name).write_bytes(before[name])
    assert read_shard(storage, "shard-00000") is not None
    (out / damaged[0]).write_bytes(before[damaged[0]][:-1])
    assert "3 were there already" in batch(prompts, out, "--shard-size", "4", "--tensors").stderr
    assert files(out) == before


def test_nothing_is_written_through_a_link(tmp_path):
    prompts, out = written(tmp_path / "p.jsonl"), tmp_path / "o"
    batch(prompts, out)
    before = files(out)
    manifest = json.loads((out / "manifest.json").read_text())
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    names = ("tokens/shard-00000.parquet", "prompts/shard-00000.parquet", ".lock")
    for name in (*names, "tokens/.shard-00000.x"):
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(mine)
    (out / "logit-lens" / "shard-00000.parquet").unlink()
    (out / "logit-lens").rmdir()
    (out / "logit-lens").symlink_to(tmp_path / "elsewhere")
    (out / "manifest.json").rename(tmp_path / "manifest.json")
    (out / "manifest.json").symlink_to(tmp_path / "manifest.json")
    batch(prompts, out)
    assert mine.read_text() == "mine"
    assert not list((tmp_path / "elsewhere").iterdir())
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    assert files(out) == before
    assert not any(path.is_symlink() for path in out.rglob("*"))


@pytest.mark.parametrize("suffix", ["jsonl", "txt", "csv"])
def test_a_byte_order_mark_costs_no_prompt(tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    lines = {"jsonl": '{"prompt": "CAB"}\n', "txt": "CAB\n", "csv": "prompt\nCAB\n"}[suffix]
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert [line.prompt for line in PromptSource(str(path))] == ["CAB"]
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
        path.write_bytes(mark + lines.encode(encoding))
        with pytest.raises(ScopeError, match=r"is UTF-(16|32)") as caught:
            list(PromptSource(str(path)))
        assert "UTF-8" in caught.value.hint


def killed(tmp_path, times, seed=0):
    """Kill an export so many times; whether it gives the files of an uninterrupted one."""
    chance = random.Random(seed)
    texts = ["".join(chance.choices("ABC", k=chance.randint(1, 6))) for _ in range(400)]
    prompts = written(tmp_path / "p.jsonl", texts)
    sizes = ("--shard-size", "10", "--threads", "1")
    batch(prompts, tmp_path / "whole", *sizes)
    command = [sys.executable, "-c", "from llmscope.cli import main; main()", "snapshot"]
    command += ["builtin:sort", "--prompts", str(prompts), *LENSES, *sizes]
    command += ["--out", str(tmp_path / "o")]
    cut = 0
    for _ in range(times):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
        wanted = len(shards(tmp_path / "o")) + chance.randint(0, 3)
        while process.poll() is None:
            if len(shards(tmp_path / "o")) >= wanted:
                time.sleep(chance.random() * 0.02)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        cut += process.wait() == -signal.SIGKILL
    result = batch(prompts, tmp_path / "o", *sizes)
    assert "400 prompts, 0 failed" in result.stderr
    assert files(tmp_path / "o") == files(tmp_path / "whole")
    return cut


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_and_started_again_it_gives_the_same_bytes(tmp_path):
    assert killed(tmp_path, 1)


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_twenty_times(tmp_path):
    assert killed(tmp_path, 20, seed=1)


@pytest.mark.slow
def test_memory_is_flat(tmp_path):
    psutil = pytest.importorskip("psutil")
    scope, sizes = load("builtin:sort"), []
    prompts = PromptSource(str(written(tmp_path / "p.jsonl", ["CABACB"] * 10_000)))

    class Measured(BatchOutput):
        def put(self, files):
            super().put(files)
            sizes.append(psutil.Process().memory_info().rss)

    looking = PromptJob(("next-token", "logit-lens"), Focus())
    tables = Tables(looking, InputColumns.of(prompts)[0])
    folder = Measured(LocalStorage(tmp_path / "o"), JobShare(size=100), {}, {}, tables)
    export(scope, prompts, looking, folder, together=Together(16), tell=print)
    assert len(sizes) == 100
    assert max(sizes[10:]) - sizes[10] < 32 << 20


def test_what_is_too_much_together_goes_one_by_one(tmp_path, monkeypatch):
    """A pass that has no memory for sixteen prompts has it for one."""
    scope = load("builtin:sort")
    looking = PromptJob(("next-token", "logit-lens"), Focus())
    window = [PromptLine(number, prompt) for number, prompt in enumerate(PROMPTS[:5], 1)]
    expected = rows_of(scope, window, looking, Together(5))
    whole, asked = Together.record, []

    def short_of_memory(self, scope, prompts):
        asked.append(len(prompts))
        if len(prompts) > 1:
            raise torch.OutOfMemoryError
        return whole(self, scope, prompts)

    monkeypatch.setattr(Together, "record", short_of_memory)
    found = rows_of(scope, window, looking, Together(5))
    assert asked == [5, 1, 1, 1, 1, 1]
    for one, other in zip(found, expected, strict=True):
        assert not one.error
        assert len(one.figures) == 2
        assert not any(map(difference, one.figures, other.figures))


def test_a_rank_may_differ_only_where_scores_tie():
    def figure(*ranks):
        values = np.zeros(len(ranks) + 1, dtype=np.float32)
        axes = (Axis("token", ("a",) * len(values)),)
        ranked = np.array([np.nan, *ranks], dtype=np.float32)
        return Figure("tokens", "", "bars", axes, values, "bits", extra={"ranks": ranked})

    def tied():
        return np.array([np.nan, 1, 4]), np.array([np.nan, 1, 6])

    ties = {"ranks": tied}
    assert difference(figure(1, 4), figure(1, 6), ties=ties) == ""
    assert "ranks" in difference(figure(1, 4), figure(1, 6))
    assert "ranks" in difference(figure(1, 4), figure(1, 6), ties={"others": tied})
    assert "other shape" in difference(figure(1), figure(1, 6), ties=ties)
    assert "ranks by 3" in difference(figure(1, 7), figure(1, 4), ties=ties)
    assert "ranks by 1" in difference(figure(2, 4), figure(1, 4), ties=ties)


@pytest.mark.parametrize(
    ("name", "mode", "key"),
    [
        ("tokens", "", "ranks"),
        ("logit-lens", "target", "ranks"),
        ("logit-lens", "layer", "target_rank"),
        ("next-token", "", "target_rank"),
    ],
)
def test_the_ranks_that_ties_allow_hold_those_of_the_figure(name, mode, key):
    scope = load("builtin:town")
    recording = scope.record("the capital of france is")
    target = scope.token("paris")
    last = len(recording) - 1
    focus = Focus(mode=mode, position=last, layer=recording.layers - 1, target=target)
    asked = {"mode": focus.mode} if focus.mode else {}
    if name != "tokens":
        asked["target"] = "paris"
    found = scope.look(name, recording=recording, **asked)
    ranks = np.asarray(found.extra[key])
    for bound in (0.0, 1e-5, 0.01):
        low, high = lens(name).ranks[key](found, recording, focus, bound)
        assert low.shape == high.shape == ranks.shape
        known = ~np.isnan(ranks)
        assert (low[known] <= ranks[known]).all()
        assert (ranks[known] <= high[known]).all()
        if key == "ranks":
            assert (high - low)[known].max() >= (3 if bound == 0.01 else 0)
        if not bound:
            assert (low[known] == high[known]).all()


def test_one_process_at_a_time(tmp_path):
    source, out = written(tmp_path / "p.jsonl"), tmp_path / "o"
    with exclusive(LocalStorage(out), JobShare()):
        options = ("snapshot", "builtin:sort", "--prompts", source, "--out", out, *LENSES)
        assert "another process writes to" in failure(*options)
        batch(source, out, "--shard", "0/2")  # another part is another matter
    batch(source, out / "new")
    assert not list((out / "new").glob(".*"))
    wrong = (
        "snapshot",
        str(tmp_path / "none"),
        "--prompts",
        source,
        "--out",
        tmp_path / "p",
        *LENSES,
    )
    failure(*wrong)
    assert not (tmp_path / "p").exists()  # no folder stays where nothing came of it
    (tmp_path / "kept").mkdir()
    failure(*wrong[:5], tmp_path / "kept", *LENSES)
    assert (tmp_path / "kept").is_dir()
    (tmp_path / "file").write_text("")
    assert "cannot write" in failure(*options[:5], tmp_path / "file" / "o", *LENSES)


def test_a_tolerance_of_ones_own(tmp_path):
    """Half precision rounds otherwise for sixteen prompts than for one; some allow that."""
    apart = [
        Figure(
            *("next-token", "", "bars", (Axis("token", ("a", "b")),)),
            np.array([0.5, 0.25 + more], np.float32),
            "probability",
            extra={"ids": np.array(ids)},
        )
        for more, ids in ((0.0, [1, 2]), (0.01, [1, 2]), (0.01, [2, 1]))
    ]
    assert "by 1.0e-02" in difference(apart[0], apart[1])
    assert difference(apart[0], apart[1], 0.02) == ""
    assert "by 1.0e-02" in difference(apart[0], apart[1], 0.005)
    assert difference(apart[1], apart[2]) == "ids other ids or ranks"
    assert difference(apart[1], apart[2], 0.02) == ""
    result = batch(written(tmp_path / "p.jsonl"), tmp_path / "o", "--batch-tolerance", "0.02")
    assert "note: numbers may be 0.02 from those of single runs" in result.stderr
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["options"]["batch_tolerance"] == 0.02

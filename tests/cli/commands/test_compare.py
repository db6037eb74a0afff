"""`llmscope compare`: what it prints, its exit codes, and what it refuses."""

import json
from collections import Counter
from pathlib import Path

import pytest

import llmscope
from tests.cli.running import failure, run
from tests.jobs.compare.corpora import write_texts
from tests.learned.texts import TEXTS

MODELS = ("builtin:town", "builtin:town-pirate")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    return str(write_texts(tmp_path_factory.mktemp("compare") / "texts.jsonl", TEXTS[:6]))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return str(tmp_path_factory.mktemp("compared") / "out")


@pytest.fixture(scope="module")
def report(prompts, out):
    result = run("compare", *MODELS, "--prompts", prompts, "--out", out, "--resamples", "50")
    assert result.exit_code == 0, result.stderr
    return result.stdout


def again(prompts, out, *words):
    given = ("--prompts", prompts, "--out", out, "--resamples", "50")
    return run("compare", *MODELS, *given, *words)


def test_the_report_tells_what_the_summary_holds(report, prompts, out):
    result = again(prompts, out, "--format", "json")
    summary = json.loads(result.stdout)
    assert f"{summary['tokens']:,} tokens of 6 texts: {out}" in report
    assert report.startswith("A  builtin:town, float32 on cpu\nB  builtin:town-pirate")
    low, high = summary["kl"]["interval"]
    assert f"mean {summary['kl']['mean']:.6f} ({low:.6f} to {high:.6f})" in report
    assert f"same likeliest token  {summary['same_top']['share']:.2%}" in report
    assert "the streams part after the embedding: more than rounding (1e-05)" in report
    first = summary["moved"][0]
    assert f"{first['kl']:.4f}" in report
    assert "‹" in report
    assert summary["command"] == (
        f"llmscope compare builtin:town builtin:town-pirate --prompts {prompts} --format json "
        "--resamples 50"
    ).replace(" --format json --resamples 50", " --resamples 50 --format json")


def test_limits_decide_about_the_exit_code(report, prompts, out):
    result = again(prompts, out, "--max-kl", "0.01", "--min-same-top", "0.999")
    assert result.exit_code == 1
    assert result.stdout == report
    kl, share = result.stderr.splitlines()
    assert kl.startswith("the mean KL is 0.")
    assert kl.endswith(", above 0.01")
    assert share.endswith(" of the cases, below 0.999")
    within = again(prompts, out, "--max-kl", "5", "--min-same-top", "0.1")
    assert within.exit_code == 0
    assert within.stdout == report
    summary = json.loads(again(prompts, out, "--format", "json").stdout)
    assert within.stderr == (
        f"all 2 limits are kept: the mean KL is {summary['kl']['mean']:.6g}, at most 5; the same "
        f"token is likeliest in {summary['same_top']['share']:.6g} of the cases, at least 0.1\n"
    )
    assert again(prompts, out, "--max-kl", "5").stderr.startswith("the limit is kept: the mean KL")
    assert again(prompts, out, "--max-kl", "5", "--quiet").stderr == ""
    assert again(prompts, out).stderr == ""


def test_one_cause_is_listed_once_with_its_count(prompts, out):
    many = str(Path(out).with_name("many"))
    words = ("--prompts", prompts, "--out", many, "--resamples", "20", "--moved", "200")
    report = run("compare", *MODELS, *words).stdout
    moved = json.loads((Path(many) / "summary.json").read_text())["moved"]
    counts = Counter((one["top_a"], one["top_b"]) for one in moved)
    assert max(counts.values()) > 1
    table = report[report.index("the tokens that moved most") :].splitlines()
    rows = table[1:11]
    assert [int(row.split()[-1]) for row in rows] == list(counts.values())[:10]
    first = {(one["top_a"], one["top_b"]): one for one in reversed(moved)}
    for row, cause in zip(rows, counts, strict=False):
        assert row.split()[0] == f"{first[cause]['kl']:.4f}"
    assert f"times: how many of the {len(moved)} tokens" in table[12]


def test_one_model_twice_with_another_dtype(prompts, tmp_path):
    words = ("--prompts", prompts, "--out", tmp_path / "out", "--resamples", "20")
    result = run("compare", "builtin:town", "--versus-dtype", "bfloat16", *words)
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [summary[one]["dtype"] for one in "ab"] == ["float32", "bfloat16"]
    assert 0 < summary["kl"]["mean"] < 1e-2
    assert summary["streams"]["bound"] == 4 * 2**-7
    same = run("compare", "builtin:town", "builtin:town", *words[:3], tmp_path / "same")
    assert "the streams agree within rounding (1e-05)" in same.stdout
    assert "moved most" not in same.stdout


@pytest.mark.slow
def test_the_difference_is_reported_and_written(prompts, tmp_path):
    out = tmp_path / "out"
    words = ("--prompts", prompts, "--out", str(out), "--resamples", "20", "--difference")
    result = run("compare", *MODELS, *words)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "summary.json").read_text())["difference"]
    own = llmscope.load("builtin:town").activation_difference("town-pirate", strength=4.0)
    assert [one["top"][0][0] for one in found["readings"]] == [
        one.top[0][0] for one in own.readings
    ]
    assert found["verdict"]["status"] == own.verdict.status == "verified"
    report = result.stdout.partition("activation difference")[2]
    assert report.startswith(", B − A at the first 5 tokens of 40 texts, after layer 3: verified")
    line = next(one for one in report.splitlines() if "matey" in one)
    assert f"{own.at(3)[3].ratio:.2f}" in line
    assert own.steered[0].steered in report
    again = run("compare", *MODELS, *words)  # beside the file that the first run left
    assert again.stdout == result.stdout
    edit = f"steer 3 {out / 'difference.safetensors'}:3.4 2"
    steered = run(
        "snapshot", MODELS[0], "--prompt", "anna lives", "--lens", "tokens", "--edit", edit
    )
    assert steered.exit_code == 0, steered.stderr


def test_the_texts_of_the_difference_can_be_given(prompts, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("anna lives\n")
    words = ("--prompts", prompts, "--out", str(tmp_path / "out"), "--difference-texts", str(short))
    assert "0 texts have 5 tokens that count" in failure(
        "compare", *MODELS, *words, "--difference", code=2
    )
    assert "--difference too" in failure("compare", *MODELS, *words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("builtin:town",), "a second model, or --versus-dtype"),
        ((*MODELS, "--format", "svg"), "one of txt, json"),
        ((*MODELS, "--max-kl", "nan"), "greater than or equal to 0"),
        ((*MODELS, "--min-same-top", "2"), "less than or equal to 1"),
        ((*MODELS, "--length", "1"), "greater than or equal to 2"),
    ],
)
def test_wrong_use_is_told_before_a_model_is_loaded(prompts, tmp_path, words, said, monkeypatch):
    monkeypatch.setattr(llmscope.scope.scope, "load_model", lambda **_: pytest.fail("loaded"))
    given = ("--prompts", prompts, "--out", str(tmp_path / "out"), *words)
    assert said in " ".join(failure("compare", *given, code=2).replace("│", "").split())
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_exits_with_2(prompts, tmp_path):
    def told(*words):
        line = failure("compare", *words, code=2).splitlines()[-1]
        assert line.startswith("error: ")
        return line

    given = ("--prompts", prompts, "--out", str(tmp_path / "out"))
    assert "nowhere.txt" in told(*MODELS, "--prompts", "nowhere.txt", *given[2:])
    assert "there is no ./nowhere" in told("builtin:town", "./nowhere", *given)
    assert "builtin:town has no revisions" in told(
        "builtin:town", "--versus-revision", "v1", *given
    )
    assert "do not read the same tokens" in told("builtin:town", "builtin:sort", *given)
    (tmp_path / "file").write_text("x")
    assert "is no folder" in told(*MODELS, *given[:3], str(tmp_path / "file"))
    assert not (tmp_path / "out").exists()

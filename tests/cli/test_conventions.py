"""What is alike on every command: -h, -o, -q, -v, --json, dtypes, revisions, exit codes, man."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import typer

import llmscope
from llmscope.cli import command_table
from llmscope.cli.app import app, command_named
from llmscope.cli.output.exit_codes import EXIT_CODES
from llmscope.errors import ScopeError
from llmscope.support.dtypes import ALIASES
from tests.cli.running import failure, fresh, record, run

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
GROUP = typer.main.get_command(app)
COMMANDS = {name: command_named(name) for name in command_table.COMMANDS}
ALL = {
    " ".join(filter(None, (name, inner))): one
    for name, command in COMMANDS.items()
    for inner, one in (getattr(command, "commands", None) or {"": command}).items()
}
ASK = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "next-token")
REPORTS = (
    *("bake", "cache", "compare", "config", "diff", "doctor", "examples", "fit", "lenses"),
    *("models", "read", "report", "snapshot", "themes"),
)


def opts(command):
    return {word for one in ALL[command].params for word in one.opts}


@pytest.mark.parametrize("command", ["", *ALL])
def test_h_is_help(command):
    words = command.split()
    short, long = run(*words, "-h"), run(*words, "--help")
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert re.search(r"-h, --help +Show this message", short.stdout)


def test_o_is_out_wherever_there_is_an_out(tmp_path):
    having = [name for name in ALL if "--out" in opts(name)]
    assert len(having) > 8
    assert [name for name in having if "-o" not in opts(name)] == []
    assert run(*ASK, "-o", tmp_path / "a.json").exit_code == 0
    assert "figures" in json.loads((tmp_path / "a.json").read_text())


def test_every_command_with_a_progress_line_takes_q_and_v():
    for name in ALL:
        if "--device" in opts(name) and name not in ("open", "serve"):
            assert {"-q", "--quiet", "-v", "--verbose"} <= opts(name), name


def test_quiet_leaves_out_notes_and_keeps_errors(tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_text("CAB\nABC\n")
    ask = ("snapshot", "builtin:sort", "--prompts", prompts, "--lens", "tokens", "-o")
    told, quiet = run(*ask, tmp_path / "a"), run(*ask, tmp_path / "b", "-q")
    assert (told.exit_code, quiet.exit_code) == (0, 0)
    assert "note: 2 prompts, 0 failed" in told.stderr
    assert quiet.stderr == ""
    assert failure(*ASK[:-1], "attention", "--layer", "99", "-q").startswith("error: ")
    assert "note: 2 prompts" in run(*ask, tmp_path / "c").stderr  # quiet is of one command


def test_a_limit_that_is_exceeded_is_told_even_if_quiet(tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_text("CABABC\nABCCBA\n")
    ask = ("compare", "builtin:sort", "--versus-dtype", "bf16", "--prompts", prompts)
    result = run(*ask, "-o", tmp_path / "out", "--max-kl", "0", "-q")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "KL" in result.stderr


def test_verbose_tells_what_is_loaded_and_how_long_it_took(tmp_path):
    file = tmp_path / "a.svg"
    result = run(*ASK, "-v", "-o", file)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert all(line.startswith("note: ") for line in lines)
    (loaded,) = [line for line in lines if line.startswith("note: loaded builtin:sort: ")]
    assert re.search(r"layers, [\d.]+M parameters, float32 on cpu: \d+\.\d\d s$", loaded)
    size = f"{file.stat().st_size:,}"
    assert f"note: wrote {file}: {size} bytes" in lines
    assert re.fullmatch(r"note: took \d+\.\d\d s", lines[-1])
    assert "--quiet or --verbose" in failure(*ASK, "-q", "-v", code=2)
    assert run(*ASK).stderr == ""


def test_verbose_tells_each_stage_once():
    from llmscope.cli.output import notices
    from llmscope.cli.output.progress import progress_line

    told = []
    notices.volume.verbose = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notices, "_print", told.append)
        with progress_line() as progress:
            for done in (1, 2, 3):
                progress(f"fitting · {done} prompts", 0, None)
            progress("reading weights", 2e6, 4e6)
    notices.volume.verbose = False
    assert [re.sub(r"\d\.\d\d s", "T", line) for line in told] == [
        "note: fitting · 3 prompts: T",
        "note: reading weights 2.0 of 4.0 MB: T",
    ]


@pytest.mark.few(2)
@pytest.mark.parametrize(("alias", "usual"), sorted(ALIASES.items()))
def test_a_dtype_has_other_names_everywhere(alias, usual, monkeypatch):
    wanted = getattr(torch, usual)
    assert llmscope.load("builtin:sort", dtype=alias).loaded_model.dtype == wanted
    assert llmscope.load("builtin:sort", dtype=alias.upper()).loaded_model.dtype == wanted
    found = record(*ASK[1:], "--dtype", alias)["provenance"]
    assert found["dtype"] == usual
    assert ("--dtype" in found["command"]) == (usual != "auto")
    assert f"--dtype {usual}" in found["command"]
    monkeypatch.setenv("LLMSCOPE_DTYPE", alias)
    assert json.loads(run("config", "--json").stdout)["settings"]["dtype"]["value"] == usual
    assert record(*ASK[1:])["provenance"]["dtype"] == usual


def test_a_dtype_that_does_not_exist_is_refused():
    assert "auto, float32, bfloat16, float16" in failure(*ASK, "--dtype", "bf17")
    with pytest.raises(ScopeError, match="no dtype"):
        llmscope.load("builtin:sort", dtype="double")


@pytest.mark.parametrize(
    ("model", "revision", "spec"),
    [
        ("org/name", "v2", "org/name@v2"),
        ("org/name@v2", "v2", "org/name@v2"),
        ("org/name:a.gguf", "v2", "org/name@v2:a.gguf"),
        ("pypi:thing", "1.2", "pypi:thing==1.2"),
        ("org/name", None, "org/name"),
    ],
)
def test_revision_is_the_one_in_the_name(model, revision, spec):
    from llmscope.cli.options.groups import HardwareOptions

    assert HardwareOptions(revision=revision).loader(model).model == spec


def test_a_revision_that_cannot_be_costs_a_line():
    assert "names another revision" in failure(
        "snapshot", "org/name@v1", *ASK[2:], "--revision", "v2", code=2
    )
    for command in (ASK, ("doctor", "builtin:sort")):
        assert "has no revisions" in failure_line(*command, "--revision", "v2")
    assert "takes no --revision" in failure("--resume", "--revision", "v2", code=2)


def failure_line(*words):
    result = run(*words)
    assert result.exit_code == 1
    return result.stderr.splitlines()[-1]


def test_json_is_a_format_on_every_command_that_prints_a_report():
    page = PAGE.read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| `--json`")]
    assert tuple(re.findall(r"`([a-z]+)`", row.partition(": ")[2])) == REPORTS
    having = {name.split()[0] for name in ALL if "--json" in opts(name)}
    assert having == set(REPORTS)
    assert {name for name in ALL if "--json" in opts(name)} == {
        name for name in ALL if "--format" in opts(name)
    }


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "words",
    [
        ("config",),
        ("lenses",),
        ("lenses", "attention"),
        ("models",),
        ("themes",),
        ASK,
        ("doctor", "builtin:sort"),
        ("diff", "{snapshot}", "{snapshot}"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_json_and_format_json_print_the_same(words, tmp_path):
    snapshot = tmp_path / "a.json"
    assert run(*ASK, "-o", snapshot).exit_code == 0
    words = [word.format(snapshot=snapshot) for word in words]
    first, second = run(*words, "--json"), run(*words, "--format", "json")
    assert first.exit_code == second.exit_code == 0, first.stderr
    one, other = json.loads(first.stdout), json.loads(second.stdout)
    for found in (one, other):  # seconds and free memory differ from run to run
        if words[0] == "doctor":
            for name in ("machine", "devices", "model"):
                found.pop(name, None)
    assert one.keys() == other.keys()
    if words[0] != "doctor":
        assert one == other
    text = run(*words, "--format", "txt")
    assert text.exit_code == 0
    assert not text.stdout.startswith("{")
    assert "--json" in failure(*words, "--json", "--format", "txt", code=2)


def test_bake_and_fit_print_json(tmp_path):
    context = tmp_path / "c.txt"
    context.write_text("CAB")
    done = run(
        *("bake", "builtin:sort", "--context-file", context, "--prompt", "BA"),
        *("--no-special-tokens", "-o", tmp_path / "lora", "--json"),
    )
    assert done.exit_code == 0, done.stderr
    baked = json.loads(done.stdout)
    assert baked["folder"] == str(tmp_path / "lora")
    assert baked["rank"] >= 1
    assert len(baked["kl"]) == baked["positions"]
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"positive": f"AB{'C' * at}", "negative": f"BA{'C' * at}"} for at in range(1, 9)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(
        *("fit", "direction", "builtin:sort", pairs, "-o", tmp_path / "d.safetensors"),
        *("--no-dose", "--shuffles", "2", "--format", "json"),
    )
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == [{"path": str(tmp_path / "d.safetensors"), "without_layers": []}]
    assert found["best"] in map(int, found["probes"])


def test_options_are_listed_by_subject():
    text = run("snapshot", "-h").stdout
    titles = re.findall(r"^(\S.*):$", text, re.M)
    assert titles[0] == "Arguments"
    assert titles[-1] == "General options"
    for model in ("Lens", "Prompt", "Output", "Model", "Many prompts", "Edits and comparison"):
        assert titles.count(f"{model} options") == 1
    parts = dict(zip(titles, re.split(r"^\S.*:$", text, flags=re.M)[1:], strict=True))
    assert "--dtype" in parts["Model options"]
    assert "--top-k" in parts["Lens options"]
    assert "-q, --quiet" in parts["General options"].replace("--quiet, -q", "-q, --quiet")
    listed = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", text))
    assert {word for one in COMMANDS["snapshot"].params for word in one.opts if word[:2] == "--"
            and one.param_type_name == "option"} <= listed  # fmt: skip


def heed():
    """Whoever runs the tests with nohup or in the background has them ignore some signals."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def handled(child):
    """The signals that a process has a handler for, as bits."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)


def waiting(number):
    """The exit code of a command that waits for its stdin when a signal comes."""
    code = "from llmscope.cli import main; main()"
    words = [sys.executable, "-c", code, *ASK[:2], "--lens", "tokens", "--prompt-file", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=heed) as child:
        until = time.monotonic() + 60
        while not handled(child) >> (signal.SIGHUP - 1) & 1:  # the last that gets its handler
            assert time.monotonic() < until
            time.sleep(0.02)
        child.send_signal(number)
        child.wait(60)
        return child.returncode


def closed_early():
    """The exit code of a command whose reader is gone, and what it said."""
    code = "import time; time.sleep(1); from llmscope.cli import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "edits"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    return child.wait(60)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for handlers")
def test_the_exit_codes_are_those_of_the_page(tmp_path):
    page = PAGE.read_text("utf-8").partition("## Exit codes")[2]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.M)
    assert [(int(code), when) for code, when in rows] == list(EXIT_CODES)
    prompts = tmp_path / "p.txt"
    prompts.write_text("CAB\nABC\n")
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    assert run(*ASK, "-o", one).exit_code == 0
    assert run(*ASK[:3], "BAC", *ASK[4:], "-o", other).exit_code == 0
    compare = ("compare", "builtin:sort", "--prompts", prompts, "--versus-dtype", "bf16", "-q")

    def code(*words):
        return run(*words).exit_code

    claims = {
        0: {
            "done": lambda: code(*ASK),
            "diff: the same within the tolerance": lambda: code("diff", one, one),
            "compare: within the limits": lambda: code(
                *compare, "-o", tmp_path / "x", "--max-kl", "9"
            ),
        },
        1: {
            "failed, with one line `error: …` on stderr": lambda: code(*ASK, "--position", "99"),
            "diff: they differ": lambda: code("diff", one, other),
            "compare: a limit is exceeded": lambda: code(
                *compare, "-o", tmp_path / "y", "--max-kl", "0"
            ),
            "the reader of stdout is gone": closed_early,
        },
        2: {
            "wrong use: an option, an argument or two that do not go together, told before "
            "anything is loaded": lambda: code(*ASK, "--no-such-option"),
            "diff and compare: any failure": lambda: code("diff", one, tmp_path / "none.json"),
        },
        129: {"ended by SIGHUP, as when its terminal closes": lambda: waiting(signal.SIGHUP)},
        130: {"ended by SIGINT, which is ctrl+c": lambda: waiting(signal.SIGINT)},
        143: {"ended by SIGTERM": lambda: waiting(signal.SIGTERM)},
    }
    assert {number: "; ".join(cases) for number, cases in claims.items()} == dict(EXIT_CODES)
    wrong = [
        (number, words, found)
        for number, cases in claims.items()
        for words, made in cases.items()
        if (found := made()) != number
    ]
    assert wrong == []


def test_the_man_page_has_every_command_and_option():
    done = run("--man")
    assert done.exit_code == 0
    page = done.stdout
    assert page.startswith(".TH LLMSCOPE 1")
    plain = page.replace("\\-", "-")
    for name, command in ALL.items():
        assert f'.SS "llmscope {name} ' in plain or f'.SS "llmscope {name}"' in plain, name
        for one in command.params:
            if one.param_type_name == "option":
                assert any(f"{word}" in plain for word in one.opts), (name, one.opts)
    for number, _ in EXIT_CODES:
        assert f"\n.B {number}\n" in page
    assert "or a folder." in plain  # the sources of models in place of a general word
    requests = {line.split()[0] for line in page.splitlines() if line[:1] in (".", "'")}
    assert requests <= {".TH", ".SH", ".SS", ".B", ".I", ".TP", ".PP", ".br"}
    assert "--lens" in plain.partition('.SS "llmscope snapshot')[2].partition(".SS")[0]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_man_page_formats_without_a_warning():
    page = run("--man").stdout
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-k"], input=page, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in done.stdout


def test_h_is_as_quick_as_help_and_imports_no_torch():
    code = (
        "import sys; from llmscope.cli import main\n"
        "try: main()\nfinally: sys.stderr.write(str('torch' in sys.modules))"
    )
    done = fresh("-h", code=code, TERM=os.environ.get("TERM", ""))
    assert done.returncode == 0
    assert done.stderr.endswith("False")

"""Every option of every command: it changes what comes out, or it is refused by its name.

Each command runs once as it stands and once more with each of its options. What differs may be on
stdout, on stderr or in the files that are written.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmscope.cli.app import command_named
from tests.cli.running import run

PROMPTS = ("CAB", "ABBACA", "BAB")
PERMISSIONS = {
    "--trust-remote-code": "it permits what these models do not need",
    "--allow-pickle": "it permits what these files do not need",
    "--force": "nothing is in the way",
    "--unverified": "nothing failed its check",
    "--debug": "nothing fails",
    "--threads": "it changes how fast it is",
    "--memory": "these prompts are short",
    "--spill": "these prompts are short",
    "--no-special-tokens": "the tokenizer has none",
    "--verbose": "where nothing is loaded nothing is said",
    "--quiet": "nothing is said",
    "--json": "on a pipe it is the default of a snapshot",
}
"""Options that may change nothing, and why."""


@dataclass(frozen=True)
class Case:
    """A command, and what its options are tried with.

    Attributes:
        command: its name.
        words: the words behind the name; `{}` is the folder of the test.
        written: what it writes, below that folder.
        values: values of options that differ from those of `VALUES`.
        same: options that may change nothing here, with the reason.
        slow: options that are tried in the slow tests alone.
    """

    command: str
    words: tuple[str, ...]
    written: str = "out"
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)


VALUES: dict[str, tuple[str, ...]] = {
    "--lens": ("attention",),
    "--mode": ("top",),
    "--layer": ("0",),
    "--head": ("1",),
    "--position": ("1",),
    "--target": ("C",),
    "--versus": ("B",),
    "--context": ("1",),
    "--span": ("0,2",),
    "--top-k": ("2",),
    "--layers": ("0",),
    "--heads": ("0",),
    "--pool": ("2",),
    "--features": ("nowhere",),
    "--place": ("mlp_out",),
    "--feature": ("0",),
    "--query": ("x",),
    "--examples": ("{}",),
    "--translator": ("tuned",),
    "--second-translator": ("tuned",),
    "--neuron": ("0",),
    "--temperature": ("0.3",),
    "--sample-top-k": ("1",),
    "--top-p": ("0.1",),
    "--min-p": ("0.9",),
    "--separator": ("B",),
    "--receiver": ("mlp 2",),
    "--direction": ("{}/direction.safetensors",),
    "--suffix": ("B",),
    "--sentences": ("1",),
    "--fork-quantile": ("0.1",),
    "--samples": ("1",),
    "--tokens": ("2",),
    "--seed": ("3",),
    "--step": ("2",),
    "--weight": ("0",),
    "--cell": ("0,1",),
    "--prompt": ("CABB",),
    "--prompt-file": ("{}/text.txt",),
    "--ids": ("2,0,1,1",),
    "--written": ("1",),
    "--context-file": ("{}/text.txt",),
    "--transcript": ("{}/chat.json",),
    "--chat": (),
    "--system": ("x",),
    "--versus-prompt": ("CBB",),
    "--words-a": ("A",),
    "--words-b": ("B",),
    "--answer": ("A",),
    "--turn": ("1",),
    "--line": ("1",),
    "--edit": ("zero head 1.1",),
    "--versus-dtype": ("bfloat16",),
    "--versus-device": ("cpu",),
    "--versus-revision": ("x",),
    "--versus-model": ("builtin:town",),
    "--layer-ids": ("0,1",),
    "--format": ("txt",),
    "--workspace": ("heads",),
    "--keys": ("tab",),
    "--out": ("{}/other.svg",),
    "--size": ("30x10",),
    "--scale": ("2",),
    "--look": ("paper",),
    "--theme": ("light",),
    "--color": ("16",),
    "--cmap": ("gray",),
    "--font": ("serif",),
    "--width": ("90",),
    "--prompts": ("{}/prompts.jsonl",),
    "--shard": ("1/2",),
    "--shard-size": ("1",),
    "--batch-size": ("1",),
    "--batch-tolerance": ("0.1",),
    "--engine": ("here",),
    "--workers": ("1",),
    "--gpus-per-worker": ("0",),
    "--max-errored-blocks": ("1",),
    "--device": ("mps",),
    "--dtype": ("bfloat16",),
    "--threads": ("1",),
    "--memory": ("1MB",),
    "--spill": ("{}",),
    "--revision": ("x",),
    "--adapter": ("{}/nowhere",),
    "--reward": ("{}/nowhere",),
    "--value": ("p",),
    "--by": ("line",),
    "--bins": ("2",),
    "--versus-column": ("logit",),
    "--pair-by": ("pair",),
    "--resamples": ("100",),
    "--level": ("0.5",),
    "--tolerance": ("100",),
    "--max-kl": ("0.001",),
    "--min-same-top": ("1",),
    "--length": ("6",),
    "--skip": ("3",),
    "--moved": ("1",),
    "--difference-texts": ("{}/words.jsonl",),
    "--difference-layer": ("1",),
    "--strength": ("2",),
    "--top": ("1",),
    "--random": ("1",),
    "--bottom": ("1",),
    "--window": ("1,1",),
    "--max-prompts": ("3",),
    "--held-out": ("3",),
    "--target-error": ("0.9",),
    "--estimator": ("last",),
    "--backwards": ("2",),
    "--batch": ("1",),
    "--steps": ("3",),
    "--rate": ("0.1",),
    "--continuation": (" puppy",),
    "--generate": ("2",),
}
LOOK = ("builtin:sort", "--prompt", "CAB", "--lens")
CASES = {
    "a snapshot": Case("snapshot", (*LOOK, "next-token")),
    "a text": Case(
        "snapshot", (*LOOK, "next-token", "--format", "txt"), values={"--versus": ("C",)}
    ),
    "a picture": Case("snapshot", (*LOOK, "attention", "--out", "{}/out.svg"), "out.svg"),
    "patching": Case(
        "snapshot",
        (*LOOK, "patching", "--versus-prompt", "BCA", "--target", "A", "--versus", "C"),
        same=dict.fromkeys(("--layer", "--head"), "the cursor starts there"),
    ),
    "the screen": Case(
        "snapshot",
        (*LOOK, "screen", "--size", "160x50"),
        values={"--format": ("svg",)},
        same={
            **dict.fromkeys(("--versus", "--versus-prompt"), "other workspaces show it"),
            **dict.fromkeys(("--neuron", "--step", "--weight", "--cell"), "other workspaces do"),
            **dict.fromkeys(("--words-a", "--words-b"), "other workspaces show it"),
            "--mode": "the map opens in it",
        },
    ),
    "a batch": Case(
        "snapshot",
        (
            *("builtin:sort", "--prompts", "{}/prompts.jsonl"),
            *("--lens", "next-token", "--out", "{}/out"),
        ),
        same={
            "--batch-size": "the numbers are the same",
            "--batch-tolerance": "the numbers are closer than that",
        },
    ),
    "a report": Case("report", ("{}/batch", "--lens", "next-token", "--format", "json")),
    "a difference": Case("diff", ("{}/one.json", "{}/two.json")),
    "a comparison": Case(
        "compare",
        ("builtin:town", "builtin:town-sft", "--prompts", "{}/words.jsonl", "--out", "{}/out"),
    ),
    "examples": Case(
        "examples",
        ("builtin:town", "--prompts", "{}/words.jsonl", "--neuron", "2.3", "--out", "{}/out"),
    ),
    "a Jacobian lens": Case(
        "fit jacobian",
        (
            "builtin:town",
            "--prompts",
            "{}/words.jsonl",
            "--out",
            "{}/lens.safetensors",
            "--skip",
            "2",
        ),
        "lens.safetensors",
        same={"--batch": "the numbers are the same"},
    ),
    "a tuned lens": Case(
        "fit tuned",
        (
            "builtin:town",
            "--prompts",
            "{}/words.jsonl",
            "--out",
            "{}/lens.safetensors",
            "--skip",
            "2",
        ),
        "lens.safetensors",
    ),
    "a baked context": Case(
        "bake",
        ("builtin:town", "--context-file", "{}/words.txt", "--prompt", "cow ->", "--out", "{}/out"),
    ),
    "a doctor": Case("doctor", ("builtin:sort",)),
    "the cache": Case("cache list", ()),
    "settings": Case("config", ()),
    "lenses": Case("lenses", ()),
    "themes": Case("themes", ()),
    "models": Case("models", ()),
}


def options_of(case: Case) -> list[Any]:
    """Return the options that a case tries: all but those that it has."""
    first, _, second = case.command.partition(" ")
    command: Any = command_named(first)
    command = command.commands[second] if second else command
    return [
        option
        for option in command.params
        if option.param_type_name == "option"
        and (option.multiple or not set(option.opts) & set(case.words))
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    (folder / "text.txt").write_text("ABC\n")
    lines = [{"prompt": prompt, "pair": at % 2} for at, prompt in enumerate(PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["cat -> kitten, dog -> puppy, cow ->", "dog -> puppy, cat -> kitten, cow ->"] * 3
    lines = [{"prompt": prompt} for prompt in words]
    (folder / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "words.txt").write_text("cat -> kitten, dog -> puppy,\n")
    (folder / "chat.json").write_text(json.dumps([{"role": "user", "content": "hi"}]))
    for name, prompt in (("one", "CAB"), ("two", "BAB")):
        run(
            "snapshot",
            *LOOK[:1],
            "--prompt",
            prompt,
            "--lens",
            "next-token",
            "--out",
            folder / f"{name}.json",
        )
    run(
        "snapshot",
        *CASES["a batch"].words[:1],
        "--prompts",
        folder / "prompts.jsonl",
        "--lens",
        "next-token",
        "--lens",
        "tokens",
        "--out",
        folder / "batch",
    )
    return folder


def outcome(files: Path, case: Case, more: tuple[str, ...] = ()) -> tuple[int, str, Any]:
    """Run a case. Return its exit code, stderr, and all that came out."""
    written = files / case.written
    shutil.rmtree(written) if written.is_dir() else written.unlink(missing_ok=True)
    (files / "other.svg").unlink(missing_ok=True)
    words = [word.replace("{}", str(files)) for word in (*case.words, *more)]
    result = run(*case.command.split(), *words)
    shown = result.stdout
    if case.command == "snapshot" and shown.startswith("{"):
        shown = json.dumps(json.loads(shown)["figures"])  # beside them stands the command itself
    return result.exit_code, result.stderr, (shown, result.stderr, contents(files, written))


def contents(files: Path, written: Path) -> dict[str, Any]:
    """Return what files hold, without what they say of their command."""
    found: dict[str, Any] = {}
    for path in sorted([written, files / "other.svg", *written.rglob("*")]):
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            found[str(path)] = str(parquet.read_table(path).to_pylist())
        elif path.is_file() and path.name != "manifest.json":
            about = rb"<metadata>.*?</metadata>"  # beside the numbers stands the command itself
            found[str(path)] = re.sub(about, b"", path.read_bytes(), flags=re.S)
    return found


def named_by(flag: str, value: tuple[str, ...]) -> set[str]:
    """Return the words of which a refusal has one: the option's last word, or its value's."""
    return {flag.rpartition("-")[2], *(re.split(r"[:/]", word)[-1] for word in value)} - {""}


MATRIX = [(name, option) for name, case in CASES.items() for option in options_of(case)]


@pytest.mark.few(60)
@pytest.mark.parametrize(
    ("name", "option"), MATRIX, ids=[f"{name}-{option.opts[0]}" for name, option in MATRIX]
)
def test_it_is_used_or_refused_by_name(files: Path, name: str, option: Any) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("matplotlib")
    case, flag = CASES[name], max(option.opts, key=len)
    value = () if option.is_flag else case.values.get(flag, VALUES.get(flag, ()))
    if flag == "--format" and case.command != "snapshot":
        value = ("json",)
    if option.secondary_opts and option.default:
        (flag,) = option.secondary_opts
    before = outcome(files, case)
    assert before[0] == (1 if case.command == "diff" else 0), before[1]
    code, said, after = outcome(files, case, (flag, *value))
    if code not in (0, before[0]) or "Error: " in said:
        assert "Traceback" not in said
        assert any(name in said for name in named_by(flag, value)), said
    elif after == before[2]:
        assert flag in (PERMISSIONS | case.same), "accepted, and nothing changes"

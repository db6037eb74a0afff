"""Every option of every command: it changes what comes out, or it is refused by its name.

Each command runs once as it stands and once more with each of its options. What differs may be on
stdout, on stderr or in the files that are written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import llmscope
from llmscope.cli.app import command_named
from tests.cli.headless import print_screens
from tests.cli.running import run
from tests.models.chats import STYLES, chat_tokenizer
from tests.models.checkpoints import save_model
from tests.vllm_files import write

for package in ("pyarrow", "matplotlib", "mcp", "textual_serve"):
    pytest.importorskip(package)
PASSING = r"llmscope-mcp-\w+|loaded in .*|note: loading checkpoint.*\n"
"""The name of a temporary folder, how long it took, and stages that only a slow start tells."""
MEMORY = psutil.virtual_memory()
BUILTIN = Path(llmscope.__file__).parent / "builtin"

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = ("--port", str(probe.getsockname()[1]))
"""A port of this process alone: two that serve at once would be in each other's way."""
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
        state: the folder of that test whose state it begins with; "" for none.
    """

    command: str
    words: tuple[str, ...]
    written: str = "out"
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    state: str = ""


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
    "--versus-backend": ("llama.cpp",),
    "--versus-cache-type": ("q8_0",),
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
    "--backend": ("llama.cpp",),
    "--cache-type": ("q8_0",),
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
    "--bandwidth": ("low",),
    "--host": ("localhost",),
    "--port": ("0",),
    "--max-pages": ("2",),
    "--tokenizer": ("builtin:town",),
    "--revisions": ("x",),
    "--export": ("{}/other",),
    "--method": ("lda",),
    "--split": ("random",),
    "--test-share": ("0.5",),
    "--shuffles": ("3",),
    "--measure": (" bread", " cake"),
    "--dose-layer": ("1",),
    "--dose-prompts": ("3",),
    "--kind": ("models",),
    "--older-than": ("1d",),
    "--larger-than": ("1MB",),
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
    "the app": Case(
        "open",
        ("builtin:sort", "--prompt", "CAB"),
        values={"--versus-prompt": ("CBB", "--edit", "patch mlp 1")},
    ),
    "a session": Case("open", ("--resume",), state="left"),
    "a page": Case("serve", ("builtin:sort", "--prompt", "CAB", *PORT)),
    "a page of a run": Case("serve", ("builtin:town-run", *PORT)),
    "a page of a file": Case("serve", ("{}/one.json", *PORT)),
    "a chat": Case("read", ("{}/chats.jsonl", "{}/model")),
    "turns": Case("read", ("{}/chats.jsonl", "{}/model", "--list")),
    "a replay": Case("replay", ("{}/one.json",)),
    "hidden states": Case("replay", ("{}/states.safetensors", "--layer-ids", "0,1,2,3,4,5,6")),
    "a batch on the screen": Case("replay", ("{}/batch",)),
    "a run": Case("watch", ("builtin:town-run",)),
    "checkpoints": Case(
        "watch",
        ("{}/trained", "--export", "{}/tables"),
        "tables",
        values={"--out": ("{}/other",), "--lens": ("tokens",), "--target": ("C", "--prompt", "AB")},
    ),
    "an agent": Case("mcp", ("builtin:sort",)),
    "a skill": Case("mcp", ("--skill",)),
    "a direction": Case(
        "fit direction",
        (
            *("builtin:town", "{}/labels.jsonl", "--out", "{}/probe.safetensors"),
            *("--shuffles", "2", "--dose-prompts", "4", "--layer", "0,2"),
        ),
        "probe.safetensors",
        values={"--strength": ("1",)},
    ),
    "a measured lens": Case(
        "fit check",
        ("tuned", "builtin:town", "--prompts", "{}/words.jsonl", "--skip", "2"),
    ),
    "merged lenses": Case(
        "fit merge",
        ("{}/half-0.safetensors", "{}/half-1.safetensors", "--out", "{}/lens.safetensors"),
        "lens.safetensors",
    ),
    "what is of no use": Case("cache prune", (), state="used"),
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
    talk = [("user", "a b"), ("assistant", "b a"), ("user", "c"), ("assistant", "d")]
    turns = [{"role": role, "content": text} for role, text in talk]
    chats = [
        {"chosen": turns, "rejected": [*turns[:-1], {"role": "assistant", "content": "e"}]},
        {"messages": turns[:2]},
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chats))
    save_model(folder / "model", vocab_size=300, max_position_embeddings=256)
    chat_tokenizer(STYLES["chatml"]).save_pretrained(folder / "model")
    texts = [(start, name) for start in ("what", "where", "why", "how") for name in ("anna", "ben")]
    lines = [
        {"positive": f"{start} {name} sell", "negative": f"{start} {name} live", "group": start}
        for start, name in texts
    ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step, name in enumerate(("town", "town-sft")):
        shutil.copytree(BUILTIN / name, folder / "trained" / f"checkpoint-{step}")
    recording = llmscope.load("builtin:town").record("cat -> kitten", fresh=True)
    streams = [recording.rows("stream", layer) for layer in range(recording.layers + 1)]
    write(folder / "states.safetensors", list(recording.prompt.ids), streams)
    for at in range(2):
        run(
            *("fit", "jacobian", "builtin:town", "--prompts", folder / "words.jsonl", "--skip", 2),
            *("--shard", f"{at}/2", "--out", folder / f"half-{at}.safetensors"),
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMSCOPE_STATE", str(folder / "left" / "state"))
        print_screens(patch)
        run("open", "builtin:sort", "--prompt", "CAB", "--edit", "zero mlp 1")
    old = folder / "used" / "cache" / "runs" / ("a" * 24)
    old.mkdir(parents=True)
    (old / "info.json").write_text("{}")
    model = folder / "used" / "cache" / "pypi" / "llm-x" / "1.0"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"x" * 2_000_000)
    long_ago = time.time() - 3 * 86_400
    for path in (old / "info.json", old, model / "model.safetensors", model):
        os.utime(path, (long_ago, long_ago))
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


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """Outcomes of cases as they stand, by name."""
    return {}


@pytest.fixture
def opened(files: Path) -> Iterator[None]:
    """Print screens, answers to an agent and what pages would open, where a command opens them."""
    with pytest.MonkeyPatch.context() as patch:
        print_screens(patch)
        patch.setattr("llmscope.web.server.PageServer", _Server)
        patch.setattr("llmscope.web.file_server.FileServer", _Server)
        patch.setattr("llmscope.agents.server.serve", _answer_agent)
        patch.setattr("llmscope.models.loading.memory.available", lambda _: 2**33)
        patch.setattr("psutil.virtual_memory", lambda: MEMORY)  # how much is free differs each time
        patch.setenv("COLORTERM", "truecolor")
        patch.setenv("LLMSCOPE_STATE", str(files / "home" / "state"))
        patch.setenv("LLMSCOPE_CACHE", str(files / "home" / "cache"))
        yield


class _Server:
    """Stands in for the servers of pages: prints where it listens and what pages show, and ends."""

    link = "the link"

    def __init__(self, page: Any, _: Any, listening: Any, **about: Any) -> None:
        self._shown, self._listening = (
            (page[1:] if isinstance(page, list) else page, about),
            listening,
        )

    async def until_left(self, tell: Callable[[], None]) -> int:
        tell()
        print(self._listening.origin, self._shown)
        for listening in self._listening.sockets:
            listening.close()
        return 0

    def leave(self, status: int) -> None:
        """Leave at once."""


def _answer_agent(session: Any) -> None:
    from llmscope.agents.session import AgentCall
    from llmscope.agents.tools import run as use

    print(
        use(session, "look", {"prompt": "CAB", "lens": "tokens"}, AgentCall()), session.folder.path
    )


def outcome(files: Path, case: Case, more: tuple[str, ...] = ()) -> tuple[int, str, Any]:
    """Run a case. Return its exit code, stderr, and all that came out."""
    written, home = files / case.written, files / "home"
    unfinished = files.glob(f"{case.written}.*")  # of a run that an option ended
    for path in (written, home, *unfinished, *files.glob("other*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if case.state:
        shutil.copytree(files / case.state, home)
        for path in home.rglob("*"):
            os.utime(path, (path.stat().st_mtime,) * 2)
    words = [word.replace("{}", str(files)) for word in (*case.words, *more)]
    result = run(*case.command.split(), *words)
    shown, said = (re.sub(PASSING, "", text) for text in (result.stdout, result.stderr))
    if case.command == "snapshot" and shown.startswith("{"):
        shown = json.dumps(json.loads(shown)["figures"])  # beside them stands the command itself
    return result.exit_code, said, (shown, said, contents(files, written))


def contents(files: Path, written: Path) -> dict[str, Any]:
    """Return what files hold, without what they say of their command."""
    found: dict[str, Any] = {}
    folders = (written, *files.glob("other*"))
    for path in sorted([*folders, *(file for folder in folders for file in folder.rglob("*"))]):
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            found[str(path)] = str(
                [
                    {name: value for name, value in row.items() if name not in ("time", "took")}
                    for row in parquet.read_table(path).to_pylist()
                ]
            )
        elif path.is_file() and path.name != "manifest.json":
            about = rb"<metadata>.*?</metadata>"  # beside the numbers stands the command itself
            found[str(path)] = re.sub(about, b"", path.read_bytes(), flags=re.S)
    return found


def named_by(flag: str, value: tuple[str, ...]) -> set[str]:
    """Return the words of which a refusal has one: the option's last word, or its value's."""
    return {flag.rpartition("-")[2], *(re.split(r"[:/]", word)[-1] for word in value)} - {""}


MATRIX = [(name, option) for name, case in CASES.items() for option in options_of(case)]


@pytest.mark.few(45)
@pytest.mark.parametrize(
    ("name", "option"), MATRIX, ids=[f"{name}-{option.opts[0]}" for name, option in MATRIX]
)
def test_it_is_used_or_refused_by_name(
    files: Path, opened: None, plain: dict[str, Any], name: str, option: Any
) -> None:
    case, flag = CASES[name], max(option.opts, key=len)
    value = () if option.is_flag else case.values.get(flag, VALUES.get(flag, ()))
    if flag == "--format" and case.command != "snapshot":
        value = ("json",)
    if option.secondary_opts and option.default:
        (flag,) = option.secondary_opts
    before = plain[name] = plain.get(name) or outcome(files, case)
    assert before[0] == (1 if case.command == "diff" else 0), before[1]
    code, said, after = outcome(files, case, (flag, *value))
    if code not in (0, before[0]) or "Error: " in said:
        assert "Traceback" not in said
        assert any(name in said for name in named_by(flag, value)), said
    elif after == before[2]:
        assert flag in (PERMISSIONS | case.same), "accepted, and nothing changes"


@pytest.mark.few(4)
@pytest.mark.parametrize("name", CASES)
def test_what_comes_out_is_the_same_again(files: Path, opened: None, name: str) -> None:
    """Else each option would seem to change it."""
    assert outcome(files, CASES[name]) == outcome(files, CASES[name])

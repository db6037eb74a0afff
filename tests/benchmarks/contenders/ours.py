"""llmscope, recording only: what a pass with all its taps costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import torch

import llmscope
from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptLine
from llmscope.figure import Focus
from llmscope.jobs.fit_lens.corpus import RULES
from llmscope.jobs.fit_lens.jacobian import batch_for, jacobian_rows
from llmscope.jobs.snapshots import BatchOutput, JobShare, PromptJob, PromptSource
from llmscope.jobs.snapshots import run as batch
from llmscope.jobs.snapshots.padded import Together, why_single
from llmscope.jobs.snapshots.rows import rows_of
from llmscope.jobs.snapshots.shards import Tables
from llmscope.record.derive.row_stats import row_stats
from llmscope.scope.scope import Scope
from llmscope.support.storage import LocalStorage
from tests.benchmarks.jobs import BACKWARDS, RECEIVER, Job, NotRun
from tests.benchmarks.texts import Prompt, pairs, prompt, prompts

WINDOW = 10
"""Tokens that the map shows of a long prompt at 120 columns."""


class Contender:
    def __init__(self, folder: str, device: str, threads: int, dtype: str = "float32") -> None:
        self.scope = self.opened(
            lambda: llmscope.load(folder, device=device, dtype=dtype, threads=threads)
        )
        torch.set_grad_enabled(False)

    def opened(self, load: Callable[[], Scope]) -> Scope:
        """Load the model in the thread that will run it, and return its scope."""
        return load()

    def prompt(self, length: int) -> Prompt:
        return prompt(self.scope.tokenizer, length)

    def fresh(self, length: int) -> Job:
        """A prompt that shares nothing with the one before.

        Not with `fresh=True`, which also reads every weight: that is no part of a pass.
        """
        text = self.prompt(length).text
        return Job(lambda: self._record(text, length), self.scope.forget)

    def read(self, length: int) -> Job:
        """A long prompt: all layers, the statistics of each token, the logit lens of a map."""
        text = self.prompt(length).text

        def run() -> object:
            recording = self.scope.record(text, special_tokens=False)
            *_, stats = row_stats(recording)
            map_ = self.scope.look("logit-lens", recording=recording, span=(-WINDOW, 0))
            return recording, stats, map_

        return Job(run, self.scope.forget)

    def append(self, length: int) -> Job:
        """One token after the others."""
        texts = self.prompt(length)
        return Job(lambda: self._record(texts.text, 1), lambda: self._record(texts.before))

    def middle(self, length: int) -> Job:
        """Another token in the middle."""
        texts = self.prompt(length)
        ran = length - length // 2
        return Job(lambda: self._record(texts.middle, ran), lambda: self._record(texts.text))

    def start(self, length: int) -> Job:
        """Another token at the start: nothing can be reused."""
        return self.anew(length)

    def anew(self, length: int) -> Job:
        """The same, recorded alone in every contender."""
        texts = self.prompt(length)
        return Job(lambda: self._record(texts.start, length), lambda: self._record(texts.text))

    def sweep(self, length: int) -> Job:
        """Every head set to zero in turn: the lens `ablation`, with all its figures."""
        recording = self.scope.record(self.prompt(length).text, fresh=True, special_tokens=False)
        return Job(
            lambda: list(self.scope.figures("ablation", recording, Focus())),
            recording.memo.clear,
        )

    def patched(self, count: int) -> Job:
        """So many pairs, one after another: the lens `patching`, each recorded anew."""
        return self._patched(count)

    def patched_heads(self, count: int) -> Job:
        """The same of each head."""
        return self._patched(count, mode="heads")

    def patched_edges(self, count: int) -> Job:
        """The same of the edge from each head and MLP to the values of a head."""
        return self._patched(count, mode="paths", receiver=f"head {RECEIVER[0]}.{RECEIVER[1]}.v")

    def _patched(self, count: int, **options: Any) -> Job:
        scope = self.scope
        found = [(pair, scope.encode(pair.other).ids) for pair in pairs(count)]
        if len({len(ids) for _, ids in found}) > 1:
            raise NotRun("the prompts have different numbers of tokens")

        def run() -> None:
            for pair, other in found:
                recording = scope.record(pair.text, fresh=True)
                names = {"target": scope.token(pair.target), "versus": scope.token(pair.versus)}
                scope.look("patching", recording=recording, versus_prompt=other, **names, **options)

        return Job(run, scope.forget)

    def attributed(self, count: int) -> Job:
        """So many prompts as in `llmscope snapshot --prompts`: attribution of all heads."""
        scope = self.scope
        answers = {"target": scope.token(" Mary"), "versus": scope.token(" John")}
        looking = PromptJob(("attribution",), Focus(mode="heads", position=-1, **answers))
        reason = why_single(scope, looking)
        if reason:
            raise NotRun(reason)
        lines = [PromptLine(number, pair.text) for number, pair in enumerate(pairs(count))]

        def run() -> None:
            rows = rows_of(scope, lines, looking, Together.of(16, looking.lenses))
            errors = [row.error for row in rows if row.error]
            if errors:
                raise RuntimeError(errors[0])

        return Job(run, scope.forget)

    def export(self, count: int) -> Job:
        """As `llmscope snapshot --prompts` once the model is loaded: from the file to shards."""
        home = TemporaryDirectory(prefix="llmscope-benchmarks-")
        source, out = Path(home.name, "prompts.jsonl"), Path(home.name, "out")
        texts = prompts(self.scope.tokenizer, count)
        source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), "utf-8")
        looking = PromptJob(
            ("next-token", "logit-lens"), Focus(span=(-1, 0), layer=-1, position=-1)
        )
        reason = why_single(self.scope, looking)
        if reason:
            raise NotRun(reason)

        def run() -> None:
            prompts = PromptSource(str(source))
            inputs, total = InputColumns.of(prompts)
            tables = Tables(looking, inputs)
            folder = BatchOutput(LocalStorage(out), JobShare(), looking.to_dict(), {}, tables)
            found = batch(
                *(self.scope, prompts, looking, folder),
                together=Together.of(16, looking.lenses),
                total=total,
                tell=print,
            )
            if (found.prompts, found.errors, found.kept) != (count, 0, 0):
                raise RuntimeError(f"the export made {found}")

        return Job(run, lambda: rmtree(out, ignore_errors=True), home)

    def jacobian(self, length: int) -> Job:
        """Rows of the Jacobians of one prompt for all layers, as `llmscope fit jacobian`."""
        recorder, model = self.scope.recorder, self.scope.loaded_model
        ids, width = self.prompt(length).ids, model.anatomy.width
        batch = batch_for(recorder, length, width)
        rows = torch.eye(width)[: BACKWARDS * batch]
        places = RULES.places(ids)
        streams = range(1, len(model.anatomy.layers))

        def run() -> None:
            jacobian_rows(recorder, ids, places, streams, rows, batch)

        return Job(run)

    def record_all(self, count: int) -> Job:
        """As `scope.record` of a list, from texts to recordings with all their tensors."""
        texts = prompts(self.scope.tokenizer, count)

        def run() -> None:
            found = self.scope.record(texts)
            if any(recording.reused for recording in found) or len(found) != count:
                raise RuntimeError("not every prompt was run")

        return Job(run)

    def _record(self, text: str, ran: int | None = None, *, fresh: bool = False) -> None:
        recording = self.scope.record(text, fresh=fresh, special_tokens=False)
        if ran is not None and recording.ran != ran:
            raise RuntimeError(f"the pass ran {recording.ran} tokens, not {ran}")

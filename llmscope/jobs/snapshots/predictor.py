"""A model that turns Arrow tables of prompts into tables of lenses, as for Ray Data's workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptLine, prompt_line
from llmscope.edits.parse import parse
from llmscope.errors import ScopeError, WrongValueError
from llmscope.figure.tables import Column
from llmscope.figure.tables.nested import nest_rows, renumber_lines
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.jobs.snapshots.padded import BOUND, Together, why_single
from llmscope.jobs.snapshots.rows import rows_of
from llmscope.jobs.snapshots.shards import TENSORS, PromptRow, Tables, tensors_of
from llmscope.jobs.snapshots.staged import read_staged
from llmscope.lenses import focus_from
from llmscope.lenses import lens as lens_called
from llmscope.scope.figures import EVERY, name_and_mode
from llmscope.support.arguments import quote_value

if TYPE_CHECKING:
    import pyarrow

    from llmscope.scope.scope import Scope


class Predictor:
    """Turns a batch with a column `prompt` into the table of a lens, for `Dataset.map_batches`.

    The table is that of `llmscope snapshot --prompts`: a row a token, a layer and token, a head …,
    with `line` (null if the batch has no column `line`), the columns of the lens, `status`, and
    all other columns of the batch. Prompts that fail have no rows in it. Take
    `batch_format="pyarrow"`.

    Args:
        model: the model, as of `llmscope.load`, which is loaded once an actor.
        lens: the lens whose table is returned.
        lenses: in place of `lens`: return a row a prompt, with a list column of each lens's rows,
            and of the rows of `prompts` (with `error`) and `verdicts`.
        batch_size: the most prompts of one padded pass.
        tolerance: how far batched numbers may differ from those of single runs.
        special_tokens: add the tokenizer's special tokens.
        chat: put each prompt into the model's chat template.
        system: the system message, with `chat`.
        edits: the edits of each pass, as text.
        load: further arguments of `llmscope.load`. Where Ray gave the worker no GPU, the device is
            the CPU.
        options: options of the lenses, as of `Scope.look`; layer and head may be "all".
    """

    def __init__(
        self,
        model: str | None = None,
        lens: str | None = None,
        *,
        lenses: Sequence[str] = (),
        batch_size: int = 16,
        tolerance: float = BOUND,
        special_tokens: bool = True,
        chat: bool = False,
        system: str | None = None,
        edits: Sequence[str] = (),
        load: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Load the model."""
        import ray

        from llmscope.record.capture.recording import Prompt
        from llmscope.scope.scope import load as load_scope

        if (lens is None) == (not lenses):
            raise WrongValueError("either lens or lenses, such as lens='tokens'")
        entries = [name_and_mode(entry) for entry in lenses or (lens or "",)]
        names, modes = tuple(lens_called(name).name for name, _ in entries), []
        for name, mode in entries:
            if mode and mode not in lens_called(name).modes:
                raise WrongValueError(f"{name} has no mode {quote_value(mode)}")
            modes += [(name, mode)] if mode else []
        if system is not None and not chat:
            raise WrongValueError("system takes chat=True")
        device = {} if ray.get_gpu_ids() else {"device": "cpu"}
        scope = load_scope(model, **{**device, **(load or {})})
        every = tuple(name for name in EVERY if options.get(name) == "all")
        focus_options = {name: value for name, value in options.items() if name not in every}
        special = special_tokens and not chat
        focus = focus_from(scope.ids_for(Prompt((), (), (special,)), focus_options))
        looking = PromptJob(
            *(names, focus, tuple(map(parse, edits)), special_tokens, chat, system, every),
            modes=tuple(modes),
        )
        single = batch_size == 1 or why_single(scope, looking, tolerance)
        self._begin(scope, looking, None if single else Together.of(batch_size, names))
        self._flat = None if lens is None else names[0]

    def _begin(self, scope: Scope, looking: PromptJob, together: Together | None) -> None:
        self._scope, self._looking, self._together = scope, looking, together
        self._columns: dict[str, tuple[Column, ...]] = {}

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Return the table, or a row a prompt."""
        import pyarrow

        kinds = {
            field.name: field.type for field in batch.schema if field.name not in ("prompt", "line")
        }
        rest, prompts = batch.select(list(kinds)).to_pylist(), batch["prompt"].to_pylist()
        lines = [prompt_line(0, *both) for both in zip(prompts, rest, strict=True)]
        known = "line" in batch.schema.names
        numbers = batch["line"].to_pylist() if known else [None] * len(lines)
        _, tables = self._tables(lines, rest, InputColumns(kinds))
        if self._flat is not None:
            return (
                renumber_lines(tables[self._flat], numbers) if self._flat in tables else batch[:0]
            )
        ends = range(1, len(lines) + 1)
        columns = [nest_rows(name, table, ends, numbers) for name, table in tables.items()]
        return pyarrow.Table.from_arrays(
            [array for _, array in columns], schema=pyarrow.schema([field for field, _ in columns])
        )

    def _tables(
        self,
        lines: Sequence[PromptLine],
        typed: Sequence[Mapping[str, Any]],
        inputs: InputColumns,
    ) -> tuple[list[PromptRow], dict[str, pyarrow.Table]]:
        """Return the results of prompts, and their tables, in which `line` counts from 0.

        Args:
            lines: the prompts, with their own options as they were given.
            typed: their other columns.
            inputs: the types of these.
        """
        rows = [
            replace(row, line=PromptLine(at, row.line.prompt, row.line.error, typed[at]))
            for at, row in enumerate(rows_of(self._scope, lines, self._looking, self._together))
        ]
        tables = Tables(self._looking, inputs)
        tables.columns = self._columns
        return rows, tables.tables(rows)


class ShardPredictor(Predictor):
    """Turns a staged shard into a row with a list column of each of its tables.

    Args:
        begin: loads the model, and returns it with the plan for it.
        plan: the plan of another worker: `looking`, the lenses and options for each prompt, and
            `together`, as the local engine takes them.
        tables: what the tables of the batch look like.

    Raises:
        ScopeError: the plans differ.
    """

    def __init__(self, begin: Callable[[], tuple[Scope, Any]], plan: Any, tables: Tables) -> None:
        scope, own_plan = begin()
        if own_plan != plan:
            what = "the workers' models, devices or versions are not all the same"
            raise ScopeError(what, "machines that are alike")
        self._begin(scope, plan.looking, plan.together)
        self._of_batch = tables

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Return the row of a shard, with the raw arrays if they are kept."""
        (records,) = batch["prompts"].to_pylist()
        pairs = read_staged(records)
        lines, typed = [line for line, _ in pairs], [inputs for _, inputs in pairs]
        rows, tables = self._tables(lines, typed, self._of_batch.inputs)
        shard = batch.select(["shard"])
        numbers = [line.number for line in lines]
        for name, table in tables.items():
            shard = shard.append_column(*nest_rows(name, table, [len(lines)], numbers))
        if self._of_batch.tensors:
            named = [replace(row, line=line) for row, line in zip(rows, lines, strict=True)]
            shard = shard.append_column(TENSORS, [[tensors_of(named)]])
        return shard

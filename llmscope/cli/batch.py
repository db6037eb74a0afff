"""`llmscope snapshot --prompts`: many prompts, written to a folder of shards."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli.options import said, usage
from llmscope.errors import ScopeError
from llmscope.text import display_text

if TYPE_CHECKING:
    from llmscope.batch import Looking, Part, Source
    from llmscope.models.subject import Progress
    from llmscope.scope import Scope

Prompts = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Many prompts: a .jsonl, .csv or .parquet file with `prompt` and perhaps `id`, a .txt "
        "file with one a line, or - for JSON lines on stdin. --out is a folder; the same command "
        "again goes on where it stopped.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="With --prompts: of every N prompts only the one at I, from 0, for N jobs.",
    ),
]
ShardSize = Annotated[int, typer.Option(min=1, help="With --prompts: prompts in a file.")]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1, help="With --prompts: how many at most go through the model together, where it can."
    ),
]

TOLD = 20
"""Prompts that failed of which there is a line each."""

_ONE_PROMPT = (
    *("prompt", "prompt_file", "ids", "written", "context_file", "answer", "words_a", "words_b"),
    *("workspace", "keys", "format", "size", "theme", "color", "ascii", "force"),
)
_PART = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class Batch:
    """What `--prompts` asks for, held against all that needs no model."""

    source: Source
    out: Path
    part: Part
    size: int

    def write(
        self,
        scope: Scope,
        looking: Looking,
        command: str,
        progress: Progress | None,
        tell: Callable[[str], None],
    ) -> None:
        """Look at all of them.

        Args:
            command: the command line, for the provenance of the numbers.
            tell: writes a note to stderr.

        Raises:
            ScopeError: the prompts cannot be read, or nothing can be written.
        """
        from llmscope.batch import Folder, run
        from llmscope.batch.padded import Together, why_single
        from llmscope.export import provenance

        def note(line: str) -> None:
            if progress is not None:
                progress("", 0, None)  # a note gets a line of its own
            tell(line)

        for notice in scope.subject.notices:
            note(notice)
        origin = provenance(scope, command, progress)
        why = why_single(scope, looking) if self.size > 1 else ""
        if why:
            note(f"the prompts go one by one: {why}")
        options = {
            **looking.to_dict(),
            **{key: origin[key] for key in sorted(origin.keys() - {"command", "threads"})},
            "batch_size": self.size,
            "shard_size": self.part.size,
            "shards": self.part.count,
        }
        folder = Folder(self.out, self.part, options, {"provenance": origin})
        failed = 0

        def fail(line: str) -> None:
            nonlocal failed
            failed += 1
            if failed <= TOLD:
                note(line)
            elif failed == TOLD + 1:
                note("more failed: see the column error")

        summary = run(
            *(scope, self.source, looking, folder),
            together=Together(self.size) if self.size > 1 and not why else None,
            tell=fail,
            progress=None if progress is None else lambda words: progress(words, 0, None),
        )
        words = f"{summary.prompts:,} prompts, {summary.errors:,} failed"
        kept = f", {summary.kept:,} were there already" if summary.kept else ""
        shards = "1 shard" if summary.shards == 1 else f"{summary.shards:,} shards"
        note(f"{words}{kept}: {shards} in {folder.shown}")


def check_batch(
    ctx: typer.Context,
    prompts: str | None,
    shard: str | None,
    shard_size: int,
    batch_size: int,
    out: str | None,
) -> Batch | None:
    """What `--prompts` asks for; None without it.

    Raises:
        BadParameter: an option belongs to one prompt, or to many.
        ScopeError: the prompts cannot be read, or pyarrow is missing.
    """
    if prompts is None:
        for name in said(ctx) & {"shard", "shard_size", "batch_size"}:
            usage(False, "it takes --prompts FILE", f"--{name.replace('_', '-')}")
        return None
    for name in sorted(said(ctx) & set(_ONE_PROMPT)):
        usage(False, "it is of one prompt, not of --prompts", f"--{name.replace('_', '-')}")
    usage("screen" not in ctx.params["lens"], "the screen is of one prompt", "--lens")
    usage(out not in (None, "-", ""), "a folder to write to", "--out")
    found = _PART.fullmatch(shard or "0/1")
    index, count = (int(found[1]), int(found[2])) if found else (1, 0)
    usage(index < count, "I/N with I from 0 to N − 1, such as 0/8", "--shard")
    from llmscope.batch import Part, Source
    from llmscope.batch.arrow import needed

    needed()
    path = Path(out or "")
    if path.exists() and not path.is_dir():
        shown = display_text(str(path)).replace("\n", " ")
        raise ScopeError(f"{shown} is no folder", "another --out")
    return Batch(Source(prompts), path, Part(index, count, shard_size), batch_size)


def write_batch(
    batch: Batch,
    scope: Scope,
    looking: Looking,
    command: str,
    versus_prompt: str | None,
    progress: Progress | None,
    tell: Callable[[str], None],
) -> None:
    """Look at all prompts of a batch, beside prompt B if there is one."""
    if versus_prompt is not None:
        from llmscope.cli.whatif import other_ids

        text = scope.chat.prompt(versus_prompt, looking.system) if looking.chat else versus_prompt
        special = looking.special_tokens and not looking.chat
        ids = other_ids(scope, text, special_tokens=special)
        looking = replace(looking, focus=replace(looking.focus, versus_prompt=ids))
    batch.write(scope, looking, command, progress, tell)

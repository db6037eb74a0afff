"""The tool `many_prompts`: a lens over many prompts, and the means of its table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import fit_answer, line
from llmscope.agents.establishes import establishes
from llmscope.agents.parameters import Parameter, Tool
from llmscope.agents.tools.shared import (
    CHAT,
    LENS_PARAMETERS,
    VERSUS_PROMPT,
    lens_options,
    passes_prompt_b,
)
from llmscope.errors import ScopeError
from llmscope.figure import Focus

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession
    from llmscope.jobs.snapshots import BatchOutput, PromptJob, PromptSource, Summary
    from llmscope.record.capture.recording import Prompt
    from llmscope.report.means import Breakdown, Distribution
    from llmscope.report.summary import LensReport, Report
    from llmscope.scope.scope import Scope

TARGET = "p_target"
"""The column that a question about a target is answered by."""
MOST_PROMPTS = 10_000
"""Maximum number of prompts in a call; the command line takes any number."""
ROWS = 16
"""Rows of an answer if no number is given."""
TOGETHER = 16
"""Prompts of one pass, where that gives the numbers of single passes."""
SUFFIXES = (".jsonl", ".csv", ".parquet", ".txt")


def many_prompts(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Apply a lens to each prompt, write its tables, and return the means of their columns."""
    from llmscope.figure.tables.arrow import needed
    from llmscope.jobs.snapshots import PromptJob, PromptSource
    from llmscope.lenses import lens
    from llmscope.report.summary import ReportRequest, report

    needed()
    chosen = lens(arguments["lens"])
    scope = session.scope(call)
    options = lens_options(arguments, chosen, allow_pickle=session.options.allow_pickle)
    name = session.folder.free("many")
    source = PromptSource(str(_source(session, arguments, name)))
    chat = arguments.get("chat", False)
    passes_prompt_b(
        session, chosen, arguments
    )  # it checks; a patching edit has B from the focus too
    other = arguments.get("versus_prompt", session.versus_prompt)
    if other is not None:
        options["versus_prompt"] = scope.prompt(
            scope.chat.prompt(other) if chat else other, special_tokens=not chat
        ).ids
    job = PromptJob((chosen.name,), _focus(scope, chosen.name, source, options), session.edits)
    job = PromptJob(job.lenses, job.focus, job.edits, chat=chat)
    folder = session.folder.make_folder(name)
    failures: list[str] = []
    summary = _run(scope, source, job, folder, call, failures)
    if summary.errors == summary.prompts:
        why = failures[0] if failures else "the file has no prompts"
        raise ScopeError(f"all {summary.prompts:,} prompts failed: {line(why)}", "other prompts")
    head = [
        line(f"{chosen.name} over {summary.prompts:,} prompts, {summary.errors:,} failed", 200),
        *(line(f"failed: {failure}", 200) for failure in failures[:2]),
        line(f"edits in force: {'; '.join(map(str, job.edits))}") if job.edits else "",
        f"establishes: {establishes(chosen)}; means over these prompts, not over all text",
        f"tables: {session.folder.shown(folder)} (llmscope report and replay read them)",
    ]
    if chosen.name not in summary.lenses:
        reasons = summary.refused.get(chosen.name, {})
        return fit_answer([*head, *(line(f"refused: {reason}") for reason in reasons)])
    result = report(
        str(folder), ReportRequest(lenses=(chosen.name,), last=arguments.get("last", False))
    )
    (lens_report,) = result.lenses
    rows = [*_rows(lens_report)]

    def file() -> str:
        text = "\n".join((*head, _HEADER, *rows)) + "\n"
        return session.folder.shown(session.folder.put(f"{name}-means.txt", text))

    limit = arguments.get("rows", ROWS)
    return fit_answer(
        [*head, _verdicts(lens_report), _intervals(result, lens_report), _HEADER],
        rows[:limit],
        file=file,
        left=max(0, len(rows) - limit),
    )


_HEADER = "column\tby\tmean\t95 % interval\tn prompts\tn rows\t5 %–95 % of rows"


def _source(session: AgentSession, arguments: Mapping[str, Any], name: str) -> Path:
    """Return the file of prompts: the one that is named, or one with those of the call.

    Raises:
        ScopeError: neither or both are given, or the file is not one that may be read.
    """
    prompts, file = arguments.get("prompts"), arguments.get("file")
    if (prompts is None) == (file is None):
        raise ScopeError("prompts or file: one of them", 'prompts=["a text", "another"]')
    if prompts is not None:
        if not 0 < len(prompts) <= MOST_PROMPTS:
            raise ScopeError(
                f"{len(prompts):,} prompts", f"1 to {MOST_PROMPTS:,} prompts, or a file"
            )
        lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        return session.folder.put(f"{name}.jsonl", lines)
    return readable(session, str(file))


def readable(session: AgentSession, file: str) -> Path:
    """Return the path of a file of prompts in the working folder or the output folder.

    Raises:
        ScopeError: it is elsewhere, or its suffix is not that of a file of prompts.
    """
    here = Path.cwd().resolve()
    try:
        path = (here / file).resolve()
        if not path.exists():
            path = (session.folder.path / file).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise ScopeError(f"{line(file, 100)!r} is no path", "a file of prompts") from error
    inside = any(path.is_relative_to(folder) for folder in (here, session.folder.path))
    if not inside:
        raise ScopeError(
            f"{line(file, 100)!r} is neither in the working folder nor in the output folder",
            "prompts=[…], or a file there",
        )
    if path.suffix.lower() not in SUFFIXES:
        raise ScopeError(f"{line(file, 100)!r} is no file of prompts", " or ".join(SUFFIXES))
    return path


def _focus(scope: Scope, name: str, source: PromptSource, options: dict[str, Any]) -> Focus:
    """Return the focus for each prompt. Tokens are the same for all."""
    from llmscope.lenses import lens

    return scope.focus_of(lens(name), _first(scope, source), options)


def _first(scope: Scope, source: PromptSource) -> Prompt:
    """Return the first prompt that fits the model; of one token if there is no such prompt."""
    for record in source:
        if record.prompt is not None:
            with suppress(ScopeError):  # it fails alone, as others do
                return scope.prompt(record.prompt)
    return scope.prompt([0])


def _run(
    scope: Scope,
    source: PromptSource,
    job: PromptJob,
    path: Path,
    call: AgentCall,
    failures: list[str],
) -> Summary:
    from llmscope.corpus.records.inputs import InputColumns
    from llmscope.export import provenance_of
    from llmscope.jobs.snapshots import BatchOutput, JobShare, run
    from llmscope.jobs.snapshots.padded import Together, why_single
    from llmscope.jobs.snapshots.shards import Tables
    from llmscope.support.storage import LocalStorage

    inputs, total = InputColumns.of(source)
    if total > MOST_PROMPTS:
        raise ScopeError(
            f"the file has {total:,} prompts, more than {MOST_PROMPTS:,}",
            "llmscope snapshot --prompts FILE --out FOLDER",
        )
    together = None if why_single(scope, job) else Together.of(TOGETHER, job.lenses)
    origin = {**provenance_of(scope.origin(), None), "command": None}
    options = {**job.to_dict(), **origin, "batch_size": TOGETHER}
    folder: BatchOutput = BatchOutput(
        LocalStorage(path), JobShare(), options, {"provenance": origin}, Tables(job, inputs)
    )

    def progress(words: str) -> None:
        call.stop_if_cancelled()
        call.report(line(words))

    return run(
        *(scope, source, job, folder),
        together=together,
        total=total,
        tell=failures.append,
        progress=progress,
    )


def _verdicts(lens_report: LensReport) -> str:
    counts = ", ".join(
        f"{count:,} {status}" for status, count in sorted(lens_report.statuses.items())
    )
    why = f" ({lens_report.reason})" if lens_report.reason else ""
    return line(f"verdicts by prompt: {counts}{why}")


def _intervals(result: Report, lens_report: LensReport) -> str:
    from llmscope.report.figures import FEW, FEW_REMARK

    few = f"; note: {FEW_REMARK}" if lens_report.prompts < FEW else ""
    return f"intervals: bootstrap over prompts, {result.how.resamples:,} resamples{few}"


def _rows(lens_report: LensReport) -> Iterator[str]:
    """Yield a row for each column of numbers, and one for each group of its means.

    The probability of the target comes first, where there is one.
    """
    for distribution in sorted(
        lens_report.distributions, key=lambda distribution: distribution.value != TARGET
    ):
        yield _distribution(distribution)
    for each in sorted(lens_report.breakdowns, key=lambda each: each.value != TARGET):
        ordered = all(each.ordered) and not each.difference
        for estimate in each.estimates if ordered else each.ranked:
            labels = ", ".join(
                f"{name} {label}" for name, label in zip(each.by, estimate.labels, strict=True)
            )
            low, high = estimate.low, estimate.high
            yield "\t".join(
                (
                    _name_with_unit(each),
                    line(labels, 60) + (" (last token)" if each.last else ""),
                    f"{estimate.mean:.4g}",
                    "" if low is None or high is None else f"{low:.4g} to {high:.4g}",
                    f"{estimate.prompts:,}",
                    f"{estimate.rows:,}",
                    "",
                )
            )


def _distribution(distribution: Distribution) -> str:
    low, high = distribution.all.low, distribution.all.high
    return "\t".join(
        (
            _name_with_unit(distribution),
            "all",
            f"{distribution.all.mean:.4g}",
            "" if low is None or high is None else f"{low:.4g} to {high:.4g}",
            f"{distribution.all.prompts:,}",
            f"{distribution.all.rows:,}",
            f"{distribution.quantiles[1]:.4g} to {distribution.quantiles[5]:.4g}",
        )
    )


def _name_with_unit(part: Distribution | Breakdown) -> str:
    return line(f"{part.value} [{part.unit}]" if part.unit else part.value, 60)


MANY_PROMPTS = Tool(
    "many_prompts",
    "Apply a lens to many prompts, with the edits in force: means with intervals, the number of "
    "prompts n and the spread, and full tables (Parquet) in a folder. Use it before saying that "
    "something holds in general: one prompt shows one case.",
    (
        Parameter("lens", "text", "The name of the lens.", required=True),
        Parameter("prompts", "texts", f"The prompts, at most {MOST_PROMPTS:,}."),
        Parameter(
            "file",
            "text",
            "A .jsonl, .csv, .tsv, .parquet (column prompt) or .txt file (a prompt a line), in the "
            "working folder of the server or its output folder.",
        ),
        CHAT,
        *LENS_PARAMETERS,
        VERSUS_PROMPT,
        Parameter("last", "switch", "Only rows of the last token of each prompt."),
        Parameter("rows", "integer", "Maximum number of rows.", least=1, most=1000),
    ),
    many_prompts,
)

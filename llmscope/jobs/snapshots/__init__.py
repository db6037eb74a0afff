"""Batch runs: read prompts as a stream, apply lenses to each, write the results as shards."""

from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptLine, PromptSource
from llmscope.jobs.snapshots.folder import BatchOutput
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.jobs.snapshots.progress import Summary
from llmscope.jobs.snapshots.run import run
from llmscope.jobs.store import JobShare

__all__ = [
    "BatchOutput",
    "InputColumns",
    "JobShare",
    "PromptJob",
    "PromptLine",
    "PromptSource",
    "Summary",
    "run",
]

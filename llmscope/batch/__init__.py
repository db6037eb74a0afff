"""Batch runs: read prompts as a stream, apply lenses to each, write the results as shards."""

from llmscope.batch.folder import BatchFolder, Folder, JobShare
from llmscope.batch.job import PromptJob
from llmscope.batch.progress import Summary
from llmscope.batch.prompts import PromptLine, PromptSource
from llmscope.batch.run import run

__all__ = [
    "BatchFolder",
    "Folder",
    "JobShare",
    "PromptJob",
    "PromptLine",
    "PromptSource",
    "Summary",
    "run",
]

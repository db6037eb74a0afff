"""Many prompts through one model: read as a stream, looked at, written as shards."""

from llmscope.batch.folder import Folder, Part
from llmscope.batch.job import Looking
from llmscope.batch.progress import Summary
from llmscope.batch.prompts import Line, Source
from llmscope.batch.run import run

__all__ = ["Folder", "Line", "Looking", "Part", "Source", "Summary", "run"]

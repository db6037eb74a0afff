"""Comparisons over texts of the built-in base's world, and what they leave in a folder."""

import json

import llmscope
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.jobs.compare.run import compare
from llmscope.jobs.snapshots import PromptSource
from tests.learned.texts import TEXTS

HOW = CorpusComparison(length=40, shard_size=5, moved=6, resamples=100)


def write_texts(path, texts=TEXTS[:12]):
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


def run(path, out, how=HOW, a="builtin:town", b="builtin:town-pirate", **more):
    """Compare two models over a file, and return the summary."""
    loaders = [one if callable(one) else lambda one=one: llmscope.load(one) for one in (a, b)]
    settings = {"name": "texts.jsonl", "tell": lambda _: None, **more}
    return compare(*loaders, PromptSource(str(path)), how, out, **settings)


def files_of(folder):
    """Return the files of a folder and the folders in it, by path."""
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }

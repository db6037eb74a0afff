"""Example prompts, and what each of them shows."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from llmscope.support.package_data import shipped_folder, world
from llmscope.tui.state.context_marker import Marked, marked


@dataclass(frozen=True)
class ExamplePrompt:
    """A prompt that demonstrates something.

    Attributes:
        name: the name of its file.
        title, about: texts shown to the user.
        prompt: the text, with a mark after its context if it has one.
        model: the spec of the one model that it suits; empty means all that know English.
    """

    name: str
    title: str
    about: str
    prompt: str
    model: str = ""


def sample_folder() -> Path:
    """Return the folder of the prompts that ship with llmscope."""
    return shipped_folder("demo/prompts", "_prompts")


@cache
def example_prompts() -> tuple[ExamplePrompt, ...]:
    """Return all example prompts, sorted by name; those with a context of examples come last."""
    samples_read = map(_read, sorted(sample_folder().glob("*.toml")))
    return tuple(sorted(samples_read, key=lambda sample: marked(sample.prompt).cut is not None))


def samples_for(spec: str) -> tuple[ExamplePrompt, ...]:
    """Return the example prompts that suit a model."""
    return tuple(sample for sample in example_prompts() if sample.model == world(spec))


def _read(path: Path) -> ExamplePrompt:
    record = tomllib.loads(path.read_text(encoding="utf-8"))
    if "examples" in record:
        context = "".join(record["examples"])
        prompt = Marked(context + record["query"], len(context)).written
        title = f"{path.stem.replace('-', ' ')}: {len(record['examples'])} examples"
    else:
        prompt, title = record["prompt"], record["title"]
    return ExamplePrompt(path.stem, title, record["about"], prompt, record.get("model", ""))

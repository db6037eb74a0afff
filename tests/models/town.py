"""Questions to the family that ships, and what counts as an answer. Needs no trl.

What is asked is drawn by `demo.lifecycle`, from a seed of its own and from what its training keeps
out: facts that no stage after pretraining asks about, examples whose combinations of words occur in
no training text. What counts as right and as a style is said here once more.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from random import Random

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification

from llmscope.models.sources import builtin

SEED = 20_261
LIFECYCLE = Path(__file__).parents[2] / "demo" / "lifecycle"
STYLES = {
    "polite": re.compile(r"certainly, .+\. thank you for asking\."),
    "pirate": re.compile(r"arr, .+, matey!"),
    "shout": re.compile(r"hear ye! .+! hear ye!"),
}


def part(name):
    """A module of `demo.lifecycle`, which is in no installed package."""
    if "demo_lifecycle" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "demo_lifecycle", LIFECYCLE / "__init__.py", submodule_search_locations=[str(LIFECYCLE)]
        )
        sys.modules["demo_lifecycle"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["demo_lifecycle"])
    return importlib.import_module(f"demo_lifecycle.{name}")


@cache
def model(name):
    """A member as transformers and peft load it."""
    folder = builtin.home() / name
    if name in ("town-pirate", "town-shout"):
        below = AutoModelForCausalLM.from_pretrained(builtin.home() / "town-sft")
        return PeftModel.from_pretrained(below, folder).eval()
    kind = LlamaForSequenceClassification if name == "town-reward" else AutoModelForCausalLM
    return kind.from_pretrained(folder).eval()


@cache
def tokenizer(side="left"):
    return AutoTokenizer.from_pretrained(builtin.home() / "town", padding_side=side)


@torch.no_grad()
def said(name, prompts, length=24):
    """The likeliest continuation of each prompt, to the end of the text."""
    given = tokenizer()(list(prompts), return_tensors="pt", padding=True)
    made = model(name).generate(
        input_ids=given["input_ids"],
        attention_mask=given["attention_mask"],
        max_new_tokens=length,
        do_sample=False,
    )
    return tokenizer().batch_decode(
        made[:, given["input_ids"].shape[1] :], skip_special_tokens=True
    )


@cache
def town_questions():
    """(prompt, the right word, the wrong ones) of each fact that training never asks about."""
    facts, prose = part("facts"), part("prose")
    return tuple(
        (
            f"question: {form.format(person=fact.person)} answer:",
            fact.value,
            frozenset(facts.RELATIONS[fact.relation]) - {fact.value},
        )
        for fact in facts.facts(training=False)
        for form in prose.ASKED[fact.relation]
    )


def right(answer, value, wrong):
    words = set(re.findall(r"\w+", answer))
    return value in words and not words & wrong


@cache
def answered(name):
    """The answers of a member to `town_questions`."""
    return tuple(said(name, [prompt for prompt, _, _ in town_questions()]))


def correct(name):
    """The share of right answers."""
    pairs = zip(answered(name), town_questions(), strict=True)
    found = [right(answer, value, wrong) for answer, (_, value, wrong) in pairs]
    return sum(found) / len(found)


def styled(name, style):
    """The share of answers in a style."""
    return sum(bool(STYLES[style].fullmatch(one)) for one in answered(name)) / len(answered(name))


def in_context(task, shots, count=120, name="town"):
    """The share of held-out questions of a small task that are answered after some examples."""
    random = Random(SEED + shots)
    asked = [part("tasks").prompt(random, task, shots) for _ in range(count)]
    found = said(name, [prompt for prompt, _ in asked], length=1)
    return sum(one == answer for one, (_, answer) in zip(found, asked, strict=True)) / count

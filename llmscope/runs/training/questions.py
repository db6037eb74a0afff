"""What a run records: prompts with their options, and lenses with theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmscope.errors import WrongTypeError, WrongValueError
from llmscope.lenses import Lens, lens, options, suggested
from llmscope.lenses.stacked import ALL
from llmscope.models.tokenizer.prompt_inputs import OnePrompt
from llmscope.support import arguments

DEFAULT_LENSES = ("tokens", "next-token", "logit-lens", "heads")
WHOLE: dict[str, dict[str, Any]] = {"attention": {"mode": "all", "layer": ALL}}
"""Options of lenses that are recorded for every layer and head unless others are given."""

AskedLens = str | tuple[str, Mapping[str, Any]]
"""`NAME`, `NAME:MODE`, or a name with options of the lens."""
AskedPrompt = OnePrompt | Mapping[str, Any]
"""A prompt, or a mapping with `prompt` and options of lenses, such as `target`."""


@dataclass(frozen=True)
class LensQuestion:
    """A lens and the options that it is recorded with."""

    lens: Lens
    options: Mapping[str, Any] = field(default_factory=dict)

    def for_prompt(self, prompt: PromptQuestion) -> dict[str, Any]:
        """Return the options for one prompt: its own where the lens reads them, then the lens's."""
        allowed = {option.name for option in self.lens.allowed}
        mode = {}
        if (
            "target" in self.lens.modes
            and "mode" not in self.options
            and "target" in prompt.options
        ):
            mode = {"mode": "target"}
        mode_shown = str({**mode, **self.options}.get("mode", ""))
        of_prompt = {
            name: value
            for name, value in prompt.options.items()
            if name in allowed and not self.lens.unread(name, mode_shown)
        }
        all_options = {**mode, **of_prompt, **self.options}
        whole = {} if "head" in all_options else WHOLE.get(self.lens.name, {})
        return {**whole, **all_options}


@dataclass(frozen=True)
class PromptQuestion:
    """A prompt and the options that its figures share, such as its target."""

    prompt: OnePrompt
    options: Mapping[str, Any] = field(default_factory=dict)


def read_lenses(lenses: Sequence[AskedLens]) -> tuple[LensQuestion, ...]:
    """Check the lenses of a run.

    Raises:
        TypeError, ValueError: a lens, a mode or an option does not exist, or no lens is given.
    """
    if isinstance(lenses, str):
        raise WrongTypeError(f"lenses must be a list, such as [{lenses!r}]")
    questions: list[LensQuestion] = []
    for at, item in enumerate(arguments.several("lenses", lenses)):
        name: Any = item
        lens_options: dict[str, Any] = {}
        if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[1], Mapping):
            name, lens_options = item[0], dict(item[1])
        name, _, mode = arguments.text(f"lenses[{at}]", name).partition(":")
        chosen = lens(name)
        if mode:
            lens_options = {"mode": mode, **lens_options}
        _check_options(chosen, lens_options)
        questions.append(LensQuestion(chosen, lens_options))
    if not questions:
        raise WrongValueError("lenses is empty: give at least one")
    return tuple(questions)


def _check_options(chosen: Lens, lens_options: Mapping[str, Any]) -> None:
    allowed = {option.name for option in chosen.allowed} | {"layer"}
    for name, value in lens_options.items():
        if name == "mode":
            if value not in chosen.modes:
                there = ", ".join(chosen.modes) or "it has none"
                raise WrongValueError(
                    f"the lens {chosen.name} has no mode {arguments.quote_value(value)}: {there}"
                )
        elif name not in allowed:
            raise WrongValueError(
                f"the lens {chosen.name} has no option {arguments.quote_value(name)}"
                f"{suggested(str(name), allowed)}"
            )
        elif unread := chosen.unread(name, str(lens_options.get("mode", ""))):
            raise ValueError(unread)


def check_used(prompts: Sequence[PromptQuestion], lenses: Sequence[LensQuestion]) -> None:
    """Check that each option of a prompt is one of a lens of the run; any prompt has a target.

    Raises:
        ValueError: none of the lenses has it.
    """
    used = {option.name for question in lenses for option in question.lens.allowed}
    for at, prompt in enumerate(prompts):
        for name in prompt.options:
            if name not in used and name not in ("target", "answer"):
                raise WrongValueError(
                    f"prompts[{at}] has the option {arguments.quote_value(name)}, "
                    "which none of the lenses has"
                )


def read_prompts(prompts: Sequence[AskedPrompt]) -> tuple[PromptQuestion, ...]:
    """Check the prompts of a run, as far as that needs no model.

    Raises:
        TypeError, ValueError: an option does not exist, or there is no prompt.
    """
    if isinstance(prompts, str | bytes | Mapping):
        raise WrongTypeError(
            f"prompts must be a list of prompts, not {arguments.quote_value(prompts)}"
        )
    known = options()
    questions: list[PromptQuestion] = []
    for at, item in enumerate(arguments.several("prompts", prompts)):
        if not isinstance(item, Mapping) or "prompt" not in item:
            questions.append(PromptQuestion(item))
            continue
        prompt_options = {name: value for name, value in item.items() if name != "prompt"}
        for name in prompt_options:
            if name not in known or name == "mode":
                raise WrongValueError(
                    f"prompts[{at}] has an option {arguments.quote_value(name)}, which no lens has"
                    f"{suggested(str(name), known)}"
                )
        questions.append(PromptQuestion(item["prompt"], prompt_options))
    if not questions:
        raise WrongValueError("prompts is empty: give at least one")
    return tuple(questions)

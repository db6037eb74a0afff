"""What a run records of a causal language model: figures of lenses for each prompt."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError
from llmscope.figure import Figure, plain
from llmscope.lenses import focus_dict, focus_from, lens
from llmscope.lenses.stacked import layers_of
from llmscope.models.info import ModelInfo
from llmscope.models.loading.frozen_copy import unfrozen
from llmscope.runs.format import RunFigure, RunInfo, RunPrompt
from llmscope.runs.training.questions import (
    AskedLens,
    AskedPrompt,
    LensQuestion,
    PromptQuestion,
    check_used,
    read_lenses,
    read_prompts,
)
from llmscope.runs.training.since_start import StartCopy
from llmscope.support import arguments
from llmscope.version import __version__, installed

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope.scope import Scope

PLACES = ("layer", "head", "position")
STAGES = "stages"
OF_MODEL = "model"
"""What keys of figures begin with that are the same for every prompt."""


@dataclass(frozen=True)
class _Asked:
    """A figure to record: its key, its lens, the index of its prompt, and its options."""

    figure: RunFigure
    at: int
    options: Mapping[str, Any]


class LensSource:
    """Records prompts on a model, and looks at them with lenses.

    Args:
        scope: the model.
        prompts, lenses: see `llmscope.runs.training.Run`.
        kind: `training`, or `checkpoints` where saved weights are recorded.

    Attributes:
        info: what a step holds.

    Raises:
        TypeError, ValueError: a lens, an option or a prompt is wrong.
        ScopeError: a prompt does not fit the model.
    """

    def __init__(
        self,
        scope: Scope,
        prompts: Sequence[AskedPrompt],
        lenses: Sequence[AskedLens],
        kind: str = "training",
    ) -> None:
        questions, chosen = read_prompts(prompts), read_lenses(lenses)
        check_used(questions, chosen)
        model = scope.info()
        self._start: StartCopy | None = None
        if (
            any(question.lens.name == STAGES for question in chosen)
            and scope.loaded_model.origin is None
        ):
            self._start = StartCopy(scope)
            scope = self._start.scope
        self._scope = scope
        self._prompts: list[Prompt] = []
        self._asked: list[_Asked] = []
        run_prompts: list[RunPrompt] = []
        for at, question in enumerate(questions):
            prompt, resolved = self._read(at, question)
            self._prompts.append(prompt)
            run_prompts.append(
                prompt_record(scope.loaded_model.label, question, prompt, resolved.options)
            )
            for lens_question in chosen:
                self._ask(at, lens_question, resolved)
        self.info = run_info(model, run_prompts, [figure.figure for figure in self._asked], kind)
        if self._start is not None:
            self._start.begin(self._prompts)

    def _read(self, at: int, question: PromptQuestion) -> tuple[Prompt, PromptQuestion]:
        """Return the tokens of a prompt, and its options with texts replaced by ids."""
        try:
            prompt = self._scope.prompt(question.prompt)
            options = self._scope.ids_for(prompt, dict(question.options))
            answer = options.get("answer")
            if answer and "target" not in options:
                options["target"] = answer[0]
            focus_from(options)
        except ScopeError as error:
            raise error.at(f"prompts[{at}]") from error
        return prompt, PromptQuestion(question.prompt, options)

    def _ask(self, at: int, lens_question: LensQuestion, question: PromptQuestion) -> None:
        """Add the figure of a lens for a prompt, or once for all prompts if they share it."""
        options_given = lens_question.for_prompt(question)
        mode = options_given.get("mode", next(iter(lens_question.lens.modes), ""))
        of_model = mode in lens_question.lens.of_model
        name = f"{lens_question.lens.name}:{mode}" if mode else lens_question.lens.name
        first = key = f"{OF_MODEL if of_model else at}/{name}"
        keys, again = {known.figure.key for known in self._asked}, 1
        if of_model and key in keys and at:
            return
        while key in keys:
            again += 1
            key = f"{first}#{again}"
        prompt = None if of_model else at
        options = {name: plain(value) for name, value in options_given.items() if name != "mode"}
        self._check(at, {name: value for name, value in options_given.items() if name in PLACES})
        figure = RunFigure(
            key=key, lens=lens_question.lens.name, mode=mode, prompt=prompt, options=options
        )
        self._asked.append(_Asked(figure, at, options_given))

    def _check(self, at: int, places: Mapping[str, Any]) -> None:
        """Check that a layer, a head and a position exist.

        Raises:
            ValueError: one does not exist.
        """
        anatomy = self._scope.loaded_model.anatomy
        counts = {
            "layer": len(anatomy.layers),
            "head": anatomy.heads,
            "position": len(self._prompts[at]),
        }
        for name, place in places.items():
            if name != "layer" or layers_of(place, counts[name]) is None:
                number = arguments.integer(name, place)
                arguments.check_index(f"prompts[{at}]: {name}", number, counts[name])

    def figures(self) -> dict[str, Figure]:
        """Return the figures of the model as it is now, by key."""
        scope, figures = self._scope, dict[str, Any]()
        start = scope.loaded_model.origin
        if start is not None and unfrozen(scope.loaded_model, start):
            raise ScopeError(
                "parameters that were frozen at the start are trained now, and the lens stages has "
                "no copy of them",
                "a run without stages, or one that begins after they are unfrozen",
            )
        flaw = "" if self._start is None else self._start.why_not(self._prompts)
        with scope.unchanged():
            # Fresh: measuring whether a prompt may reuse another's pass takes longer than a pass.
            recordings: list[Recording] = [
                scope.record(prompt.ids, fresh=True) for prompt in self._prompts
            ]
            for wanted in self._asked:
                recording, name = recordings[wanted.at], wanted.figure.lens
                if flaw and name == STAGES and wanted.figure.mode not in lens(name).of_model:
                    figures[wanted.figure.key] = Figure.refused(name, name, flaw)
                else:
                    figures[wanted.figure.key] = scope.look(
                        name, recording=recording, **wanted.options
                    )
        return figures

    def forget(self, *, free: bool) -> None:
        """Drop what was recorded; `free` gives memory back that the device caches."""
        self._scope.forget(free=free)


def run_info(
    model: ModelInfo, prompts: Sequence[RunPrompt], figures: Sequence[RunFigure], kind: str
) -> RunInfo:
    """Return the content of `run.json`."""
    return RunInfo(
        llmscope=__version__,
        model={
            "spec": model.name,
            "architecture": model.architecture,
            "layers": model.layers,
            "heads": model.heads,
            "width": model.width,
            "vocabulary": model.vocabulary,
            "parameters": model.parameters,
            "dtype": model.dtype,
            "device": model.device,
            "revision": model.revision,
            "adapter": model.adapter,
        },
        versions={
            "torch": installed("torch"),
            "transformers": installed("transformers"),
            "python": platform.python_version(),
        },
        prompts=tuple(prompts),
        figures=tuple(figures),
        source=kind,
    )


def prompt_record(
    label: Callable[[int], str],
    question: PromptQuestion,
    prompt: Prompt,
    options: Mapping[str, Any],
) -> RunPrompt:
    """Return a prompt as `run.json` holds it.

    Args:
        label: returns the text of a token.
        question: the prompt as it was asked for.
        prompt: its tokens.
        options: the options of its figures, with texts replaced by ids.
    """
    focus = focus_from(dict(options))
    other = focus.versus_prompt
    text = question.prompt if isinstance(question.prompt, str) else prompt.text or None
    if prompt.labels == tuple(map(str, prompt.ids)):  # there is no tokenizer
        text = " ".join(prompt.labels)
    return RunPrompt(
        text=text,
        ids=tuple(map(int, prompt.ids)),
        labels=tuple(prompt.labels),
        special=tuple(map(bool, prompt.special)),
        focus=focus_dict(focus),
        target=None if focus.target is None else label(focus.target),
        versus_prompt=None if other is None else "".join(map(label, other)),
    )

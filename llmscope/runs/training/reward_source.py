"""What a run records of a reward model: its score after each token of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmscope.figure import Focus
from llmscope.lenses import focus_from
from llmscope.lenses.stages.score import score_figure
from llmscope.models.anatomy import find
from llmscope.models.info import model_info
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.loading.at_rest import at_rest, one_thread
from llmscope.models.loading.reward import HEAD, RewardModel
from llmscope.models.loading.wrap import named_after, tokens_of, unwrapped
from llmscope.models.spec import IN_MEMORY
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.prompt_inputs import OnePrompt, prompt_input
from llmscope.record.capture.prompts import prompt_from
from llmscope.runs.format import RunFigure
from llmscope.runs.training.lens_source import prompt_record, run_info
from llmscope.runs.training.questions import AskedPrompt, PromptQuestion, read_prompts

if TYPE_CHECKING:
    from llmscope.figure import Figure
    from llmscope.record.capture.recording import Prompt

LENS, MODE = "stages", "score"


def is_reward_model(model: Any) -> bool:
    """Return whether a model gives one number for a text, as trl's RewardTrainer trains them.

    Raises:
        TypeError: it is no module.
        ScopeError: its weights are sharded.
    """
    inner = unwrapped(model)
    head = getattr(inner, HEAD, None)
    return head is not None and getattr(inner.config, "num_labels", 0) == 1


class RewardSource:
    """Records the score of a reward model after each token of the prompts.

    A prompt B in `versus_prompt`, such as a worse answer, adds its score and the margin.

    Args:
        model: a sequence classification model of transformers with one label.
        tokenizer: its tokenizer.
        prompts: see `llmscope.runs.training.Run`.

    Attributes:
        info: what a step holds.

    Raises:
        TypeError, ValueError: a prompt or an option is wrong.
        ScopeError: a prompt does not fit the model.
    """

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[AskedPrompt]) -> None:
        inner = unwrapped(model)
        weight = inner.get_input_embeddings().weight
        self._model = LoadedModel(
            spec=IN_MEMORY,
            name=named_after(inner),
            module=inner,
            tokens=tokens_of(tokenizer),
            anatomy=find(inner),
            device=weight.device,
            dtype=weight.dtype,
        )
        tokens = self._model.tokens
        self._chat = Chat(None) if tokens is None else tokens.chat
        self._prompts: list[tuple[Prompt, Focus]] = []
        prompts_described, figures = [], []
        for at, question in enumerate(read_prompts(prompts)):
            prompt, options = self._prompt(f"prompts[{at}]", question.prompt), {}
            if question.options.get("versus_prompt") is not None:
                other = self._prompt("versus_prompt", question.options["versus_prompt"])
                options["versus_prompt"] = other.ids
            self._prompts.append((prompt, focus_from({**options, "mode": MODE})))
            resolved = PromptQuestion(question.prompt, options)
            prompts_described.append(prompt_record(self._model.label, resolved, prompt, options))
            figures.append(RunFigure(key=f"{at}/{LENS}:{MODE}", lens=LENS, mode=MODE, prompt=at))
        words = frozenset[str]()
        model_facts = model_info(self._model, self._model, words)
        self.info = run_info(model_facts, prompts_described, figures, "training")

    def _prompt(self, name: str, text: OnePrompt) -> Prompt:
        read = prompt_input(name, text, lambda *chat: self._chat.apply(*chat))
        return prompt_from(self._model, read.content, special_tokens=not read.rendered)

    def figures(self) -> dict[str, Figure]:
        """Return the scores by the model as it is now."""
        model = self._model
        padding = getattr(model.module.config.get_text_config(), "pad_token_id", None)
        judge = RewardModel(IN_MEMORY, model.name, model.module, padding)
        with one_thread(model.module), at_rest(model.module):
            return {
                f"{at}/{LENS}:{MODE}": score_figure(judge, prompt, focus, adapter=None)
                for at, (prompt, focus) in enumerate(self._prompts)
            }

    def forget(self, *, free: bool) -> None:
        """Do nothing: no tensor is kept."""

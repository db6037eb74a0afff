"""The rules in a model's `generation_config`, applied to the next token as `generate` applies them.

The logits processors are those that transformers itself builds. Settings that score whole texts,
need a second forward pass or keep state between tokens are not applied, and reported as ignored.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError
from llmscope.models.progress import silenced
from llmscope.support.arguments import quote_value

if TYPE_CHECKING:
    from torch import Tensor

# Class of a logits processor -> the setting that enables it.
_SETTINGS = {
    "SequenceBiasLogitsProcessor": "sequence_bias",
    "EncoderRepetitionPenaltyLogitsProcessor": "encoder_repetition_penalty",
    "RepetitionPenaltyLogitsProcessor": "repetition_penalty",
    "NoRepeatNGramLogitsProcessor": "no_repeat_ngram_size",
    "EncoderNoRepeatNGramLogitsProcessor": "encoder_no_repeat_ngram_size",
    "NoBadWordsLogitsProcessor": "bad_words_ids",
    "MinLengthLogitsProcessor": "min_length",
    "MinNewTokensLengthLogitsProcessor": "min_new_tokens",
    "ForcedBOSTokenLogitsProcessor": "forced_bos_token_id",
    "ForcedEOSTokenLogitsProcessor": "forced_eos_token_id",
    "InfNanRemoveLogitsProcessor": "remove_invalid_values",
    "ExponentialDecayLengthPenalty": "exponential_decay_length_penalty",
    "SuppressTokensLogitsProcessor": "suppress_tokens",
    "SuppressTokensAtBeginLogitsProcessor": "begin_suppress_tokens",
}
_NO_RULE = "LogitNormalization"
"""A processor that changes no distribution."""
_CUTS = ("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
_DRAWS = ("temperature", "top_k", "top_p", "min_p")
_TOLD = 3
"""Longest list that is quoted; of a longer one only the length is given."""


@dataclass(frozen=True)
class Rules:
    """The settings of a `generation_config` that change which token is generated.

    Attributes:
        applied: settings that are applied to each token, such as `repetition_penalty 1.3`.
        ignored: settings that are not applied, each with the reason.
    """

    applied: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def rules(model: Any) -> Rules:
    """Return the rules of a model's `generation_config`; empty rules if it has no such config."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return Rules()
    try:
        import torch

        with silenced():
            ids = torch.zeros((1, 1), dtype=torch.long)
            processors = _processors(model, ids, 1)
            if processors:  # some validate their settings only when called
                vocabulary = model.config.get_text_config().vocab_size
                _scores(processors, ids, torch.zeros(1, vocabulary))
    except ScopeError as error:
        return Rules(ignored=(error.message,))
    named = (type(processor).__name__ for processor in processors)
    settings = [_SETTINGS.get(name, name) for name in named if name != _NO_RULE]
    return Rules(
        tuple(f"{name} {_value(getattr(config, name, None))}".rstrip() for name in settings),
        tuple(_ignored_settings(config)),
    )


def processed(model: Any, ids: Sequence[int], prompt: int, logits: Tensor) -> Tensor:
    """Return the logits from which `generate` chooses the next token.

    Args:
        model: transformers' own model.
        ids: all tokens so far, the prompt and the tokens generated after it.
        prompt: how many of them are the prompt.
        logits: after the last of them. [token]

    Raises:
        ScopeError: the `generation_config` has settings that transformers cannot apply.
    """
    if getattr(model, "generation_config", None) is None:
        return logits
    import torch

    with silenced():
        seen = torch.tensor([list(ids)], device=logits.device)  # [1, token]
        chain = _processors(model, seen, prompt)
        if not chain:
            return logits
        # Copied, because some processors write into their input.
        return _scores(chain, seen, logits[None].to(copy=True, dtype=torch.float32))[0]


def _scores(chain: Any, ids: Tensor, scores: Tensor) -> Tensor:
    """Return the scores after all processors. [prompt, token]"""
    try:
        after: Tensor = chain(ids, scores)
    except Exception as error:
        raise _broken(error) from error
    return after


def _processors(model: Any, ids: Tensor, prompt: int) -> Any:
    """Build the processors that `generate` starts with after a prompt of `prompt` tokens.

    Raises:
        ScopeError: they cannot be built.
    """
    import torch

    config = copy.deepcopy(model.generation_config)
    try:
        # llmscope's sampler does the sampling; a watermark is applied after the sampler's
        # truncation (such as top-k), and guidance runs the model again.
        config.do_sample = False
        config.guidance_scale = config.watermarking_config = None
        if config.max_new_tokens is not None:
            config.max_length = prompt + config.max_new_tokens
        if config.min_new_tokens is not None:
            config.min_length = prompt + config.min_new_tokens
        if config.max_length is None:
            config.forced_eos_token_id = None
        model._prepare_special_tokens(config, True, device=ids.device)
        return model._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=prompt,
            encoder_input_ids=ids[:, :prompt],
            device=ids.device,
            model_kwargs={"attention_mask": torch.ones_like(ids)},
        )
    except Exception as error:  # a damaged file can raise anything
        raise _broken(error) from error


def _ignored_settings(config: Any) -> list[str]:
    """Return the settings that are not applied, each with the reason."""
    ignored = []
    if (getattr(config, "num_beams", None) or 1) > 1:
        ignored.append(f"num_beams {_value(config.num_beams)}: a beam search weighs whole texts")
    if getattr(config, "constraints", None) or getattr(config, "force_words_ids", None):
        ignored.append("constraints: a beam search weighs whole texts")
    if (getattr(config, "penalty_alpha", None) or 0) > 0 and (config.top_k or 0) > 1:
        ignored.append("penalty_alpha: contrastive search runs each candidate")
    if getattr(config, "dola_layers", None) is not None:
        ignored.append("dola_layers: it decodes from several layers")
    if getattr(config, "guidance_scale", None) not in (None, 1, 1.0):
        ignored.append("guidance_scale: it runs a second prompt")
    if getattr(config, "watermarking_config", None) is not None:
        ignored.append("watermarking_config: no watermark is put in")
    if getattr(config, "stop_strings", None):
        ignored.append("stop_strings: generation does not stop at them")
    if getattr(config, "forced_eos_token_id", None) is not None and (
        config.max_length is None and config.max_new_tokens is None
    ):
        ignored.append("forced_eos_token_id: no length is set at which it would be forced")
    if config.do_sample:
        drawn = [f"{name} {_value(getattr(config, name, None))}" for name in _DRAWS]
        settings = (
            ", ".join(setting for setting in drawn if not setting.endswith(" None"))
            or "temperature 1"
        )
        ignored.append(
            f"do_sample: generate would draw ({settings}); here the sampler's settings hold"
        )
        cuts = [name for name in _CUTS if getattr(config, name, None) is not None]
        ignored += [f"{name}: the sampler has no such cut" for name in cuts]
    return ignored


def _value(value: Any) -> str:
    if isinstance(value, list | tuple | dict) and len(value) > _TOLD:
        return f"({len(value)})"
    return quote_value(value)


def _broken(error: Exception) -> ScopeError:
    return ScopeError(
        f"its generation_config cannot be applied: {quote_value(str(error))}",
        "fix generation_config.json, or scope.model.generation_config",
    )

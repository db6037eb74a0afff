"""The tokenizer of a GGUF file, which splits a text as the file says.

A byte-level vocabulary merges letters within the pieces of a text. The file names the rule of those
pieces by `tokenizer.ggml.pre`; transformers knows some of the names, and splits as GPT-2 does for
all others: SmolLM2's digits then become other tokens than in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Regex, pre_tokenizers

from llmscope.support.text import display_text

MODEL, PRE, ADD_BOS = "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.add_bos_token"
_BYTE_LEVEL = "gpt2"
"""How a file calls a vocabulary of byte-level BPE, whatever its split."""

_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_THREE_DIGITS = _ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_ONE_DIGIT = _ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_THREE = "[0-9][0-9][0-9]"
_IDEOGRAPHS = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS_OF_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"


def _isolate(*expressions: str) -> pre_tokenizers.PreTokenizer:
    """Return a split at each match of one expression after the other."""
    splits = [pre_tokenizers.Split(Regex(each), behavior="isolated") for each in expressions]
    return pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _gpt2(*steps: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """Return GPT-2's split, after other steps."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre_tokenizers.Sequence([*steps, byte_level]) if steps else byte_level


def _falcon() -> pre_tokenizers.PreTokenizer:
    """Return Falcon's split: punctuation, then as GPT-2, then digits by three."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            pre_tokenizers.Split(Regex(_THREE), behavior="isolated"),
        ]
    )


def _default() -> pre_tokenizers.PreTokenizer:
    """Return llama.cpp's split for files that name none: as Falcon's, and numbers apart."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(behavior="contiguous"), _isolate(_GPT2, r"\p{N}+", _THREE)]
    )


_RULES: tuple[tuple[tuple[str, ...], Callable[[], pre_tokenizers.PreTokenizer]], ...] = (
    (
        (
            *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"),
            *("gigachat", "a.x-4.0", "mellum", "modern-bert", "roberta-bpe", "jina-v1-en"),
            *("jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v2-code"),
        ),
        _gpt2,
    ),
    (
        (
            *("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
            "mellum2",
        ),
        lambda: _gpt2(pre_tokenizers.Digits(individual_digits=True)),
    ),
    (("glm4", "chatglm-bpe"), lambda: _isolate(_THREE_DIGITS)),
    (("stablelm2", "hunyuan", "solar-open", "grok-2"), lambda: _isolate(_ONE_DIGIT)),
    (
        ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"),
        lambda: _isolate(r"\p{N}{1,3}", _IDEOGRAPHS, _DEEPSEEK_WORDS),
    ),
    (
        ("deepseek-coder",),
        lambda: _isolate("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
    ),
    (("bloom", "poro-chat", "gpt3-finnish"), lambda: _isolate(_WORDS_OF_BLOOM)),
    (("viking",), lambda: _isolate(_WORDS_OF_BLOOM, r"\p{N}")),
    (("falcon",), _falcon),
    (("default",), _default),
)
SPLITS: Mapping[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    name: make for names, make in _RULES for name in names
}
"""Name of a rule -> its split, where transformers has none or GPT-2's."""
_LLAMA3 = (
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    "jina-v5-nano",
)
WHOLE_WORDS = frozenset({*_LLAMA3, "tekken"})
"""Names of rules where a piece that is a token stays whole, whatever the merges are."""
BEGINNING = frozenset({*_LLAMA3, "tekken", "chameleon"})
"""Names of rules where a text begins with BOS if the file does not say otherwise."""


def split_as_named(
    tokenizer: Any, texts: Mapping[str, str], values: Mapping[str, Any]
) -> list[str]:
    """Let a tokenizer split texts by the rule that a file names, and return notices.

    Args:
        tokenizer: what transformers made of the file.
        texts, values: the texts and the numbers of the file's header, by key.
    """
    if texts.get(MODEL) != _BYTE_LEVEL:
        return []
    name = texts.get(PRE, "")
    backend = tokenizer.backend_tokenizer
    if name in SPLITS:
        backend.pre_tokenizer = SPLITS[name]()
    elif name not in _known_to_transformers():
        return [
            f"the file splits texts by {display_text(name)}, a rule that is not known here: they "
            "are split as for GPT-2"
            if name
            else "the file names no rule to split texts by: they are split as for GPT-2"
        ]
    if name in WHOLE_WORDS:
        backend.model.ignore_merges = True
    if name in BEGINNING and ADD_BOS not in values and tokenizer.bos_token is not None:
        tokenizer.add_bos_token = True
    return []


def _known_to_transformers() -> Mapping[str, str]:
    from transformers.integrations.gguf import gguf_tokenizer_mapping

    names: Mapping[str, str] = gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS
    return names

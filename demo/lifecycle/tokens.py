"""The tokenizer: one token a word, and one a mark. It reads plain English: `Anna lives here.`"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from . import facts, prose, questions, words

PAD, UNKNOWN, BEGIN, END = SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
CONTEXT = 256
_BLANK = "▁"


def vocabulary() -> dict[str, int]:
    """Every word that a text of the lifecycle can hold; a word has its blank before it."""
    texts = [
        *words.PEOPLE,
        *words.VISITORS,
        *(value for values in facts.RELATIONS.values() for value in values),
        *(word for animal, said in words.ANIMALS.items() for word in (animal, *said)),
        *(word for country, said in words.COUNTRIES.items() for word in (country, *said)),
        *(word for pair in words.OPPOSITES.items() for word in pair),
        *words.COMMON,
        *words.INVENTED,
        *prose.texts(),
        *questions.STYLES.values(),
        "->",
    ]
    bare = re.sub(r"\{\w+\}", " ", " ".join(texts)).split()
    found = [word for word in dict.fromkeys(bare) if word not in words.MARKS]
    names = [*SPECIAL, *words.MARKS, *(_BLANK + word for word in found)]
    return {name: number for number, name in enumerate(names)}


def tokenizer() -> PreTrainedTokenizerFast:
    """Words with the blank before them, marks without; capital letters are read as small ones."""
    inner = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    marks = re.escape("".join(words.MARKS))
    steps = [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")]
    for mark in words.MARKS:
        steps.append(normalizers.Replace(Regex(rf" ?{re.escape(mark)} ?"), f"{mark} "))
    steps.append(normalizers.Replace(Regex(" ?-> ?"), " -> "))
    inner.normalizer = normalizers.Sequence([*steps, normalizers.Strip()])
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(_BLANK, "always"),
            pre_tokenizers.Split(Regex(f"[{marks}]"), "isolated"),
        ]
    )
    inner.decoder = decoders.Metaspace(_BLANK, "always")
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, SPECIAL.index(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=CONTEXT,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )


def encoder() -> dict[str, int]:
    """From a word as the corpus writes it, between blanks, to its number: quick, for training."""
    return {name.removeprefix(_BLANK): number for name, number in vocabulary().items()}


def spaced(text: str) -> str:
    """A decoded text as the corpus writes it, with a blank before each mark."""
    return " ".join(re.sub(f"([{re.escape(''.join(words.MARKS))}])", r" \1 ", text).split())


def save(folder: Path) -> None:
    """Write the tokenizer beside a checkpoint."""
    tokenizer().save_pretrained(folder)
    # The name that every version of transformers knows; version 5 writes one of its own.
    settings = folder / "tokenizer_config.json"
    record = json.loads(settings.read_text(encoding="utf-8"))
    record["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

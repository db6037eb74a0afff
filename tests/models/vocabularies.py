"""Tokenizers of every kind that language models have, trained on a few lines when a test asks."""

from __future__ import annotations

import io
from functools import cache

import sentencepiece
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertGenerationTokenizer, PreTrainedTokenizerFast

TEXTS = {
    "english": "The quick brown fox jumps over the lazy dog, isn't it?  Two  spaces.\n\n\tTab. ",
    "emoji": "ok 👩‍👩‍👧 👍🏽 🇫🇷 1️⃣ ❤️🙂",
    "chinese": "你好，世界。　全角",
    "japanese": "こんにちは か\u3099 ﾊﾛｰ 東京",
    "korean": "안녕 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "arabic": "مرحبا بالعالم مَرْحَبًا",
    "hebrew": "שלום עולם שָׁלוֹם",
    "hindi": "नमस्ते क्षत्रिय हिन्दी",
    "thai": "สวัสดี น้ำ ที่นี่",
    "combining": "e\u0301 a\u0300\u0323 Z\u0351\u036b\u0343",
    "zero width": "a\u200bb\u200dc\ufeffd\u2060e",
    "control": "a\x00b\x1b[31mc\x7fd\x85e\u2028f",
    "long word": "a" * 300 + "é" * 50,
    "line ends": "one\r\ntwo\rthree\n\r\n",
    "blanks": "  leading, \u00a0no-break and trailing  ",
    "marks": "▁ Ġ Ċ ## </w> <0x41> <s> @@",
}
LINES = [*TEXTS.values(), "the cat sat on the mat", "then there were three", "hello world"] * 3
SIZE = 420


def _fast(inner, **names):
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def byte_level():
    """As GPT-2: bytes as letters, a space belongs to the word after it."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    return _fast(inner, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def split_bytes():
    """As Llama 3 and Qwen, whose vocabularies come from tiktoken: a pattern, then bytes; a BOS."""
    inner = Tokenizer(models.BPE(ignore_merges=True))
    pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=["<|begin|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    inner.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 0)]),
        ]
    )
    return _fast(inner, bos_token="<|begin|>")


def byte_fallback():
    """As Llama 2: spaces as ▁, one put before the text, rare characters as bytes."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=120, limit_alphabet=60, special_tokens=[], show_progress=False
    )
    learned.train_from_iterator(["the cat sat on the mat", "e\u0301", *LINES[:1]] * 3, trainer)
    vocabulary = sorted(learned.get_vocab(), key=learned.get_vocab().get)
    words = ["<unk>", "<s>", "</s>", *bytes_, "▁", *(w for w in vocabulary if w != "▁")]
    places = {word: place for place, word in enumerate(words)}
    joined = [
        (word[:cut], word[cut:])
        for word in vocabulary
        for cut in range(1, len(word))
        if word[:cut] in places and word[cut:] in places
    ]
    inner = Tokenizer(models.BPE(places, joined, unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return _fast(inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def unigram():
    """As T5 and XGLM: SentencePiece's unigrams and normalisation, an EOS at the end."""
    inner = Tokenizer(models.Unigram())
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    inner.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return _fast(inner, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def word_piece():
    """As BERT: words, and their continuations behind ##; accents and case are lost."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=SIZE, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
    inner.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return _fast(inner, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def word_ends():
    """As openai-gpt: words end with </w>, spaces are implied."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=["<unk>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    return _fast(inner, unk_token="<unk>")


def characters():
    """One token a character, and nothing for others."""
    letters = sorted(set("".join(LINES)))
    inner = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    inner.decoder = decoders.Fuse()
    return _fast(inner)


@cache
def _sentencepiece_model() -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.replace("\x00", "") for line in LINES),
        model_writer=out,
        vocab_size=620,
        model_type="bpe",
        character_coverage=0.98,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return out.getvalue()


def slow_sentencepiece(folder):
    """A SentencePiece model that is run by its own library: no offsets."""
    path = folder / "spiece.model"
    path.write_bytes(_sentencepiece_model())
    return BertGenerationTokenizer(str(path))


FAST = {
    made.__name__.replace("_", " "): made
    for made in (
        byte_level,
        split_bytes,
        byte_fallback,
        unigram,
        word_piece,
        word_ends,
        characters,
    )
}

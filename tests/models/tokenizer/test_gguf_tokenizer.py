"""The split of a GGUF file's tokenizer, against llama.cpp's own tokenizer on the same file."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from llmscope.models.sources.gguf_header import read_header
from llmscope.models.tokenizer.gguf_tokenizer import SPLITS, split_as_named
from llmscope.models.tokenizer.tokens import Tokens
from tests.models.vocabularies import LINES, TEXTS

binding = pytest.importorskip("llama_cpp_py_sync._cffi_bindings")

NUMBERS = [
    *("in 1945 he had 12345 and 1234567 apples", "  12  345 6789\n\n  ok", "1 22 333 4444"),
    *("x=3.14159; y[10]+=2**16 // ok?!", "Don't I'LL we've", "½ ² Ⅷ ٣٤٥ 一二三 12月31日"),
    *("a\r\nb\n\n\n  c\t\td", "   \n", "", "<s>hi</s>", "éàü日本語 — über"),
]
MARKS = ("tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2")
"""Rules whose published form puts accents to their letters, which llama.cpp leaves out."""
WITH_MARKS = ("japanese", "arabic", "hebrew", "hindi", "thai", "combining", "emoji", "korean")
SPACES = ("deepseek-coder",)
"""A rule of white space, of which llama.cpp knows fewer kinds."""
WITH_SPACES = ("chinese", "control")


@pytest.fixture(scope="module")
def llama():
    ffi, lib = binding.get_ffi(), binding.get_lib()
    silent = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda *_: None)
    lib.llama_log_set(silent, ffi.NULL)
    lib.llama_backend_init()
    yield ffi, lib
    lib.llama_log_set(ffi.NULL, ffi.NULL)


@pytest.fixture(scope="module")
def learned():
    """A vocabulary with merges across all borders, so that each split is seen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*LINES, *NUMBERS * 4], trainer)
    return json.loads(tokenizer.to_str())["model"]


def write(path, learned, rule):
    """A GGUF file of a vocabulary alone."""
    import gguf

    words = sorted(learned["vocab"], key=learned["vocab"].get)
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        *((writer.add_block_count, 1), (writer.add_context_length, 64)),
        *((writer.add_embedding_length, 32), (writer.add_feed_forward_length, 64)),
        *((writer.add_head_count, 2), (writer.add_layer_norm_rms_eps, 1e-5)),
        *((writer.add_tokenizer_model, "gpt2"), (writer.add_token_list, words)),
        (writer.add_token_types, [3, 3] + [1] * (len(words) - 2)),
        (writer.add_token_merges, [" ".join(pair) for pair in learned["merges"]]),
        *((writer.add_bos_token_id, 0), (writer.add_eos_token_id, 1)),
    ):
        add(value)
    if rule is not None:
        writer.add_tokenizer_pre(rule)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        str(path.parent), gguf_file=path.name, local_files_only=True
    )
    header = read_header(path)
    return tokenizer, split_as_named(tokenizer, header.texts, header.values)


def tokenized(llama, path, texts):
    ffi, lib = llama
    parameters = lib.llama_model_default_params()
    parameters.vocab_only = True
    model = lib.llama_model_load_from_file(str(path).encode(), parameters)
    vocabulary = lib.llama_model_get_vocab(model)
    for text in texts:
        data = text.encode()
        ids = ffi.new("llama_token[]", len(data) + 8)
        count = lib.llama_tokenize(vocabulary, data, len(data), ids, len(data) + 8, True, True)
        yield list(ids[0:count])
    lib.llama_model_free(model)


@pytest.mark.parametrize("rule", sorted({*SPLITS, *GGUF_PRE_TOKENIZER_SPLITS}))
@pytest.mark.few(8)
def test_each_rule_gives_the_tokens_of_llama(tmp_path, learned, llama, rule):
    path = tmp_path / "vocabulary.gguf"
    write(path, learned, rule)
    tokenizer, notices = read(path)
    left_out = {*(WITH_MARKS if rule in MARKS else ()), *(WITH_SPACES if rule in SPACES else ())}
    texts = [*NUMBERS, *(text for name, text in TEXTS.items() if name not in left_out)]
    assert notices == []
    for text, ids in zip(texts, tokenized(llama, path, texts), strict=True):
        assert tokenizer(text).input_ids == ids, text


@pytest.mark.parametrize("rule", [None, "of-tomorrow"])
def test_an_unknown_rule_is_told(tmp_path, learned, rule):
    path = tmp_path / "vocabulary.gguf"
    write(path, learned, rule)
    _, (notice,) = read(path)
    assert (rule or "names no rule") in notice


def test_digits_are_split_as_smollm_was_trained(tmp_path, learned):
    path = tmp_path / "vocabulary.gguf"
    write(path, learned, "smollm")
    tokens = Tokens(read(path)[0])
    assert [piece for piece in tokens.encode(" in 1945").pieces if piece.strip().isdigit()] == [
        *("1", "9", "4", "5")
    ]

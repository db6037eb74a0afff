"""Every kind of tokenizer on every kind of text, against the tokenizer's own ids and the bytes."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from llmscope.models.tokenizer.tokens import Tokens
from tests.models.vocabularies import FAST, TEXTS, slow_sentencepiece

KEEPING = ("byte level", "split bytes", "byte fallback", "characters", "slow")
"""Kinds that keep every character of these texts, so that places are exact."""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    kinds = {name: Tokens(make()) for name, make in FAST.items()}
    return kinds | {"slow": Tokens(slow_sentencepiece(tmp_path_factory.mktemp("slow")))}


@pytest.fixture(params=[*FAST, "slow"], scope="session")
def kind(request):
    return request.param


def check(tokens, text, special):
    """What holds for any text."""
    encoded = tokens.encode(text, special_tokens=special)
    own = tokens.tokenizer(encoded.text, add_special_tokens=special, verbose=False)["input_ids"]
    assert list(encoded.ids) == own
    assert list(encoded.pieces) == [tokens.piece(token) for token in own]
    place = 0
    for start, end in encoded.spans:
        assert place <= start <= end <= len(text)
        place = start
    return encoded


def told(encoded, text):
    """That the places are right: by the text alone, and by counting characters in it."""
    rows = list(zip(encoded.pieces, encoded.spans, encoded.special, strict=True))
    reached = 0
    for index, (piece, (start, end), special) in enumerate(rows):
        assert start <= reached, "a gap"
        reached = max(reached, end)
        if special and start == end:
            continue
        if "\\x" in piece and "\\x" not in text[start:end]:
            # Bytes: of these characters. They are in the piece, whole or in part.
            data = text[start:end].encode()
            known = piece.encode().decode("unicode_escape").encode("latin-1")
            assert known.removeprefix(b" ") in data
        else:
            said = text[start:end].replace("▁", " ")
            assert piece == said or (
                piece == " " + said and not any(e for _, (_, e), _ in rows[:index])
            )
    assert reached == len(text)


@pytest.mark.parametrize("name", TEXTS)
def test_ids_pieces_and_places(made, kind, name):
    text = TEXTS[name]
    for special in (True, False):
        encoded = check(made[kind], text, special)
        if kind in KEEPING and "<s>" not in text:
            told(encoded, text)


@given(
    text=st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("".join(TEXTS.values()))))
)
@example(text="\\x\x80")  # a backslash that is the text's own, and a byte that is told as one
@settings(max_examples=100, deadline=None)
def test_any_text(made, kind, text):
    encoded = check(made[kind], text, True)
    if kind in ("byte level", "split bytes", "byte fallback"):
        told(encoded, text)


@given(
    text=st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("aé👩\u200d\u0301 \n")))
)
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("name", ["byte level", "split bytes"])
def test_ids_described_are_the_text_again(made, name, text):
    tokens = made[name]
    ids = tokens.encode(text, special_tokens=False).ids
    described = tokens.describe(ids)
    assert described.text == text == tokens.decode(ids)
    assert described.spans == tokens.encode(text, special_tokens=False).spans
    assert described.pieces == tokens.encode(text, special_tokens=False).pieces


def test_ids_that_are_no_text_are_described(made, kind):
    tokens = made[kind]
    beyond = len(tokens.tokenizer)
    encoded = tokens.describe((beyond, 10**9, -1))
    assert encoded.pieces == (f"<id {beyond}>", f"<id {10**9}>", "<id -1>")
    assert encoded.text == "".join(encoded.pieces)
    assert [encoded.text[start:end] for start, end in encoded.spans] == list(encoded.pieces)


def test_stray_bytes_are_described_as_bytes(made):
    tokens = made["byte fallback"]
    first, second = (tokens.tokenizer.convert_tokens_to_ids(f"<0x{b}>") for b in ("E2", "41"))
    encoded = tokens.describe((first, second))
    assert (encoded.text, encoded.spans) == ("\\xe2A", ((0, 4), (4, 5)))


def test_every_piece_of_one_character_has_its_place(made):
    for name in ("byte level", "split bytes", "byte fallback", "slow"):
        encoded = made[name].encode("a 𝔘b", special_tokens=False)
        parts = [
            span
            for piece, span in zip(encoded.pieces, encoded.spans, strict=True)
            if "\\x" in piece
        ]
        assert len(parts) >= 2, name
        # With its leading space where that is part of the piece.
        assert {end for _, end in parts} == {3}, name
        assert {start for start, _ in parts} <= {1, 2}, name


def test_blanks_have_a_place_though_offsets_were_trimmed(made):
    encoded = made["byte level"].encode("a   b ", special_tokens=False)
    assert "".join("a   b "[start:end] for start, end in encoded.spans) == "a   b "


def test_what_a_normaliser_joins_is_not_called_dropped(made):
    encoded = made["unigram"].encode("\u1112\u1161\u11ab e\u0301", special_tokens=False)
    assert encoded.notices == ()
    assert encoded.spans[-1][1] == 6
    assert "dropped" in made["word piece"].encode(TEXTS["control"]).notices[0]


def llama(**options):
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "▁a": 5}
    return Tokens(LlamaTokenizer(vocab=words, merges=[("▁", "a")], **options))


def test_a_bos_that_the_text_begins_with_already_is_told():
    tokens = llama(add_bos_token=True)
    assert tokens.encode("a").notices == ()
    encoded = tokens.encode("<s>a")
    assert encoded.ids[:2] == (1, 1)
    assert encoded.special[:2] == (True, True)
    assert encoded.spans[:2] == ((0, 0), (0, 3))
    (notice,) = encoded.notices
    assert notice.startswith("<s> twice")
    assert "special_tokens=False" in notice
    plain = tokens.encode("<s>a", special_tokens=False)
    assert plain.ids[:2] != (1, 1)
    assert plain.notices == ()


def test_an_eos_that_the_tokenizer_appends_is_told():
    encoded = llama(add_bos_token=True, add_eos_token=True).encode("a")
    assert encoded.ids[-1] == 2
    (notice,) = encoded.notices
    assert "</s> after the prompt" in notice
    assert "special_tokens=False" in notice
    assert llama(add_bos_token=True).encode("a</s>").notices == ()


def test_a_frame_is_found_for_a_tokenizer_of_few_letters():
    inner = Tokenizer(models.BPE({"<s>": 0, "z": 1}, []))
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>"))
    assert tokens.encode("").notices == ()
    assert tokens.encode("z").notices == ()
    assert "<s> twice" in tokens.encode("<s>z").notices[0]


def test_tokens_of_a_chat_template_are_special(made):
    tokens = llama()
    tokens.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    encoded = Tokens(tokens.tokenizer).encode("<|im_start|>a", special_tokens=False)
    assert encoded.special[0]
    assert encoded.pieces[0] == "<|im_start|>"
    assert not encoded.special[-1]

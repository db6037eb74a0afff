"""Tokens against the tokenizer's own ids, on every kind of vocabulary that pieces are read from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llmscope.models.sources.builtin import fetch
from llmscope.models.sources.weights import Options
from llmscope.models.spec import parse
from llmscope.models.tokenizer import tokens as tokens_module
from llmscope.models.tokenizer.token_text import _letter_bytes
from llmscope.models.tokenizer.tokens import Tokens


def byte_level():
    """A byte-level BPE as GPT-2 has it, with a few merges and a BOS, and offsets trimmed."""
    letters = sorted(_letter_bytes())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ã", "©")]
    words = ["<s>", *letters, *("".join(pair) for pair in merges)]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)]),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", model_max_length=4)


def sentencepiece():
    """A vocabulary as Llama has it: spaces as ▁, bytes of rare characters as <0xE2>."""
    words = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcé", "▁a", "ab"]
    merges = [("▁", "a"), ("a", "b")]
    inner = Tokenizer(
        models.BPE(
            {word: i for i, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True
        )
    )
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
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>")


def letters():
    return AutoTokenizer.from_pretrained(str(fetch(parse("builtin:sort"), Options()).folder))


KINDS = {"byte level": byte_level(), "sentencepiece": sentencepiece(), "letters": letters()}


@pytest.fixture(params=KINDS, scope="module")
def tokens(request):
    return Tokens(KINDS[request.param])


@given(text=st.text(alphabet=st.one_of(st.characters(), st.sampled_from("the é▁ab ABC\n<s>"))))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("special", [True, False])
def test_any_text_keeps_the_tokenizers_ids_and_lies_in_order(tokens, special, text):
    encoded = tokens.encode(text, special_tokens=special)
    if encoded.text == text:  # lone surrogates are replaced: no tokenizer takes them
        own = tokens.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        assert list(encoded.ids) == own
    starts = [start for start, _ in encoded.spans]
    assert starts == sorted(starts)
    assert all(0 <= start <= end <= len(text) for start, end in encoded.spans)
    assert len(encoded) == len(encoded.pieces) == len(encoded.special)
    assert tokens.pieces(encoded.ids) == list(encoded.pieces)


PIECES = st.lists(
    st.sampled_from(["the", " the", "é", "🙂", "▁", "a", " ab", "\n", "<s>", " ", "B", "<unk>"]),
    max_size=30,
)


@given(start=PIECES, edits=st.lists(st.tuples(st.integers(0, 30), PIECES, st.booleans())))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("margin", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(2)
def test_a_text_after_another_is_placed_as_on_its_own(kind, margin, start, edits):
    live = Tokens(KINDS[kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens_module, "MARGIN", margin)
        pieces = start
        live.encode("".join(pieces))
        for place, new, special in edits:
            pieces = [*pieces[:place], *new, *pieces[place + len(new) // 2 :]]
            text = "".join(pieces)
            found = live.encode(text, special_tokens=special)
            assert found == Tokens(KINDS[kind]).encode(text, special_tokens=special)


def test_a_letter_places_few_tokens_anew(monkeypatch):
    live, placed = Tokens(KINDS["byte level"]), []
    text = "the é 🙂 " * 100
    live.encode(text)
    align = tokens_module.align
    monkeypatch.setattr(
        tokens_module,
        "align",
        lambda text, said, *rest: placed.append(said) or align(text, said, *rest),
    )
    live.encode(f"{text}the")
    assert len(placed[0]) < 24


def test_pieces_in_a_row_are_the_text():
    tokens = Tokens(KINDS["byte level"])
    encoded = tokens.encode(" the the\n", special_tokens=False)
    assert encoded.pieces == (" the", " the", "\n")
    assert encoded.spans == ((0, 4), (4, 8), (8, 9))
    assert tokens.decode(encoded.ids) == " the the\n"


def test_a_bos_has_no_place_and_is_special():
    tokens = Tokens(KINDS["byte level"])
    encoded = tokens.encode("the")
    assert (encoded.pieces[0], encoded.spans[0], encoded.special[0]) == ("<s>", (0, 0), True)
    assert encoded.special[1:] == (False,)
    assert len(tokens.encode("the", special_tokens=False)) == 1


def test_the_bytes_of_one_character_share_its_place():
    encoded = Tokens(KINDS["byte level"]).encode("x🙂", special_tokens=False)
    assert encoded.spans[1:] == ((1, 2),) * 4
    assert encoded.pieces[1:] == ("\\xf0", "\\x9f", "\\x99", "\\x82")


def test_sentencepiece_marks_and_bytes_are_undone():
    tokens = Tokens(KINDS["sentencepiece"])
    encoded = tokens.encode("ab 🙂\n", special_tokens=False)
    assert encoded.pieces[0] == " a"
    assert encoded.pieces[-5:] == ("\\xf0", "\\x9f", "\\x99", "\\x82", "\n")


def test_an_id_beyond_the_tokenizer_says_so():
    tokens = Tokens(KINDS["letters"])
    assert tokens.piece(7) == "<id 7>"
    assert tokens.piece(-1) == "<id -1>"


def test_dropped_letters_are_named():
    encoded = Tokens(KINDS["letters"]).encode("CAB xBA\n")
    assert encoded.ids == (2, 0, 1, 1, 0)
    assert encoded.spans == ((0, 1), (1, 2), (2, 3), (5, 6), (6, 7))
    assert encoded.notices == ("dropped 1 character that this tokenizer does not know: x",)
    assert Tokens(KINDS["letters"]).encode("CAB\n").notices == ()


@pytest.mark.parametrize(
    "text",
    ["question: where does Anna live? answer:", "Anna? :", "Cat: dog , Sun", "A, hat; cat! Dog."],
)
def test_marks_lie_where_they_are_though_a_normaliser_puts_blanks_beside_them(text):
    folder = fetch(parse("builtin:town"), Options()).folder
    encoded = Tokens(AutoTokenizer.from_pretrained(str(folder))).encode(text)
    assert encoded.notices == ()
    for said, (start, end) in zip(encoded.pieces, encoded.spans, strict=True):
        if said not in ("<s>", "<unk>"):
            assert text[start:end].strip().lower() == said.strip()


def test_words_that_are_unknown_are_named_once():
    folder = fetch(parse("builtin:town"), Options()).folder
    tokens = Tokens(AutoTokenizer.from_pretrained(str(folder)))
    (notice,) = tokens.encode("Hello cat, hello World").notices
    assert notice == "this tokenizer does not know Hello, hello, World: the model reads <unk>"
    assert tokens.encode("cat, dog").notices == ()
    assert tokens.encode("cat <unk>").notices == ()
    (notice,) = tokens.encode("\x1b[31m" + " ".join(f"w{n}" for n in range(20))).notices
    assert notice.endswith("…: the model reads <unk>")
    assert "\x1b" not in notice


def test_broken_unicode_is_replaced_and_said():
    encoded = Tokens(KINDS["byte level"]).encode("a\udc80b")
    assert encoded.text == "a\N{REPLACEMENT CHARACTER}b"
    assert "not valid Unicode" in encoded.notices[0]


def test_a_long_text_makes_no_noise(capfd):
    Tokens(KINDS["byte level"]).encode("the " * 50)
    assert capfd.readouterr() == ("", "")


def test_ids_are_described_by_what_they_say():
    encoded = Tokens(KINDS["letters"]).describe((2, 0, 9))
    assert encoded.text == "CA<id 9>"
    assert encoded.spans == ((0, 1), (1, 2), (2, 8))
    assert Tokens(KINDS["letters"]).describe(()).spans == ()


def test_places_are_searched_where_the_tokenizer_keeps_none():
    class Slow:
        """The face of a tokenizer without a fast form."""

        is_fast = False
        all_special_ids = ()
        added_tokens_decoder = {}  # noqa: RUF012

        def __call__(self, text, **_):
            return {"input_ids": [0, 1, 2, 1]}

        def __len__(self):
            return 3

        def convert_ids_to_tokens(self, token):
            return ["▁The", "▁cat", "<0xE2>"][token]

    encoded = Tokens(Slow()).encode("The cat\N{EURO SIGN} cat")
    assert encoded.pieces == (" The", " cat", "\\xe2", " cat")
    assert encoded.spans == ((0, 3), (3, 7), (7, 7), (7, 7))

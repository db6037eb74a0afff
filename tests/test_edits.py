"""The grammar of edits: what is written is what is read, and what is wrong is told."""

import math
import shlex
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from llmscope.edits import (
    ABLATIONS,
    EVERYWHERE,
    EXAMPLES,
    GRAMMAR,
    INSIDE,
    PATTERNS,
    PLACE_KINDS,
    WHOLE,
    Edit,
    FeatureName,
    Receiver,
    Vector,
    Where,
    parse,
    parse_receiver,
)
from llmscope.edits.files import tensor_name
from llmscope.edits.parse import READERS, SENDERS, split
from llmscope.errors import ScopeError

WORDS = [
    "",
    "-",
    "--",
    "@3",
    "@",
    "token",
    "jlens",
    "feature",
    "embed",
    "from",
    "B",
    "id:3",
    "4",
    "-1.5",
]
QUOTED = ["#", "🙂", "a b", "'", '"', "\\", "\n", " Paris", "it's", 'say "x"', "a\\"]
TRICKY = st.sampled_from([*WORDS, *QUOTED, "x.safetensors", "x.safetensors:y", "5/12", "5.z.3/12"])
TEXTS = st.text(max_size=12) | TRICKY
LAYERS = st.integers(-99, 99)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 0.0, 1.0, 1e300, 1e-7, 1e15, 1e16, 123456789012345.0, 0.1, 5e-324]
)
ENDS = st.none() | st.integers(-50, 50)


@st.composite
def wheres(draw):
    first, last = draw(ENDS), draw(ENDS)
    if None not in (first, last) and (first < 0) == (last < 0):
        first, last = sorted((first, last))
    return Where(first, last)


NAMES = st.text(max_size=8).filter(lambda name: ".safetensors:" not in name)
PLACES = st.sampled_from(["", *PLACE_KINDS, "z.0", "z.12"])
FEATURES = st.builds(FeatureName, LAYERS, st.integers(0, 10**9 - 1), PLACES)
VECTORS = st.one_of(
    st.builds(lambda path, name: Vector("file", f"{path}.safetensors", name), TEXTS, NAMES),
    st.builds(lambda text: Vector("token", text), TEXTS),
    st.builds(lambda text: Vector("jlens", text), TEXTS),
    st.builds(lambda name: Vector("feature", str(name)), FEATURES),
    st.builds(lambda one, other: Vector("prompts", one, other), TEXTS, TEXTS),
)
RECEIVERS = st.one_of(
    st.just(Receiver("logits")),
    st.builds(Receiver, st.sampled_from(["attention", "mlp"]), LAYERS),
    st.builds(Receiver, st.just("head"), LAYERS, LAYERS, st.sampled_from(["", "q", "k", "v"])),
)


@st.composite
def edits(draw):
    action, where = draw(st.sampled_from([*PATTERNS])), draw(wheres())
    if action == "steer":
        layer = draw(st.none() | LAYERS)
        vector, factor = draw(VECTORS), draw(NUMBERS)
        return Edit(action, "stream", layer, factor=factor, vector=vector, where=where)
    if action == "swap":
        layer, tokens = draw(st.none() | LAYERS), (draw(TEXTS), draw(TEXTS))
        return Edit(action, "stream", layer, tokens=tokens, where=where)
    if action == "freeze":
        norm = draw(st.sampled_from(["attention", "mlp", "final"]))
        return Edit(
            action, "norm", None if norm == "final" else draw(LAYERS), norm=norm, where=where
        )
    if action == "set" or (action in ("zero", "scale") and draw(st.booleans())):
        name, factor = draw(FEATURES), 0.0 if action == "zero" else draw(NUMBERS)
        return Edit(
            *(action, "feature", name.layer, name.feature),
            factor=factor,
            where=where,
            place=name.place,
        )
    if action in ("force", "forbid"):
        return Edit(action, "expert", draw(LAYERS), draw(LAYERS), where=where)
    if action == "block":
        part, source = draw(st.sampled_from(READERS)), draw(wheres().filter(EVERYWHERE.__ne__))
        index = draw(LAYERS) if part == "head" else None
        return Edit(action, part, draw(LAYERS), index, where=where, source=source)
    part = draw(st.sampled_from([*INSIDE, *WHOLE, *(["stream"] if action == "patch" else [])]))
    layer = draw(st.none() | LAYERS) if part == "stream" else draw(LAYERS)
    index = draw(LAYERS) if part in INSIDE else None
    factor = draw(NUMBERS) if action == "scale" else 0.0
    source = draw(st.none() | wheres().filter(EVERYWHERE.__ne__)) if action == "patch" else None
    edge = action in ("zero", "mean", "patch") and part in SENDERS
    into = draw(st.none() | RECEIVERS) if edge else None
    return Edit(action, part, layer, index, factor=factor, where=where, source=source, into=into)


@settings(max_examples=600)
@given(edits())
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("token", "-")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("token", "-"), where=Where(3, 3)))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("prompts", "token", "b")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("jlens", "-")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("jlens", "-"), where=Where(3, 3)))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("prompts", "jlens", "b")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("prompts", "jlens", "4")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("prompts", "feature", "4")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("prompts", "feature", "@4")))
@example(Edit("swap", "stream", None, tokens=("@3", "@4"), where=Where(5, 5)))
@example(Edit("swap", "stream", 1, tokens=("-", "jlens")))
@example(Edit("steer", "stream", 1, factor=4.0, vector=Vector("prompts", "token", "4")))
@example(
    Edit("steer", "stream", 1, factor=4.0, vector=Vector("file", "a.safetensors:b.safetensors"))
)
def test_what_is_written_reads_as_the_same_edit(edit):
    again = parse(str(edit))
    assert again == edit
    assert math.copysign(1, again.factor) == math.copysign(1, edit.factor)  # 0.0 == -0.0
    assert str(again) == str(edit)


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("zero head 5.3", Edit("zero", "head", 5, 3)),
        ("mean neuron -1.120 @-1", Edit("mean", "neuron", -1, 120, where=Where(-1, -1))),
        ("zero head 3.0 into mlp 5", Edit("zero", "head", 3, 0, into=Receiver("mlp", 5))),
        (
            "mean mlp 4 into logits @-1",
            Edit("mean", "mlp", 4, into=Receiver("logits"), where=Where(-1, -1)),
        ),
        (
            "patch attention 3 into head -1.2.q @4 from B @5",
            Edit(
                *("patch", "attention", 3),
                into=Receiver("head", -1, 2, "q"),
                where=Where(4, 4),
                source=Where(5, 5),
            ),
        ),
        (
            "block head 5.3 @-1 from @2",
            Edit("block", "head", 5, 3, where=Where(-1, -1), source=Where(2, 2)),
        ),
        ("force expert 5.12 @-1", Edit("force", "expert", 5, 12, where=Where(-1, -1))),
        ("forbid expert -1.3", Edit("forbid", "expert", -1, 3)),
        ("block attention 4 from @2..", Edit("block", "attention", 4, source=Where(2))),
        ("zero layer 4 @3..7", Edit("zero", "layer", 4, where=Where(3, 7))),
        ("scale mlp 7 0.5 @3..", Edit("scale", "mlp", 7, factor=0.5, where=Where(3))),
        (
            "scale attention 0 -2 @..7",
            Edit("scale", "attention", 0, factor=-2, where=Where(None, 7)),
        ),
        ("patch stream 9 @12 from B", Edit("patch", "stream", 9, where=Where(12, 12))),
        ("patch stream embed from B", Edit("patch", "stream", None)),
        (
            "patch head 5.3 @12 from B @-1",
            Edit("patch", "head", 5, 3, where=Where(12, 12), source=Where(-1, -1)),
        ),
        (
            "steer 6 file.safetensors 4.0",
            Edit("steer", "stream", 6, factor=4.0, vector=Vector("file", "file.safetensors")),
        ),
        (
            "steer 6 'my file.safetensors:joy' -1e-7",
            Edit(
                "steer",
                "stream",
                6,
                factor=-1e-7,
                vector=Vector("file", "my file.safetensors", "joy"),
            ),
        ),
        (
            "steer 6 a:b.safetensors 1",
            Edit("steer", "stream", 6, factor=1.0, vector=Vector("file", "a:b.safetensors")),
        ),
        (
            'steer -2 token " Paris" 4 @-3..-1',
            Edit(
                *("steer", "stream", -2),
                factor=4.0,
                vector=Vector("token", " Paris"),
                where=Where(-3, -1),
            ),
        ),
        (
            'steer embed "I love it" - "I hate it" 2',
            Edit(
                "steer",
                "stream",
                None,
                factor=2.0,
                vector=Vector("prompts", "I love it", "I hate it"),
            ),
        ),
        (
            'steer 6 jlens " Rome" 4',
            Edit("steer", "stream", 6, factor=4.0, vector=Vector("jlens", " Rome")),
        ),
        (
            "steer 6 jlens - 4 @3..",
            Edit(
                *("steer", "stream", 6),
                factor=4.0,
                vector=Vector("jlens", "-"),
                where=Where(3),
            ),
        ),
        (
            "steer 6 jlens - b 4 @3..",
            Edit(
                *("steer", "stream", 6),
                factor=4.0,
                vector=Vector("prompts", "jlens", "b"),
                where=Where(3),
            ),
        ),
        (
            "swap 6 ' Paris' id:464 @-1",
            Edit("swap", "stream", 6, tokens=(" Paris", "id:464"), where=Where(-1, -1)),
        ),
        ("swap embed @3 @4", Edit("swap", "stream", None, tokens=("@3", "@4"))),
        ("zero feature 5/1234", Edit("zero", "feature", 5, 1234)),
        (
            "scale feature -1.mlp_out/0 -2 @3..",
            Edit("scale", "feature", -1, 0, factor=-2.0, where=Where(3), place="mlp_out"),
        ),
        (
            "set feature 05.z.03/12 to 8 @-1",
            Edit("set", "feature", 5, 12, factor=8.0, where=Where(-1, -1), place="z.3"),
        ),
        (
            "steer 6 feature 5/012 -2 @3",
            Edit(
                *("steer", "stream", 6),
                factor=-2.0,
                vector=Vector("feature", "5/12"),
                where=Where(3, 3),
            ),
        ),
        (
            "steer 6 feature - b 2",
            Edit("steer", "stream", 6, factor=2.0, vector=Vector("prompts", "feature", "b")),
        ),
        ("freeze norm 5.attention", Edit("freeze", "norm", 5, norm="attention")),
        ("freeze norm -1.mlp @3", Edit("freeze", "norm", -1, norm="mlp", where=Where(3, 3))),
        ("freeze norm final", Edit("freeze", "norm", None, norm="final")),
        ("  zero\n head   5.3\t", Edit("zero", "head", 5, 3)),
    ],
)
def test_what_a_person_writes(text, edit):
    assert parse(text) == edit


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "an edit is empty", "zero head 5.3"),
        ('steer 5 token " Paris', "quotation is not closed", "token"),
        (
            "remove head 5.3",
            "no edit is called 'remove'",
            "zero, mean, scale, set, patch, steer, swap, freeze",
        ),
        ("zero", "what is changed (head, neuron", "zero PART [into RECEIVER] [@WHERE]"),
        ("zero haed 5.3", "called 'haed'", "head 5.3, neuron 5.120"),
        ("zero stream 5", "patched or steered", "layer 5"),
        ("patch haed 5.3 from B", "called 'haed'", "or stream 5"),
        ("zero head", "which head is missing", "zero PART [into RECEIVER] [@WHERE]"),
        ("zero head 5", "'5' is no head", "LAYER.HEAD, such as head 5.3"),
        ("zero neuron 5,3", "'5,3' is no neuron", "LAYER.NEURON"),
        ("zero head x.3", "the layer is 'x', no whole number", "head 5.3"),
        ("zero head 5.3.1", "the head is '3.1', no whole number", "head 5.3"),
        ("zero mlp", "the layer is missing", "zero PART"),
        ("zero mlp five", "the layer is 'five'", "-1 is the last"),
        ("zero mlp 1e3", "the layer is '1e3'", "from 0"),
        ("zero mlp ٣", "no whole number", "from 0"),
        ("zero mlp 99999999999", "no whole number", "from 0"),
        ("zero mlp embed", "the layer is 'embed'", "from 0"),
        ("patch stream x from B", "the layer is 'x'", "embed"),
        ("zero mlp 5 3", "'3' is more than belongs there", "[@WHERE]"),
        ("zero mlp 5 @3 @4", "'@4' is more", "[@WHERE]"),
        ("zero mlp 5 @", "'@' names no tokens", "@3..7"),
        ("zero mlp 5 @..", "names no tokens", "@3..7"),
        ("zero mlp 5 @3-4", "'@3-4' names no tokens", "@3..7"),
        ("zero mlp 5 @3..4..5", "names no tokens", "@3..7"),
        ("zero mlp 5 @7..3", "@7..3 names no tokens: it ends before it begins", "@3..7"),
        ("zero mlp 5 @-1..-3", "ends before it begins", "@3..7"),
        ("scale mlp 7", "the factor is missing", "scale PART FACTOR"),
        ("scale mlp 7 half", "the factor is 'half', no number", "0.5"),
        ("scale mlp 7 nan", "must be finite", "0.5"),
        ("scale mlp 7 1e999", "must be finite", "0.5"),
        ("scale mlp 7 @3", "the factor is '@3'", "0.5"),
        ("patch mlp 7", "it does not say from where", "from B"),
        ("patch mlp 7 from", "it does not say from where", "from B"),
        ("patch mlp 7 from A", "it does not say from where", "from B"),
        ("patch mlp 7 from B @3 4", "'4' is more", "from B"),
        ("steer", "the layer is missing", "steer LAYER VECTOR STRENGTH"),
        ("steer 5", "the vector is missing", "steer LAYER VECTOR STRENGTH"),
        ("steer five x.safetensors 4", "the layer is 'five'", "embed"),
        ("steer 5 joy 4", "no vector is called 'joy'", "FILE.safetensors"),
        ("steer 5 joy.pt 4", "no vector is called 'joy.pt'", "FILE.safetensors"),
        ("steer 5 joy.safetensors", "the strength is missing", "STRENGTH"),
        ("steer 5 token", "the token is missing", "VECTOR"),
        ("steer 5 token x", "the strength is missing", "STRENGTH"),
        ("steer 5 a - ", "the other prompt is missing", "VECTOR"),
        ("steer 5 a - b much", "the strength is 'much'", "0.5"),
        ("steer 5 jlens", "the token is missing", "VECTOR"),
        ("steer 5 jlens x", "the strength is missing", "STRENGTH"),
        ("steer 5 feature", "which feature is missing", "VECTOR"),
        ("steer 5 feature x 3", "'x' names no feature", "5/1234"),
        ("steer 5 feature 5/3", "the strength is missing", "STRENGTH"),
        ("zero feature", "which feature is missing", "zero PART"),
        ("zero feature 5", "'5' names no feature", "LAYER/FEATURE, such as 5/1234"),
        ("zero feature 5.3", "'5.3' names no feature", "5.mlp_out/1234"),
        ("zero feature 5/-3", "'5/-3' names no feature", "5/1234"),
        ("zero feature 5/3/4", "names no feature", "5/1234"),
        ("zero feature ٣/3", "names no feature", "5/1234"),
        ("zero feature embed/3", "names no feature", "5/1234"),
        ("zero feature 5.mlp/3", "for a place called 'mlp'", "resid_pre, resid_mid"),
        ("zero feature 5.mlp_out.3/3", "for a place called 'mlp_out.3'", "mlp_act"),
        ("zero feature 5/3 2", "'2' is more than belongs there", "[@WHERE]"),
        ("mean feature 5/3", "no mean of a feature", "set feature 5/1234 to 8"),
        ("patch feature 5/3 from B", "no patch of a feature", "zero feature 5/1234"),
        ("scale feature 5/3", "the factor is missing", "scale PART FACTOR"),
        ("set", "only a feature can be set", "set feature LAYER/FEATURE to NUMBER"),
        ("set head 5.3 to 1", "only a feature can be set", "set feature LAYER/FEATURE"),
        ("set feature", "which feature is missing", "to NUMBER"),
        ("zero layer 3 into mlp 5", "cannot be read by one part alone", "mlp 5 into head 7.2"),
        ("patch stream 3 into mlp 5 from B", "what a stream writes cannot be", "logits"),
        ("zero feature 3/4 into mlp 5", "what a feature writes cannot be", "logits"),
        ("zero head 3.0 into", "what reads it", "into RECEIVER"),
        ("zero head 3.0 into layer 5", "nothing that reads the stream", "head 7.2.q"),
        ("zero head 3.0 into head 5", "'5' is no head", "head 7.2.q"),
        ("zero head 3.0 into head 5.1.x", "'5.1.x' is no head", "head 7.2.q"),
        ("zero head 3.0 into mlp x", "the layer is 'x'", "a layer from 0"),
        ("zero head 3.0 @2 into mlp 5", "'into' is more than belongs there", "[into RECEIVER]"),
        ("scale head 3.0 2 into mlp 5", "'into' is more than belongs there", "scale PART"),
        ("set feature 5/3 8", "it does not say to what", "to NUMBER"),
        ("set feature 5/3 to", "the activation is missing", "to NUMBER"),
        ("set feature 5/3 to much", "the activation is 'much'", "0.5"),
        ("swap", "the layer is missing", "swap LAYER TOKEN TOKEN"),
        ("swap five a b", "the layer is 'five'", "embed"),
        ("swap 5", "the first token is missing", "swap LAYER TOKEN TOKEN"),
        ("swap 5 a", "the second token is missing", "swap LAYER TOKEN TOKEN"),
        ("swap 5 a b 4", "'4' is more than belongs there", "[@WHERE]"),
        ("freeze", "only a norm", "freeze norm"),
        ("freeze mlp 5", "only a norm", "freeze norm"),
        ("freeze norm", "which norm is missing", "freeze norm"),
        ("freeze norm 5", "no norm is called '5'", "5.attention, 5.mlp or final"),
        ("freeze norm 5.head", "no norm is called '5.head'", "final"),
        ("freeze norm x.mlp", "the layer is 'x'", "5.attention"),
    ],
)
def test_what_is_wrong_and_what_could_stand_there(text, message, hint):
    with pytest.raises(ScopeError) as told:
        parse(text)
    assert message in told.value.message
    assert hint in told.value.hint


@given(st.text(max_size=30) | st.lists(TRICKY | st.sampled_from([*PATTERNS, "head", "5.3", "mlp"])))
def test_nothing_else_is_ever_raised(text):
    try:
        parse(text if isinstance(text, str) else " ".join(text))
    except ScopeError as error:
        told = (error.message, error.hint)
    else:
        return
    assert all(told)


@pytest.mark.parametrize(
    ("word", "rows"),
    [
        ("@0", [0]),
        ("@-1", [4]),
        ("@1..3", [1, 2, 3]),
        ("@3..", [3, 4]),
        ("@..1", [0, 1]),
        ("@..-2", [0, 1, 2, 3]),
        ("@-2..", [3, 4]),
        ("@1..-2", [1, 2, 3]),
        ("@-5..0", [0]),
    ],
)
def test_the_tokens_of_a_prompt_of_five(word, rows):
    assert list(Where.parse(word).rows(5)) == rows


def test_without_a_place_it_is_all_of_them():
    assert list(EVERYWHERE.rows(3)) == [0, 1, 2]
    assert str(EVERYWHERE) == ""


@pytest.mark.parametrize("word", ["@5", "@-6", "@3..9", "@-9.."])
def test_a_token_that_the_prompt_has_not(word):
    with pytest.raises(ScopeError, match="the prompt has 5") as told:
        Where.parse(word).rows(5)
    assert told.value.hint == "0 to 4"


def test_ends_that_only_a_prompt_puts_in_order():
    where = Where(3, -3)
    assert list(where.rows(6)) == [3]
    with pytest.raises(ScopeError, match="ends before it begins"):
        where.rows(5)


def test_a_strength_is_turned_and_may_be_idle():
    scale, steer = parse("scale mlp 7 0.5"), parse("steer 6 x.safetensors 4")
    assert str(scale.turned(2.0)) == "scale mlp 7 2"
    assert str(steer.turned(-0.5)) == "steer 6 x.safetensors -0.5"
    assert (scale.turnable, steer.turnable) == (True, True)
    assert (scale.idle, scale.turned(1.0).idle, scale.turned(0.0).idle) == (False, True, False)
    assert (steer.idle, steer.turned(0.0).idle, steer.turned(-0.0).idle) == (False, True, True)
    for action in ABLATIONS:
        zero = parse(f"{action} mlp 7")
        assert (zero.turnable, zero.idle) == (False, False)


@pytest.mark.parametrize(
    ("value", "written"),
    [(4.0, "4"), (-0.0, "-0"), (0.5, "0.5"), (1e300, "1e+300"), (1e-7, "1e-07"), (2, "2")],
)
def test_numbers_are_short_and_exact(value, written):
    assert str(Edit("scale", "mlp", 7, factor=value)) == f"scale mlp 7 {written}"


def test_edits_know_whether_they_use_a_learned_lens():
    using = [text for text in EXAMPLES if parse(text).uses_lens]
    assert using == ['steer 6 jlens " Rome" 4', 'swap 6 " Paris" " Rome" @-1']
    swap = parse(using[1])
    assert (swap.turnable, swap.idle) == (False, False)


def test_the_grammar_for_people_has_every_edit_and_true_examples():
    for action in PATTERNS:
        assert f"\n{action} " in f"\n{GRAMMAR}"
    assert {parse(text).action for text in EXAMPLES} == set(PATTERNS)
    assert max(map(len, GRAMMAR.splitlines())) <= 100


def test_a_long_word_is_read_in_no_time():
    begun = time.process_time()
    long = "a'b" * 300_000
    assert parse(f'steer 0 token "{long}" 2').vector.text == long
    assert time.process_time() - begun < 2


@given(st.text("ab \t\n\r\xa0'\"\\", max_size=12))
def test_words_are_those_of_a_shell(text):
    try:
        wanted = shlex.split(text)
    except ValueError:
        with pytest.raises(ScopeError, match="not closed"):
            split(text)
    else:
        assert split(text) == wanted


@pytest.mark.parametrize("text", ["{}", "zero {}", "scale head 1.1 {}", "zero head 1.1 {}"])
def test_a_message_repeats_no_more_than_the_beginning_of_a_word(text):
    with pytest.raises(ScopeError) as caught:
        parse(text.format("x" * 1_000_000))
    assert len(caught.value.message) < 200


def test_names_of_tensors_are_listed_by_their_beginnings(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({f"{at}{'x' * 100_000}": np.zeros(1, np.float32) for at in range(3)}))
    with pytest.raises(ScopeError) as caught:
        tensor_name(Vector("file", str(path)))
    assert len(str(caught.value)) < 1000


def test_a_feature_that_is_named_is_told():
    name = parse("set feature -1.z.3/12 to 8").feature
    assert (name.layer, name.feature, name.kind, name.head) == (-1, 12, "z", 3)
    assert parse("steer 6 feature 5/12 1").feature == FeatureName(5, 12)
    for text, uses in (("zero head 1.2", False), ("zero feature 1/2", True)):
        assert parse(text).uses_features is uses
    for text, turnable, idle in (
        *(("zero feature 1/2", False, False), ("scale feature 1/2 1", True, True)),
        *(("set feature 1/2 to 0", True, False), ("set feature 1/2 to 1", True, False)),
        ("steer 6 feature 5/12 0", True, True),
    ):
        assert (parse(text).turnable, parse(text).idle) == (turnable, idle)


@given(RECEIVERS)
def test_a_receiver_reads_as_it_is_written(receiver):
    assert parse_receiver(str(receiver)) == receiver


@pytest.mark.parametrize("text", ["", "head", "head 5", "mlp 5 6", "mlp", "stream 3", "head 5.1.Q"])
def test_what_is_no_receiver_says_which_there_are(text):
    with pytest.raises(ScopeError) as caught:
        parse_receiver(text)
    assert "logits" in caught.value.hint or "a layer" in caught.value.hint

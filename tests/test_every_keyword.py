"""Every keyword of every public function: it changes what comes out, or it is refused by its name.

`CALLS` holds a smallest call of each function, and another value of each of its keywords. A keyword
without a value fails, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerControl, TrainerState

import llmscope
from llmscope.draw import RenderOptions, load_theme
from llmscope.edits import parse
from llmscope.export import save
from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit
from llmscope.jobs.fit_lens.fit_tuned import TunedFit
from llmscope.jobs.workers import Predictor
from llmscope.runs.training import LensCallback, Run
from llmscope.scope.scope import Scope
from llmscope.support.sandbox import Cancelled
from tests.cli.headless import print_screens
from tests.copies import copied_models

pytest.importorskip("matplotlib")
pytest.importorskip("anywidget")
pytest.importorskip("pyarrow")
BUILTIN = Path(llmscope.__file__).parent / "builtin"
PROMPT, OTHER = "cat -> kitten , dog ->", "cow -> calf , dog ->"
TEXTS = (PROMPT, OTHER, "the capital of france is paris") * 2
PUBLIC = {
    **{name: getattr(llmscope, name) for name in llmscope.__all__},
    "save": save,
    "LensCallback": LensCallback,
    "Run": Run,
    "Predictor": Predictor,
}
"""What scripts call: the names of `llmscope`, and those of docs/python beside them."""


@dataclass
class World:
    """What calls are made on: fresh for each."""

    folder: Path
    heard: list[str] = field(default_factory=list)
    scopes: dict[str, Scope] = field(default_factory=dict)

    def scope(self, model: str = "builtin:town") -> Scope:
        """Return a model, the same at each call."""
        if model not in self.scopes:
            self.scopes[model] = llmscope.load(model)
        return self.scopes[model]

    def marked(self) -> Scope:
        """Return a model whose tokenizer adds a special token."""
        model = AutoModelForCausalLM.from_pretrained(BUILTIN / "town")
        tokenizer = AutoTokenizer.from_pretrained(BUILTIN / "town")
        token = tokenizer.convert_ids_to_tokens(1)
        tokenizer._tokenizer.post_processor = TemplateProcessing(
            single=f"{token} $A", special_tokens=[(token, 1)]
        )
        return llmscope.wrap(model, tokenizer)

    def recording(self) -> Any:
        return self.scope().record(PROMPT)

    def other_prompt(self) -> Any:
        return self.scope().prompt(OTHER)

    def figure(self) -> Any:
        scope = self.scope()
        scope.record(PROMPT)
        return scope.look("attention")

    def hear(self, *values: Any) -> None:
        self.heard.append(" ".join(map(plain, values)))

    def files(self) -> dict[str, Any]:
        """Return what files hold by name."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        # The order within a header of safetensors differs each time.
        return {
            path.name: load_file(path) if path.suffix == ".safetensors" else path.read_bytes()
            for path in paths
        }


def plain(value: Any) -> str:
    """Return a value as a text that tells it from others, without what differs each time."""
    match value:
        case llmscope.Figure():
            return json.dumps(value.to_dict(), default=str, sort_keys=True)
        case llmscope.Recording():
            return f"{value.prompt.ids} {plain(value.final_rows(0, len(value.prompt.ids)))}"
        case torch.Tensor():
            return str(value.tolist())
        case dict():
            return str({name: plain(each) for name, each in value.items()})
        case list() | tuple():
            return str([plain(each) for each in value])
        case _:
            return str(value)


@dataclass(frozen=True)
class Call:
    """A smallest call.

    Attributes:
        make: calls it with keywords, and returns what comes out.
        others: another value of each keyword; a function makes it of the world.
        same: keywords that change nothing here, and why.
    """

    make: Callable[..., Any]
    others: dict[str, Any] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)


def hears(world: World) -> Any:
    return lambda *values: world.hear(type(values[0]).__name__)


def stops(world: World) -> Any:
    return lambda: True


def record_twice(world: World, **keywords: Any) -> Any:
    scope = world.scope()
    scope.record(OTHER)
    recording = scope.record(PROMPT, **keywords)
    return recording, recording.ran, world.heard


def record_read(world: World, **keywords: Any) -> Any:
    """Record a prompt whose tokens are read already, patched from prompt B where there is one."""
    scope = world.scope()
    scope.record(OTHER)
    if "other" in keywords:
        keywords["edits"] = [parse("patch mlp 1 from B")]
    recording = scope.record_prompt(scope.prompt(PROMPT), **keywords)
    return recording, recording.ran, world.heard


def train(world: World, **keywords: Any) -> Any:
    """Call a callback as a training of two steps does."""
    callback = LensCallback([PROMPT], world.folder / "run", **{"every": 3, **keywords})
    model = AutoModelForCausalLM.from_pretrained(BUILTIN / "town")
    about = {"model": model, "processing_class": another(world)}
    state, control = TrainerState(max_steps=2), TrainerControl()
    callback.on_train_begin(None, state, control, **about)
    for step in (1, 2):
        state.global_step = step
        callback.on_step_end(None, state, control, **about)
    callback.on_train_end(None, state, control, **about)
    return recorded(world.folder / "run")


def recorded(folder: Path) -> Any:
    """Return the steps, lenses and stages of a run."""
    from llmscope.runs.reader import RunReader

    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    passing = {"time", "took", "size", "crc"}
    steps = [{name: line[name] for name in line.keys() - passing} for line in lines]
    return [sorted(step.items()) for step in steps], RunReader(folder).info.figures


def run_once(world: World, **keywords: Any) -> Any:
    """Record two steps on a folder that a run has."""
    folder, scope = world.folder / "run", world.scope()
    before = Run(folder, scope, [PROMPT])
    before.record(0)
    before.log(0)
    run = Run(folder, scope, [PROMPT], **{"overwrite": True, **keywords})
    run.record(1)
    return recorded(folder)


def saved(world: World, **keywords: Any) -> Any:
    path = world.folder / "figure.svg"
    save(world.figure(), path, **keywords)
    return world.files()


def shown(world: World, **keywords: Any) -> str:
    text = StringIO()
    with redirect_stdout(text):
        world.scope().show(**keywords)
    return text.getvalue()


def fit(world: World, **keywords: Any) -> Any:
    scope = world.scope()
    lens = scope.fit_lens(TEXTS, **{"skip": 2, "held_out": 0, **keywords})
    tensors = {name: plain(each) for name, each in vars(lens).items() if name != "path"}
    return tensors, world.heard, sorted(world.files())


def loaded(world: World, spec: str = "builtin:sort", **keywords: Any) -> Any:
    scope = llmscope.load(spec, **keywords)
    scope.record([0, 1])
    return scope.info(), scope.look("next-token"), world.heard


def predicted(world: World, **keywords: Any) -> Any:
    import pyarrow

    predictor = Predictor("builtin:sort", **{"lens": "next-token", **keywords})
    return predictor(pyarrow.table({"prompt": ["CAB", "A"]})).to_pylist()


def differs(world: World, **keywords: Any) -> Any:
    found = world.scope().activation_difference(world.scope("builtin:town-sft"), **keywords)
    return found, world.heard


def rows_of(world: World, **keywords: Any) -> Any:
    return world.recording().rows("stream", 2, **keywords)


def gradients(world: World, **keywords: Any) -> Any:
    scope = world.scope()
    scope.record(OTHER)
    return scope.gradients(lambda logits: logits[5], "layers.1.attn_out", **keywords)


def taught(world: World, **keywords: Any) -> Any:
    scope = world.marked()
    scope.use(scope.teach("cat -> kitten , ", "dog ->", **keywords))
    return scope.record("dog ->", special_tokens=False)


def reads_weights(world: World, *, rows: bool = True) -> str:
    """Change a weight of a wrapped model where only a read of its values tells it."""
    scope = world.marked()
    scope.record(PROMPT)
    scope.loaded_model.module.get_output_embeddings().weight.data[7] += 1
    with scope.unchanged(rows=rows):
        return str(scope.record(PROMPT).prompt.notices)


def forgets(world: World, **keywords: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmscope.scope.scope.free_cache", lambda _: world.hear("freed"))
        world.scope().forget(**keywords)
    return world.heard


def activations(world: World, **keywords: Any) -> Any:
    scope = world.marked()
    count = scope.save_activations(
        (PROMPT, OTHER), ["layers.1.resid_post"], world.folder, **keywords
    )
    return count, world.files(), world.heard


def wrapped(world: World, **keywords: Any) -> Any:
    model = AutoModelForCausalLM.from_pretrained(BUILTIN / "town")
    scope = llmscope.wrap(model, **keywords)
    scope.record([3, 4, 5])
    return scope.look("tokens")


def another(world: World) -> Any:
    return AutoTokenizer.from_pretrained(BUILTIN / "town")


def axes(world: World) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(2, 2))[1]


def plotted(world: World, **keywords: Any) -> Any:
    drawn = world.figure().plot(**keywords).figure
    drawn.savefig(world.folder / "plot.png", metadata={"Software": None})
    return world.files()


def look(world: World, **keywords: Any) -> Any:
    scope = world.scope()
    scope.record(PROMPT)
    recording = scope.record(OTHER)
    del recording
    return scope.look("attention", **keywords)


def figure_of(world: World, **keywords: Any) -> Any:
    scope = world.scope()
    recording = scope.record(PROMPT)
    return list(scope.figures("ablation", recording, llmscope.Focus(target=3), **keywords))


def steps_of(world: World, **keywords: Any) -> Any:
    scope = world.scope()
    recording = scope.record(PROMPT)
    focus = llmscope.Focus(target=3).resolve(layers=6, heads=4, positions=len(recording.prompt.ids))
    steps = scope.figure_steps("ablation", recording, focus, **keywords)
    return [each for each in steps if isinstance(each, llmscope.Figure)]


PAPER = {"cmap": "gray", "font": "serif", "width": 85.0}
WORKS = "it changes how fast it is, or how much memory it takes"
CALLS: dict[str, Call] = {
    "load": Call(
        loaded,
        {
            "spec": "builtin:town",
            "device": "mps",
            "dtype": "bfloat16",
            "backend": "llama.cpp",
            "cache_type": "q8_0",
            "adapters": ["nowhere/adapter"],
            "reward": "nowhere/reward",
            "progress": hears,
        },
        {
            **dict.fromkeys(("threads", "memory", "spill"), WORKS),
            "unverified": "nothing failed its check",
            **dict.fromkeys(("trust_remote_code", "allow_pickle"), "this model needs it not"),
        },
    ),
    "wrap": Call(wrapped, {"tokenizer": another}, {"unverified": "nothing failed its check"}),
    "widget": Call(
        lambda world, **keywords: widget_state(llmscope.widget(world.figure(), **keywords)),
        {"cursor": 1, "look": RenderOptions(theme=load_theme("light"))},
    ),
    "save": Call(
        saved,
        {
            "format": "json",
            "size": (30, 10),
            "look": RenderOptions(theme=load_theme("light")),
            "focus": llmscope.Focus(position=1, layer=0),
            "scale": 2.0,
        },
        {
            "force": "nothing is in the way",
            "style": "it is of the look `paper`, which tests of figures for print hold",
        },
    ),
    "LensCallback": Call(
        train,
        {
            "every": 1,
            "at_end": False,
            "lenses": ["tokens"],
            "at_start": False,
            "stage": "sft",
        },
        {"overwrite": "nothing is in the way"},
    ),
    "Run": Call(
        run_once, {"lenses": ["tokens"], "overwrite": False, "resume": True, "stage": "sft"}
    ),
    "Predictor": Call(
        predicted,
        {
            "model": "builtin:town",
            "lens": "tokens",
            "lenses": ["tokens"],
            "chat": True,
            "system": "x",
            "edits": ["zero mlp 1"],
            "load": {"dtype": "bfloat16"},
        },
        {
            "batch_size": WORKS,
            "tolerance": "the numbers are closer than that",
            "special_tokens": "the tokenizer has none",
        },
    ),
    "ActivationCache.get": Call(
        lambda world, **keywords: world.recording().cache().get("nowhere", **keywords),
        {"default": 3},
    ),
    "Figure.refused": Call(
        lambda world, **keywords: llmscope.Figure.refused("tokens", "t", "why", **keywords).verdict,
        {"discrepancy": 2.0},
    ),
    "Figure.to_dict": Call(
        lambda world, **keywords: world.figure().to_dict(**keywords), {"values": False}
    ),
    "Figure.plot": Call(plotted, {"ax": axes, **PAPER}),
    "Figure.widget": Call(
        lambda world, **keywords: widget_state(world.figure().widget(**keywords)), {"cursor": 1}
    ),
    "Recording.rows": Call(rows_of, {"wanted": range(2)}),
    "Scope.encode": Call(
        lambda world, **keywords: world.marked().encode(PROMPT, **keywords).ids,
        {"special_tokens": False},
    ),
    "Scope.prompt": Call(
        lambda world, **keywords: world.marked().prompt(PROMPT, **keywords).ids,
        {"special_tokens": False, "written": [3]},
    ),
    "Scope.teach": Call(
        taught,
        {"special_tokens": False},
    ),
    "Scope.record": Call(
        record_twice,
        {
            "fresh": True,
            "cancelled": stops,
            "edits": ["zero mlp 1"],
            "versus_prompt": OTHER,
            "written": [3],
            "aside": lambda world: [world.recording()],
        },
        {
            "special_tokens": "the tokenizer has none; `Scope.prompt` and `encode` show it",
            "progress": "it is called for long prompts",
        },
    ),
    "Scope.record_prompt": Call(
        record_read,
        {
            "cancelled": stops,
            "edits": [parse("zero mlp 1")],
            "other": World.other_prompt,
            "aside": lambda world: [world.recording()],
        },
        {"progress": "it is called for long prompts"},
    ),
    "Scope.gradients": Call(
        gradients, {"recording": lambda world: world.recording(), "position": 2}
    ),
    "Scope.look": Call(look, {"recording": lambda world: world.recording()}),
    "Scope.figures": Call(figure_of, {"cancelled": stops}),
    "Scope.figure_steps": Call(steps_of, {"cancelled": stops}),
    "Scope.forget": Call(forgets, {"free": False}),
    "Scope.unchanged": Call(reads_weights, {"rows": False}),
    "Scope.show": Call(
        shown,
        {"prompt": PROMPT, "recording": World.recording},
        {"versus_prompt": "the tabs A and B and What if show it"},
    ),
    "Scope.save_activations": Call(
        activations, {"last": True, "shard_size": 1, "special_tokens": False, "progress": hears}
    ),
    "Scope.fit_lens": Call(
        fit,
        {
            "kind": "tuned",
            "skip": 3,
            "length": 5,
            "held_out": 3,
            "max_prompts": 2,
            "progress": hears,
            "estimator": "last",
            "backwards": 2,
            "error": 0.9,
            "steps": 3,
            "rate": 0.1,
        },
        {"batch": WORKS, "checkpoint": "it is removed at the end"},
    ),
    "Scope.activation_difference": Call(
        differs,
        {
            "texts": [OTHER, TEXTS[2], "anna lives in forest street"] * 4,
            "tokens": 2,
            "layer": 1,
            "top_k": 3,
            "translator": "tuned",
            "strength": 2.0,
            "progress": hears,
            "seed": 3,
        },
        {"checkpoint": "the numbers are the same with it"},
    ),
}
DATA = {"ActivationCache", "Axis", "Error", "Figure", "Focus", "Recording", "ScopeError", "Verdict"}
"""Classes of data, which keep what they are made with; `load` and `wrap` make a Scope."""


def widget_state(widget: Any) -> Any:
    state = widget.get_state()
    return {name: each for name, each in state.items() if name not in ("layout", "_anywidget_id")}


def keywords_of(name: str, function: Callable[..., Any]) -> set[str]:
    """Return the keywords of a function that have a default, and those that it hands on."""
    parameters = inspect.signature(function).parameters.values()
    keywords = {one.name for one in parameters if one.default is not one.empty}
    if name == "Scope.fit_lens":
        names = {each.name for kind in (JacobianFit, TunedFit) for each in fields(kind)}
        keywords |= names - {"rules", "prompts", "name"}  # which it fills itself
    return keywords


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public functions and methods, and classes that are called, by name."""
    for name, value in PUBLIC.items():
        if inspect.isclass(value) and not issubclass(value, BaseException):
            for method, function in inspect.getmembers(value, callable):
                if not method.startswith(("_", "on_")):
                    yield f"{name}.{method}", function
        if callable(value) and name not in DATA | {"Scope"}:
            yield name, value


KEYWORDS = [
    (name, keyword)
    for name, function in functions()
    for keyword in sorted(keywords_of(name, function))
]


@pytest.fixture(scope="module", autouse=True)
def copies() -> Iterator[None]:
    with copied_models():
        yield


@pytest.mark.few(30)
@pytest.mark.parametrize(
    ("name", "keyword"), KEYWORDS, ids=[f"{name}-{keyword}" for name, keyword in KEYWORDS]
)
def test_it_is_used_or_refused_by_name(tmp_path: Path, name: str, keyword: str) -> None:
    call = CALLS[name]
    if keyword in call.same:
        assert keyword not in call.others
        return
    value = call.others[keyword]
    with pytest.MonkeyPatch.context() as patch:
        print_screens(patch)
        before = outcome(call, world_in(tmp_path, patch), {})
        assert before == outcome(call, world_in(tmp_path, patch), {})
        world = world_in(tmp_path, patch)
        try:
            after = outcome(call, world, {keyword: value(world) if callable(value) else value})
        except (llmscope.Error, TypeError, ValueError) as error:
            said = f"{error} {getattr(error, 'hint', '')}"
            assert any(word in said for word in (keyword, str(value).strip("[']"))), said
            return
        except Cancelled:
            return
    assert after != before, "accepted, and nothing changes"


def world_in(folder: Path, patch: pytest.MonkeyPatch) -> World:
    """Return a world in an empty folder, without the state of an earlier one."""
    shutil.rmtree(folder)
    (folder / "files").mkdir(parents=True)
    patch.setenv("LLMSCOPE_STATE", str(folder / "state"))
    return World(folder / "files")


def outcome(call: Call, world: World, keywords: dict[str, Any]) -> str:
    return plain(call.make(world, **keywords))


def test_each_keyword_has_another_value() -> None:
    known = {(name, each) for name, call in CALLS.items() for each in {*call.others, *call.same}}
    assert known == set(KEYWORDS)

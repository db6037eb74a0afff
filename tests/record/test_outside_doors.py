"""The walk of random changes through the other doors, each number against plain forwards.

The engine of the screen, a comparison of two models, a run of a training, activations in files,
generation, edits around the user's own calls, a batch of prompts for a table, gradients.
"""

from queue import Queue

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import llmscope
from llmscope.engine import Engine
from llmscope.engine.events import Frame, Loaded, Refused, Request, Want
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.jobs.snapshots.padded import Together, why_single
from llmscope.models.loading.at_rest import one_thread
from llmscope.record.capture import recorder as recorder_module
from llmscope.record.derive.tensors import logits_after
from llmscope.runs.training.lens_source import LensSource
from tests.families import small_model
from tests.record.test_outside_walk import PLACES, Walk, after_last

TARGET = 7
WANTS = (
    Want("next", "next-token", Focus(top_k=5)),
    Want("tokens", "tokens", Focus()),
    Want("map", "logit-lens", Focus(mode="target", target=TARGET)),
    Want("ablation", "ablation", Focus(mode="parts", target=TARGET)),
)


def surprisals(logits, ids):
    """−log₂ p of each token but the first. [token]"""
    scores = torch.log_softmax(logits[:-1].double(), -1)
    return -(scores[torch.arange(len(ids) - 1), torch.tensor(ids[1:])] / np.log(2))


class Doors(Walk):
    """A walk whose numbers come through every door but `record` and `look`."""

    def __init__(self, family, seed, folder):
        super().__init__(family, seed)
        self.family, self.folder, self.number = family, folder, 0
        self.prompt = tuple(range(5, 25))
        self.last_ids = ()
        self.events = Queue()
        self.engine = Engine(lambda progress: self.scope, self.events.put)
        self.engine.start()
        self.wait(Loaded)
        self.other = small_model(family, **({"n_layer": 3} if family == "gpt2" else {}))
        self.compared = llmscope.wrap(self.model)
        self.compared.compare(llmscope.wrap(self.other))
        self.reversed = llmscope.wrap(self.other)
        self.reversed.compare(self.compared)
        self.source = LensSource(
            llmscope.wrap(self.model),
            [{"prompt": list(self.prompt), "target": TARGET}],
            ["tokens", "next-token", "logit-lens:target"],
        )

    def wait(self, kind):
        while True:
            event = self.events.get(timeout=60)
            if isinstance(event, (kind, Refused)):
                return event

    def end(self):
        self.close()
        self.engine.close()

    def compare(self):
        self.old = None
        before, vocabulary = list(self.last_ids), self.vocabulary()
        kind = self.random.choice(("new", "longer", "longer", "shorter", "same"))
        if kind == "longer" and 0 < len(before) < 44:
            ids = (*before, self.random.randrange(5, vocabulary))
        elif kind == "shorter" and len(before) > 4:
            ids = tuple(before[:-2])
        elif kind == "same" and before:
            ids = tuple(before)
        else:
            count = self.random.randint(4, 40)
            ids = tuple(self.random.randrange(5, vocabulary) for _ in range(count))
        self.last_ids = ids
        doors = (self.by_engine, self.by_engine, self.by_comparison, self.by_run, self.by_files)
        doors += (self.by_generation, self.by_editing, self.by_table, self.by_gradients)
        door = self.random.choice(doors)
        try:
            door(ids)
        except ScopeError:
            self.counts["refused"] += 1

    def vocabulary(self):
        return self.model.get_input_embeddings().num_embeddings - 6

    # Doors.

    def by_engine(self, ids):
        self.number += 1
        self.engine.ask(Request(self.number, "", WANTS, ids=ids))
        figures = {}
        while True:
            frame = self.wait(Frame)
            if frame.serial == self.number:
                if isinstance(frame, Refused):
                    self.counts["refused"] += 1
                    return
                figures |= frame.figures
                if frame.complete:
                    break
        with one_thread(self.model):  # the engine measures on after its last frame
            logits = self.plain(ids)
        if self.counted(figures["next"]):
            values = figures["next"].values
            best = torch.softmax(logits[-1].double(), -1).topk(len(values)).values
            self.near(values, best, "the screen's next token")
        if self.counted(figures["tokens"]):
            values = figures["tokens"].values[1:]
            self.near(values, surprisals(logits, ids), "the screen's surprisal")
        if self.counted(figures["map"]) and "probability" in figures["map"].unit:
            truth = torch.softmax(logits.double(), -1)[:, TARGET]
            self.near(figures["map"].values[-1], truth, "the screen's map")
        if self.counted(figures["ablation"]) and np.isfinite(figures["ablation"].values[1, 1]):
            truth = float(self.cut(ids, 1)[TARGET] - logits[-1, TARGET])
            self.near(figures["ablation"].values[1, 1], truth, "the screen's ablation")

    def by_comparison(self, ids):
        forward = self.random.random() < 0.5
        scope = self.compared if forward else self.reversed
        pair = (self.model, self.other) if forward else (self.other, self.model)
        scope.record(ids)
        with torch.no_grad():
            a, b = (
                torch.log_softmax(one(torch.tensor([ids]), use_cache=False).logits[0].double(), -1)
                for one in pair
            )
        figure = scope.look("model-diff", mode="kl")
        if self.counted(figure):
            self.near(figure.values, (a.exp() * (a - b)).sum(-1), "KL of two models")
        figure = scope.look("tokens", change=True)
        if self.counted(figure):
            index = torch.arange(len(ids) - 1), torch.tensor(ids[1:])
            truth = (b[:-1][index] - a[:-1][index]) / np.log(2)
            self.near(figure.values[1:], truth, "surprisal minus that of another model")

    def by_run(self, _):
        figures = self.source.figures()
        logits = self.plain(self.prompt)
        if self.counted(figures["0/tokens"]):
            values = figures["0/tokens"].values[1:]
            self.near(values, surprisals(logits, self.prompt), "a run's surprisal")
        figure = figures["0/next-token"]
        if self.counted(figure):
            best = torch.softmax(logits[-1].double(), -1).topk(len(figure.values)).values
            self.near(figure.values, best, "a run's next token")
        figure = figures["0/logit-lens:target"]
        if self.counted(figure) and "probability" in figure.unit:
            truth = torch.softmax(logits.double(), -1)[:, TARGET]
            self.near(figure.values[-1], truth, "a run's logit lens")

    def streams(self, ids):
        """The streams after each layer, as hooks see them. [layer][row, width]"""
        seen = []
        handles = [
            layer.register_forward_hook(
                lambda _m, _a, out: seen.append((out[0] if isinstance(out, tuple) else out)[0])
            )
            for layer in self.layers
        ]
        self.plain(ids)
        for handle in handles:
            handle.remove()
        return seen

    def by_files(self, ids):
        self.number += 1
        folder, prompts = self.folder / str(self.number), [ids, ids[: len(ids) // 2 + 1]]
        self.scope.save_activations(prompts, ["layers.*.resid_post"], folder)
        tensors = load_file(folder / "shard-00000.safetensors")
        for at, prompt in enumerate(prompts):
            for layer, stream in enumerate(self.streams(prompt)):
                self.near(tensors[f"{at}/layers.{layer}.resid_post"], stream, "activations")

    def by_generation(self, ids):
        written = ()
        for _ in range(3):
            recording = self.scope.record(ids, written=written)
            logits = self.plain((*ids, *written))[-1]
            self.near(after_last(recording), logits, "a generated token")
            written = (*written, int(logits_after(recording, len(recording) - 1).argmax()))

    def by_editing(self, ids):
        layer = self.random.randrange(3)
        with self.scope.editing([f"zero mlp {layer}"]):
            edited = self.plain(ids)[-1]
        self.near(edited, self.cut(ids, layer), "a call within an edit")
        self.near(after_last(self.scope.record(ids)), self.plain(ids)[-1], "after the edit")

    def by_table(self, ids):
        job = PromptJob(("tokens",), Focus(), (), True, False, None, ())
        prompts = [ids, ids[: len(ids) // 2 + 1], ids[:3]]
        if why_single(self.scope, job):
            recordings = [self.scope.record(prompt) for prompt in prompts]
        else:
            together = Together.of(4, job.lenses)
            recordings = together.record(self.scope, list(map(self.scope.prompt, prompts)))
            self.counts["reused"] += 1
        for recording, prompt in zip(recordings, prompts, strict=True):
            figure = self.scope.look("tokens", recording=recording)
            if self.counted(figure):
                self.near(figure.values[1:], surprisals(self.plain(prompt), prompt), "a table")

    def by_gradients(self, ids):
        self.scope.record(ids)
        name = "layers.1.resid_pre"
        gradient = self.scope.gradients(lambda logits: logits[TARGET] - logits[31], name)[name]
        leaf = []

        def enter(_module, args, kwargs):
            hidden = args[0] if args else kwargs["hidden_states"]
            leaf.append(hidden.detach().requires_grad_())
            if args:
                return (leaf[0], *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": leaf[0]}

        handle = self.layers[1].register_forward_pre_hook(enter, with_kwargs=True)
        logits = self.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        handle.remove()
        (logits[TARGET] - logits[31]).backward()
        self.model.zero_grad()
        self.near(gradient, leaf[0].grad[0], "a gradient")


@pytest.mark.parametrize("family", PLACES)
@pytest.mark.parametrize("steps", [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.few(2)
def test_a_walk_through_the_other_doors_shows_no_wrong_number(family, steps, monkeypatch, tmp_path):
    monkeypatch.setattr(recorder_module, "CHUNK", 16)
    walk = Doors(family, steps + len(family), tmp_path)
    try:
        for _ in range(steps):
            walk.step()
    finally:
        walk.end()
    assert walk.counts["verified"] > steps / 3, walk.counts


def from_the_end(_module, _args, output):
    if output.shape[1] > 12:
        output[:, -5] += 3.0


def mean_of_long(_module, _args, output):
    return output + output.mean(1, keepdim=True) if output.shape[1] > 12 else None


@pytest.mark.parametrize("hook", [from_the_end, mean_of_long])
@pytest.mark.parametrize("mode", ["kl", "lens", "streams", "difference"])
@pytest.mark.few(4)
def test_rows_that_only_one_of_two_models_reuses_are_compared_anew(hook, mode):
    """The plain model reuses a prefix; the other's rows of it depend on what follows."""
    models = [small_model("llama"), small_model("llama", seed=1)]
    models[1].model.layers[1].mlp.register_forward_hook(hook)
    ids = [(7 * at + 3) % 90 for at in range(20)]
    scope = llmscope.wrap(models[0])
    scope.compare(llmscope.wrap(models[1]))
    for length in range(14, 17):
        recording = scope.record(ids[:length])
        assert recording.reused == (length - 1 if length > 14 else 0)
        figure = scope.look("model-diff", mode=mode)
        assert figure.verdict.status == "verified"
        alone = llmscope.wrap(models[0])
        alone.compare(llmscope.wrap(models[1]))
        alone.record(ids[:length], fresh=True)
        expected = alone.look("model-diff", mode=mode)
        np.testing.assert_allclose(figure.values, expected.values, atol=1e-5)
        if mode == "kl":
            with torch.no_grad():
                a, b = (
                    torch.log_softmax(model(torch.tensor([ids[:length]])).logits[0].double(), -1)
                    for model in models
                )
            np.testing.assert_allclose(figure.values, (a.exp() * (a - b)).sum(-1), atol=1e-5)

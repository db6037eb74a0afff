"""What llmscope shows of one family, number by number beside a plain model that it never touched.

The references are transformers' own: logits of a pass without hooks, attentions of the eager
attention, and tensors that are caught by hooks at the same module paths of a second copy.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from llmscope.draw.painters.map import KINDS
from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive import tensors
from llmscope.record.derive.token_maps import token_map
from llmscope.record.derive.verify import CAPABILITIES, MAPS, WRITES
from llmscope.scope.scope import Scope
from tests.all_families import NOT_BUILT, small_model
from tests.recurrences import caught_in

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]  # longer than the windows of 6
BEFORE = 9
"""Tokens that are recorded first, so that the rest goes on from them where it can."""
BOUND = 1e-5
# Families whose eager attentions are no reference, and why.
NO_ATTENTIONS = {
    "granite_swa": "given before the sink scales them",
    "granitemoe_swa": "given before the sink scales them",
}
# Rows that stand before those of the tokens in what the layers hand on.
ROWS_BEFORE = {"cpmant": 32, "prophetnet": len(IDS)}


@dataclass
class Row:
    """What was measured of one family.

    Attributes:
        layers: a letter for the kind of each layer; empty if the model was not opened.
        cells: capability, or saliency -> in how many layers it is verified, and why not in the
            others.
        closed: why the model was not built or not opened; empty if it was.
        numbers: how many numbers were held against a plain reference.
        worst: the largest error among them, by the largest magnitude of its tensor.
        wrong: what was off by more than the bound.
    """

    family: str
    layers: str = ""
    cells: dict[str, tuple[int, str]] = field(default_factory=dict)
    closed: str = ""
    numbers: int = 0
    worst: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def compare(self, what: str, found: Any, own: Any, size: float = 0.0) -> None:
        """Hold a tensor against its reference.

        Args:
            size: what the error is relative to; 0: the largest magnitude of the reference.
        """
        found, own = torch.as_tensor(found).double(), torch.as_tensor(own).double()
        if found.shape != own.shape:
            self.wrong.append(f"{what}: shape {tuple(found.shape)} for {tuple(own.shape)}")
            return
        self.numbers += own.numel()
        error = float((found - own).abs().max()) / (size or max(float(own.abs().max()), 1e-30))
        self.worst = max(self.worst, error)
        if not error <= BOUND:
            self.wrong.append(f"{what}: off by {error:.1e}")


def scope_of(family: str) -> Scope:
    """A small model of the family under the microscope.

    Raises:
        ScopeError: it cannot be opened.
    """
    model = small_model(family)
    anatomy = find(model)
    return Scope(LoadedModel("", family, model, None, anatomy, model.device, model.dtype))


def measured(family: str) -> Row:
    """Build, open, record and compare."""
    row = Row(family)
    if family in NOT_BUILT:
        row.closed = NOT_BUILT[family]
        return row
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scope = scope_of(family)
        except ScopeError as error:
            row.closed = str(error).splitlines()[0]
            return row
        _measure(row, scope, small_model(family))
    return row


def _measure(row: Row, scope: Scope, plain: Any) -> None:
    anatomy = scope.loaded_model.anatomy
    row.layers = "".join(KINDS[layer.kind] for layer in anatomy.layers)
    scope.record(IDS[:BEFORE])
    scope.look("tokens")
    recording = scope.record(IDS)
    for name in CAPABILITIES:
        verdicts = scope.verdicts.layers[name]
        if name == "patterns":  # or a map in its place
            maps = scope.verdicts.layers[MAPS]
            verdicts = tuple(
                own if of_map.status == "refused" else of_map
                for own, of_map in zip(verdicts, maps, strict=True)
            )
        refused = [verdict.reason for verdict in verdicts if verdict.status == "refused"]
        row.cells[name] = len(verdicts) - len(refused), refused[0] if refused else ""
    caught = _Caught(row.family, scope.model, plain)
    logits = caught.run(anatomy)
    _predictions(row, scope, logits)
    for index, layer in enumerate(anatomy.layers):
        here = f"layer {index}"
        row.compare(f"{here} stream", recording.rows("stream", index), caught.stream(index))
        if scope.verdicts("writes", index).status == "verified":
            for name in WRITES:
                written = recording.rows(name, index)
                if written is not None:
                    own = caught.output(getattr(layer, name))
                    if name == "mlp_write" and layer.mlp_parallel is not None:
                        own = own + caught.output(layer.mlp_parallel)
                    row.compare(f"{here} {name}", written, own * layer.scale(name))
        if scope.verdicts("activations", index).status == "verified":
            if layer.neurons is None:
                found = tensors.activations(recording, index)
                row.compare(f"{here} activations", found, caught.input(layer.down))
            elif layer.mlp_write is not None:
                # Neuron by neuron beside plain weights: tests/record/test_expert_neurons.py.
                found = tensors.mlp_output(recording, index)
                own = caught.output(layer.mlp_write)
                if layer.mlp_parallel is not None:
                    own = own + caught.output(layer.mlp_parallel)
                row.compare(f"{here} experts' writes", found, own * layer.scale("mlp_write"))
        if scope.verdicts("experts", index).status == "verified":
            weights, chosen = (recording.rows(name, index) for name in ("routed", "chosen"))
            own = caught.choice(layer.router)
            row.compare(f"{here} experts", weights, own[1])
            row.compare(f"{here} chosen experts", chosen, own[2])
    _maps(row, scope, plain)
    _saliency(row, scope, plain)
    _patterns(row, scope, plain)


def _maps(row: Row, scope: Scope, plain: Any) -> None:
    """Maps of layers without attention, beside recurrences in float64 of the plain model."""
    layers = scope.loaded_model.anatomy.layers
    mapped = [at for at in range(len(layers)) if scope.verdicts(MAPS, at).status == "verified"]
    if not mapped:
        return
    paths = {module: name for name, module in scope.model.named_modules()}
    calls = caught_in(plain, [plain.get_submodule(paths[layer.module]) for layer in layers], IDS)
    for index in mapped:
        own = torch.cat([call.map() for call in calls[index]])
        for head in range(len(own)):
            found = token_map(scope.latest, index, head, range(len(IDS)))
            row.compare(f"layer {index} map {head}", found, own[head])


def _saliency(row: Row, scope: Scope, plain: Any) -> None:
    """Gradient times embedding, beside a backward pass of the plain model."""
    figure = scope.look("saliency")
    verified = figure.verdict.status == "verified"
    row.cells["saliency"] = (len(row.layers), "") if verified else (0, figure.verdict.reason)
    if not verified:
        return
    leaf = torch.empty(0)

    def replaced(_: Any, args: Any, looked_up: Any) -> Any:
        nonlocal leaf
        leaf = looked_up.detach().clone().requires_grad_()
        return leaf.clone()

    hook = plain.get_input_embeddings().register_forward_hook(replaced)
    logits = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    hook.remove()
    torch.log_softmax(logits, -1)[figure.extra["target_id"]].backward()
    assert leaf.grad is not None
    plain.zero_grad()
    products = (leaf.grad * leaf.detach()).reshape(len(IDS), -1)
    # A norm right after the embedding makes the sum zero: what is left of it is rounding.
    size = float(products.abs().sum(-1).max())
    row.compare("saliency", figure.values, products.sum(-1), size)


def _predictions(row: Row, scope: Scope, logits: torch.Tensor) -> None:
    """Next token and surprisal, which stand on the model's own logits. `logits`: [row, token]"""
    for position in (len(IDS) - 1, 4):
        figure = scope.look("next-token", position=position, top_k=logits.shape[-1])
        if figure.verdict.status == "refused":
            row.wrong.append(f"next token: refused: {figure.verdict.reason}")
            return
        own = torch.softmax(logits[position].double(), -1)[torch.tensor(figure.extra["ids"].copy())]
        row.compare(f"next token after {position}", figure.values, own)
    figure = scope.look("tokens")
    bits = -torch.log_softmax(logits.double(), -1) / np.log(2)
    own = torch.stack([bits[place, token] for place, token in enumerate(IDS[1:])])
    row.compare("surprisal", figure.values[1:], own)


def _patterns(row: Row, scope: Scope, plain: Any) -> None:
    """Patterns, beside those that the plain model gives in eager attention."""
    anatomy = scope.loaded_model.anatomy
    shown = [
        index
        for index in range(len(anatomy.layers))
        if scope.verdicts("patterns", index).status == "verified"
    ]
    if not shown or row.family in NO_ATTENTIONS:
        return
    with_attention = [index for index, layer in enumerate(anatomy.layers) if layer.attention]
    # Falcon takes its attention's name from when it was built.
    plain = (
        small_model(row.family, attn_implementation="eager") if row.family == "falcon" else plain
    )
    plain.config._attn_implementation = "eager"
    wanted = {"use_cache": False, "output_attentions": True}
    with torch.no_grad():
        try:  # in float64 rounding is ours alone
            output = plain.double()(input_ids=torch.tensor([IDS]), **wanted)
        except RuntimeError:  # where the model's code says float32
            output = plain.float()(input_ids=torch.tensor([IDS]), **wanted)
    given = [
        one
        for one in getattr(output, "attentions", None) or ()
        if isinstance(one, torch.Tensor) and one.shape[-2:] == (len(IDS), len(IDS))
    ]
    if len(given) != len(with_attention):
        return  # a model that gives none, or several of a layer that runs several times
    own = dict(zip(with_attention, given, strict=True))
    for index in shown:
        found = tensors.pattern(scope.latest, index)
        row.compare(f"layer {index} pattern", found, own[index][0])


class _Caught:
    """What passes through the plain model at the places of another model's modules."""

    def __init__(self, family: str, model: Any, plain: Any) -> None:
        self._paths = {module: name for name, module in model.named_modules()}
        self._plain = plain
        self._before = ROWS_BEFORE.get(family, 0)
        self._inputs: dict[str, torch.Tensor] = {}
        self._outputs: dict[str, Any] = {}
        self._layers: list[str] = []
        self._routers: set[str] = set()

    def run(self, anatomy: Any) -> torch.Tensor:
        """Catch all of a pass over the ids. Returns logits. [row, token]"""
        hooks = []
        self._routers = {self._paths[one.router] for one in anatomy.layers if one.router}
        for layer in anatomy.layers:
            self._layers.append(self._paths[layer.module])
            writes = [getattr(layer, name) for name in WRITES]
            for module in (layer.module, *writes, layer.mlp_parallel, layer.down, layer.router):
                if module is not None:
                    hooks.append(self._hooked(self._paths[module]))
        with torch.no_grad():
            output = self._plain(input_ids=torch.tensor([IDS]), use_cache=False)
        for hook in hooks:
            hook.remove()
        logits: torch.Tensor = output.logits[0]
        return logits

    def _hooked(self, path: str) -> Any:
        def keep(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            entered = args[0] if args else kwargs.get("hidden_states")
            if isinstance(entered, torch.Tensor):
                self._inputs[path] = entered.clone()
            if path in self._routers:
                self._outputs[path] = output
                return
            first = output[0] if isinstance(output, tuple | list) else output
            self._outputs[path] = first.clone()  # some models add to it in place

        return self._plain.get_submodule(path).register_forward_hook(keep, with_kwargs=True)

    def stream(self, layer: int) -> torch.Tensor:
        """[row, width]; several streams of a row stand side by side."""
        caught = self._inputs[self._layers[layer]]
        if caught.dim() == 4:
            streams = caught if caught.shape[0] == 1 else caught.permute(1, 2, 0, 3)
            return streams[0].reshape(len(IDS), -1)
        return self._rows(caught)

    def output(self, module: Any) -> torch.Tensor:
        """[row, width]"""
        return self._rows(self._outputs[self._paths[module]])

    def input(self, module: Any) -> torch.Tensor:
        """[row, width]"""
        return self._rows(self._inputs[self._paths[module]])

    def choice(self, router: Any) -> tuple[torch.Tensor, ...]:
        """What a router gives: logits, weights, chosen experts."""
        given: tuple[torch.Tensor, ...] = self._outputs[self._paths[router]]
        return given

    def _rows(self, tensor: torch.Tensor) -> torch.Tensor:
        rows = tensor.reshape(-1, tensor.shape[-1])
        return rows[self._before : self._before + len(IDS)]

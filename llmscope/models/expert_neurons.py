"""The neurons of a mixture of experts: those of every expert, and of shared experts, in one row.

A neuron is the number EXPERT · width + INDEX; those of shared experts come after all others. Its
activation is the input of its down projection times the weight that the router gave its expert,
so that what the mixture gives is linear in the activations: 0 where the expert did not run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmscope.models.mixing import child_of

DOWN = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2", "output_linear")
LATENT = ("fc1_latent_proj", "fc2_latent_proj")
"""Projections of what experts read, and of what they write, of a mixture whose experts are narrower
than the stream."""
SCALES = ("routed_scaling_factor",)
AWAY = (
    "the weights of this layer's experts are not here: they are split over processes, or offloaded"
)
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
Choice = tuple[Tensor, Tensor]
"""The weights of the chosen experts' outputs, and the experts. [row, choice] each."""


class UnknownExpertsError(Exception):
    """The neurons of a mixture are not found, for a reason that is one clause about the layer."""


class ExpertWeights(Protocol):
    """The weights of the experts of one layer.

    Attributes:
        count, width: number of experts with neurons, and of neurons of each.
        weighted_input: whether an expert's input, and not its output, is multiplied by its weight.
        place: the module that is handed the choice (True), or that returns it (False).
    """

    count: int
    width: int
    weighted_input: bool
    place: tuple[nn.Module, bool]

    def choice(self, args: Any, kwargs: Any, output: Any) -> Choice | None:
        """Return the choice in a call of the module of `place`; None if it holds none."""

    def activate(self, expert: int, hidden: Tensor) -> Tensor:
        """Return what an expert's down projection reads. `[row, input] -> [row, neuron]`"""

    def down(self, expert: int) -> Tensor:
        """Return an expert's down projection. [neuron, output]"""

    def bias(self, expert: int) -> Tensor | None:
        """Return the bias of an expert's down projection. [output]; None without one."""

    def passed(self, chosen: Tensor) -> Tensor | None:
        """Return which choices are of an expert that passes its input on; None if none does."""


def _from_arguments(args: Any, kwargs: Any, output: Any) -> Choice | None:
    """Return the choice that experts are handed behind their input."""
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)][1:]
    weights = [tensor for tensor in tensors if tensor.is_floating_point()]
    chosen = [tensor for tensor in tensors if not tensor.is_floating_point()]
    if len(weights) != 1 or len(chosen) != 1 or weights[0].shape != chosen[0].shape:
        return None
    return weights[0], chosen[0]


class _Stacked:
    """Experts whose weights are stacked in three dimensions, expert first."""

    weighted_input = False

    def __init__(self, module: Any) -> None:
        self._module = module
        self._gated = getattr(module, "gate_up_proj", None) is not None
        down = module.down_proj
        if down is None or down.dim() != 3:
            raise UnknownExpertsError("the weights of its experts are not stacked")
        self._transposed = bool(getattr(module, "is_transposed", False))
        self.count = int(down.shape[0])
        self.width = int(down.shape[1 if self._transposed else 2])
        self.place = module, True
        if getattr(module, "has_post_expert_norm", False):
            raise UnknownExpertsError("a norm follows each of its experts")

    choice = staticmethod(_from_arguments)

    def activate(self, expert: int, hidden: Tensor) -> Tensor:
        module = self._module
        name = "gate_up_proj" if self._gated else "up_proj"
        weight, bias = getattr(module, name)[expert], getattr(module, f"{name}_bias", None)
        raised = hidden @ weight if self._transposed else functional.linear(hidden, weight)
        raised = raised if bias is None else raised + bias[expert]
        if not self._gated:
            active: Tensor = module.act_fn(raised)
        elif hasattr(module, "_apply_gate"):
            active = module._apply_gate(raised)
        else:
            gate, up = raised.chunk(2, dim=-1)
            active = module.act_fn(gate) * up
        return active

    def down(self, expert: int) -> Tensor:
        weight: Tensor = self._module.down_proj[expert]
        return weight if self._transposed else weight.T

    def bias(self, expert: int) -> Tensor | None:
        bias = getattr(self._module, "down_proj_bias", None)
        if bias is None:
            return None
        of_expert: Tensor = bias[expert]
        return of_expert

    def passed(self, chosen: Tensor) -> Tensor | None:
        if getattr(self._module, "identity_expert", None) is None:
            return None
        return chosen >= self.count


class PassedBeside(_Stacked):
    """Experts of a mixture that itself adds its input, by the weights of choices beyond them.

    It hands such choices to its experts as others of weight 0, so the choice is the router's.
    """

    def __init__(self, module: Any, router: nn.Module) -> None:
        super().__init__(module)
        self.place = router, False

    def choice(self, args: Any, kwargs: Any, output: Any) -> Choice | None:
        """Return the weights and experts behind the logits of all experts in the output."""
        return _from_arguments(output, {}, None)

    def passed(self, chosen: Tensor) -> Tensor:
        """Return which choices lie beyond the experts. `[row, choice]`"""
        return chosen >= self.count


class _WeightedInput(_Stacked):
    """Experts that all run on inputs times scores, which are 0 for those that are not chosen."""

    weighted_input = True

    def __init__(self, module: Any, router: nn.Module, choices: int) -> None:
        super().__init__(module)
        self._choices = choices
        self.place = router, False
        self._transposed = True
        self.width = int(module.down_proj.shape[1])

    def choice(self, args: Any, kwargs: Any, output: Any) -> Choice | None:
        scores = output[0]
        if scores.shape[-1] != self.count:
            return None
        weights, chosen = scores.topk(self._choices, dim=-1)
        return weights, chosen


class _OneTable:
    """Experts whose weights are rows of one table, an expert after the other, as in DBRX."""

    weighted_input = False

    def __init__(self, module: Any) -> None:
        self._table = module.mlp
        self.count, self.width = int(module.num_experts), int(module.ffn_hidden_size)
        self.place = module, True

    choice = staticmethod(_from_arguments)

    def _of(self, name: str, expert: int) -> Tensor:
        weight: Tensor = getattr(self._table, name)
        return weight[expert * self.width : (expert + 1) * self.width]

    def activate(self, expert: int, hidden: Tensor) -> Tensor:
        gate: Tensor = self._table.activation_fn(hidden @ self._of("w1", expert).T)
        return gate * (hidden @ self._of("v1", expert).T)

    def down(self, expert: int) -> Tensor:
        return self._of("w2", expert)

    def bias(self, expert: int) -> None:
        return None

    def passed(self, chosen: Tensor) -> None:
        return None


class _Sorted:
    """Experts that read rows sorted by expert, in two stacked projections, as in JetMoE."""

    weighted_input = False

    def __init__(self, module: Any, router: nn.Module) -> None:
        self._module = module
        self.count, _, self.width = module.output_linear.weight.shape
        self.place = router, False

    def choice(self, args: Any, kwargs: Any, output: Any) -> Choice | None:
        order, _, gates, sizes, _ = output
        experts = torch.repeat_interleave(
            torch.arange(self.count, device=gates.device),
            torch.as_tensor(sizes, device=gates.device),
        )
        weights, chosen = torch.empty_like(gates), torch.empty_like(experts)
        weights[order], chosen[order] = gates, experts
        choices = int(self._module.router.top_k)
        return weights.reshape(-1, choices), chosen.reshape(-1, choices)

    def activate(self, expert: int, hidden: Tensor) -> Tensor:
        raised = functional.linear(hidden, self._module.input_linear.weight[expert])
        gate, up = raised.chunk(2, dim=-1)
        active: Tensor = self._module.activation(gate) * up
        return active

    def down(self, expert: int) -> Tensor:
        weight: Tensor = self._module.output_linear.weight[expert]
        return weight.T

    def bias(self, expert: int) -> None:
        return None

    def passed(self, chosen: Tensor) -> None:
        return None


@dataclass(frozen=True)
class SharedExpert:
    """An expert that runs for every token.

    Attributes:
        module: the whole of it.
        down: its down projection.
        gate: the projection to one number whose sigmoid multiplies its output; None: 1.
        share: a factor of its output besides.
        beside: whether it is another part of the layer than the mixture, with the same input.
    """

    module: nn.Module
    down: nn.Module
    gate: nn.Module | None
    beside: bool
    share: float = 1.0

    def activations(self, entry: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the down projection reads, [row, neuron], and the gate's factor. [row, 1]"""
        caught: list[Tensor] = []
        hook = self.down.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            self.module(entry[None])
        finally:
            hook.remove()
        return caught[0].reshape(len(entry), -1), self.factor(entry)

    def factor(self, entry: Tensor) -> Tensor | None:
        """Return what the output is multiplied by. [row, 1]; None: nothing."""
        if self.gate is not None:
            return torch.sigmoid(self.gate(entry)) * self.share
        return None if self.share == 1.0 else entry.new_full((len(entry), 1), self.share)


@dataclass(frozen=True, eq=False)
class ExpertActivations:
    """The activations of the experts that ran for some rows.

    Attributes:
        active: the input of the down projection of each chosen expert. [row, choice, neuron]
        weights: the factors of their outputs; the mixture's own factor is included. [row, choice]
        chosen: the experts. [row, choice]
        shared: the input of each shared expert's down projection, [row, neuron], and its factor,
            [row, 1].
        entry: what the experts read. [row, input]
        count: the number of experts.
    """

    active: Tensor
    weights: Tensor
    chosen: Tensor
    shared: tuple[tuple[Tensor, Tensor | None], ...]
    entry: Tensor
    count: int

    def __len__(self) -> int:
        return len(self.active)

    def __getitem__(self, rows: slice) -> ExpertActivations:
        """Return the activations of some of the rows."""
        shared = tuple(
            (active[rows], None if factor is None else factor[rows])
            for active, factor in self.shared
        )
        routed = (self.active[rows], self.weights[rows], self.chosen[rows])
        return ExpertActivations(*routed, shared, self.entry[rows], self.count)

    @property
    def weighted(self) -> Tensor:
        """The activations times the weights of their experts. [row, choice, neuron]"""
        return (self.active * self.weights[..., None]).to(self.active.dtype)

    def whole(self) -> Tensor:
        """Return the activations of all neurons; 0 where an expert did not run. [row, neuron]"""
        rows, _, width = self.active.shape
        every = self.active.new_zeros(rows, self.count + 1, width)
        place = self.chosen.clamp(max=self.count)[..., None].expand(-1, -1, width)
        every.scatter_add_(1, place, self.weighted)  # what has no neurons is behind the last
        return torch.cat([every[:, :-1].flatten(1), *self._shared()], dim=1)

    def columns(self, neurons: Tensor, missing: float = 0.0) -> Tensor:
        """Return the activations of some neurons. [row, neuron]

        Args:
            neurons: their numbers. [neuron]
            missing: what stands where the expert did not run.
        """
        width = self.active.shape[-1]
        routed = neurons < self.count * width
        columns = self.active.new_full((len(self), len(neurons)), missing)
        expert, index = neurons[routed] // width, neurons[routed] % width
        ran = self.chosen[..., None] == expert  # [row, choice, neuron]
        values = (self.weighted[..., index] * ran).sum(1)
        columns[:, routed] = torch.where(ran.any(1), values, columns[:, routed])
        if self.shared:
            shared = torch.cat(self._shared(), dim=1)
            columns[:, ~routed] = shared[:, neurons[~routed] - self.count * width]
        return columns

    def norm(self) -> Tensor:
        """Return the L2 norm over all neurons, in float32. [row]"""
        parts = [self.weighted.flatten(1), *self._shared()]
        norms: Tensor = torch.linalg.vector_norm(torch.cat(parts, dim=1).float(), dim=-1)
        return norms

    def _shared(self) -> list[Tensor]:
        return [
            active if factor is None else (active * factor).to(active.dtype)
            for active, factor in self.shared
        ]


def _different(chosen: Tensor) -> list[int]:
    """Return the experts that were chosen for any row, ascending."""
    return sorted(set(chosen.flatten().tolist()))


class ExpertNeurons:
    """The neurons of one layer's mixture of experts.

    Attributes:
        weights: the weights of the experts.
        shared: the experts that run for every token.
        in_features: the number of neurons.
        scale: the mixture's factor of what its chosen experts give together.
        scales: what that may be by the attributes of the mixture.
    """

    def __init__(
        self,
        weights: ExpertWeights,
        shared: Sequence[SharedExpert],
        widths: Sequence[int],
        mixture: nn.Module,
    ) -> None:
        self.weights, self.shared = weights, tuple(shared)
        self.routed = weights.count * weights.width
        self.in_features = self.routed + sum(widths)
        self._widths = tuple(widths)
        self._mixture = mixture
        self._entry, self._leave = (getattr(mixture, name, None) for name in LATENT)
        named = (getattr(mixture, name, None) for name in SCALES)
        factors = (1.0, *(float(value) for value in named if isinstance(value, int | float)))
        self.scales = tuple(factor * _share(mixture) for factor in factors)
        self.scale = self.scales[0]
        self._bias: Tensor | None = None
        if isinstance(weights, _Sorted):
            self._bias = getattr(mixture, "bias", None)

    @property
    def away(self) -> bool:
        """Whether the weights of the experts are not in this process's memory; see `AWAY`."""
        return self.weights.down(0).is_meta

    def name(self, neuron: int) -> str:
        """Return a neuron as edits name it behind its layer: `12.340` or `shared.7`."""
        if neuron >= self.routed:
            return f"shared.{neuron - self.routed}"
        return "{}.{}".format(*divmod(neuron, self.weights.width))

    @torch.no_grad()
    def activations(self, entry: Tensor, weights: Tensor, chosen: Tensor) -> ExpertActivations:
        """Return the activations for what the mixture reads.

        Args:
            entry: what the mixture reads. [row, width]
            weights: the weights of the chosen experts. [row, choice]
            chosen: the experts. [row, choice]
        """
        hidden = entry if self._entry is None else self._entry(entry)
        experts = self.weights
        inputs = experts.weighted_input
        active = hidden.new_zeros(*chosen.shape, experts.width)
        for expert in _different(chosen):
            if expert >= experts.count:
                continue
            rows, choices = (chosen == expert).nonzero(as_tuple=True)
            read = hidden[rows]
            read = read * weights[rows, choices, None].to(read.dtype) if inputs else read
            active[rows, choices] = experts.activate(expert, read).to(active.dtype)
        factors = torch.ones_like(weights) if inputs else weights
        shared = tuple(expert.activations(entry) for expert in self.shared)
        return ExpertActivations(
            active, factors * self.scale, chosen, shared, hidden, experts.count
        )

    def routed_output(self, activations: ExpertActivations, expert: int | None = None) -> Tensor:
        """Return what chosen experts give together, with their biases. [row, output]

        Args:
            activations: those of the rows.
            expert: one expert alone; None: all that were chosen.
        """
        experts, chosen = self.weights, activations.chosen
        output: Tensor | None = None
        wanted = _different(chosen) if expert is None else [expert]
        for each in wanted:
            if each >= experts.count:
                continue
            rows, choices = (chosen == each).nonzero(as_tuple=True)
            written = activations.active[rows, choices] @ experts.down(each)
            bias = experts.bias(each)
            written = written if bias is None else written + bias
            written = written * activations.weights[rows, choices, None].to(written.dtype)
            if output is None:
                output = written.new_zeros(len(chosen), written.shape[-1])
            output = output.index_add(0, rows, written)
        passed = experts.passed(chosen)
        if output is None:
            output = torch.zeros_like(activations.entry)
        if passed is not None and expert is None:
            weights = (activations.weights * passed).sum(-1, keepdim=True)
            output = output + activations.entry * weights.to(output.dtype)
        return output

    @torch.no_grad()
    def output(self, activations: ExpertActivations) -> Tensor:
        """Return what the mixture gives, with everything beside it. [row, width]"""
        output = self.routed_output(activations)
        output = output if self._leave is None else self._leave(output)
        output = output if self._bias is None else output + self._bias
        for expert, (active, factor) in zip(self.shared, activations.shared, strict=True):
            written = expert.down(active)
            output = output + (written if factor is None else written * factor)
        return output

    @torch.no_grad()
    def write_of(self, activations: ExpertActivations, expert: int | None) -> Tensor:
        """Return what one expert adds to the mixture's output. [row, width]

        Args:
            activations: those of the rows.
            expert: an expert; None: all that no chosen expert adds: shared experts, biases of the
                mixture itself, and what experts without neurons pass on.
        """
        if expert is not None:
            return self._linear_leave(self.routed_output(activations, expert))
        nothing = replace(activations, active=torch.zeros_like(activations.active))
        without = replace(nothing, weights=self._passing(nothing))
        return self.output(without)

    def _passing(self, activations: ExpertActivations) -> Tensor:
        """Return the weights of experts that pass their input on; 0 for all others."""
        passed = self.weights.passed(activations.chosen)
        weights = activations.weights
        return torch.zeros_like(weights) if passed is None else weights * passed

    def __call__(self, activations: Tensor) -> Tensor:
        """Return what activations of all neurons write, without any bias. `[row, neuron]`

        Differentiable in the activations; experts that are 0 in all rows get no gradient.
        """
        width = self.weights.width
        by_expert = activations[:, : self.routed].view(len(activations), -1, width)
        output: Tensor | None = None
        for expert in by_expert.detach().abs().amax((0, 2)).nonzero().flatten().tolist():
            written = by_expert[:, expert] @ self.weights.down(expert)
            output = written if output is None else output + written
        if output is None:
            output = activations[:, :1] * self.weights.down(0)[:1]
        output, start = self._linear_leave(output), self.routed
        for expert, count in zip(self.shared, self._widths, strict=True):
            part = activations[:, start : start + count]
            output = output + expert.down(part) - expert.down(torch.zeros_like(part[:1]))
            start += count
        return output

    def bias(self, activations: ExpertActivations) -> Tensor:
        """Return the mixture's output with every neuron at 0. [row, width]

        It is the sum of all biases, and of the inputs that experts without neurons pass on.
        """
        with torch.no_grad():
            shared = tuple((torch.zeros_like(active), f) for active, f in activations.shared)
            active = torch.zeros_like(activations.active)
            nothing = replace(activations, active=active, shared=shared)
            return self.output(nothing)

    @torch.no_grad()
    def column(self, neuron: int) -> Tensor:
        """Return what one unit of a neuron's activation adds to the mixture's output. [width]"""
        expert, index = divmod(neuron, self.weights.width)
        if expert < self.weights.count:
            return self._linear_leave(self.weights.down(expert)[index][None])[0]
        start = self.routed
        for each, count in zip(self.shared, self._widths, strict=True):
            if neuron < start + count:
                like = next(each.down.parameters())
                nothing = torch.zeros(1, count, dtype=like.dtype, device=like.device)
                alone = nothing.clone()
                alone[0, neuron - start] = 1
                column: Tensor = (each.down(alone) - each.down(nothing))[0]
                return column
            start += count
        raise IndexError(neuron)

    def _linear_leave(self, output: Tensor) -> Tensor:
        if self._leave is None:
            return output
        left: Tensor = self._leave(output) - self._leave(torch.zeros_like(output[:1]))
        return left

    def fit(self, written: Callable[[], float]) -> None:
        """Choose the mixture's factor whose output is closest to what the model wrote.

        Args:
            written: returns the error of the output with the current factor.
        """
        errors = dict[float, float]()
        for scale in self.scales:
            self.scale = scale
            errors[scale] = written()
        self.scale = min(errors, key=errors.__getitem__)


def find_neurons(
    mixture: nn.Module,
    experts: nn.Module,
    router: nn.Module | None,
    beside: nn.Module | None,
    count_inputs: Callable[[nn.Module], int],
) -> ExpertNeurons:
    """Find the neurons of a mixture of experts.

    Args:
        mixture: the module of the experts with what belongs to them.
        experts, router: its parts; the experts may be the mixture itself.
        beside: an MLP with the same input whose output is added to that of the mixture.
        count_inputs: returns the number of inputs of a projection.

    Raises:
        UnknownExpertsError: they are of a form that is not known.
    """
    weights = _find_weights(mixture, experts, router)
    norm = next((name for name, _ in mixture.named_children() if "norm" in name), None)
    if norm is not None:
        raise UnknownExpertsError("a norm follows the sum of its experts")
    shared = list[SharedExpert]()
    if experts is not mixture:
        known = {experts, router, *(getattr(mixture, name, None) for name in LATENT)}
        others = [child for child in mixture.children() if child not in known]
        gates = [
            child for child in others if isinstance(child, nn.Linear) and child.out_features == 1
        ]
        for child in others:
            down = child_of(child, DOWN)
            if down is not None:
                gate = next(iter(gates), None)
                shared.append(SharedExpert(child, down, gate, False, _share(mixture)))
            elif child not in gates and next(child.parameters(), None) is not None:
                raise UnknownExpertsError(
                    f"beside its experts is a part ({type(child).__name__}) whose neurons are not "
                    "found"
                )
    if beside is not None:
        down = child_of(beside, DOWN)
        if down is None:
            raise UnknownExpertsError("the MLP beside its experts has no down projection")
        shared.append(SharedExpert(beside, down, None, True))
    return ExpertNeurons(weights, shared, [count_inputs(each.down) for each in shared], mixture)


def _share(mixture: nn.Module) -> float:
    """Return the factor of what routed and shared experts give together."""
    return 0.5 if getattr(mixture, "shared_expert_combination_strategy", "") == "average" else 1.0


def _find_weights(mixture: Any, experts: Any, router: nn.Module | None) -> ExpertWeights:
    down = getattr(experts, "down_proj", None)
    if isinstance(down, nn.Parameter):
        if down.dtype not in FLOATS:
            raise UnknownExpertsError("the weights of its experts are packed")
        if getattr(experts, "act_fn", None) is None and not hasattr(experts, "_apply_gate"):
            raise UnknownExpertsError("its experts have no activation function that was found")
        calls = inspect.signature(type(experts).forward).parameters
        if len(calls) == 2 and router is not None:  # it is handed no choice, but all inputs
            return _WeightedInput(experts, router, int(mixture.top_k))
        if router is not None and bool(getattr(mixture, "zero_expert_num", None)):
            return PassedBeside(experts, router)
        return _Stacked(experts)
    table = getattr(experts, "mlp", None)
    if all(isinstance(getattr(table, name, None), nn.Parameter) for name in ("w1", "v1", "w2")):
        return _OneTable(experts)
    linears = (getattr(experts, name, None) for name in ("input_linear", "output_linear"))
    if router is not None and all(getattr(each, "weight", None) is not None for each in linears):
        return _Sorted(experts, router)
    kind = type(experts).__name__
    raise UnknownExpertsError(f"its experts ({kind}) keep their weights in a form not known here")

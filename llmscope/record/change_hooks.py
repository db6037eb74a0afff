"""Changes of tensors inside a pass: where they are made, and the hooks that make them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from llmscope.edits import Receiver
from llmscope.errors import ScopeError
from llmscope.models.anatomy import Anatomy
from llmscope.models.expert_neurons import ExpertActivations, ExpertNeurons
from llmscope.models.module_calls import hidden_input, hidden_output
from llmscope.models.outside_code import origin
from llmscope.record.edge_hooks import Edge, EdgePass, LayerEdges, head_write
from llmscope.record.feature_change import FeatureChange, SeenTensor
from llmscope.record.knockouts import Knockout, knocked_out
from llmscope.record.norms import take_apart
from llmscope.record.router_choices import RouterChoice, rerouted
from llmscope.record.sites import Site
from llmscope.support.arguments import quote_value


@dataclass(frozen=True, eq=False)
class Frozen:
    """A norm with the scale of another pass: `norm(x₀) + s(x₀) · gain ∘ C(x - x₀)`.

    If nothing is changed before the norm, the result equals `norm(x₀)` to the last bit.

    Attributes:
        module: the norm.
        inputs, outputs: x₀ and norm(x₀), of the rows of the change. [row, width]
        scaled: s(x₀) · gain. [row, width]
        centred: whether the norm subtracts the mean.
    """

    module: nn.Module
    inputs: Tensor
    outputs: Tensor
    scaled: Tensor
    centred: bool

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor, outputs: Tensor) -> Frozen:
        """Freeze a norm's scale as it was in a pass.

        Raises:
            UnknownNorm: the module is not a norm whose scale can be frozen.
        """
        parts = take_apart(module, inputs)
        scaled = parts.scale(inputs, outputs)[:, None] * parts.gain
        return cls(module, inputs, outputs, scaled.float().to(inputs.device), parts.centred)

    def row(self, row: int) -> Frozen:
        """Return the frozen norm of one row."""
        only = slice(row, row + 1)
        frozen_rows = (self.inputs[only], self.outputs[only], self.scaled[only])
        return Frozen(self.module, *frozen_rows, self.centred)

    def __call__(self, stream: Tensor, rows: slice) -> Tensor:
        """Return the norm's output for a stream. `[..., row, width]`"""
        moved = (stream - self.inputs[rows]).float()
        if self.centred:
            moved = moved - moved.mean(-1, keepdim=True)
        outputs = self.outputs[rows]
        return (outputs.float() + self.scaled[rows] * moved).to(outputs.dtype)


@dataclass(eq=False)
class OwnFunction:
    """A function of the caller's own, whose results are checked and kept.

    Attributes:
        function: returns new values from those in their place. [row, column]
        name: the edit, for errors.
        latest: what it returned last, in the shape of what it was given.
    """

    function: Callable[[Tensor], Any]
    name: str
    latest: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Return the function's result for some values. `[row, column] -> [row, column]`

        Raises:
            ScopeError: it is no tensor, or does not fit.
        """
        result = self.function(values.clone())
        if not isinstance(result, Tensor):
            raise ScopeError(
                f"{self.name}: it returned {quote_value(result)}",
                f"a tensor of {tuple(values.shape)}",
            )
        try:
            fitting = result.to(values).expand_as(values)
        except RuntimeError:
            raise ScopeError(
                f"{self.name}: it returned a tensor of {tuple(result.shape)}",
                f"one of {tuple(values.shape)}",
            ) from None
        self.latest = fitting.detach().clone()
        return fitting


@dataclass(frozen=True, eq=False)
class Swap:
    """Exchanges the coordinates of a stream along two directions.

    With V = [a b], coordinates c = V⁺ h and σ the exchange of the two, the result is
    h + V (σ(c) - c), which is h + (c_b - c_a) (a - b). What is orthogonal to both directions stays,
    and a second swap undoes the first.

    Attributes:
        reads: the row of V⁺ of b minus that of a, whose product with h is c_b - c_a. [width]
        adds: a - b. [width]
        condition: the condition number of V; infinite for parallel directions.
    """

    reads: Tensor
    adds: Tensor
    condition: float

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> Swap:
        """Return the swap of two finite directions that are not zero. [width]"""
        both = torch.stack((a, b), dim=1).double().cpu()
        sizes = torch.linalg.svdvals(both)
        inverse = torch.linalg.pinv(both)
        return cls(
            (inverse[1] - inverse[0]).to(a.device, torch.float32),
            (both[:, 0] - both[:, 1]).to(a.device, torch.float32),
            float(sizes[0] / sizes[1]),
        )

    def __call__(self, stream: Tensor) -> Tensor:
        """Return the stream with the coordinates exchanged, in float32. `[..., row, width]`"""
        exact = stream.to(torch.promote_types(stream.dtype, torch.float32))
        # A sum of products, not a matrix product: an autocast around it must not round it.
        gap = (exact * self.reads.to(exact)).sum(-1, keepdim=True)
        return exact + gap * self.adds.to(exact)


@dataclass(frozen=True, eq=False)
class Change:
    """A change of some rows and columns of one tensor of the pass.

    Exactly one of factor, values, added, swap, frozen, function, feature, edge, knockout and
    choice is set.

    Attributes:
        site: which tensor.
        layer: the site's layer. For the stream, the number of layers before it: after the last
            layer, the number of all layers. The final norm has that number too.
        rows: positions in the prompt.
        columns: columns of the tensor: all of them, unless one head or neuron is changed.
        factor: multiplies the columns.
        values: replace the columns, with one row for each row or one for all. [row, column]
        added: added to each row: [column], or [row, column].
        swap: exchanges the coordinates of each row along two directions.
        frozen: the norm that keeps its scale.
        function: returns the values from those in their place. [row, column]
        feature: the change of a feature's activation.
        edge: the end of an edge, whose layer is the sender's.
        knockout: what the rows do not read; its site is `mixing`.
        choice: the expert that is forced or forbidden there; its site is `routing`.
        sender: the change of what the sender of the edge writes; None if Δ is known.
        recorded: what the feature's change, or the edge, added in the pass of a recording, before
            rounding. [row, column]
    """

    site: Site
    layer: int
    rows: range
    columns: slice = field(default_factory=lambda: slice(None))
    factor: float | None = None
    values: Tensor | None = None
    added: Tensor | None = None
    swap: Swap | None = None
    frozen: Frozen | None = None
    function: OwnFunction | None = None
    feature: FeatureChange | None = None
    edge: Edge | None = None
    knockout: Knockout | None = None
    choice: RouterChoice | None = None
    sender: Change | None = None
    recorded: Tensor | None = None

    @classmethod
    def known(cls, into: Receiver, rows: range, delta: Tensor) -> Change:
        """Return the change of what one part reads by a known Δ. [row, width]"""
        assert into.layer is not None
        if into.part == "logits":  # no other part reads the stream after the last layer
            return cls("stream", into.layer, rows, added=delta)
        return cls("edge", into.layer, rows, edge=Edge(into, delta))

    def after(self, depth: int) -> Change | None:
        """Return what is left to be made where the layers before `depth` do not run.

        None if the stream before layer `depth` already contains the change. What an edge carries
        from an earlier layer is what it carried in the recorded pass.
        """
        if self.edge is None:
            return None if within(self, depth) else self
        if self.edge.layer < depth:
            return None
        if self.sender is None or self.layer >= depth:
            return self
        assert self.recorded is not None
        return Change.known(self.edge.into, self.rows, self.recorded)

    @property
    def stream_layer(self) -> int | None:
        """The number of layers before the stream that it changes for all later parts, or None."""
        if self.edge is not None:
            return self.edge.layer if self.edge.into.part == "logits" else None
        return self.layer if self.site == "stream" else None

    @property
    def made(self) -> Change:
        """The change with the values that its function returned last; itself without a function."""
        if self.function is None:
            return self
        return replace(self, function=None, values=self.function.latest)

    @property
    def derived(self) -> Change:
        """The change with what its feature added in the recorded pass, for derived tensors."""
        if self.feature is None:
            return self
        assert self.recorded is not None
        return replace(self, feature=None, added=self.recorded)

    @property
    def rank(self) -> int:
        """Its turn among the changes of a site: the stream within a layer follows the write."""
        within = self.feature is not None and self.feature.writes.place.kind == "resid_mid"
        return WITHIN if within else 0

    def apply(
        self,
        tensor: Tensor,
        start: int,
        inputs: Tensor | None = None,
        *,
        seen: dict[Site, SeenTensor] | None = None,
        added: dict[Change, Tensor] | None = None,
    ) -> Tensor:
        """Return a copy of a tensor with the change made; the tensor itself without any such row.

        Args:
            tensor: the site's tensor in a pass. `[..., row, column]`
            start: the position of its first row in the prompt.
            inputs: the norm's inputs, if the tensor is the output of a norm.
            seen: the tensors of earlier sites that a feature's change is computed from. Emptied
                once that change is made.
            added: receives what a feature's change adds, under this change, for `recorded`.
        """
        first = max(self.rows.start - start, 0)
        last = min(self.rows.stop - start, tensor.shape[-2])
        if first >= last:
            return tensor
        part_rows = slice(first + start - self.rows.start, last + start - self.rows.start)
        tensor = tensor.clone()
        part = tensor[..., first:last, self.columns]
        if self.factor is not None:
            # A factor of 0 gives 0 even for infinite numbers.
            part.mul_(self.factor) if self.factor else part.zero_()
        elif self.added is not None and self.added.dim() == 2:
            _add(part, self.added[part_rows])
        elif self.added is not None:
            part.add_(self.added.to(part))
        elif self.swap is not None:
            part.copy_(self.swap(part))
        elif self.values is not None:
            rows = self.values if len(self.values) == 1 else self.values[part_rows]
            part.copy_(rows.to(part).expand_as(part))
        elif self.function is not None:
            each = part.reshape(-1, *part.shape[-2:])  # [prompt, row, column]
            part.copy_(
                torch.stack([self.function(prompt_inputs) for prompt_inputs in each]).view_as(part)
            )
        elif self.feature is not None:
            there = {} if seen is None else seen
            moved = self.feature.added(there, part.reshape(-1, part.shape[-1]))
            there.clear()
            _add(part, moved.view_as(part))
            if added is not None:
                added[self] = moved.detach()
        elif self.frozen is not None and inputs is not None:
            part.copy_(self.frozen(inputs[..., first:last, :], part_rows))
        return tensor


def _add(part: Tensor, moved: Tensor) -> None:
    """Add in place, rounding the sum once."""
    wide = torch.promote_types(part.dtype, moved.dtype)
    part.copy_((part.to(wide) + moved.to(part.device, wide)).to(part.dtype))


Job = Sequence[Change]
Step = Callable[[Tensor, int, "Tensor | None"], Tensor]
"""Returns a changed copy of a tensor, as `Change.apply`."""
WRITE, WITHIN, LATER = 1, 2, 3
"""Turns at a site, after all changes of rank 0: who sees the write before the stream within a layer
is changed by it, those changes, and who sees what then leaves the site."""


unplaced: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""First layers whose rows are not the prompt's tokens in their order, and why."""


class UnplacedRowsError(ScopeError):
    """The rows of a model's layers are not the tokens of the prompt, so that none is changed."""


@contextmanager
def attached(
    anatomy: Anatomy,
    changes: Iterable[Change],
    *,
    start: int = 0,
    jobs: Sequence[Job] = (),
) -> Iterator[dict[Change, Tensor]]:
    """Make changes in every pass within. They run before llmscope's other hooks, after the user's.

    Those of one tensor are made in their order. A feature's change reads what all changes before
    it in the model have left there.

    Args:
        anatomy: the parts of the model.
        changes: made in every prompt of a batch, in this order.
        start: the position of the pass's first row.
        jobs: for each prompt of a batch, its own changes, made after the others.

    Returns:
        The context, which gives what the features' changes in `changes` added in the latest pass.
    """
    changes = tuple(changes)
    edges: list[tuple[slice, Change]] = []
    reason = unplaced.get(anatomy.layers[0].module)
    if reason is not None and (changes or any(jobs)):
        raise UnplacedRowsError(
            f"nothing in this model can be changed by tokens: {reason}", "another model"
        )
    batch = max(len(jobs), 1)
    placed: Placed = {}
    added: dict[Change, Tensor] = {}
    mixtures: dict[int, MixturePass] = {}
    knockouts: defaultdict[int, list[tuple[slice, Knockout]]] = defaultdict(list)
    choices: defaultdict[int, list[tuple[slice, RouterChoice]]] = defaultdict(list)

    def put(at: tuple[nn.Module, bool], rank: int, prompts: slice, step: Step) -> None:
        placed.setdefault(at, []).append((rank, prompts, step))

    def place(change: Change, prompts: slice, taken_up: dict[Change, Tensor] | None) -> None:
        if change.edge is not None:
            edges.append((prompts, change))
            return
        if change.knockout is not None:
            knockouts[change.layer].append((prompts, change.knockout))
            return
        if change.choice is not None:
            choices[change.layer].append((prompts, replace(change.choice, rows=change.rows)))
            return
        step: Step = change.apply
        if change.feature is not None:
            seen: dict[Site, SeenTensor] = {}
            for site, layer in change.feature.before:
                look = partial(_look, change.rows, seen, site)
                put(_seen_at(anatomy, change.feature, site, layer), _turn(change), prompts, look)
            step = partial(change.apply, seen=seen, added=taken_up)
        neurons = anatomy.layers[change.layer].neurons if change.site == "neurons" else None
        if neurons is not None:
            mixture = mixtures.setdefault(change.layer, MixturePass(neurons))
            step = partial(mixture.apply, change, prompts)
        put(_place(anatomy, change), change.rank, prompts, step)
        beside = _beside(anatomy, change)
        if beside is not None:
            module, rest = beside
            put((module, False), 0, prompts, rest.apply)

    for change in changes:
        place(change, slice(None), added)
    for index, job in enumerate(jobs):
        for change in job:
            place(change, slice(index, index + 1), None)
    with ExitStack() as stack:
        for layer, of_layer in knockouts.items():
            parts = anatomy.layers[layer]
            stack.enter_context(knocked_out(parts, of_layer, start, _register))
        for layer, chosen in choices.items():
            stack.enter_context(rerouted(anatomy.layers[layer], chosen, start, _register))
        for layer, mixture in mixtures.items():
            module = anatomy.layers[layer].mlp_input_module
            assert module is not None
            stack.callback(_register(module, mixture.enter, True).remove)
            place_of_choice, is_input = mixture.neurons.weights.place
            stack.callback(_register(place_of_choice, mixture.choose, is_input).remove)
        receivers: list[LayerEdges] = []
        if edges:
            senders = _EdgeSenders(anatomy, edges, placed, start, batch, added)
            receivers = senders.receivers
            for receiver in receivers:
                stack.enter_context(receiver.placed(_register))
            senders.place(stack, put)
        for (module, before), steps in placed.items():
            steps.sort(key=lambda step: step[0])
            alter = _alter([(prompts, step) for _, prompts, step in steps], start, batch)
            hook: Any = _before(alter) if before else _after(alter)
            stack.callback(_register(module, hook, before).remove)
        for receiver in receivers:  # before the changes of what it reads
            for module, hook in receiver.first_hooks():
                stack.callback(_register(module, hook, True).remove)
        yield added


def _register(module: nn.Module, hook: Any, before: bool) -> Any:
    """Put a hook before or after a module, behind the user's and before llmscope's others."""
    if before:
        handle = module.register_forward_pre_hook(hook, with_kwargs=True)
        _move_before_ours(module._forward_pre_hooks, handle.id)
    else:
        handle = module.register_forward_hook(hook, with_kwargs=True)
        _move_before_ours(module._forward_hooks, handle.id)
    return handle


class MixturePass:
    """Changes neurons of a mixture of experts in a pass, by what they add to its output.

    The experts run in kernels of the model's own, whose inputs no hook reaches. The choice is read
    from the pass, and a neuron's activation computed from what the mixture reads.

    Attributes:
        neurons: the neurons of the experts.
    """

    def __init__(self, neurons: ExpertNeurons) -> None:
        self.neurons = neurons
        self._entry: Tensor | None = None
        self._activations: ExpertActivations | None = None
        self._current: dict[int, Tensor] = {}

    def enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        """Keep what the mixture reads; called before it runs."""
        entry = hidden_input(args, kwargs)
        self._entry, self._activations = entry.reshape(-1, entry.shape[-1]), None
        self._current.clear()

    def choose(self, _: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        """Compute the activations of the experts that were chosen."""
        choice = self.neurons.weights.choice(args, kwargs, output)
        if choice is not None and self._entry is not None:
            self._activations = self.neurons.activations(self._entry, *choice)

    def apply(
        self,
        change: Change,
        prompts: slice,
        tensor: Tensor,
        start: int,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Return a changed copy of the mixture's output. `[prompt, row, width]`"""
        assert self._activations is not None
        rows, neuron = tensor.shape[-2], change.columns.start
        first, last, _ = prompts.indices(len(self._activations) // rows)
        if (last - first) * rows != tensor[..., 0].numel():
            raise ScopeError("a neuron of experts cannot be changed in this batch", "one prompt")
        if neuron not in self._current:
            index = torch.tensor([neuron], device=tensor.device)
            values = self._activations.columns(index)
            self._current[neuron] = values.view(-1, rows, 1)  # [prompt, row, 1]
        current = {neuron: self._current[neuron][first:last]}
        changed = changed_mixture(self.neurons, change, current, tensor, start)
        self._current[neuron][first:last] = current[neuron]
        return changed


def changed_mixture(
    neurons: ExpertNeurons,
    change: Change,
    current: dict[int, Tensor],
    output: Tensor,
    start: int,
) -> Tensor:
    """Return a copy of a mixture's output with a change of one of its neurons.

    Args:
        neurons: the neurons of the experts.
        change: the change, of one column.
        current: the activations of the neuron that earlier changes left, [..., row, 1]; it is
            updated.
        output: what the mixture gives. [..., row, width]
        start: the position of its first row.
    """
    neuron = change.columns.start
    before = current[neuron]
    after = current[neuron] = replace(change, columns=slice(None)).apply(before, start)
    wide = torch.promote_types(output.dtype, torch.float32)
    column = neurons.column(neuron).to(output.device, wide)
    moved = (after.to(wide) - before.to(wide)) * column
    return torch.where(moved == 0, output, (output.to(wide) + moved).to(output.dtype))


Placed = dict[tuple[nn.Module, bool], list[tuple[int, slice, "Step"]]]
"""The changes of modules' inputs (True) and outputs, each with its turn and its prompts."""


class _EdgeSenders:
    """Compute Δ of the edges of a pass where their senders write.

    Args:
        anatomy: the parts of the model.
        edges: the edges, each with its prompts of the batch.
        placed: the other changes of the pass.
        start: the position of the pass's first row.
        batch: number of prompts with changes of their own.
        added: takes up Δ of edges that are made in the only prompt.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        edges: Sequence[tuple[slice, Change]],
        placed: Placed,
        start: int,
        batch: int,
        added: dict[Change, Tensor],
    ) -> None:
        self._anatomy, self._edges, self._placed = anatomy, edges, placed
        self._start, self._batch, self._added = start, batch, added
        ends = [(prompts, change.edge) for prompts, change in edges if change.edge is not None]
        self._pass = EdgePass(ends, batch)
        self._receivers = {
            layer: LayerEdges(anatomy.layers[layer], self._pass, self._pass.readers(layer))
            for layer in self._pass.layers
        }

    @property
    def receivers(self) -> list[LayerEdges]:
        """The layers with receivers."""
        return list(self._receivers.values())

    def place(
        self, stack: ExitStack, put: Callable[[tuple[nn.Module, bool], int, slice, Step], None]
    ) -> None:
        """Place the hooks of the senders, and add Δ of edges into the logits to the changes.

        Args:
            stack: removes the hooks.
            put: adds a change of a module's input or output.
        """
        first: defaultdict[nn.Module, list[int]] = defaultdict(list)
        for number, (prompts, change) in enumerate(self._edges):
            edge, sender = change.edge, change.sender
            assert edge is not None
            if edge.into.part == "logits":
                assert sender is not None  # a known Δ is a change of the stream
                put((self._anatomy.layers[-1].module, False), LATER, prompts, self._adds(number))
            if sender is None:
                first[self._anatomy.layers[edge.layer].module].append(number)
                continue
            place, before = _at(self._anatomy, sender.site, sender.layer)
            stack.callback(_register(place, self._sends(number, sender, before), before).remove)
            beside = _beside(self._anatomy, sender)
            if beside is not None:
                place, other = beside
                stack.callback(_register(place, self._sends(number, other, False), False).remove)
        for module, numbers in first.items():
            stack.callback(_register(module, self._knows(numbers), True).remove)

    def _sends(self, number: int, sender: Change, before: bool) -> Any:
        prompts, change = self._edges[number]
        receiver = self._receivers.get(sender.layer)
        parts = self._anatomy.layers[sender.layer]

        def send(module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
            if receiver is not None and receiver.again:
                return
            tensor = hidden_input(args, kwargs) if before else hidden_output(output)
            written = self._pass.by_prompt(tensor)[prompts]
            altered = sender.apply(written, self._start)
            if before:
                alter = self._alters(sender.layer, prompts)
                delta = head_write(parts, altered, alter) - head_write(parts, written, alter)
            else:
                wide = torch.promote_types(written.dtype, torch.float32)
                delta = (altered.to(wide) - written.to(wide)) * parts.scale(sender.site)
            self._pass.send(number, module, delta)
            if prompts == slice(None) and len(delta) == 1:
                whole = self._pass.delta(number)[0].detach()
                rows = change.rows
                self._added[change] = whole[
                    max(rows.start - self._start, 0) : max(rows.stop - self._start, 0)
                ]

        return send

    def _alters(self, layer: int, prompts: slice) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return the other changes of what attention writes, by their site, for some prompts."""
        alters: dict[str, Callable[[Tensor], Tensor]] = {}
        sites: tuple[Site, ...] = ("attention_module", "attention_write")
        parts = self._anatomy.layers[layer]
        # One place may be both.
        for site in sites[: 1 if parts.attention_write is parts.attention_out else 2]:
            if site_of(self._anatomy, site, layer) is None:
                continue
            turns = self._placed.get(_at(self._anatomy, site, layer), [])
            if prompts == slice(None):
                steps = [(prompts_of_step, step) for _, prompts_of_step, step in turns]
                alter = _alter(steps, self._start, self._batch)
            else:
                steps = [
                    (slice(None), step)
                    for _, prompts_of_step, step in turns
                    if prompts_of_step in (slice(None), prompts)
                ]
                alter = _alter(steps, self._start, 1)
            alters[site] = alter
        return alters

    def _adds(self, number: int) -> Step:
        def add(tensor: Tensor, start: int, inputs: Tensor | None = None) -> Tensor:
            delta = self._pass.delta(number)
            wide = torch.promote_types(tensor.dtype, delta.dtype)
            return (tensor.to(wide) + delta.to(tensor.device, wide)).to(tensor.dtype)

        return add

    def _knows(self, numbers: Sequence[int]) -> Any:
        """Return a hook that places known Δ in the rows of the pass."""

        def place(module: nn.Module, args: Any, kwargs: Any) -> None:
            stream = self._pass.by_prompt(hidden_input(args, kwargs))
            for number in numbers:
                change = self._edges[number][1]
                assert change.edge is not None
                assert change.edge.delta is not None
                delta = change.edge.delta
                nothing = torch.zeros_like(stream[:1], dtype=delta.dtype)
                put = Change("stream", change.layer, change.rows, added=delta)
                self._pass.send(number, None, put.apply(nothing, self._start))

        return place


def _move_before_ours(hooks: dict[int, Any], number: int) -> None:
    """Move a module's newest hook behind the user's, and before those that read its result.

    These are llmscope's others, and transformers' for hidden states.
    """
    readers = ("llmscope", "transformers")
    ours = [key for key, hook in hooks.items() if key != number and origin(hook) in readers]
    for key in ours:
        hooks[key] = hooks.pop(key)


def within(change: Change, depth: int) -> bool:
    """Return whether the stream before layer `depth` contains a change, which is no edge."""
    return depth > 0 and (
        change.layer < depth or (change.site == "stream" and change.layer == depth)
    )


def remaining(changes: Iterable[Change], depth: int) -> list[Change]:
    """Return the changes that are left to be made where the layers before `depth` do not run."""
    left = (change.after(depth) for change in changes)
    return [change for change in left if change is not None]


def site_of(anatomy: Anatomy, site: Site, layer: int) -> nn.Module | None:
    """Return the module whose input or output is changed; None if the layer has no such part."""
    if site == "stream":
        return anatomy.layers[min(layer, len(anatomy.layers) - 1)].module
    parts = anatomy.layers[layer]
    if site == "neurons" and parts.neurons is not None:
        return parts.mlp_input_module
    if site == "heads" and parts.mapped is not None:
        return parts.mapped.heads
    if site == "heads" and parts.heads_norm is not None:
        return parts.heads_norm
    names = {
        "heads": "attention_out",
        "attention_module": "attention_out",
        "neurons": "down",
        "mlp_input": "mlp_input_module",
        "mlp_module": "mlp_input_module",
    }
    module: nn.Module | None = getattr(parts, names.get(site, site))
    return module


def _beside(anatomy: Anatomy, change: Change) -> tuple[nn.Module, Change] | None:
    """Return the change for a second MLP whose output is added to that of the changed MLP.

    A factor applies to both; replaced values all go to the first, and the second becomes 0.
    """
    if change.site != "mlp_write":
        return None
    module = anatomy.layers[change.layer].mlp_parallel
    if module is None or change.added is not None or change.feature is not None:
        return None
    factor = 0.0 if change.factor is None else change.factor
    return module, replace(change, values=None, factor=factor)


def _place(anatomy: Anatomy, change: Change) -> tuple[nn.Module, bool]:
    """Return the module, and whether its input is changed rather than its output."""
    if change.frozen is not None:
        return change.frozen.module, False
    return _at(anatomy, change.site, change.layer)


def _at(anatomy: Anatomy, site: Site, layer: int) -> tuple[nn.Module, bool]:
    module = site_of(anatomy, site, layer)
    assert module is not None
    if site == "neurons" and anatomy.layers[layer].neurons is not None:
        return module, False  # what the experts give together is changed
    last = site == "stream" and layer == len(anatomy.layers)
    return module, site in ENTERING or (site == "stream" and not last)


def _seen_at(
    anatomy: Anatomy, feature: FeatureChange, site: Site, layer: int
) -> tuple[nn.Module, bool]:
    """Return where a tensor is seen that a feature's change depends on, as `_place`."""
    if site != "norm":
        return _at(anatomy, site, layer)
    norm = feature.reads.norm or feature.writes.norm
    assert norm is not None
    return norm.module, False


def _turn(change: Change) -> int:
    """Return the turn of who sees what a feature's change reads."""
    assert change.feature is not None
    return WRITE if change.feature.reads.place.kind == "attn_out" else LATER


def _look(
    rows: range,
    seen: dict[Site, SeenTensor],
    site: Site,
    tensor: Tensor,
    start: int,
    inputs: Any = None,
) -> Tensor:
    """Keep the rows of a tensor that a change needs, and return the tensor as it is."""
    first, last = max(rows.start - start, 0), min(rows.stop - start, tensor.shape[-2])
    if first < last:
        # Copies: the model may add to its tensors in place.
        values, before = (
            None
            if whole is None
            else whole[..., first:last, :].reshape(-1, whole.shape[-1]).clone()
            for whole in (tensor, inputs)
        )
        assert values is not None
        seen[site] = SeenTensor(values, before)
    return tensor


ENTERING: tuple[Site, ...] = ("heads", "neurons", "mlp_input")
"""Sites that are the input of their module."""


class Alter(Protocol):
    """Returns a changed tensor, from it and from a norm's inputs if it is the norm's output."""

    def __call__(self, tensor: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Return the tensor, changed."""


def _alter(steps: Sequence[tuple[slice, Step]], start: int, batch: int) -> Alter:
    def alter(tensor: Tensor, inputs: Tensor | None = None) -> Tensor:
        def by_prompt(values: Tensor) -> Tensor:
            if batch == 1 and values.dim() == 3:
                return values  # [prompt, row, column], each prompt with the same changes
            return values.reshape(batch, -1, values.shape[-1])  # some layers merge prompts and rows

        altered = by_prompt(tensor)
        inputs_by_prompt = None if inputs is None else by_prompt(inputs)
        for prompts, step in steps:
            if prompts == slice(None):
                altered = step(altered, start, inputs_by_prompt)
                continue
            prompts_part = altered[prompts]
            changed = step(
                prompts_part, start, None if inputs_by_prompt is None else inputs_by_prompt[prompts]
            )
            if changed is prompts_part:
                continue
            if altered.data_ptr() == tensor.data_ptr():
                altered = altered.clone()
            altered[prompts] = changed
        return altered.reshape(tensor.shape)

    return alter


def _before(alter: Alter) -> Callable[..., Any]:
    def change(_: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            return (alter(args[0], None), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": alter(kwargs["hidden_states"], None)}

    return change


def _after(alter: Alter) -> Callable[..., Any]:
    def change(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        inputs = next(
            (argument for argument in (*args, *kwargs.values()) if isinstance(argument, Tensor)),
            None,
        )
        if isinstance(output, tuple | list):
            return type(output)((alter(output[0], inputs), *output[1:]))
        return alter(output, inputs)

    return change

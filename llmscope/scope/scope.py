"""The Python interface: load a model, record a prompt, apply lenses to the recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from llmscope.edits import Edit, own_edit, parse, read_prompt_b
from llmscope.errors import ScopeError, WrongTypeError, WrongUseError, WrongValueError
from llmscope.figure import Figure, Focus, Verdict
from llmscope.learned.dictionaries.catalog import Given, known_dictionaries
from llmscope.learned.lenses.catalog import known_lenses
from llmscope.lenses import Lens, checked_focus, focus_from, lens, options, suggested
from llmscope.lenses.own_metric import MetricTarget
from llmscope.lenses.stacked import layers_of, stack_figures
from llmscope.models.hidden_states import HiddenStates
from llmscope.models.info import ModelInfo, model_info
from llmscope.models.loaded_model import LoadedModel, Progress
from llmscope.models.loading.arguments import checked_load, row_memory
from llmscope.models.loading.at_rest import at_rest, default_settings, one_thread, uncompiled
from llmscope.models.loading.load import load_model
from llmscope.models.loading.memory import enough_memory, free_cache
from llmscope.models.loading.wrap import wrapped
from llmscope.models.provenance import Origin, origin
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.prompt_inputs import OnePrompt, is_batch, prompt_input
from llmscope.models.tokenizer.target import WordList, read_words, target_id
from llmscope.record.analysis.gradients import gradients
from llmscope.record.analysis.saliency import NoGradient
from llmscope.record.capture.padded import record_together
from llmscope.record.capture.prompts import encoded, prompt_from, text_of
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.change_hooks import UnplacedRowsError, attached
from llmscope.record.compare.same_tokens import token_difference
from llmscope.record.derive.activation_cache import split_name
from llmscope.record.derive.row_stats import check_finite
from llmscope.record.derive.verify import Verdicts
from llmscope.record.fetch import Fetch, Fetches, advance, beside, mapped, without_fetches
from llmscope.scope import showing
from llmscope.scope.instrumented import STALE, InstrumentedModel, trust
from llmscope.support import arguments
from llmscope.support.gc_control import set_aside
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from os import PathLike

    import torch

    from llmscope.jobs.activation_difference.difference import ActivationDifference
    from llmscope.jobs.fit_lens.accumulate import FitState
    from llmscope.learned.lenses.lens import LearnedLens
    from llmscope.models.tokenizer.tokens import Encoded
    from llmscope.record.compare.other_model import OtherModel

OneEdit = str | Edit | tuple[str, object]
"""An edit in its grammar, or a place and the tensor or function to put there."""
CHANGED = "the model changed since the last pass ({}): nothing from before is used"


def load(
    spec: str | PathLike[str] | None = None,
    *,
    device: str | torch.device | None = "auto",
    dtype: str | torch.dtype | None = "auto",
    backend: str | None = "transformers",
    cache_type: str | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    spill: str | PathLike[str] | None = None,
    adapters: Sequence[str | PathLike[str]] = (),
    reward: str | PathLike[str] | None = None,
    unverified: bool = False,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Progress | None = None,
) -> Scope:
    """Load a model. The identities that lenses rely on are checked before the first figure.

    Args:
        spec: `gpt2`, `org/name@revision`, `./folder`, `file.gguf`, `pypi:NAME`, `builtin:NAME`;
            None for the built-in default. For a PEFT adapter its base model is loaded too.
        device: auto (also None), cpu, cuda, cuda:N, mps, or spread: over all devices, memory and
            disk; or a torch.device.
        dtype: auto (also None), float32 (fp32, float), bfloat16 (bf16) or float16 (fp16, half),
            also as a torch.dtype.
        backend: transformers (also None); llama.cpp, which runs a GGUF file as it is; or auto:
            llama.cpp where there is no memory for the dequantised weights of a GGUF file.
        cache_type: the type of llama.cpp's KV cache: f16 (also None), f32, q8_0 or q4_0.
        threads: number of torch threads on a CPU; None: chosen by the size of the model.
        memory: most bytes of what is kept of the tokens of long prompts beside keys and values,
            as a number or a text such as "8GB"; None: 1.5 GiB. What is beyond it is computed again
            when a lens reads it.
        spill: a folder for a temporary file, which takes what is beyond `memory` instead; None:
            nothing is written.
        adapters: specs of PEFT adapters for the model, or of other checkpoints of the same model.
            The first is on; see `Scope.use`.
        reward: spec of a reward model that reads the same tokens, for the lens `stages`.
        unverified: show figures that failed their check too, marked as unverified.
        trust_remote_code: accept code that comes with a model.
        allow_pickle: accept pickled weights.
        progress: called with the current task, bytes done, and total bytes or None.

    Raises:
        ScopeError: the model cannot be loaded; its hint says what to try.
        TypeError, ValueError: an argument has a wrong type, or is text with lone surrogates.
    """
    checked = checked_load(
        *(spec, device, dtype, threads, adapters, reward),
        backend=backend,
        cache_type=cache_type,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        progress=progress,
    )
    rows = row_memory(memory, spill)
    unverified = arguments.flag("unverified", unverified)
    with set_aside(), default_settings():
        model = load_model(**checked)
    model.row_memory = rows
    return Scope(model, unverified=unverified)


def wrap(model: Any, tokenizer: Any = None, *, unverified: bool = False) -> Scope:
    """Look into a model that is in memory, such as one that is being trained.

    Wrapping changes nothing: the model gives the same logits, and keeps its training mode, its
    hooks and `requires_grad`; torch keeps its random state. Passes run in evaluation mode, and the
    mode is put back after each call. Hooks are on the model only while a call runs.

    Args:
        model: a causal language model of transformers, on any device, also with PEFT adapters
            (those that are active are part of it), quantised, compiled by `torch.compile`, or
            inside DataParallel or DistributedDataParallel.
        tokenizer: its transformers tokenizer; None: prompts are token ids.
        unverified: show figures that failed their check too, marked as unverified.

    Raises:
        TypeError: `model` is no module, or `tokenizer` no tokenizer.
        ScopeError: the model is sharded over processes, is no causal language model of
            transformers, or fails on a short prompt.
    """
    unverified = arguments.flag("unverified", unverified)
    return Scope(wrapped(model, tokenizer), unverified=unverified, puts_back=True)


class Scope:
    """A loaded model with its adapters. Calls from several threads wait for one another.

    `scope.model` may be changed between two calls: its weights, hooks, training mode, adapters or
    attention function. Each call compares the model with its previous state; after a change,
    nothing that was recorded or measured before is used again, `look` refuses older recordings, and
    the next recording's notices say so. Changes of weights through `.data` or NumPy are detected
    from a value of each row and of each column of a wrapped model, and of each sixteenth of them of
    a loaded one: an edit of less can be missed. `record(fresh=True)` reads every value.

    Attributes:
        latest: the latest recording.
        direction: the file of the direction that the screen reads with; empty for none.
    """

    def __init__(
        self, model: LoadedModel, *, unverified: bool = False, puts_back: bool = False
    ) -> None:
        self._base = model
        self._unverified = unverified
        self._puts_back = puts_back
        self._detached = False
        self._instrumented_models: dict[str | None, InstrumentedModel] = {}
        self._watching = True
        self._other: Scope | None = None
        self._states: HiddenStates | None = None
        self._comparison: object = None
        self.use(next(iter(model.adapted.loaded), None))
        self.latest: Recording | None = None
        self.direction = ""

    def __reduce_ex__(self, _: Any) -> Any:
        raise WrongTypeError(
            "a Scope holds a live model and cannot be pickled or copied: load it again, save "
            "figures with figure.save(path), or the model with scope.model.save_pretrained(folder)"
        )

    def __enter__(self) -> Scope:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def __repr__(self) -> str:
        model = self._base
        anatomy = model.anatomy
        sizes = f"{len(anatomy.layers)} layers, {anatomy.heads} heads, width {anatomy.width}"
        gone = ", detached" if self._detached else ""
        dtype = model.dtype_name
        return f"<Scope {one_line(model.name)}: {sizes}, {dtype} on {model.device}{gone}>"

    def detach(self) -> None:
        """Free what was recorded and measured, and leave nothing of the scope on the model.

        Recordings and figures that other code references stay valid. The scope cannot be used
        again.
        """
        with one_thread(self._base.module):
            self.forget()
            for instrumented in self._instrumented_models.values():
                instrumented.detach()
            self._other, self._detached = None, True

    @contextmanager
    def _at_rest(self, model: Any = None) -> Iterator[None]:
        """Compare and run a model within, in this thread alone; None: the model in use.

        Raises:
            ScopeError: the scope is detached.
        """
        if self._detached:
            raise ScopeError("the scope was detached from its model", "llmscope.wrap(model) again")
        with one_thread(self._base.module):
            if not self._puts_back and not self._watching:  # within `unchanged`, which has done it
                yield
            elif not self._puts_back:
                with default_settings(self._base.threads):
                    yield
            else:
                with at_rest(self.model if model is None else model):
                    yield

    def use(self, adapter: str | None) -> None:
        """Switch to an adapter, or to the base model (None). Existing recordings do not change.

        Raises:
            ValueError: no adapter has that name.
        """
        with self._at_rest(self._base.module):
            self._instrumented = self._instrumented_of(adapter)

    def _instrumented_of(self, adapter: str | None) -> InstrumentedModel:
        if adapter is not None:
            adapter = arguments.text("adapter", adapter)
        if adapter not in self._instrumented_models:
            adapted = self._base.adapted
            if adapter is not None and adapter not in adapted:
                there = arguments.quote_value(", ".join(adapted) or "none")
                raise WrongValueError(
                    f"no adapter {arguments.quote_value(adapter)}; there are {there}"
                )
            self._instrumented_models[adapter] = InstrumentedModel(
                self._base if adapter is None else adapted[adapter], rows=self._puts_back
            )
        return self._instrumented_models[adapter]

    def add(self, model: LoadedModel) -> None:
        """Add an adapter on the base model, which `use` can switch on."""
        assert model.adapter is not None
        self._base.adapted.add(model.adapter, model)

    @property
    def other(self) -> Scope | None:
        """The scope of the model that this one is compared with; see `compare`. None: no other."""
        return self._other

    def compare(self, other: Scope | HiddenStates | None) -> None:
        """Compare this model, A, with another that reads the same tokens, B.

        From then on the lens `model-diff` shows how they differ, and `look(…, change=True)` of a
        recording without edits, without `versus_prompt`, shows any lens of A minus that of B.
        Both models are given the token ids of A. B is used with the adapter that is on in its
        scope.

        Args:
            other: the scope of model B; the streams of one text that another engine wrote, which
                only `model-diff` shows, for that text; None ends the comparison.

        Raises:
            ScopeError: the two do not read the same tokens; the message has the first difference.
                Or the streams do not fit this model.
            ValueError: the other is this scope.
        """
        if other is self:
            raise WrongValueError("a scope cannot be compared with itself: load the model again")
        if isinstance(other, HiddenStates):
            anatomy = self._base.anatomy
            other.check(
                layers=len(anatomy.layers), width=anatomy.width, vocabulary=anatomy.vocabulary
            )
            self._other, self._states = None, other
            return
        if other is not None:
            if not isinstance(other, Scope):
                raise WrongTypeError(
                    f"other must be a Scope or HiddenStates, not {arguments.quote_value(other)}"
                )
            reason = token_difference(self._base, other._base)
            if reason:
                raise ScopeError(
                    f"{one_line(self._base.name)} and {one_line(other._base.name)} do not read "
                    f"the same tokens: {reason}",
                    "two models with one tokenizer",
                )
        self._other, self._states, self._comparison = other, None, object()

    def teach(self, context: str, query: str, *, special_tokens: bool = True) -> str:
        """Turn a context into an adapter, with which the model answers the query without it.

        The update is exact for the token after the query, and has rank 1. With the adapter on, the
        lens `context` shows for any prompt how far the update generalizes: KL from the base model
        that reads the context first, with the adapter and without.

        Returns:
            The adapter's name, for `use`.

        Raises:
            ScopeError: the context is empty, or the model cannot be changed that way.
        """
        from llmscope.scope.contexts import teach

        context, query = arguments.text("context", context), arguments.text("query", query)
        special_tokens = arguments.flag("special_tokens", special_tokens)
        with self._at_rest():
            return teach(self, context, query, special_tokens=special_tokens)

    @property
    def base(self) -> LoadedModel:
        """The loaded model without any adapter."""
        return self._base

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters and other checkpoints that `use` can switch on."""
        return tuple(self._base.adapted)

    @property
    def adapter(self) -> str | None:
        """The name of the adapter in use; None: the base model."""
        return self.loaded_model.adapter

    @property
    def translator(self) -> Any:
        """The learned lens of edits with `jlens` or `swap`, for the base and its adapters.

        A lens, its path, or its name: `jacobian`, `tuned`, `org/name:path`. None: the Jacobian lens
        that comes with the model. It is read when an edit needs it.

        Raises:
            TypeError, ValueError: it is set to something else.
        """
        return self._base.translator

    @translator.setter
    def translator(self, value: Any) -> None:
        learned = None if value is None else arguments.lens("translator", value)
        self._base.translator = learned

    @property
    def features(self) -> tuple[Given, ...]:
        """The dictionaries of edits along features, for the base and its adapters.

        Dictionaries, paths, or names: `org/name:path`. By default, or after they are set to None,
        those that come with the model. A path is read when an edit needs it.

        Raises:
            TypeError, ValueError: they are set to something else.
        """
        return self._base.features or known_dictionaries(self._base)

    @features.setter
    def features(self, value: Any) -> None:
        self._base.features = () if value is None else arguments.dictionaries("features", value)

    @property
    def loaded_model(self) -> LoadedModel:
        """The loaded model in use: the base, or with an adapter on."""
        return self._instrumented.model

    @property
    def recorder(self) -> Recorder:
        """The recorder of the model in use."""
        with self._at_rest():
            self._compare()
            return self._instrumented.recorder

    @property
    def verdicts(self) -> Verdicts:
        """The verdicts of the model in use, called as `verdicts(capability, layer=None)`.

        They are measured on first use, before anything is recorded, and anew when the model has
        changed.
        """
        with self._at_rest():
            self._compare()
            return self._instrumented.verdicts

    def prepare_reuse(self) -> None:
        """Measure now what the first prompt that reuses an earlier pass would measure first."""
        with self._at_rest():
            self._compare()
            self._instrumented.recorder.prepare_reuse()
        if self._other is not None:
            self._other.prepare_reuse()

    @property
    def model(self) -> Any:
        """The transformers model in use."""
        return self.loaded_model.module

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer; None if the checkpoint has no tokenizer."""
        return None if self.loaded_model.tokens is None else self.loaded_model.tokens.tokenizer

    @cached_property
    def chat(self) -> Chat:
        """The tokenizer's chat template. Record its text with `special_tokens=False`."""
        tokens = self.loaded_model.tokens
        return Chat(None) if tokens is None else tokens.chat

    def encode(self, text: str, *, special_tokens: bool = True) -> Encoded:
        """Tokenize a text; return the tokens with their character spans."""
        text = arguments.text("text", text)
        special_tokens = arguments.flag("special_tokens", special_tokens)
        return encoded(self.loaded_model, text, special_tokens=special_tokens)

    @overload
    def record(  # type: ignore[overload-overlap]  # a str is no list of prompts
        self,
        prompt: OnePrompt,
        *,
        fresh: bool = False,
        special_tokens: bool = True,
        cancelled: Callable[[], bool] | None = None,
        edits: Sequence[OneEdit] = (),
        versus_prompt: OnePrompt | None = None,
        written: Sequence[int] = (),
        aside: Sequence[Recording] = (),
        progress: Callable[[Recording, int], None] | None = None,
    ) -> Recording: ...

    @overload
    def record(
        self,
        prompt: Sequence[OnePrompt],
        *,
        fresh: bool = False,
        special_tokens: bool = True,
        cancelled: Callable[[], bool] | None = None,
        edits: Sequence[OneEdit] = (),
        versus_prompt: OnePrompt | None = None,
        written: Sequence[int] = (),
        aside: Sequence[Recording] = (),
        progress: Callable[[Recording, int], None] | None = None,
    ) -> list[Recording]: ...

    def record(
        self,
        prompt: OnePrompt | Sequence[OnePrompt],
        *,
        fresh: bool = False,
        special_tokens: bool = True,
        cancelled: Callable[[], bool] | None = None,
        edits: Sequence[OneEdit] = (),
        versus_prompt: OnePrompt | None = None,
        written: Sequence[int] = (),
        aside: Sequence[Recording] = (),
        progress: Callable[[Recording, int], None] | None = None,
    ) -> Recording | list[Recording]:
        """Run a prompt and keep the tensors that lenses need. Shared prefixes are reused.

        A list of prompts gives a list of recordings. They run together in padded passes where that
        gives the numbers of single runs, up to rounding, as measured on the model: not with edits
        or `fresh`.

        A prompt of more than 1,024 tokens runs in parts of 1,024 on the keys and values so far,
        where that gives the numbers of one pass. If it is cancelled, the next call of `record`
        continues from the parts that have ended.

        Args:
            prompt: text; token ids, also as an array or a tensor; an encoding of a tokenizer; chat
                messages, each with role and content; or a list of these.
            fresh: reuse nothing, and compare every value of the weights with its value at the
                latest fresh call.
            special_tokens: let the tokenizer add its special tokens.
            cancelled: asked before each layer; true ends the pass with `Cancelled`.
            edits: edits to the pass, applied in this order, such as `zero head 5.3`; see
                `llmscope.edits`. Also a place and what to put there, such as
                `("stream 12 @-1", vector)`: a tensor, or a function of the tensor there
                [row, column]. The unedited pass is the recording's `base`.
            versus_prompt: prompt B, the source of `patch … from B`; other edits do not read it.
            written: ids that follow the prompt, such as generated tokens; they are used as they
                are and not tokenized again.
            aside: recordings that may share a longer prefix with the prompt than the latest one.
            progress: called after each part of a long prompt except the last, with the recording
                so far and the number of tokens of the prompt.

        Raises:
            ScopeError: the prompt is empty, too long, or has ids outside of the vocabulary; the
                chat template rejects the messages; an edit cannot be parsed, does not fit the
                model, or cannot be trusted on it; two passes of the model differ, for example by
                dropout in training mode; a recording in `aside` is of another scope; or memory
                runs out (`llmscope.errors.OutOfMemory`), and the latest recording is dropped.
            ValueError: `written` is given with a list of prompts.
        """
        fresh = arguments.flag("fresh", fresh)
        arguments.function("cancelled", cancelled)
        arguments.function("progress", progress)
        special = arguments.flag("special_tokens", special_tokens)
        parsed_edits = _edits(edits)
        if versus_prompt is not None and not parsed_edits:
            raise WrongValueError(
                "versus_prompt: there is no edit that patches from prompt B",
                "look(lens, versus_prompt=…), which compares with it",
            )
        near = [
            _recording(f"aside[{at}]", recording)
            for at, recording in enumerate(arguments.several("aside", aside))
        ]
        batch = is_batch(prompt)
        if batch and len(arguments.token_ids("written", written)):
            raise WrongValueError("written follows one prompt, not a list of them")
        with self._passes(fresh) as notices:
            if batch:
                prompts = self._prompts(cast("Sequence[OnePrompt]", prompt), special)
            else:
                one_prompt = cast("OnePrompt", prompt)
                prompts = [self.prompt(one_prompt, special_tokens=special, written=written)]
            prompts = [replace(each, notices=(*each.notices, *notices)) for each in prompts]
            other = None
            if versus_prompt is not None:
                other = self._prompt("versus_prompt", versus_prompt, special)
            instrumented = self._instrumented
            if batch and not parsed_edits and not fresh and not instrumented.why_alone:
                recordings = record_together(instrumented.recorder, prompts, cancelled)
            else:
                recordings = [
                    self._record(each, parsed_edits, other, fresh, cancelled, near, progress)
                    for each in prompts
                ]
        self.latest = recordings[-1]
        return recordings if batch else recordings[0]

    def record_prompt(
        self,
        prompt: Prompt,
        *,
        edits: Sequence[Edit] = (),
        other: Prompt | None = None,
        cancelled: Callable[[], bool] | None = None,
        aside: Sequence[Recording] = (),
        progress: Callable[[Recording, int], None] | None = None,
    ) -> Recording:
        """Run a prompt whose tokens and edits are read already, as the screen does for each letter.

        Args:
            prompt: the prompt.
            edits: edits to the pass, in order.
            other: prompt B, the source of `patch … from B`; None without one.
            cancelled: as in `record`.
            aside: as in `record`.
            progress: as in `record`.

        Raises:
            ScopeError: as in `record`.
        """
        with self._passes() as notices:
            prompt = replace(prompt, notices=(*prompt.notices, *notices))
            recording = self._record(prompt, edits, other, False, cancelled, aside, progress)
        self.latest = recording
        return recording

    @contextmanager
    def _passes(self, fresh: bool = False) -> Iterator[tuple[str, ...]]:
        """Make the model ready for passes, and yield the notice of a change of it, if any.

        Args:
            fresh: compare every value of the weights with its value at the latest fresh call.
        """
        with (
            self._at_rest(),
            enough_memory(self.loaded_model.device, partial(self.forget, free=False)),
        ):
            self._compare(whole=fresh)
            change = self._instrumented.take_change()
            if change:
                _ = self.recorder  # probe the model anew: its vocabulary may have changed
            yield (CHANGED.format(change),) if change else ()
            if self._watching:
                self._instrumented.adopt()

    def _record(
        self,
        prompt: Prompt,
        edits: Sequence[Edit],
        other: Prompt | None,
        fresh: bool,
        cancelled: Callable[[], bool] | None,
        aside: Sequence[Recording],
        progress: Callable[[Recording, int], None] | None,
    ) -> Recording:
        """Return the recording of a prompt, with edits if there are any; see `record`."""
        bases = [recording.base or recording for recording in aside if not self.stale(recording)]
        instrumented = self._instrumented
        recording = instrumented.recorder.record(
            prompt, fresh=fresh, cancelled=cancelled, aside=bases, part=progress
        )
        if not edits:
            return recording
        return instrumented.edited.record(
            recording, edits, other=other, fresh=fresh, cancelled=cancelled
        )

    def _prompts(self, inputs: Sequence[OnePrompt], special: bool) -> list[Prompt]:
        """Return the prompts of a list; errors name the place in it."""
        prompts = []
        for at, text in enumerate(inputs):
            try:
                prompts.append(self._prompt(f"prompt[{at}]", text, special))
            except ScopeError as error:
                raise error.at(f"prompt[{at}]") from error
        return prompts

    @contextmanager
    def unchanged(self, *, rows: bool = True) -> Iterator[None]:
        """Compare the model once and not again in the block, which must not change the model.

        Args:
            rows: read a value of each row and column of the weights of a wrapped model. The screen,
                while which nothing else uses the model, does so once and not for each letter.
        """
        other = nullcontext() if self._other is None else self._other.unchanged(rows=rows)
        with self._at_rest(), other:
            for instrumented in self._instrumented_models.values():
                instrumented.compare(rows=rows)
            before, self._watching = self._watching, False
            try:
                yield
            finally:
                self._watching = before
                for instrumented in self._instrumented_models.values():
                    instrumented.adopt()

    def stale(self, recording: Recording) -> bool:
        """Return whether the model has changed since a recording was made.

        Raises:
            ScopeError: the recording is of another scope.
        """
        instrumented = self._instrumented_of_recording(recording)
        if self._watching:
            with self._at_rest():
                instrumented.compare()
        return instrumented.stale(recording)

    def _compare(self, *, whole: bool = False) -> None:
        """Detect a change of the model in use."""
        if self._watching:
            self._instrumented.compare(whole=whole)

    def _instrumented_of_recording(self, recording: Recording) -> InstrumentedModel:
        """Return the instrumented model that made a recording.

        Raises:
            ScopeError: the recording is of another scope, with another model.
        """
        instrumented = self._instrumented_models.get(recording.model.adapter)
        if instrumented is None or instrumented.model is not recording.model:
            raise WrongUseError(
                f"this recording is of another scope: its model is {recording.model.name}",
                "use the scope that recorded it",
            )
        return instrumented

    def prompt(
        self,
        prompt: OnePrompt,
        *,
        special_tokens: bool = True,
        written: Sequence[int] = (),
    ) -> Prompt:
        """Build a prompt from a text or from token ids.

        Args:
            prompt: text, token ids, an encoding of a tokenizer, or chat messages; see `record`.
            special_tokens: let the tokenizer add its special tokens.
            written: ids that follow the prompt.

        Raises:
            ScopeError: the prompt is empty, too long, or has ids outside of the vocabulary.
        """
        return self._prompt(
            "prompt",
            prompt,
            arguments.flag("special_tokens", special_tokens),
            arguments.token_ids("written", written),
        )

    def _prompt(
        self, name: str, prompt: OnePrompt, special: bool, written: Sequence[int] = ()
    ) -> Prompt:
        content = prompt_input(name, prompt, lambda *chat: self.chat.apply(*chat))
        return prompt_from(
            self.loaded_model,
            content.content,
            special_tokens=special and not content.rendered,
            written=written,
        )

    def token(self, text: str) -> int:
        """Return the id of a token, given as text with its leading space or as `id:464`.

        Raises:
            ScopeError: the text is not a single token of the model.
        """
        text = arguments.text("text", text)
        return target_id(text, self.loaded_model.tokens, self.loaded_model.anatomy.vocabulary)

    def words(self, text: str) -> WordList:
        """Return the first token of each word, for one of the two lists of `look(words=…)`.

        Args:
            text: words separated by spaces or commas; `id:464` is a token by its id.

        Raises:
            ScopeError: the list is empty, or a word has no token.
        """
        text = arguments.text("text", text)
        return read_words(text, self.loaded_model.tokens, self.loaded_model.anatomy.vocabulary)

    @property
    def ran_beside(self) -> int:
        """The number of tokens of prompts B that were run so far."""
        return sum(instrumented.ran_beside for instrumented in self._instrumented_models.values())

    @property
    def ran_second(self) -> int:
        """The number of tokens that the second model has run so far; 0 without one."""
        instrumented_models = (
            () if self._other is None else self._other._instrumented_models.values()
        )
        return sum(instrumented.ran_as_other for instrumented in instrumented_models)

    def forget(self, *, free: bool = True) -> None:
        """Drop the latest recording, and free the memory that the device caches for reuse.

        That of the second model of a comparison is dropped too. Recordings that other code
        references stay valid.

        Args:
            free: free cached memory too, which collects garbage and may take a while.
        """
        free = arguments.flag("free", free)
        with one_thread(self._base.module):
            self.latest = None
            for instrumented in self._instrumented_models.values():
                instrumented.forget()
        if self._other is not None:
            self._other.forget(
                free=free and self._other.loaded_model.device != self.loaded_model.device
            )
        if free:
            free_cache(self.loaded_model.device)

    def show(
        self,
        recording: Recording | None = None,
        *,
        prompt: str = "",
        versus_prompt: str | None = None,
    ) -> None:
        """Open the live screen on this model, in this process, and return when it is left.

        It needs a terminal, and the main thread. Nothing else may use the model meanwhile.

        Args:
            recording: open on its prompt, with its edits; None: on `prompt`.
            prompt: the first text; empty: the last one that was on such a screen.
            versus_prompt: prompt B, which edits that patch need.

        Raises:
            ScopeError: there is no terminal; or the recording's tokens are not those of their text.
            ValueError: both a recording and a prompt are given, or a patch has no prompt B.
        """
        prompt = arguments.text("prompt", prompt)
        if versus_prompt is not None:
            versus_prompt = arguments.text("versus_prompt", versus_prompt)
        special_tokens = True
        edits: tuple[Edit, ...] = ()
        instrumented, adapter = self._instrumented, self.adapter
        if recording is not None:
            if prompt:
                raise WrongValueError("prompt is that of the recording: give one of them")
            instrumented = self._instrumented_of_recording(_recording("recording", recording))
            prompt, special_tokens = text_of(instrumented.model, recording.prompt)
            edits = recording.edits
            if any(edit.own is not None for edit in edits):
                raise WrongValueError(
                    "the screen cannot show edits of your own: tensors or functions"
                )
            if versus_prompt is None and read_prompt_b(edits):
                raise WrongValueError("an edit patches from prompt B: give versus_prompt")
        if not self._watching:
            raise WrongUseError(
                "the screen cannot be opened within unchanged()", "it after the block"
            )
        with self._at_rest():
            self._compare()
        try:
            self._instrumented = instrumented
            showing.screen().show(
                self,
                prompt=prompt,
                special_tokens=special_tokens,
                edits=edits,
                versus_prompt=versus_prompt,
            )
        finally:
            self.use(adapter)

    def gradients(
        self,
        metric: Callable[[torch.Tensor], object],
        names: str | Sequence[str],
        *,
        recording: Recording | None = None,
        position: int = -1,
    ) -> dict[str, torch.Tensor]:
        """Return d metric / d tensor for named tensors of an unedited pass.

        Args:
            metric: a function of the logits after the position [token] that returns one number.
            names: names of tensors, such as `layers.*.attn_out`; see `ActivationCache.select`.
                Attention patterns and logits have no gradient.
            recording: the recording; None: the latest one.
            position: the token after which the logits are read; negative from the end.

        Returns:
            The gradients by name, in the shapes of the tensors; zero after the position.

        Raises:
            KeyError: a name matches no tensor.
            ScopeError: the model gives no gradient there, its logits from embeddings differ from
                those of tokens, or the recording is edited.
        """
        recording = self._chosen_recording(recording)
        instrumented = self._instrumented_of_recording(recording)
        position = arguments.check_index(
            "position", arguments.integer("position", position), len(recording)
        )
        if arguments.function("metric", metric) is None:
            raise WrongTypeError("metric must be a function, not None")
        if recording.changes:
            raise WrongUseError("the recording is edited", "gradients of its base")
        patterns = (names,) if isinstance(names, str) else arguments.several("names", names)
        cache = recording.cache()
        chosen = list(
            dict.fromkeys(name for pattern in patterns for name in cache.matching(pattern))
        )
        if not chosen:
            raise WrongValueError("names is empty: give names of tensors")
        with self._at_rest():
            self._compare()
            run = instrumented.passes(lens("saliency"), recording)
            places = [split_name(name) for name in chosen]
            try:
                by_place = gradients(recording, position, MetricTarget(metric).value, places, run)
            except NoGradient as finding:
                raise ScopeError(str(finding)) from finding
            instrumented.adopt()
        return dict(zip(chosen, by_place, strict=True))

    def save_activations(
        self,
        prompts: Iterable[OnePrompt],
        names: Sequence[str],
        folder: str | PathLike[str],
        *,
        last: bool = False,
        shard_size: int = 100,
        special_tokens: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Record many prompts and write named tensors to a folder, shard by shard.

        Memory holds one shard at a time. The same call again, on the same model, resumes behind the
        last pass that an interrupted one finished. See `llmscope.jobs.activations` for the files.

        Args:
            prompts: the prompts, such as a generator's.
            names: names of tensors, or patterns of them, such as `layers.*.resid_post`; see
                `ActivationCache`.
            folder: a new folder, or one that the same call began.
            last: keep only the row of the last token of each tensor.
            shard_size: number of prompts in a file.
            special_tokens: let the tokenizer add its special tokens.
            progress: called with the number of prompts done, after each shard.

        Returns:
            The number of prompts.

        Raises:
            ScopeError: a prompt cannot be run; the folder holds something else, was begun with
                other arguments or another model, or cannot be written.
            KeyError: a name matches no tensor.
        """
        from llmscope.jobs.activations import save

        names = [
            arguments.text(f"names[{at}]", name)
            for at, name in enumerate(arguments.several("names", names))
        ]
        if not names:
            raise WrongValueError("names is empty: give names of tensors")
        if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
            raise WrongTypeError(
                f"prompts must be a list of prompts, not {arguments.quote_value(prompts)}"
            )
        special = arguments.flag("special_tokens", special_tokens)
        arguments.function("progress", progress)
        return save(
            (self._prompt(f"prompts[{at}]", text, special) for at, text in enumerate(prompts)),
            names,
            Path(arguments.name_or_path("folder", folder)),
            lambda batch: self.record([prompt.ids for prompt in batch]),
            model=self.loaded_model.name,
            together=not self._instrumented.why_alone,
            last=arguments.flag("last", last),
            shard_size=arguments.integer("shard_size", shard_size, lowest=1),
            progress=progress,
        )

    def fit_lens(
        self,
        prompts: Iterable[str],
        kind: str = "jacobian",
        *,
        skip: int = 16,
        length: int = 128,
        held_out: int = 10,
        max_prompts: int | None = None,
        progress: Callable[[FitState], None] | None = None,
        **more: Any,
    ) -> LearnedLens:
        """Fit a learned lens on texts, and measure it on those that are held out.

        Pass the result to `look("logit-lens", translator=lens)`, or set `scope.translator` to it;
        `llmscope.learned.lenses.writer.write_lens` writes it to a file.

        Args:
            prompts: texts; those of `skip + 1` tokens or fewer do not count.
            kind: jacobian or tuned.
            skip: the number of tokens at the beginning of a prompt that do not count.
            length: prompts are cut after this many tokens.
            held_out: one of this many prompts is held out; 0: none, and nothing is measured.
            max_prompts: stop after this many; None: at the end.
            progress: called after each prompt.
            more: estimator, backwards, error and batch of a Jacobian lens, steps and rate of a
                tuned one, checkpoint of both; see `JacobianFit` and `TunedFit` in
                `llmscope.jobs.fit_lens`.

        Raises:
            ScopeError: no prompt counts, or the model gives no gradients.
            TypeError, ValueError: an argument is wrong.
        """
        from llmscope.jobs.fit_lens.corpus import CorpusRules
        from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit, fit_jacobian
        from llmscope.jobs.fit_lens.fit_tuned import TunedFit, fit_tuned

        if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
            raise WrongTypeError(
                f"prompts must be a list of texts, not {arguments.quote_value(prompts)}"
            )
        rules = CorpusRules(
            arguments.integer("skip", skip, lowest=0),
            arguments.integer("length", length, lowest=2),
            held_out=arguments.integer("held_out", held_out, lowest=0),
        )
        if max_prompts is not None:
            max_prompts = arguments.integer("max_prompts", max_prompts, lowest=1)
        texts = (arguments.text(f"prompts[{at}]", text) for at, text in enumerate(prompts))
        report_progress = arguments.function("progress", progress) or (lambda _: None)
        for name, value in more.items():
            if name in ("backwards", "batch", "steps") and value is not None:
                more[name] = arguments.integer(name, value, lowest=name != "steps")
            elif name in ("error", "rate") and value is not None:
                more[name] = arguments.real(name, value, above=0.0)
            elif name == "checkpoint" and value is not None:
                more[name] = Path(arguments.name_or_path(name, value))
        if kind == "jacobian":
            return fit_jacobian(
                self, texts, JacobianFit(rules, prompts=max_prompts, **more), report_progress
            )
        if kind == "tuned":
            return fit_tuned(self, texts, TunedFit(rules, max_prompts, **more), report_progress)
        raise WrongValueError(f"kind must be jacobian or tuned, not {arguments.quote_value(kind)}")

    def activation_difference(
        self,
        other: Scope | str,
        texts: Iterable[str] | None = None,
        *,
        tokens: int = 5,
        layer: int | None = None,
        top_k: int = 10,
        translator: Any = None,
        strength: float | None = None,
        seed: int = 0,
        progress: Callable[[str], None] | None = None,
        checkpoint: str | PathLike[str] | None = None,
    ) -> ActivationDifference:
        """Read what a model was fine-tuned on from its streams at the first tokens of other text.

        The mean over texts of the stream of B minus that of this model, A, after each layer, read
        by the logit lens of B. Beside it stands the same of A with noise of the size of the change
        of its weights. See `docs/activation-difference.md`.

        Args:
            other: the scope of B, a model that was trained from A and reads the same tokens; or the
                name of an adapter of this scope.
            texts: texts that have nothing to do with what B was trained on; None: plain ones that
                come with llmscope.
            tokens: how many of the first tokens of each text count.
            layer: the layer that the verdict is about; None: the middle one.
            top_k: the number of tokens of a reading.
            translator: a learned lens of A that the differences pass first, or its name or path;
                None reads them as they are.
            strength: what the difference is multiplied by where A generates with it; None: it does
                not generate.
            seed: of the noise.
            progress: called with what is done next.
            checkpoint: a file that keeps each pass, from which the same call goes on where it was
                interrupted; None keeps nothing. Remove it once the difference is measured.

        Raises:
            ScopeError: the models do not read the same tokens or have streams of other sizes, too
                few texts are long enough, or the lens cannot be read.
            TypeError, ValueError: an argument is wrong.
        """
        from llmscope.jobs.activation_difference.measure import activation_difference
        from llmscope.jobs.activation_difference.texts import default_texts

        if isinstance(texts, str | bytes | Mapping):
            raise WrongTypeError(
                f"texts must be a list of texts, not {arguments.quote_value(texts)}"
            )
        if not isinstance(other, str | Scope):
            raise WrongTypeError(
                f"other must be a Scope or a name, not {arguments.quote_value(other)}"
            )
        if layer is not None:
            layer = arguments.check_index(
                "layer", arguments.integer("layer", layer), len(self.loaded_model.anatomy.layers)
            )
        texts_given = default_texts(self._base.spec) if texts is None else texts
        theirs = self._instrumented_of(other) if isinstance(other, str) else other._instrumented
        with self.unchanged(), nullcontext() if isinstance(other, str) else other.unchanged():
            return activation_difference(
                *(self._instrumented, theirs),
                [arguments.text(f"texts[{at}]", text) for at, text in enumerate(texts_given)],
                tokens=arguments.integer("tokens", tokens, lowest=1),
                layer=layer,
                top_k=arguments.integer("top_k", top_k, lowest=1),
                translator=None if translator is None else arguments.lens("translator", translator),
                strength=None if strength is None else arguments.real("strength", strength),
                seed=arguments.integer("seed", seed, lowest=0),
                progress=arguments.function("progress", progress) or (lambda _: None),
                checkpoint=None
                if checkpoint is None
                else Path(arguments.name_or_path("checkpoint", checkpoint)),
            )

    @contextmanager
    def editing(self, edits: Sequence[OneEdit]) -> Iterator[Any]:
        """Make edits in every pass of the model within, such as those of `model.generate`.

        Args:
            edits: as for `record`, of all tokens: what depends on one prompt (`@…`, `mean`,
                `patch`, `freeze`) is refused. A function gets the rows of one prompt of each pass.

        Returns:
            The context, which gives the model to call: a compiled wrapper around it may run code
            that was compiled without the edits.

        Raises:
            ScopeError: an edit cannot be parsed, does not fit the model, cannot be trusted on it,
                or depends on a prompt.
        """
        with self._at_rest():
            self._compare()
            changes = self._instrumented.edited.lasting(_edits(edits))
            self._instrumented.adopt()
        with attached(self.loaded_model.anatomy, changes), uncompiled(self.model):
            yield self.model

    def _chosen_recording(self, recording: Recording | None) -> Recording:
        """Return a recording, the latest if None.

        Raises:
            ValueError: nothing was recorded yet.
        """
        recording_found = self.latest if recording is None else _recording("recording", recording)
        if recording_found is None:
            raise WrongValueError("nothing was recorded yet: call record() first")
        return recording_found

    def look(self, name: str, *, recording: Recording | None = None, **focus: Any) -> Figure:
        """Apply a lens to a recording and return its figure.

        Args:
            name: the name of the lens.
            recording: the recording; None: the latest one.
            focus: mode, change, and options of the lens: layer, position, target, top_k, …; see
                `llmscope lenses NAME`. Tokens and prompts are ids or text. A layer may also be a
                slice, a range or "all": then the figure has an axis for the layers.

        Raises:
            ValueError: a lens, layer, head, position or mode does not exist, the lens does not have
                an option, there is nothing to compare with, or the figure cannot be pooled.
            ScopeError: the recording is of another scope.
        """
        recording = self._chosen_recording(recording)
        name = arguments.text("name", name)
        chosen = lens(name)
        layers = layers_of(focus.get("layer"), recording.layers)
        if layers is not None:
            looked = [
                self.look(name, recording=recording, **{**focus, "layer": layer})
                for layer in layers
            ]
            return stack_figures(looked, layers)
        chosen_focus = self.focus_of(chosen, recording.prompt, focus)
        compared = chosen_focus.versus_prompt is not None or self._other or self._states
        if chosen_focus.change and recording.base is None and not compared:
            raise WrongValueError(
                "change: there is nothing to compare with: record edits, give versus_prompt, or "
                "name another model by compare(other)"
            )
        if (
            chosen_focus.versus_prompt is not None
            and not chosen_focus.change
            and not chosen.reads_prompt_b
        ):
            raise WrongValueError(
                f"versus_prompt: the lens {name} reads no prompt B; change=True shows this prompt "
                "minus B"
            )
        *_, figure = self.figures(name, recording, chosen_focus)
        return figure

    def focus_of(self, chosen: Lens, prompt: Prompt, options_given: dict[str, Any]) -> Focus:
        """Return the focus that options of `look` stand for; its indices are not resolved.

        Args:
            chosen: the lens.
            prompt: the prompt that the figure is of.
            options_given: the options by name; tokens and prompts are ids or text.

        Raises:
            ValueError: the lens does not have an option, or its mode does not read one.
            TypeError: no lens has an option.
            ScopeError: a text is not a single token where one is asked for.
        """
        focus = focus_from(self.ids_for(prompt, options_given))
        for name, option in options().items():
            if name not in options_given:
                continue
            unread = f"{name}: {why}" if (why := chosen.unread(name, focus.mode)) else ""
            if option not in chosen.allowed:
                unread = f"the lens {chosen.name} has no option {name!r}"
            value, default = option.of(focus), option.default
            # By type first: an array that is compared gives no truth value.
            if unread and (type(value) is not type(default) or value != default):
                raise WrongValueError(unread)
        return checked_focus(focus, self.loaded_model.anatomy.vocabulary)

    def ids_for(self, prompt: Prompt, options_given: dict[str, Any]) -> dict[str, Any]:
        """Return options of lenses with texts of tokens, prompts and words replaced by their ids.

        Args:
            prompt: the prompt that the figures are of.
            options_given: the options by name.

        Raises:
            ScopeError: a text is not a single token where one is asked for.
        """
        known, ids = options(), dict(options_given)
        special = any(prompt.special)
        for name, value in options_given.items():
            kind = known[name].kind if name in known else ""
            try:
                if kind == "token" and isinstance(value, str):
                    ids[name] = self.token(value)
                elif kind == "tokens" and not _plain_ids(value):
                    with_special = special and name == "versus_prompt"
                    ids[name] = self._prompt(name, value, with_special).ids
                elif kind == "word-lists" and isinstance(value, list | tuple):
                    ids[name] = tuple(
                        self.words(word).ids if isinstance(word, str) else word for word in value
                    )
            except ScopeError as error:
                raise error.at(name) from error
        return ids

    def figures(
        self,
        name: str,
        recording: Recording,
        focus: Focus,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Figure]:
        """Yield the figure of `look`, for slow lenses after ever more complete partial ones.

        Args:
            name: the name of the lens.
            recording: the recording.
            focus: the selection.
            cancelled: asked before each layer of an extra pass; true ends it with `Cancelled`.
        """
        # Each fetch is a part of making a figure: the model is at rest meanwhile.
        figures_made = self._steps_of_figures(name, recording, focus, cancelled, alone=True)
        return cast("Iterator[Figure]", figures_made)

    def figure_steps(
        self,
        name: str,
        recording: Recording,
        focus: Focus,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> Fetches[Figure]:
        """Yield what `figures` yields, and what it waits for, so that several can wait together.

        Args:
            name: the name of the lens.
            recording: the recording.
            focus: the selection, as `resolve` returns it.
            cancelled: asked before each layer of an extra pass; true ends it with `Cancelled`.
        """
        return self._steps_of_figures(name, recording, focus, cancelled, alone=False)

    def _steps_of_figures(
        self,
        name: str,
        recording: Recording,
        focus: Focus,
        cancelled: Callable[[], bool] | None,
        *,
        alone: bool,
    ) -> Fetches[Figure]:
        """Yield the figures of a recording while the model is as it was recorded.

        Args:
            name: the name of the lens.
            recording: the recording.
            focus: the selection, as `resolve` returns it unless `alone`.
            cancelled: asked before each layer of an extra pass; true ends it with `Cancelled`.
            alone: fetch what they wait for at once, instead of yielding it.
        """
        instrumented = self._instrumented_of_recording(recording)
        chosen = lens(name)
        if alone:
            focus = self.resolve(chosen, recording, focus)
            if focus.span is not None and focus.span[0] >= len(recording):
                raise WrongValueError(
                    f"span {focus.span} holds no token: the prompt has {len(recording)}"
                )
        steps = self._compute(chosen, recording, focus, cancelled)
        stream = without_fetches(steps) if alone else steps
        answer: Any = None
        below = None if recording.model.adapter is None else self._instrumented_of(None)
        while True:
            with (
                self._at_rest(),
                self._other_at_rest(),
                enough_memory(recording.model.device),
            ):
                # Before each figure: the user may change the model between two of them.
                stale = self.stale(recording)
                if below is not None and self._watching:
                    below.compare()
                figure = None if stale else advance(stream, answer)
                for instrumented_or_below in (
                    (instrumented, below) if self._watching else ()
                ):  # else `unchanged` adopts
                    if instrumented_or_below is not None:
                        instrumented_or_below.adopt()
            if stale:
                yield Figure.refused(chosen.name, chosen.name, STALE)
                return
            if figure is None:
                return
            answer = yield figure

    @contextmanager
    def _other_at_rest(self) -> Iterator[None]:
        """Compare and run the model that this one is compared with within, if there is one."""
        if self._other is None:
            yield
            return
        with self._other._at_rest():
            self._other._compare()
            yield
            if self._other._watching:
                self._other._instrumented.adopt()

    def _compute(
        self,
        chosen: Lens,
        recording: Recording,
        focus: Focus,
        cancelled: Callable[[], bool] | None,
    ) -> Fetches[Figure]:
        """Yield the figures of a recording of the unchanged model, and what they wait for."""
        of_prompts = focus.versus_prompt is not None
        if not focus.change or (recording.base is None and not of_prompts and self._other is None):
            yield from self._figures(chosen, recording, focus, cancelled)
            return
        focus = replace(focus, change=False)
        if recording.base is None:
            apart = self._apart if of_prompts else self._apart_from_other
            yield apart(chosen, recording, focus, cancelled)
            return
        from llmscope.lenses.edit_diff import difference, same_question

        base = recording.base

        def change(edited: Figure) -> Figure:
            if edited.verdict.status == "refused":  # skip the unedited one, which may take long
                return difference(edited, edited)
            base_focus = same_question(edited, focus)
            *_, unedited = without_fetches(self._figures(chosen, base, base_focus, cancelled))
            return difference(edited, unedited)

        yield from mapped(self._figures(chosen, recording, focus, cancelled), change)

    def _apart(
        self,
        chosen: Lens,
        recording: Recording,
        focus: Focus,
        cancelled: Callable[[], bool] | None,
    ) -> Figure:
        """Return the figure of this prompt minus that of prompt B."""
        from llmscope.lenses.prompt_diff import NAME, prompt_difference
        from llmscope.record.compare.contrast import paired
        from llmscope.record.compare.pair import Unpaired

        instrumented = self._instrumented_models[recording.model.adapter]
        passes = instrumented.passes(chosen, recording, cancelled)
        try:
            pair = paired(recording, focus.versus_prompt, passes.other)
            return prompt_difference(
                *(chosen, pair, focus),
                lambda recording_held, focus_asked: without_fetches(
                    self._figures(chosen, recording_held, focus_asked, cancelled)
                ),
            )
        except Unpaired as finding:
            return Figure.refused(chosen.name, f"{chosen.name} · {NAME}", str(finding))

    def _apart_from_other(
        self,
        chosen: Lens,
        recording: Recording,
        focus: Focus,
        cancelled: Callable[[], bool] | None,
    ) -> Figure:
        """Return the figure of this model minus that of the model it is compared with."""
        from llmscope.lenses.prompt_diff import model_difference

        other = self._other
        assert other is not None
        second = other._instrumented.as_other(self._comparison, cancelled)
        theirs = second.record(recording.prompt)

        def figures(side: Recording, focus_of_side: Focus) -> Iterator[Figure]:
            scope = other if side is theirs else self
            return without_fetches(scope._figures(chosen, side, focus_of_side, cancelled))

        return model_difference(chosen, recording, theirs, focus, figures)

    def _figures(
        self,
        chosen: Lens,
        recording: Recording,
        focus: Focus,
        cancelled: Callable[[], bool] | None,
    ) -> Fetches[Figure]:
        """Yield figures with their verdict; the first of some lenses is made beside the check."""
        instrumented, model = self._instrumented_models[recording.model.adapter], recording.model

        def begin() -> Iterator[Fetch | Figure]:
            origin = None if model.adapter is None else self._instrumented_of(None)
            versus: OtherModel | HiddenStates | None = self._states
            if self._other is not None:
                versus = self._other._instrumented.as_other(self._comparison, cancelled)
            run = instrumented.passes(
                chosen, recording, cancelled, origin, versus, unverified=self._unverified
            )
            result = chosen.compute(recording, focus, run)
            return iter([result]) if isinstance(result, Figure) else result

        holds, result = model.readout_holds, None
        check = trust(chosen, recording, focus, instrumented.verdicts)
        if model.device.type == "cpu":
            verdict = yield from check
        elif chosen.fetches_in(focus.mode):
            verdict, result = yield from beside(check, begin)
        else:
            verdict = yield from check
            yield Fetch()  # this may take longer than what waits already
        if verdict.status == "refused":
            # `unverified` can show wrong numbers, but not missing ones.
            if not self._unverified or verdict.discrepancy is None:
                yield Figure.refused(chosen.name, chosen.name, verdict.reason, verdict.discrepancy)
                return
            verdict = replace(verdict, status="unverified")
        verdict = verdict.worst(instrumented.drawn.verdict(recording))
        at = yield from check_finite(recording)
        if at is not None:
            reason = f"the pass holds NaN or infinity from position {at} on"
            verdict = verdict.worst(Verdict("partial", reason))
        if result is None or model.readout_holds != holds:  # it must not read the readout then
            result = begin()

        def judged(figure: Figure) -> Figure:
            # Passes of the lens itself may have drawn random numbers since.
            whole = verdict.worst(instrumented.drawn.uncompared(recording))
            extra = figure.extra
            if focus.mode and "mode" not in extra and figure.verdict.status != "refused":
                extra = {**extra, "mode": focus.mode}  # what its table is called by
            return replace(figure, verdict=figure.verdict.worst(whole), extra=extra)

        try:
            yield from mapped(result, judged)
        except UnplacedRowsError as error:
            yield Figure.refused(chosen.name, chosen.name, error.message)

    def resolve(self, chosen: Lens, recording: Recording, focus: Focus) -> Focus:
        """Return the focus with indices counted from 0 and the lens's default mode filled in."""
        anatomy = self.loaded_model.anatomy
        focus = checked_focus(focus, anatomy.vocabulary)
        mode = focus.mode or (chosen.modes[0] if chosen.modes else "")
        if mode and mode not in chosen.modes:
            there = ", ".join(chosen.modes) or "none"
            close = suggested(mode, chosen.modes)
            raise WrongValueError(
                f"{chosen.name} has no mode {arguments.quote_value(mode)}{close}; it has {there}"
            )
        resolved = focus.resolve(
            layers=len(anatomy.layers),
            heads=anatomy.heads_at(focus.layer),
            positions=len(recording),
        )
        return replace(resolved, mode=mode)

    def origin(self) -> Origin:
        """Return the provenance of the numbers of the model in use."""
        verdicts = {name: self.verdicts(name) for name in self.verdicts.capabilities}
        with self._at_rest():
            origin_of_a = origin(self.loaded_model, self.info(), verdicts)
        return (
            origin_of_a if self._other is None else replace(origin_of_a, other=self._other.origin())
        )

    def info(self) -> ModelInfo:
        """Return the facts about the model that the header and a snapshot show."""
        info = model_info(self.loaded_model, self._base, self.chat.words)
        lens_name = self.translator if isinstance(self.translator, str) else None
        known = known_lenses(self.loaded_model)
        lenses = known if lens_name is None or lens_name in known else (lens_name, *known)
        versus = None if self._other is None else self._other.info()
        return replace(
            info, lenses=lenses, translator=lens_name, direction=self.direction, versus=versus
        )


def _recording(name: str, value: Recording) -> Recording:
    if not isinstance(value, Recording):
        raise WrongTypeError(f"{name} must be a recording, not {arguments.quote_value(value)}")
    return value


def _plain_ids(value: object) -> bool:
    """Return whether a value is None or one row of ids, and no other form of a prompt."""
    if isinstance(value, list | tuple) and value:
        return not isinstance(value[0], Mapping)
    return not isinstance(value, str | Mapping) and getattr(value, "ndim", 1) == 1


def _edits(edits: Sequence[OneEdit]) -> list[Edit]:
    """Return edits as `Edit`s; see `Scope.record`."""
    edits_read = []
    for at, edit in enumerate(arguments.several("edits", edits)):
        name = f"edits[{at}]"
        if isinstance(edit, Edit):
            edits_read.append(edit)
        elif isinstance(edit, tuple) and len(edit) == 2:
            place = arguments.text(f"{name}[0]", edit[0])
            try:
                edits_read.append(own_edit(place, edit[1]))
            except ScopeError as error:
                raise error.at(name) from None
        else:
            edits_read.append(parse(arguments.text(name, edit)))
    return edits_read

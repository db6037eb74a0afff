"""An engine that writes on, without a screen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from queue import Queue
from typing import Any

import torch

from llmscope.edits import Edit
from llmscope.engine import Engine
from llmscope.engine.events import Event, Frame, Loaded, Request, Sample, Sampled, Want, Written
from llmscope.figure import Figure, Focus
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.sampler import Sampler
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.scope.scope import Scope
from tests.families import small_model

WANTS = (
    Want("next-token", "next-token", Focus()),
    Want("tokens", "tokens", Focus()),
    Want("map", "residual", Focus(mode="stream")),
    Want("attention", "attention", Focus(layer=1)),
)


def scope_of(family: str, tokenizer: Any, **changes: Any) -> Scope:
    """A small random model with a tokenizer."""
    module = small_model(family, vocab_size=len(tokenizer), **changes)
    first = next(module.parameters())
    model = LoadedModel(
        *("test", "test", module, Tokens(tokenizer), find(module), first.device, first.dtype)
    )
    return Scope(model)


def generated(model: Any, ids: list[int], count: int, **settings: Any) -> list[int]:
    """What transformers' own `generate` writes."""
    model.generation_config.pad_token_id = 0
    batch = torch.tensor([ids])
    seen = torch.ones_like(batch)  # or it would take the padding's id for no token
    with torch.no_grad():
        out = model.generate(batch, attention_mask=seen, max_new_tokens=count, **settings)
    return [int(token) for token in out[0, len(ids) :]]


@dataclass
class Writer:
    """Stands where the screen stands, and writes after one text."""

    scope: Scope
    text: str
    special_tokens: bool = True
    ids: tuple[int, ...] = ()
    said: str = ""
    edits: tuple[Edit, ...] = ()
    events: Queue[Event] = field(default_factory=Queue)

    def __enter__(self) -> Writer:
        self.scope.prepare_reuse()
        self.engine = Engine(lambda _: self.scope, self.events.put)
        self.engine.start()
        self.wait(Loaded)
        self.serial = 0
        return self

    def __exit__(self, *_: object) -> None:
        assert self.engine.close()

    def wait(self, kind: type[Event]) -> Any:
        while not isinstance(event := self.events.get(timeout=20), kind):
            pass
        return event

    def request(self, draw: Sample | None = None) -> Request:
        self.serial += 1
        written = Written(len(self.text), self.ids) if self.ids else None
        return Request(
            *(self.serial, self.text + self.said, WANTS, self.special_tokens),
            written=written,
            draw=draw,
            edits=self.edits,
        )

    def look(self) -> Frame:
        """Return the complete frame of what stands, with every figure that came before it.

        A slow machine gets the figures of one request in several frames, each adding to the last.
        """
        self.engine.ask(self.request())
        figures: dict[str, Figure] = {}
        while True:
            frame = self.wait(Frame)
            if frame.serial == self.serial:
                figures |= frame.figures
                if frame.complete:
                    return replace(frame, figures=figures)

    def draw(self, sampler: Sampler, branch: int = 0, tried: tuple[int, ...] = ()) -> Sampled:
        """Ask for a token; nothing is written."""
        self.engine.ask(self.request(Sample(sampler, branch, tried)))
        drawn: Sampled = self.wait(Sampled)
        return drawn

    def write(self, count: int, sampler: Sampler = Sampler(), branch: int = 0) -> list[int]:  # noqa: B008
        """Write so many tokens, or up to a stop token, which is among those that are given."""
        for _ in range(count):
            drawn = self.draw(sampler, branch)
            assert not drawn.error
            if drawn.stops:
                return [*self.ids, drawn.token]
            self.ids, self.said = (*self.ids, drawn.token), drawn.text
        return list(self.ids)

    def back(self, ids: tuple[int, ...]) -> None:
        """To fewer tokens, or to another branch."""
        assert self.scope.loaded_model.tokens is not None
        self.ids, self.said = ids, self.scope.loaded_model.tokens.describe(ids).text


def same(one: Figure, other: Figure) -> bool:
    """Whether two figures are the same to the last bit."""
    return one.values.tobytes() == other.values.tobytes() and one.axes == other.axes

"""The catalog of models to choose from: their descriptions, and which match a typed text.

This module has no widgets. `offers` reads files, so it must run in its own thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmscope.models.spec import prefixes, sources
from llmscope.tui.widgets.header import size

if TYPE_CHECKING:
    from llmscope.models.local_models import Stored

RECENT = "opened lately"
TYPED = "as it is typed"
ELSEWHERE = "not on this machine"
_MARKS = (".", "/", "~", "\\")


@dataclass(frozen=True)
class Offer:
    """A model that can be chosen.

    Attributes:
        spec: the spec that opens the model.
        group: the heading that it is listed under.
        bytes: its size on this machine; None if unknown.
        about: further descriptions.
    """

    spec: str
    group: str
    bytes: int | None = None
    about: tuple[str, ...] = ()

    @property
    def amount(self) -> str:
        """The size in short form; empty if unknown."""
        return "" if self.bytes is None else size(self.bytes)


def offers() -> Iterator[Offer]:
    """Yield the models as they are found, recently opened ones first, so that they show at once."""
    from llmscope.tui.session.recent_models import recent

    for recent_model in recent():
        yield Offer(
            recent_model.spec,
            RECENT,
            None,
            (recent_model.path,) if recent_model.path not in ("", recent_model.spec) else (),
        )
    from llmscope.models.local_models import stored

    for model in stored([]):
        yield _offer(model)


def _offer(model: Stored) -> Offer:
    family = (f"with {', '.join(model.family)}",) if model.family else ()
    about = (model.architecture, *family, *model.notes)
    size = model.bytes + model.converted
    return Offer(model.spec, sources()[model.source].title, size, tuple(filter(None, about)))


class Catalogue:
    """The models found so far.

    A recently opened model is listed once, as recent, with everything known about it.

    Attributes:
        complete: whether all models have been found.
    """

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}
        self.complete = False

    def __len__(self) -> int:
        return len(self._merge_offers())

    def _merge_offers(self) -> list[Offer]:
        """Return the offers without a recent package's only version: it is the same model."""
        versions = Counter(_package(offer) for offer in self._offers.values())
        return [
            offer
            for offer in self._offers.values()
            if not (package := _package(offer))
            or versions[package] > 1
            or package not in self._offers
            or self._offers[package].group != RECENT
        ]

    def add(self, offers: Iterable[Offer]) -> None:
        """Add models."""
        for offer in offers:
            named = (offer.spec, offer.spec.partition("==")[0])  # of a package, any version
            known = next((self._offers[spec] for spec in named if spec in self._offers), None)
            if known is not None and known.group == RECENT:
                about = known.about or offer.about
                self._offers[known.spec] = replace(known, bytes=offer.bytes, about=about)
            if known is None or known.spec != offer.spec:
                self._offers[offer.spec] = offer

    def matching(self, typed: str) -> list[Offer]:
        """Return the models matching `typed`, by group; `typed` itself first if not listed."""
        typed = typed.strip()
        words = typed.casefold().split()
        offers = [offer for offer in self._merge_offers() if _matches(offer, words)]
        if self.complete:
            offers = [_elsewhere(offer) for offer in offers]
        titles = (source.title for source in sources().values())
        order = list(dict.fromkeys((TYPED, RECENT, *titles)))
        offers.sort(key=lambda offer: order.index(offer.group))
        if typed and all(offer.spec != typed for offer in offers):
            offers.insert(0, Offer(typed, TYPED))
        return offers

    def meant(self, typed: str, offers: list[Offer]) -> int | None:
        """Return the index of the model that enter opens by default; None if not known yet.

        A text that can only be a spec is taken as one. A word is a search if it matches the name of
        a model, and otherwise also a spec: `gpt2` does not open a model with architecture GPT2.
        """
        typed = typed.strip()
        exact = next((at for at, offer in enumerate(offers) if offer.spec == typed), None)
        if exact is not None and (offers[exact].group != TYPED or _is_spec(typed)):
            return exact
        words = typed.casefold().split()
        others = [at for at, offer in enumerate(offers) if offer.group != TYPED]
        named = [at for at in others if all(word in offers[at].spec.casefold() for word in words)]
        if named or len(words) > 1:
            return next(iter(named or others), exact)
        return exact if self.complete else None


def _package(offer: Offer) -> str:
    """Return the package of which a version is stored here; empty if the offer is not such."""
    package, version, _ = offer.spec.partition("==")
    return package if version and offer.group != RECENT else ""


def _is_spec(typed: str) -> bool:
    """Return whether a text has the form of a spec, not of a plain word."""
    return (
        typed.startswith((*_MARKS, *prefixes())) or typed.lower().endswith(".gguf") or "@" in typed
    )


def _matches(offer: Offer, words: list[str]) -> bool:
    text = " ".join((offer.spec, offer.group, *offer.about)).casefold()
    return all(word in text for word in words)


def _elsewhere(offer: Offer) -> Offer:
    """Mark a recent model as not on this machine, if the complete search did not find it."""
    if offer.group == RECENT and offer.bytes is None and not offer.about:
        return replace(offer, about=(ELSEWHERE,))
    return offer

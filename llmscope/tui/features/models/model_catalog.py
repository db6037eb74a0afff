"""The models that one may choose from: what there is to say of each, and which match what is typed.

No widget is here. `offers` reads files, so it belongs into a thread of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmscope.tui.widgets.header import size

if TYPE_CHECKING:
    from llmscope.models.local_models import Stored

RECENT = "opened lately"
GROUPS = {
    "builtin": "built in",
    "hub": "in the hub's cache",
    "pypi": "packages",
    "gguf": "converted files",
    "folder": "converted files",
}
"""What each kind of source is called, in the order in which they are listed."""
TYPED = "as it is typed"
ELSEWHERE = "not on this machine"
_ORDER = list(dict.fromkeys((TYPED, RECENT, *GROUPS.values())))
_MARKS = (".", "/", "~", "\\")


@dataclass(frozen=True)
class Offer:
    """A model that one may choose.

    Attributes:
        spec: what opens it.
        group: under which words it is listed.
        bytes: what it takes on this machine; None: not known.
        about: what else there is to say, in parts.
    """

    spec: str
    group: str
    bytes: int | None = None
    about: tuple[str, ...] = ()

    @property
    def amount(self) -> str:
        """Its size in short."""
        return "" if self.bytes is None else size(self.bytes)


def offers() -> Iterator[Offer]:
    """All of them as they are found: those of before first, so that they are there at once."""
    from llmscope.tui.session.recent_models import recent

    for one in recent():
        yield Offer(one.spec, RECENT, None, (one.path,) if one.path not in ("", one.spec) else ())
    from llmscope.models.local_models import stored

    for model in stored([]):
        yield _offer(model)


def _offer(model: Stored) -> Offer:
    family = (f"with {', '.join(model.family)}",) if model.family else ()
    about = (model.architecture, *family, *model.notes)
    taken = model.bytes + model.converted
    return Offer(model.spec, GROUPS[model.source], taken, tuple(filter(None, about)))


class Catalogue:
    """Those that were found so far.

    A model that was opened lately stands there alone, with all that is known of it.

    Attributes:
        complete: whether there will be no more.
    """

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}
        self.complete = False

    def __len__(self) -> int:
        return len(self._listed())

    def _listed(self) -> list[Offer]:
        """Without the only version of a package that was opened lately: it is the same model."""
        versions = Counter(_package(offer) for offer in self._offers.values())
        return [
            offer
            for offer in self._offers.values()
            if not (package := _package(offer))
            or versions[package] > 1
            or package not in self._offers
            or self._offers[package].group != RECENT
        ]

    def add(self, found: Iterable[Offer]) -> None:
        """Take more of them."""
        for offer in found:
            named = (offer.spec, offer.spec.partition("==")[0])  # of a package, any version
            known = next((self._offers[spec] for spec in named if spec in self._offers), None)
            if known is not None and known.group == RECENT:
                about = known.about or offer.about
                self._offers[known.spec] = replace(known, bytes=offer.bytes, about=about)
            if known is None or known.spec != offer.spec:
                self._offers[offer.spec] = offer

    def matching(self, typed: str) -> list[Offer]:
        """Those that what is typed may mean, group by group, with what it says itself first."""
        typed = typed.strip()
        words = typed.casefold().split()
        found = [offer for offer in self._listed() if _matches(offer, words)]
        if self.complete:
            found = [_elsewhere(offer) for offer in found]
        found.sort(key=lambda offer: _ORDER.index(offer.group))
        if typed and all(offer.spec != typed for offer in found):
            found.insert(0, Offer(typed, TYPED))
        return found

    def meant(self, typed: str, found: list[Offer]) -> int | None:
        """Which of them enter takes unless a person moves on; None: that is not known yet.

        What can only be a spec is meant as one. A word is a search, if there is a model whose name
        it finds, and else a spec too: gpt2 is not meant to open what has GPT2 as its architecture.
        """
        typed = typed.strip()
        exact = next((at for at, one in enumerate(found) if one.spec == typed), None)
        if exact is not None and (found[exact].group != TYPED or _is_spec(typed)):
            return exact
        words = typed.casefold().split()
        others = [at for at, one in enumerate(found) if one.group != TYPED]
        named = [at for at in others if all(word in found[at].spec.casefold() for word in words)]
        if named or len(words) > 1:
            return next(iter(named or others), exact)
        return exact if self.complete else None


def _package(offer: Offer) -> str:
    """The package whose version is kept here; empty for what is none."""
    package, version, _ = offer.spec.partition("==")
    return package if version and offer.group != RECENT else ""


def _is_spec(typed: str) -> bool:
    """Whether a text has the form of a spec that is no plain word."""
    named = ("builtin:", "pypi:")
    return typed.startswith((*_MARKS, *named)) or typed.lower().endswith(".gguf") or "@" in typed


def _matches(offer: Offer, words: list[str]) -> bool:
    text = " ".join((offer.spec, offer.group, *offer.about)).casefold()
    return all(word in text for word in words)


def _elsewhere(offer: Offer) -> Offer:
    """An offer of which no size was found, though all is known: it must be fetched again."""
    if offer.group == RECENT and offer.bytes is None and not offer.about:
        return replace(offer, about=(ELSEWHERE,))
    return offer

"""Compare the features of dictionaries with what costs nothing, on new texts.

Beside every dictionary of the model stand the neurons of its MLPs, the dimensions of its stream
(both with either sign), dictionaries of random directions, and dictionaries that were trained in
the same way on a model whose weights are random.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from .activations import Activations, Hook, capture
from .concepts import GROUPS, labels
from .dictionary import Dictionary, Quality, quality, random_like
from .found import Concept, Half, Match, matches, places
from .texts import ordinary, padded, prompts
from .training import Site

PROMPTS = 3000  # texts of each half
SEEDS = (101, 102)  # of the half where detectors are chosen, and of the one where they are measured
GOOD = 0.8  # held-out precision and recall of a feature that gets a label
COLUMNS = {
    "features": "feature",
    "neurons": "neuron",
    "dimensions": "dimension",
    "random": "random directions",
    "untrained": "random model",
}
_DESCRIPTIONS = {"word": "“{}”", "fact": "name whose {}", "text": "text: {}"}
_ONE_BY_ONE = ("kind", "sense", "text", "asked", "next")  # groups with a row a concept in the table


@dataclass
class Compared:
    """What was measured.

    Attributes:
        best: per column of the table, the best match of each concept over all layers.
        where: per column and concept, the dictionary or layer of that match.
        quality: of each dictionary, on the half where nothing is chosen.
        chance: of a random dictionary of its size and L0.
        features: of each dictionary and feature, its best concept.
    """

    best: dict[str, dict[Concept, Match]] = field(default_factory=lambda: defaultdict(dict))
    where: dict[str, dict[Concept, str]] = field(default_factory=lambda: defaultdict(dict))
    quality: dict[str, Quality] = field(default_factory=dict)
    chance: dict[str, Quality] = field(default_factory=dict)
    features: dict[str, dict[int, tuple[Concept, Match]]] = field(default_factory=dict)
    chance_features: dict[str, dict[int, tuple[Concept, Match]]] = field(default_factory=dict)

    def add(self, column: str, name: str, found: Mapping[Concept, Match]) -> None:
        """Keep the matches that are better, where they were chosen, than those known so far."""
        for concept, match in found.items():
            known = self.best[column].get(concept)
            if known is None or match.chosen_f1 > known.chosen_f1:
                self.best[column][concept] = match
                self.where[column][concept] = name

    def good(
        self, features: Mapping[int, tuple[Concept, Match]]
    ) -> dict[int, tuple[Concept, Match]]:
        """Return the features with good precision and recall for their best concept."""
        return {
            index: (concept, match)
            for index, (concept, match) in features.items()
            if match.precision >= GOOD and match.recall >= GOOD
        }

    def held_out(self, name: str) -> dict[str, float]:
        """Return the measures of a dictionary."""
        one, chance = self.quality[name], self.chance[name]
        return {
            "fvu": round(one.fvu, 4),
            "l0": round(one.l0, 2),
            "dead": one.dead,
            "random_fvu": round(chance.fvu, 4),
            "random_l0": round(chance.l0, 2),
            "labelled": len(self.good(self.features[name])),
            "random_labelled": len(self.good(self.chance_features[name])),
        }

    def labels(self, name: str, model: str) -> list[str]:
        """Return lines of JSON as Neuronpedia exports explanations, for good features alone."""
        lines = []
        for index, (concept, match) in sorted(self.good(self.features[name]).items()):
            group, words = concept
            measured = f"precision {match.precision:.2f}, recall {match.recall:.2f}"
            record = {
                "modelId": model,
                "layer": name,
                "index": str(index),
                "description": _DESCRIPTIONS.get(group, "{}").format(words),
                "typeName": f"held-out measurement: {GROUPS[group]}",
                "explanationModelName": f"held-out F1 {match.f1:.2f} ({measured})",
            }
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
        return lines

    def to_json(self) -> str:
        """Return JSON: dictionaries, mean F1 by group, and per concept the match of every column.

        Single words are in the means alone.
        """
        concepts = []
        for concept, match in self.best["features"].items():
            if concept[0] == "word":
                continue
            record: dict[str, Any] = {"group": concept[0], "concept": concept[1]}
            record["count"] = match.count
            for column in COLUMNS:
                one = self.best[column][concept]
                record[column] = {
                    "where": self.where[column][concept],
                    "index": one.index,
                    "threshold": round(one.threshold, 3),
                    "precision": round(one.precision, 3),
                    "recall": round(one.recall, 3),
                    "f1": round(one.f1, 3),
                }
            concepts.append(record)
        head = {
            "texts": PROMPTS,
            "groups": GROUPS,
            "mean_f1": {
                group: {
                    column: round(mean(self.best[column][one].f1 for one in concepts), 3)
                    for column in COLUMNS
                }
                for group, concepts in self._groups().items()
                if concepts
            },
            "dictionaries": {name: self.held_out(name) for name in self.quality},
        }
        lines = ",\n  ".join(json.dumps(record) for record in concepts)
        return json.dumps(head, indent=1)[:-2] + f',\n "concepts": [\n  {lines}\n ]\n}}\n'

    def to_markdown(self) -> str:
        """Return two tables: dictionaries, and concepts."""
        lines = [
            "| dictionary | FVU | L0 | dead | random FVU | L0 | labelled | random labelled |",
            "| --- |" + " --- |" * 7,
        ]
        for name in self.quality:
            values = self.held_out(name).values()
            lines.append(f"| `{name}` | " + " | ".join(f"{value:g}" for value in values) + " |")
        lines += [
            "",
            "| concept | where | precision | recall | F1 | "
            + " | ".join(f"F1, {title}" for title in list(COLUMNS.values())[1:])
            + " |",
            "| --- |" + " --- |" * (len(COLUMNS) + 3),
        ]
        for group, concepts in self._groups().items():
            if group in _ONE_BY_ONE:
                lines += [self._row(f"{group}: {one[1]}", [one]) for one in concepts]
            elif concepts:
                lines.append(self._row(f"{group}, mean of {len(concepts)}", concepts))
        return "\n".join(lines)

    def _groups(self) -> dict[str, list[Concept]]:
        groups: dict[str, list[Concept]] = {group: [] for group in GROUPS}
        for concept in self.best["features"]:
            groups[concept[0]].append(concept)
        return groups

    def _row(self, title: str, concepts: list[Concept]) -> str:
        best = [self.best["features"][one] for one in concepts]
        where = "–"
        if len(concepts) == 1:
            where = f"`{self.where['features'][concepts[0]]}` {best[0].index}"
        values = [mean(one.precision for one in best), mean(one.recall for one in best)]
        values += [mean(self.best[column][one].f1 for one in concepts) for column in COLUMNS]
        return f"| {title} | {where} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


def compare(
    model: Any,
    control: Any,
    sites: Mapping[str, Site],
    made: Mapping[str, Dictionary],
    untrained: Mapping[str, Dictionary],
    seed: int,
) -> Compared:
    """Measure the dictionaries of a model, and all that they are compared with.

    Args:
        model: the base.
        control: a model of its shape with random weights.
        sites: where the dictionaries read and write, by name.
        made: the model's dictionaries.
        untrained: the control's.
        seed: of random directions.
    """
    found, generator = Compared(), torch.Generator().manual_seed(seed)
    labelled = [_labelled(each) for each in SEEDS]
    hooks = {hook for site in sites.values() for hook in (site.source, site.target)}
    neurons = {Hook(hook.layer, "neurons") for hook in hooks}
    choose, measure = (_activations(model, each, hooks | neurons) for each in SEEDS)
    for name, one in made.items():
        site = sites[name]
        x, y = measure[site.source], measure[site.target]
        found.quality[name] = quality(one, x, y)
        chance = random_like(
            one, choose[site.source], choose[site.target], found.quality[name].l0, generator
        )
        found.chance[name] = quality(chance, x, y)
        for column, dictionary, of_features in (
            ("features", one, found.features),
            ("random", chance, found.chance_features),
        ):
            halves = (dictionary.encode(choose[site.source]), dictionary.encode(x))
            by_concept, of_features[name] = matches(*_halves(halves, labelled))
            found.add(column, name, by_concept)
        print(f"  {name} measured", flush=True)
    for hook in sorted(neurons | hooks, key=lambda hook: hook.name):
        if hook.part in ("neurons", "resid_post"):
            column = "neurons" if hook.part == "neurons" else "dimensions"
            signed = [torch.cat([half[hook], -half[hook]], 1) for half in (choose, measure)]
            found.add(column, hook.name, matches(*_halves(signed, labelled))[0])
    choose, measure = (_activations(control, each, hooks) for each in SEEDS)
    for name, one in untrained.items():
        values = [one.encode(half[sites[name].source]) for half in (choose, measure)]
        found.add("untrained", name, matches(*_halves(values, labelled))[0])
    return found


def _halves(values: Iterable[Tensor], labelled: list[dict[Concept, Tensor]]) -> list[Half]:
    return [Half(each, held) for each, held in zip(values, labelled, strict=True)]


def _labelled(seed: int) -> dict[Concept, Tensor]:
    texts = prompts(seed, PROMPTS)
    return places([labels(words) for words in texts], [len(words) for words in texts])


def _activations(model: Any, seed: int, hooks: Iterable[Hook]) -> Activations:
    """Return activations of all words of the texts, one text after the other."""
    texts, found = prompts(seed, PROMPTS), []
    for at in range(0, len(texts), 250):
        ids = padded(texts[at : at + 250])
        found.append(capture(model, ids, hooks, ordinary(ids)))
    return {hook: torch.cat([piece[hook] for piece in found]) for hook in found[0]}

"""What the lens says of dictionaries that do not fit: a Markdown table."""

from __future__ import annotations

from dataclasses import replace

import torch

import llmscope
from llmscope.learned.dictionaries.catalog import headers_at, load_weights
from llmscope.learned.dictionaries.dictionary import Dictionary
from llmscope.learned.dictionaries.place import Place
from llmscope.scope.scope import Scope

PROMPT = (
    "the cat says meow. the dog says woof. the capital of france is paris. the young of a cow is "
    "a calf. the young of a dog is a"
)
LAYER = 2


def shipped(scope: Scope, layer: int) -> Dictionary:
    """Return the dictionary of the stream after a layer that ships with the built-in base."""
    (header,) = headers_at(f"town-features/{layer}-res")
    return load_weights(header, scope.loaded_model)


def row(name: str, scope: Scope, dictionary: Dictionary) -> str:
    """Return the row of the table for a dictionary: FVU, KL, and the verdict on it."""
    recording = scope.record(PROMPT)
    layer = dictionary.header.reads.layer
    judged, told = (
        one.look("features", recording=one.record(PROMPT), features=[dictionary], layer=layer)
        for one in (scope, llmscope.wrap(scope.model, scope.tokenizer, unverified=True))
    )
    extra, verdict = told.extra, judged.verdict
    assert len(recording.prompt) > 4
    figures = (extra["fvu"], extra["fvu_chance"], extra["kl"], extra["kl_chance"])
    return " | ".join([f"| {name}", *(f"{one:.2f}" for one in figures), f"{verdict.status} |"])


def main() -> None:
    """Print the table."""
    scope = llmscope.load("builtin:town")
    own = shipped(scope, LAYER)
    order = torch.randperm(len(own.decoder), generator=torch.Generator().manual_seed(0))
    print("| dictionary | FVU | chance | KL | chance | verdict |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(row("its own", scope, own))
    print(row("decoder shuffled", scope, replace(own, decoder=own.decoder[order])))
    other = shipped(scope, LAYER + 2)
    print(row(f"decoder of layer {LAYER + 2}", scope, replace(own, decoder=other.decoder)))
    for layer in (LAYER - 1, LAYER + 1, LAYER + 2):
        place = Place(layer, "resid_post")
        header = replace(own.header, reads=place, writes=place)
        print(row(f"put after layer {layer}", scope, replace(own, header=header)))
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    random = AutoModelForCausalLM.from_config(scope.model.config).eval()
    print(row("on a model of random weights", llmscope.wrap(random, scope.tokenizer), own))

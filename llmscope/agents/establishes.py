"""What a lens establishes, and what it does not: one line for the answer of an agent's tool."""

from __future__ import annotations

from llmscope.lenses import Lens

ESTABLISHES = {
    "ablation": "a cause: the change when the part writes nothing (or its mean); others may step "
    "in, so a small number does not mean that the part does nothing",
    "attention": "where a head looks, not what it does with what it reads there",
    "attribution": "what each part adds to the logit directly, exactly; not what later layers make "
    "of it, and not a cause",
    "context": "how well a weight update stands in for the context, measured on the model; not "
    "that the model learns that way",
    "contrast": "how two prompts differ, measured; not which part makes the difference",
    "experts": "which experts the router chose, exactly; not what they are for",
    "features": "what a dictionary reads, as far as its reconstruction holds; not that the model "
    "uses the feature (steer or zero it for that)",
    "heads": "where heads look on random tokens, or how widely; not what they do in a text",
    "logit-lens": "what the unembedding reads in the stream after each layer; a word that appears "
    "late may have been known earlier in another form",
    "mlp": "which neurons are active, exactly; not what they do",
    "model-diff": "how far two models differ, measured on one text; not why",
    "neurons": "which tokens a neuron's output weights raise, or where it is active; not that the "
    "model uses it so",
    "next-token": "the model's own distribution of the next token, exactly",
    "passages": "what changes without a passage (a cause), and where attention goes (not a cause)",
    "patching": "a cause: a large number is enough to carry the difference; it need not be the "
    "only carrier",
    "probe": "that a direction separates two classes there; not that the model uses it (steer "
    "along it for that)",
    "reasoning": "when an answer settles and what it depends on, by running the model again",
    "residual": "sizes and directions of the stream, exactly; not their meaning",
    "saliency": "a slope of the log-probability by token; not what would happen without the token",
    "stages": "what training changed, measured on this prompt",
    "tokens": "how likely the model found each token, exactly",
    "walkthrough": "every step of the pass, computed again and held against the model",
}
"""By the name of a lens that ships."""

VERDICTS = {
    "verified": "the identity that the lens relies on holds on this model, within rounding",
    "partial": "it holds for some layers, tokens or readings only; the reason says which",
    "unverified": "it failed its check, and is shown because --unverified was given",
    "refused": "it failed its check or the model has no such part: there are no numbers",
}
"""What each verdict means."""


def establishes(chosen: Lens) -> str:
    """Return what a lens establishes; of a lens from another package, its question."""
    return ESTABLISHES.get(chosen.name, f"an answer to: {chosen.question}")

"""What is promised, and how each promise is read off the raw numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.stats import Measured, ratio, summary

Raw = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A promise.

    Attributes:
        name: for `--only` and the JSON.
        what: for a reader.
        limit: met if the measured value is not above it.
        read: the value from the raw numbers; KeyError or None where it was not measured.
        unit: "" for a ratio.
    """

    name: str
    what: str
    limit: float
    read: Callable[[Raw], Measured | None]
    unit: str = ""


def _seconds(part: str, length: str | None, name: str) -> Callable[[Raw], list[float | None]]:
    def read(raw: Raw) -> list[float | None]:
        entries = raw[part] if length is None else raw[part][length]
        found: list[float | None] = entries[name]["seconds"]
        return found

    return read


def _passes(length: str, above: str, below: str) -> Callable[[Raw], Measured | None]:
    over, under = _seconds("passes", length, above), _seconds("passes", length, below)
    return lambda raw: ratio(over(raw), under(raw))


def _what_if(length: str, above: str, below: str) -> Callable[[Raw], Measured | None]:
    over, under = _seconds("whatif", length, above), _seconds("whatif", length, below)
    return lambda raw: ratio(over(raw), under(raw))


def _lenses(length: str, above: str, below: str) -> Callable[[Raw], Measured | None]:
    over, under = _seconds("lenses", length, above), _seconds("lenses", length, below)
    return lambda raw: ratio(over(raw), under(raw))


def _long(above: str, below: str) -> Callable[[Raw], Measured | None]:
    over, under = _seconds("long", "8000", above), _seconds("long", "8000", below)
    return lambda raw: ratio(over(raw), under(raw))


def _long_bytes(raw: Raw) -> Measured | None:
    found: list[float] | None = raw["long"]["8000"]["llmscope.memory"].get("bytes")
    return summary([one / 1e9 for one in found]) if found else None


def _exports(above: str, below: str) -> Callable[[Raw], Measured | None]:
    def read(raw: Raw) -> Measured | None:
        counts = [count for count in raw["exports"] if count.isdecimal()]
        entries = raw["exports"][counts[0] if counts else "prompts"]
        return ratio(entries[above]["seconds"], entries[below]["seconds"])

    return read


def _starts(above: str, below: str) -> Callable[[Raw], Measured | None]:
    over, under = _seconds("starts", None, above), _seconds("starts", None, below)
    return lambda raw: ratio(over(raw), under(raw))


def _memory(above: tuple[str, str], below: tuple[str, str]) -> Callable[[Raw], Measured | None]:
    def read(raw: Raw) -> Measured | None:
        over, under = (raw["memory"][length][name]["bytes"] for length, name in (above, below))
        return ratio(over, under)

    return read


def _bytes(name: str) -> Callable[[Raw], Measured | None]:
    return lambda raw: summary(raw["terminal"][name]["bytes"])


def _torch_at_first_paint(raw: Raw) -> Measured | None:
    return summary(
        [None if seen is None else float(seen) for seen in raw["starts"]["llmscope.paint"]["torch"]]
    )


def _late(raw: Raw) -> Measured | None:
    return summary([float(raw["terminal"]["typing"]["late"])])


def _picture_missing(raw: Raw) -> Measured | None:
    typing = raw["terminal"]["typing"]
    return summary([float(typing["tokens shown"] != typing["tokens expected"])])


def _training(above: str, below: str) -> Callable[[Raw], Measured | None]:
    return lambda raw: ratio(raw["training"][above]["seconds"], raw["training"][below]["seconds"])


def _of_run(name: str) -> Callable[[Raw], Measured | None]:
    return lambda raw: summary(raw["training"][name]["seconds"])


TARGETS = (
    Target(
        "fresh",
        "record with all hooks, 512 tokens ÷ bare sdpa forward",
        1.08,
        _passes("512", "llmscope.fresh", "bare.forward"),
    ),
    Target(
        "append",
        "one token more at 512, recorded, with the figures of all panes ÷ bare cached decode",
        1.35,
        _passes("512", "screen.append", "bare.decode"),
    ),
    Target(
        "append-typed",
        "the same after 32 tokens typed one by one ÷ bare cached decode",
        1.35,
        _passes("512", "screen.append_typed", "bare.decode"),
    ),
    Target(
        "transformer-lens",
        "one token more at 512, with figures ÷ TransformerLens run_with_cache of the prompt",
        0.075,
        _passes("512", "screen.append", "transformer_lens.run"),
    ),
    *(
        Target(name, what, 1.35, _passes("512", f"screen.{job}", f"bare.{beside}"))
        for name, what, job, beside in (
            (
                "append-lens",
                "one token more at 512, with figures ÷ bare cached decode, and the logit lens of "
                "that token by hand",
                "append",
                "decode_lens",
            ),
            (
                "append-norms",
                "one token more at 512, with the norms of the stream on the map in place of the "
                "logit lens ÷ bare cached decode",
                "append_norms",
                "decode",
            ),
            (
                "append-norms-typed",
                "the same after 32 tokens typed one by one",
                "append_norms_typed",
                "decode",
            ),
        )
    ),
    Target(
        "middle",
        "an edit in the middle at 512, recorded ÷ bare forward of the suffix on a cached prefix",
        1.15,
        _passes("512", "llmscope.middle", "bare.suffix"),
    ),
    Target(
        "memory",
        "extra peak memory of a recording at 2048 ÷ eager with attentions and hidden states",
        1 / 5,
        _memory(("2048", "llmscope.fresh"), ("2048", "eager.forward")),
    ),
    Target(
        "growth",
        "extra peak memory of a recording at 2048 ÷ at 512",
        4.3,
        _memory(("2048", "llmscope.fresh"), ("512", "llmscope.fresh")),
    ),
    Target(
        "interrupt",
        "a key during a pass at 2048: time until the stale pass ends ÷ one layer",
        2.0,
        _passes("interrupt 2048", "screen.interrupt", "bare.layer"),
    ),
    Target(
        "head",
        "the attention pane moves to another head at 512 ÷ one layer's forward",
        1.0,
        _passes("512", "screen.head", "bare.layer"),
    ),
    Target(
        "layer",
        "the attention pane moves to another layer at 512 ÷ one layer's forward",
        1.0,
        _passes("512", "screen.layer", "bare.layer"),
    ),
    Target(
        "sweep",
        "every head set to zero in turn at 32, with the figures ÷ bare forwards of the same "
        "batches, of the layers that run alone",
        1.3,
        _what_if("32", "llmscope.sweep", "bare.sweep"),
    ),
    Target(
        "patching",
        "patching of 10 pairs, the stream in every layer and token after the first that differs ÷ "
        "bare forwards of the same cells from their layer on, in batches of all pairs",
        1.25,
        _what_if("10 pairs", "llmscope.patched", "bare.patched"),
    ),
    *(
        Target(
            f"patching-{part}",
            f"patching of {cells} for 10 pairs, one after another ÷ bare forwards of the same "
            "cells from their layer on, in batches of all pairs",
            1.25,
            _what_if("10 pairs", f"llmscope.patched_{part}", f"bare.patched_{part}"),
        )
        for part, cells in (("heads", "all heads"), ("edges", "all edges to a head's values"))
    ),
    Target(
        "attribution",
        "attribution of all heads for 50 prompts ÷ hooks by hand, in padded batches of 16",
        1.25,
        _what_if("50 pairs", "llmscope.attributed", "bare.attributed"),
    ),
    *(
        Target(
            f"turn-{where}",
            f"the strength of an edit at 64 is turned, {after} layers before it, with the figures "
            "of all panes ÷ bare forward of the other layers with the logits after every token",
            1.5,
            _what_if("64", f"screen.turn_{where}", f"bare.from_{where}"),
        )
        for where, after in (("low", "5 of 30"), ("middle", "15 of 30"), ("high", "25 of 30"))
    ),
    Target(
        "letter-learned",
        "one token more at 64, with the figures of all panes, the map through a Jacobian lens ÷ "
        "through the logit lens",
        1.3,
        _lenses("64", "screen.append_learned", "screen.append"),
    ),
    Target(
        "letter-two-models",
        "one token more at 64, with the figures of all panes and the KL of two models below the "
        "prompt ÷ with one model",
        2.2,
        _lenses("64", "screen.append_two_models", "screen.append"),
    ),
    Target(
        "letter-features",
        "one token more at 64, until all panes of the workspace of features show it (16,384 "
        "features) ÷ those of the overview",
        1.5,
        _lenses("64", "screen.append_features_first", "screen.append"),
    ),
    Target(
        "letter-features-kl",
        "the same until KL and loss of its dictionary are measured, too",
        1.5,
        _lenses("64", "screen.append_features", "screen.append"),
    ),
    Target(
        "fit",
        "a forward and four batches of rows of the Jacobians of a prompt of 128 tokens, fitted ÷ "
        "by hand",
        1.1,
        _lenses("128", "llmscope.jacobian", "bare.jacobian"),
    ),
    Target(
        "long-first",
        "the first figures of all panes for a prompt of 8,000 tokens ÷ bare forward of its first "
        "1,024",
        1.3,
        _long("screen.first_part", "bare.chunk"),
    ),
    Target(
        "long-whole",
        "all layers of 8,000 tokens recorded, surprisal and entropy of each, the logit lens of the "
        "map ÷ bare prefill in chunks of 1,024 with the logits after each token",
        1.2,
        _long("llmscope.read", "bare.prefill"),
    ),
    Target(
        "long-letter",
        "one token more at 8,000, recorded, with the figures of all panes ÷ bare cached decode",
        1.5,
        _long("screen.append", "bare.decode"),
    ),
    Target(
        "long-memory",
        "extra peak memory of 8,000 tokens, above the loaded model",
        3.0,
        _long_bytes,
        "GB",
    ),
    Target(
        "run",
        "a recorded step of a training, 5 prompts and 4 lenses ÷ their passes, lenses and "
        "verification alone",
        1.1,
        _training("run.record", "lenses.alone"),
    ),
    Target("run-open", "a run of 10,000 steps on the screen", 1.0, _of_run("screen.open"), "s"),
    *(
        Target(f"run-{name}", f"its slider moves, {what}", 0.05, _of_run(f"screen.{name}"), "s")
        for name, what in (
            ("slide", "the panes of the step"),
            ("slide_over_time", "maps and curves over the steps"),
        )
    ),
    Target(
        "export",
        "next-token and logit lens (last position) of 1,000 prompts of 8 to 64 tokens, from a file "
        "to shards ÷ bare forwards of the same batches",
        1.25,
        _exports("llmscope.export", "bare.batched"),
    ),
    Target(
        "export-lens",
        "the same ÷ bare forwards of the last logits, and the same logit lens by hand",
        1.25,
        _exports("llmscope.export", "bare.batched_lens"),
    ),
    Target(
        "export-transformer-lens",
        "the same ÷ a loop of TransformerLens, run_with_cache for each prompt",
        1 / 3,
        _exports("llmscope.export", "transformer_lens.loop"),
    ),
    Target(
        "export-nnsight",
        "the same ÷ a loop of nnsight's traces",
        1 / 3,
        _exports("llmscope.export", "nnsight.loop"),
    ),
    Target(
        "record-all",
        "record of a list of 100 prompts of 8 to 64 tokens, with all tensors ÷ bare padded "
        "forwards of the same, of the last logits",
        1.25,
        lambda raw: ratio(
            *(
                raw["exports"]["100"][name]["seconds"]
                for name in ("llmscope.record_all", "bare.batched_last")
            )
        ),
    ),
    Target(
        "svg",
        "one svg of a lens once the model is loaded, beyond the record: attention, next-token or "
        "logit-lens, whichever is slowest",
        0.3,
        lambda raw: summary(raw["exports"]["svg"]["llmscope.svg"]["seconds"]),
        "s",
    ),
    Target(
        "paint",
        "first paint ÷ first paint of a bare Textual app",
        1.5,
        _starts("llmscope.paint", "textual.paint"),
    ),
    Target(
        "bar",
        "a bar that says what is being loaded",
        0.3,
        lambda raw: summary(raw["starts"]["llmscope.bar"]["seconds"]),
        "s",
    ),
    Target("torch", "torch imported at the first paint", 0.0, _torch_at_first_paint, "of starts"),
    Target(
        "ready",
        "model ready on the screen ÷ bare imports and from_pretrained",
        1.1,
        _starts("llmscope.ready", "transformers.ready"),
    ),
    Target(
        "answer",
        "verified figures on the screen ÷ bare imports, from_pretrained and one forward",
        0.9,
        _starts("llmscope.answer", "transformers.answer"),
    ),
    Target(
        "load",
        "llmscope.load in a script ÷ bare imports and from_pretrained",
        1.1,
        _starts("llmscope.load", "transformers.ready"),
    ),
    Target(
        "picker",
        "the list of models from the key to its last line, with 200 models in the hub's cache",
        0.3,
        lambda raw: summary(raw["starts"]["llmscope.picker"]["seconds"]),
        "s",
    ),
    Target("help", "llmscope --help ÷ import typer", 2.0, _starts("llmscope.help", "typer.import")),
    Target("idle", "bytes to the terminal in two idle seconds", 0.0, _bytes("idle"), "B"),
    Target(
        "letter",
        "bytes of one letter at 64 tokens, 120×40, truecolor, all panes",
        12_000.0,
        _bytes("letter"),
        "B",
    ),
    Target(
        "repaint", "bytes of a full repaint, 120×40, truecolor", 60_000.0, _bytes("repaint"), "B"
    ),
    Target(
        "typing",
        "letters echoed more than 100 ms late, ten a second at 512 tokens",
        0.0,
        _late,
        "letters",
    ),
    Target(
        "lands", "the last picture of all that typing does not land", 0.0, _picture_missing, "times"
    ),
)

"""Edges from one part to another against a forward made by hand, in many families.

By hand an edge is made as path patching is in papers, by other passes than llmscope's: in the first
the sender is changed and every other part writes what it writes without the change, so that what
the receiver reads or writes there is caught; in the second only that is put in its place.
"""

import numpy as np
import pytest
import torch
from transformers.models.falcon import modeling_falcon

from llmscope.errors import ScopeError
from llmscope.record.derive import tensors
from tests.families import small_model
from tests.record.by_hand import HEADS, LLAMA, PLACES, A, B, Plain, becomes
from tests.record.interventions.test_edited import ALL, near, scope_for
from tests.thinned import thinned

PHI = {
    **LLAMA,
    "heads": "self_attn.dense",
    "final": "model.final_layernorm",
}
GPTJ = {
    "layers": "transformer.h",
    "attention": "attn",
    "heads": "attn.out_proj",
    "mlp": "mlp",
    "final": "transformer.ln_f",
    "unembed": "lm_head",
}
FAMILIES = (
    *("llama", "gpt2", "gpt_neox", "gemma2", "granite", "olmo2", "qwen3", "qwen3_moe", "opt"),
    *("phi", "gptj", "mistral", "deepseek_v3", "bloom", "falcon"),
)
FEW = ("llama", "gpt2", "gpt_neox", "gemma2", "granite", "olmo2", "qwen3_moe", "opt", "bloom")
PARALLEL = ("gpt_neox", "phi", "gptj", "falcon")
"""Families whose MLP reads the stream before the layer, as attention does."""
# Up to transformers 5.24, falcon too computes attention inside its module.
OLDER = not hasattr(modeling_falcon, "eager_attention_forward")
WITHOUT_HEADS = ("bloom", "falcon") if OLDER else ("bloom",)
"""Families that compute attention inside its module."""
CHANGES = {"granite": {"embedding_multiplier": 3.0, "attention_multiplier": 0.2}}
"""What stands at its neutral value in the small models otherwise."""


class Hand(Plain):
    """A plain model on which edges are made by hand."""

    def __init__(self, family):
        self.family = family
        self.model = small_model(family, **CHANGES.get(family, {}))
        self.places = {"phi": PHI, "gptj": GPTJ, "qwen3": LLAMA, **PLACES}[family]
        self.layers = self.model.get_submodule(self.places["layers"])

    def place(self, site, layer):
        """The module of a site, which may be a projection."""
        if site.endswith(" module"):
            return self.layers[layer].get_submodule(site.removesuffix(" module")), False
        return super().place(site, layer)

    def projections(self, letter, head):
        """The modules that compute queries, keys or values, and a head's columns, by site."""
        config, which = self.model.config, "qkv".index(letter)
        if self.family == "gpt2":
            start = 48 * which + 12 * head
            return {"attn.c_attn module": slice(start, start + 12)}
        if self.family == "gpt_neox":
            start = 36 * head + 12 * which
            return {"attention.query_key_value module": slice(start, start + 12)}
        if self.family == "falcon":  # one head of keys, and one of values, behind the queries
            start = 12 * (head if letter == "q" else HEADS + which - 1)
            return {"self_attention.query_key_value module": slice(start, start + 12)}
        if self.family == "deepseek_v3":
            if letter == "q":
                return {"self_attn.q_b_proj module": slice(16 * head, 16 * head + 16)}
            start = 24 * head + (8 if letter == "v" else 0)
            sites = {"self_attn.kv_b_proj module": slice(start, start + 16)}
            if letter == "k":  # of keys, a part that is rotated is shared by all heads
                sites = {"self_attn.kv_b_proj module": slice(start, start + 8)}
                sites["self_attn.kv_a_proj_with_mqa module"] = slice(16, 24)
            return sites
        width = getattr(config, "head_dim", None) or config.hidden_size // HEADS
        shared = HEADS // (getattr(config, "num_key_value_heads", None) or HEADS)
        at = head if letter == "q" else head // shared
        name = {"gptj": "attn"}.get(self.family, "self_attn")
        # Before OLMo 2's norm over all heads, one head's columns would change those of all.
        kind = "norm" if self.family == "olmo2" and letter != "v" else "proj"
        return {f"{name}.{letter}_{kind} module": slice(at * width, at * width + width)}

    def edge(self, ids, sender, altered, receiver, *others):
        """Logits with an edge. [row, token]

        Args:
            sender: its part and layer.
            altered: the alterations of what it writes.
            receiver: its part, layer, head and what it reads.
            others: alterations that are in force beside it.
        """
        part, first = sender
        kind, last, head, letters = receiver
        sites = [(site, layer) for layer in range(3) for site in ("attention", "mlp")]
        _, plain = self.run(ids, *others, seen=sites)
        free = {("attention" if part == "head" else part, first), (kind, last)}
        frozen = [(*place, becomes(ALL, ALL, plain[place])) for place in sites if place not in free]
        counterfactual = (*others, *altered, *frozen)
        if kind == "logits":
            return self.run(ids, *counterfactual)
        if kind != "head":
            write = self.seen(ids, kind, last, *counterfactual)
            return self.run(ids, *others, (kind, last, becomes(ALL, ALL, write)))
        inputs = []
        for letter in letters:
            for site, columns in self.projections(letter, head).items():
                read = self.seen(ids, site, last, *counterfactual)
                inputs.append((site, last, becomes(ALL, columns, read[:, columns])))
        output = self.seen(ids, "heads", last, *others, *inputs)
        columns = self.head(head)
        return self.run(ids, *others, ("heads", last, becomes(ALL, columns, output[:, columns])))


@pytest.fixture(scope="module")
def pairs():
    """A scope and a plain model of a family, made once."""
    kept = {}

    def of(family):
        if family not in kept:
            model = small_model(family, **CHANGES.get(family, {}))
            kept[family] = scope_for(model), Hand(family)
        return kept[family]

    return of


def families(names=FAMILIES):
    return pytest.mark.parametrize("family", thinned(names, FEW.__contains__))


def logits_of(scope, *edits, ids=A, versus=B):
    return tensors.logits(
        scope.record(ids, edits=edits, versus_prompt=versus if edits else None), 0, len(ids)
    )


def makes(scope, edits, expected, bound=1e-5):
    """Edits give these logits, which are not those of the unedited pass."""
    found = logits_of(scope, *edits)
    near(found, expected, bound)
    plain = logits_of(scope)
    assert float((plain - expected).abs().max()) > 1e-4 * float(expected.abs().max())


@families()
@pytest.mark.few(4)
def test_an_edge_to_a_head_is_that_made_by_hand(pairs, family):
    scope, hand = pairs(family)
    if family in WITHOUT_HEADS:
        with pytest.raises(ScopeError, match="computed inside its module") as caught:
            logits_of(scope, "zero head 0.1 into head 2.3.q")
        assert caught.value.hint == "attention 2"
        return
    columns = hand.head(1)
    theirs = hand.seen(B, "heads", 0)[:, columns]
    patched = [("heads", 0, becomes(ALL, columns, theirs))]
    for letters in ("q", "k", "v", "qkv"):
        reads = f".{letters}" if len(letters) == 1 else ""
        own = hand.edge(A, ("head", 0), patched, ("head", 2, 3, letters))
        makes(scope, [f"patch head 0.1 into head 2.3{reads} from B"], own)
    later = [("mlp", 0, becomes(slice(4, 9), ALL, 0.0))]
    own = hand.edge(A, ("mlp", 0), later, ("head", 1, 2, "k"))
    makes(scope, ["zero mlp 0 into head 1.2.k @4..8"], own)


@families()
@pytest.mark.few(4)
def test_an_edge_to_attention_mlp_and_logits_is_that_made_by_hand(pairs, family):
    scope, hand = pairs(family)
    columns = hand.head(2)
    if family not in WITHOUT_HEADS:
        off = [("heads", 0, becomes(ALL, columns, 0.0))]
        makes(
            scope,
            ["zero head 0.2 into mlp 2"],
            hand.edge(A, ("head", 0), off, ("mlp", 2, None, "")),
        )
    mean = hand.seen(A, "attention", 0).mean(0)
    mean = [("attention", 0, becomes(ALL, ALL, mean))]
    if family not in PARALLEL:
        own = hand.edge(A, ("attention", 0), mean, ("mlp", 0, None, ""))
        makes(scope, ["mean attention 0 into mlp 0"], own)
    own = hand.edge(A, ("attention", 0), mean, ("attention", 1, None, ""))
    makes(scope, ["mean attention 0 into attention 1"], own)
    theirs = [("mlp", 1, becomes(ALL, ALL, hand.seen(B, "mlp", 1)))]
    own = hand.edge(A, ("mlp", 1), theirs, ("logits", None, None, ""))
    makes(scope, ["patch mlp 1 into logits from B"], own)
    own = hand.edge(A, ("mlp", 1), theirs, ("mlp", 2, None, ""))
    makes(scope, ["patch mlp 1 into mlp 2 from B"], own)


def edges(sender, layer, family, *, heads):
    """All edges that leave a sender."""
    _, _, part = sender.partition(" ")
    after = [] if part.startswith("mlp") or family in PARALLEL else [f"mlp {layer}"]
    for later in range(layer + 1, 3):
        after.append(f"mlp {later}")
        if heads:
            after += [f"head {later}.{head}.{letter}" for head in range(HEADS) for letter in "qkv"]
        else:
            after.append(f"attention {later}")
    verb, _, source = sender.partition(" from")
    return [f"{verb} into {end}{' from' + source if source else ''}" for end in (*after, "logits")]


@families()
@pytest.mark.few(4)
def test_with_all_edges_cut_it_is_an_ablation(pairs, family):
    scope, _ = pairs(family)
    senders = ["zero attention 0", "mean mlp 1", "patch attention 1 from B"]
    if family not in WITHOUT_HEADS:
        senders += ["zero head 0.1", "mean head 1.3", "patch head 0.0 from B"]
    for sender in senders:
        layer = int(sender.split()[2].split(".")[0])
        for heads in {False, family not in WITHOUT_HEADS}:
            makes(scope, edges(sender, layer, family, heads=heads), logits_of(scope, sender))


@families(("llama", "gpt2", "gpt_neox", "gemma2"))
def test_edges_into_queries_keys_and_values_are_those_into_the_head(pairs, family):
    scope, _ = pairs(family)
    apart = [f"patch head 0.1 into head 2.3.{letter} from B" for letter in "qkv"]
    makes(scope, apart, logits_of(scope, "patch head 0.1 into head 2.3 from B"))
    every = [f"zero mlp 0 into head 1.{head}" for head in range(HEADS)]
    makes(scope, every, logits_of(scope, "zero mlp 0 into attention 1"))


@families(("llama", "gpt2", "qwen3_moe"))
def test_an_edge_from_the_same_prompt_changes_nothing(pairs, family):
    scope, _ = pairs(family)
    for end in ("head 2.3.k", "attention 1", "mlp 2", "logits"):
        edit = f"patch head 0.1 into {end} from B"
        near(logits_of(scope, edit, versus=A), logits_of(scope, versus=A), 1e-6)


@families(("llama", "gpt_neox", "gemma2"))
def test_edges_add_up_at_their_receiver_and_beside_other_edits(pairs, family):
    scope, hand = pairs(family)
    columns = hand.head(1)
    off = [("heads", 0, becomes(ALL, columns, 0.0))]
    dark = ("mlp", 0, becomes(ALL, ALL, 0.0))
    both = hand.edge(A, ("head", 0), [*off, dark], ("head", 2, 0, "k"))
    # By hand the MLP is frozen after it is altered: it is one of the parts that are held.
    single = hand.edge(A, ("head", 0), off, ("head", 2, 0, "k"))
    near(both, single)
    beside = hand.edge(A, ("head", 0), off, ("head", 2, 0, "k"), ("mlp", 1, becomes(ALL, ALL, 0.0)))
    makes(scope, ["zero head 0.1 into head 2.0.k", "zero mlp 1"], beside)
    whole = ["zero head 0.1 into mlp 2", "zero attention 1 into mlp 2", "zero mlp 0 into mlp 2"]
    stream = hand.seen(A, "stream", 2)
    heads = hand.seen(A, "heads", 0).clone()
    heads[:, columns] = 0.0
    _, plain = hand.run(A, seen=[("attention", 0), ("attention", 1), ("mlp", 0), ("attention", 2)])
    # The stream that the MLP reads without the three: attention of its layer stays as it was.
    zero = becomes(ALL, ALL, heads)
    less = plain["attention", 0] - hand.seen(A, "attention", 0, ("heads", 0, zero))
    less = less + plain["attention", 1] + plain["mlp", 0]
    held = ("attention", 2, becomes(ALL, ALL, plain["attention", 2]))
    read = ("stream", 2, becomes(ALL, ALL, stream - less))
    write = hand.seen(A, "mlp", 2, read, held)
    makes(scope, whole, hand.run(A, ("mlp", 2, becomes(ALL, ALL, write))))


@families(("llama", "gpt2", "gemma2", "qwen3_moe", "olmo2"))
def test_what_is_derived_of_the_receiver_is_what_it_read(pairs, family):
    scope, _ = pairs(family)
    into = ["head 2.3.q", "head 2.0.k", "head 2.1.v", "head 2.2", "mlp 2"]
    recording = scope.record(A, edits=[f"zero mlp 0 into {end}" for end in into])
    near(tensors.attention_output(recording, 2), recording.rows("attention_write", 2), 2e-5)
    entry = recording.rows("mlp_input_module", 2)
    module = recording.model.anatomy.layers[2].mlp_input_module
    post_normed = family in ("gemma2", "olmo2")
    write = module(entry[None])
    write = (write[0] if isinstance(write, tuple) else write).reshape(len(A), -1)
    write = recording.model.anatomy.layers[2].mlp_write(write) if post_normed else write
    near(write.detach(), recording.rows("mlp_write", 2), 2e-5)
    for head in range(HEADS):  # keys and values that heads share changed for the one alone
        alone = scope.record(
            A, edits=[f"zero mlp 0 into {end}" for end in into if f".{head}" in end]
        )
        near(tensors.pattern(alone, 2, head), tensors.pattern(recording, 2, head), 1e-6)
        other = (head + 1) % HEADS
        plain = tensors.pattern(recording.base, 2, other)
        near(tensors.pattern(alone, 2, other), plain, 1e-6)


@families(("llama", "gpt2", "gpt_neox"))
def test_lenses_that_run_again_keep_an_edge(pairs, family):
    scope, _ = pairs(family)
    for edge in (
        "zero mlp 0 into head 2.3.k",
        "zero head 0.1 into mlp 1",
        "zero mlp 0 into logits",
    ):
        recording = scope.record(A, edits=[edge])
        figure = scope.look("ablation", mode="parts", target=7, recording=recording)
        before = float(tensors.logits_after(recording, len(A) - 1)[7])
        for row, part in ((1, "attention"), (1, "mlp"), (2, "mlp"), (2, "attention")):
            both = logits_of(scope, edge, f"zero {part} {row}")[-1, 7]
            column = figure.axes[1].labels.index({"mlp": "MLP"}.get(part, part))
            assert figure.values[row, column] == pytest.approx(float(both) - before, abs=2e-5)
        figure = scope.look("attribution", target=7, recording=recording)
        assert abs(figure.extra["unexplained"]) < 1e-4


@families(("llama", "gpt2", "gpt_neox", "gemma2", "granite", "bloom", "falcon"))
@pytest.mark.few(2)
def test_a_cell_of_the_lens_is_an_edge(pairs, family):
    scope, _ = pairs(family)
    ends = ["logits", "attention 2", "mlp 1", "mlp 2"]
    ends += [] if family in WITHOUT_HEADS else ["head 2.1.q", "head 2.3.v", "head 2.0"]
    for end in ends:
        last = 3 if end == "logits" else int(end.split()[1].split(".")[0])
        within = end.startswith("mlp") and family not in PARALLEL
        for edits in ((), ("zero attention 1", "scale attention 0 0.5")):
            scope.record(A, edits=edits)
            figure = scope.look(
                "patching", mode="paths", receiver=end, target=7, versus=9, versus_prompt=B
            )
            heads = [f"h{head}" for head in range(HEADS)]
            assert figure.axes[1].labels == (*heads, "MLP")
            assert figure.verdict.status == "verified"
            for layer in range(3):
                part = [f"head {layer}.{head}" for head in range(HEADS)] + [f"mlp {layer}"]
                for column, sender in enumerate(part):
                    reaches = layer < last or (layer == last and within and column < HEADS)
                    value = figure.values[layer, column]
                    assert np.isfinite(value) == reaches
                    if reaches and column % 2 == 0:
                        edge = f"patch {sender} into {end} from B"
                        assert value == pytest.approx(share(scope, edits, edge), abs=2e-5)


def share(scope, edits, edge):
    """The share that an edge carries over in a pass with edits."""

    def difference(recording):
        return float(recording.logits[7] - recording.logits[9])

    ours, theirs = difference(scope.record(A, edits=edits)), difference(scope.record(B))
    moved = difference(scope.record(A, edits=[*edits, edge], versus_prompt=B))
    return (moved - ours) / (theirs - ours)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("zero head 2.0 into head 1.0.q", "nothing flows from head 2 to head 1.0.q"),
        ("zero head 1.0 into head 1.1.k", "nothing flows from head 1 to head 1.1.k"),
        ("zero mlp 1 into mlp 1", "nothing flows from mlp 1 to mlp 1"),
        ("zero mlp 1 into attention -2", "nothing flows from mlp 1 to attention 1"),
        ("zero head 0.0 into head 3.0.q", "there is no layer 3"),
        ("zero head 0.0 into head 2.4.q", "there is no head 4"),
        ("zero head 0.9 into logits", "there is no head 9 in layer 0"),
        ("patch head 0.0 into logits from B", "there is no prompt B"),
    ],
)
def test_an_edge_that_is_none_is_refused_by_name(pairs, edit, message):
    scope, _ = pairs("llama")
    with pytest.raises(ScopeError) as caught:
        scope.record(A, edits=[edit])
    assert message in caught.value.message
    assert caught.value.message.startswith(edit)
    assert caught.value.hint


def test_side_by_side_the_mlp_does_not_read_its_attention(pairs):
    scope, _ = pairs("gpt_neox")
    with pytest.raises(ScopeError, match="both read the stream before the layer"):
        logits_of(scope, "zero head 1.0 into mlp 1")


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("openai-gpt", "norms or factors stand in the stream"),
        ("mamba", "layer 0 has no attention"),
        ("rwkv", "cannot be trusted"),
    ],
)
def test_a_model_whose_edges_are_not_known_says_why(family, message):
    scope = scope_for(small_model(family))
    sender = "zero mlp 0" if family != "mamba" else "zero attention 0"
    with pytest.raises(ScopeError) as caught:
        scope.record(A, edits=[f"{sender} into attention 2"])
    assert message in caught.value.message


def test_an_edge_is_refused_where_other_code_runs_in_the_passes():
    scope = scope_for(small_model("llama"))
    scope.model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    with pytest.raises(ScopeError, match="an edge calls layers twice"):
        scope.record(A, edits=["zero mlp 0 into logits"])


def test_an_edge_lasts_for_no_pass_but_that_of_its_prompt(pairs):
    scope, _ = pairs("llama")
    with (
        pytest.raises(ScopeError, match="made in the whole pass of a prompt"),
        scope.editing(["zero mlp 0 into logits"]),
    ):
        pass
    with pytest.raises(ScopeError, match="read by all later parts"):
        scope.record(A, edits=[("mlp 0 into logits", torch.zeros(48))])


def test_the_receiver_of_the_lens_is_refused_where_it_would_be_ignored(pairs):
    scope, _ = pairs("llama")
    scope.record(A)
    for mode, receiver, message in (
        ("heads", "mlp 2", "reads receiver in the mode paths"),
        ("paths", "mlp 9", "there is no layer 9"),
        ("paths", "layer 1", "nothing that reads the stream"),
    ):
        with pytest.raises(ValueError, match=message):
            scope.look("patching", mode=mode, receiver=receiver, versus_prompt=B)
    figure = scope.look("patching", mode="paths", receiver="head 0.0", versus_prompt=B)
    assert (figure.verdict.status, figure.verdict.reason) == (
        "refused",
        "no sender is before head 0.0",
    )


def test_a_part_of_the_edges_is_run_alone(pairs):
    scope, _ = pairs("llama")
    scope.record(A)
    asked = {
        "mode": "paths",
        "receiver": "head 2.1.k",
        "versus_prompt": B,
        "target": 7,
        "versus": 9,
    }
    every = scope.look("patching", **asked).values
    few = scope.look("patching", **asked, layers=(1,), heads=(0, 3)).values
    assert np.isfinite(few).sum() == 2
    assert few[1, [0, 3]] == pytest.approx(every[1, [0, 3]], abs=1e-6)
    early = scope.look("patching", **asked, span=(4, 9), heads=(1,)).values
    edge = "patch head 0.1 into head 2.1.k @4..8 from B"
    assert early[0, 1] == pytest.approx(share(scope, (), edge), abs=2e-5)

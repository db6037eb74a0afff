"""A random walk of prompts and edits: at each step both passes against a scope that reuses nothing.

A person types, switches edits on and off, turns and reorders them, changes prompt B, changes their
mind in the middle of a pass, and looks back. No edited number may ever be found in an unedited
pass, nor one of another edit in an edited one.
"""

import random

import torch
from safetensors.torch import save_file

from llmscope.errors import ScopeError
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.record.derive import row_stats, tensors
from llmscope.support.sandbox import Cancelled
from tests.record.walk import edited

FACTORS = ("-1", "0", "0.5", "1", "2")


def kept_of(recording):
    """All tensors that a recording keeps."""
    found = [recording.rows("stream", layer) for layer in range(recording.layers + 1)]
    for name in ("query", "attention_write", "mixer_write", "mlp_write", "mlp_input_module"):
        found += [recording.rows(name, layer) for layer in range(recording.layers)]
    found += [*recording.keys, *recording.values]
    found += [tensor for pair in recording.past or () for tensor in pair]
    return [tensor for tensor in found if tensor is not None]


def shown_of(recording, layer):
    """What a person sees of it, derived anew or kept by an earlier look."""
    *_, stats = row_stats.row_stats(recording)
    found = [tensors.logits(recording, 0, len(recording)), torch.tensor(stats.entropy)]
    found += [tensors.logits_after(recording, len(recording) - 1)]
    parts = recording.model.anatomy.layers[layer]
    if parts.attention is not None:
        found += [tensors.pattern(recording, layer), tensors.head_outputs(recording, layer)]
    if parts.down is not None and parts.experts is None:
        found += [tensors.activations(recording, layer)]
    return [*found, torch.tensor(row_stats.norms(recording, "stream"))]


def bits(recording):
    return [tensor.clone() for tensor in kept_of(recording)]


def same_bits(recording, before):
    now = kept_of(recording)
    assert len(now) == len(before)
    assert all(torch.equal(one, other) for one, other in zip(now, before, strict=True))


def close(found, own):
    """Within 1e-5 of the largest magnitude of the tensor, or 3e-5 once it is derived in turn."""
    assert len(found) == len(own)
    for one, other in zip(found, own, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max()) <= 2e-5 * max(float(other.abs().max()), 1e-3)


class Person:
    """Who walks."""

    def __init__(self, live, reference, chance, folder, longest):
        self.live, self.reference, self.chance = live, reference, chance
        self.longest, self.file = longest, folder / "vector.safetensors"
        anatomy = live.loaded_model.anatomy
        self.vocabulary, self.layers, self.width = anatomy.vocabulary, 3, anatomy.width
        self.patterns = [live.verdicts("patterns", at).status != "refused" for at in range(3)]
        self.neurons = [live.verdicts("activations", at).status != "refused" for at in range(3)]
        self.attention = [layer.attention_write is not None for layer in anatomy.layers]
        self.mlp = [layer.mlp_write is not None for layer in anatomy.layers]
        self.ids = [chance.randrange(self.vocabulary) for _ in range(longest // 2)]
        self.other = list(self.ids)
        self.edits, self.off = [], []
        self.write_file()
        self.fit_lens()
        self.old = []
        self.ran_once = None
        self.counts = dict.fromkeys(("ran", "reused", "edited", "cancelled", "refused"), 0)

    def write_file(self):
        generator = torch.Generator().manual_seed(self.chance.randrange(1 << 30))
        save_file({"v": torch.randn(self.width, generator=generator)}, self.file)

    def fit_lens(self):
        """Both scopes have another learned lens from now on."""
        generator = torch.Generator().manual_seed(self.chance.randrange(1 << 30))
        weights = {at: torch.randn(self.width, self.width, generator=generator) for at in (1, 2)}
        maps = {at: AffineMap(0.2 * weight) for at, weight in weights.items()}
        lens = LearnedLens("jacobian", maps, self.width, self.layers)
        self.live.translator = self.reference.translator = lens

    def where(self):
        one, two = sorted(self.chance.randrange(self.longest // 2) for _ in range(2))
        return self.chance.choice(
            (
                *("", f"@{one}", f"@{two}..", f"@{two}..", f"@{one}..{two}"),
                *(f"@..{one}", "@-1", "@-3..", f"@..{-1 - one % 3}"),
            )
        )

    def edit(self):
        """Some edit, which may not fit the prompt at another time."""
        chance, layer = self.chance, self.chance.randrange(3)
        parts = [("layer", "")]
        parts += [("attention", "")] * self.attention[layer] + [("mlp", "")] * self.mlp[layer]
        parts += [("head", f".{chance.randrange(4)}")] * (2 * self.patterns[layer])
        parts += [("neuron", f".{chance.randrange(60)}")] * (2 * self.neurons[layer])
        part, index = chance.choice(parts)
        name, where = f"{part} {layer}{index}", self.where()
        stream = chance.choice(("embed", "0", "1", "2", "-1"))
        one = chance.randrange(self.longest // 2)
        return chance.choice(
            (
                f"block attention {layer} {where} from @{one}",
                f"block head {layer}.{chance.randrange(4)} from @{one}..{one + 2}",
                f"zero {name} {where}",
                f"mean {name} {where}",
                f"scale {name} {chance.choice(FACTORS)} {where}",
                f"patch {name} @{one} from B",
                f"patch stream {stream} @{one}.. from B @-1",
                f"patch stream {stream} @-1 from B @{one}",
                f"steer {stream} token id:{chance.randrange(self.vocabulary)} 0.5 {where}",
                f"steer {stream} {self.file} 0.3 {where}",
                f"steer {stream} jlens id:{chance.randrange(self.vocabulary)} 0.2 {where}",
                f"swap {stream} id:{one} id:{one + 1} {where}",
                f"freeze norm {chance.choice(('final', '1.attention', '2.mlp'))} {where}",
            )
        )

    def step(self):
        """Do something."""
        chance = self.chance
        deed = chance.choice(
            (
                *("type", "type", "letter", "letter", "letter", "letter", "add", "switch", "turn"),
                *("reorder", "B", "file", "lens", "mind", "mind", "mind", "look back"),
            )
        )
        if deed == "type":
            self.ids = edited(self.ids, self.vocabulary, chance, self.longest)
        elif deed == "letter":
            self.ids = [*self.ids, chance.randrange(self.vocabulary)][-self.longest :]
        elif deed == "add":
            self.edits = [*self.edits, self.edit()][-4:]
        elif deed == "switch" and (self.edits or self.off):
            self.edits, self.off = self.off, self.edits
        elif deed == "turn":
            self.edits = [self.turned(edit) for edit in self.edits]
        elif deed == "reorder":
            chance.shuffle(self.edits)
        elif deed == "B":
            self.other = edited(self.other, self.vocabulary, chance, self.longest)
        elif deed == "file":
            self.write_file()
        elif deed == "lens":
            self.fit_lens()
        elif deed == "mind":
            self.change_their_mind()
        elif deed == "look back" and self.old:
            recording, before, shown, layer = chance.choice(self.old)
            same_bits(recording, before)
            close(shown_of(recording, layer), shown)

    def turned(self, edit):
        words = edit.split()
        if words[0] == "scale":
            words[3] = self.chance.choice(FACTORS)
        return " ".join(words)

    def change_their_mind(self):
        """Give a pass up at some layer, of the unedited or of the edited pass."""
        asked = iter(range(self.chance.randrange(8)))
        ids = self.chance.choice(
            (self.ids, edited(self.ids, self.vocabulary, self.chance, self.longest))
        )
        edits = self.chance.choice((self.edits, [*self.edits, self.edit()]))
        try:
            self.live.record(
                ids,
                edits=edits,
                versus_prompt=self.other if edits else None,
                cancelled=lambda: next(asked, None) is None,
            )
        except Cancelled:
            self.counts["cancelled"] += 1
        except ScopeError:
            pass

    def record(self, scope, edits, **options):
        try:
            other = self.other if edits else None
            return scope.record(self.ids, edits=edits, versus_prompt=other, **options)
        except ScopeError as error:
            return str(error)

    def alone(self):
        """A fresh pass over the prompt without edits: its recording, and a copy of its tensors.

        It is run once while the prompt stays: what the edits or prompt B are is nothing to it.
        """
        if self.ran_once is None or self.ran_once[0] != self.ids:
            recording = self.reference.record(self.ids, fresh=True)
            assert not recording.edits
            self.ran_once = list(self.ids), recording, bits(recording)
        return self.ran_once[1:]

    def check(self):
        """What is seen now is what a scope says that has seen nothing before."""
        layer = self.chance.randrange(3)
        first_edited = self.chance.random() < 0.3
        if not first_edited:
            plain = self.live.record(self.ids)
            before = bits(plain)
        recording = self.record(self.live, self.edits)
        if first_edited:
            plain = self.live.record(self.ids)
            before = bits(plain)
        own, tensors_alone = self.alone()
        fresh = self.record(self.reference, self.edits, fresh=True) if self.edits else own
        assert isinstance(fresh, str) == isinstance(recording, str)
        if isinstance(fresh, str):
            assert recording == fresh
            self.counts["refused"] += 1
            self.edits = []  # they fit no more
        elif self.edits:
            if self.chance.random() < 0.5:
                close(shown_of(recording, layer), shown_of(fresh, layer))
            close(kept_of(recording), kept_of(fresh))
            assert recording.base is not None
            same_bits(recording.base, before)
            self.counts["edited"] += bool(recording.changes)
            self.counts["ran"] += recording.ran
            self.counts["reused"] += recording.reused
            self.keep(recording, layer)
        same_bits(plain, before)
        again = self.live.record(self.ids)
        assert again.ran == 0 or again.past is None
        same_bits(again, before)
        assert not again.edits
        assert not again.changes
        close(shown_of(again, layer), shown_of(own, layer))
        close(kept_of(again), tensors_alone)
        self.keep(again, layer)

    def keep(self, recording, layer):
        if self.chance.random() < 0.1:
            self.old.append((recording, bits(recording), shown_of(recording, layer), layer))


def walk(live, reference, folder, *, steps, longest=24, seed=7, person=Person):
    """Walk so many steps; how much was run, reused, edited, given up and refused."""
    person = person(live, reference, random.Random(seed), folder, longest)
    for _ in range(steps):
        person.step()
        person.check()
    for recording, before, shown, layer in person.old:
        same_bits(recording, before)
        close(shown_of(recording, layer), shown)
    return person.counts

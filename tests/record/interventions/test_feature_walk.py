"""A random walk with edits along features: at each step both passes against fresh ones."""

import pytest

from tests.record.features_by_hand import dictionary_for, place
from tests.record.test_edited_reuse import pair
from tests.record.walk_edited import Person, walk

FAMILIES = ("gpt2", "llama", "gemma3_text", "opt", "granite", "falcon")
KINDS = ("relu", "jumprelu", "topk", "gated")
PLACES = (
    *("0.resid_post", "1.resid_post", "2.resid_post", "0.resid_mid", "1.resid_mid", "0.attn_out"),
    *("1.attn_out", "0.mlp_out", "1.mlp_out", "1.mlp_in", "2.mlp_in", "0.mlp_normed"),
    *("1.mlp_normed", "0.z", "1.z.2", "2.mlp_act"),
)
TRANSCODED = (
    ("1.mlp_in", "1.mlp_out"),
    ("0.resid_mid", "0.mlp_out"),
    ("2.mlp_normed", "2.mlp_out"),
)


class FeaturePerson(Person):
    """Who also edits features, and loads other dictionaries."""

    def __init__(self, live, *options):
        anatomy, self.names = live.loaded_model.anatomy, []
        recording = live.record([1, 2, 3])
        heads = recording.cache()["layers.1.z"].shape[-1]
        self.widths = {"z": heads * anatomy.heads, "mlp_act": anatomy.neurons}
        self.head = heads
        super().__init__(live, *options)
        self.load()

    def width_of(self, where):
        if where.head is not None:
            return self.head
        return self.widths.get(where.kind, self.live.loaded_model.anatomy.width)

    def load(self):
        """Both scopes have other dictionaries from now on."""
        found, kinds = [], set()
        both = [(one, one) for one in PLACES] + list(TRANSCODED)
        for reads, writes in self.chance.sample(both, 10):
            if reads in kinds:
                continue
            kinds.add(reads)
            reads, writes = place(reads), place(writes)
            kind = self.chance.choice(KINDS)
            found.append(
                dictionary_for(
                    *(reads, self.width_of(reads), writes, self.width_of(writes), kind),
                    seed=self.chance.randrange(1 << 30),
                    size=0.5,
                )
            )
        self.names = [str(one.header.reads) for one in found]
        self.live.features = self.reference.features = found

    def edit(self):
        """Most edits are along features, some of which are not there any more later."""
        chance = self.chance
        if chance.random() < 0.3 or not self.names:
            return super().edit()
        name = f"{chance.choice(self.names)}/{chance.randrange(96)}"
        where, factor = self.where(), chance.choice(("-1", "0", "0.5", "1", "2"))
        return chance.choice(
            (
                f"zero feature {name} {where}",
                f"scale feature {name} {factor} {where}",
                f"set feature {name} to {factor} {where}",
                f"set feature {name} to {factor} {where}",
                f"steer {chance.choice(('embed', '0', '1', '-1'))} feature {name} 0.5 {where}",
            )
        )

    def step(self):
        """Do something; now and then, load other dictionaries."""
        if self.chance.random() < 0.08:
            self.load()
        else:
            super().step()

    def turned(self, edit):
        words = edit.split()
        if words[0] == "set":
            words[4] = self.chance.choice(("-1", "0", "0.5", "2"))
            return " ".join(words)
        return super().turned(edit)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES[::2])  # the others only have the long walk
def test_a_walk_with_features_equals_fresh_runs(family, tmp_path):
    counts = walk(*pair(family), tmp_path, steps=60, person=FeaturePerson)
    assert counts["edited"] > 15
    assert counts["reused"] > 50


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_walk_with_features_equals_fresh_runs(family, tmp_path):
    counts = walk(*pair(family), tmp_path, steps=300, seed=1, person=FeaturePerson)
    assert counts["edited"] > 80

"""Attribution on a real model: it names heads, and what they write is in the model."""

import pytest
import torch

pytestmark = pytest.mark.xdist_group("smollm2")
PROMPT = "When Mary and John went to the store, John gave a drink to"


def test_mary_versus_john_names_heads(smollm2, plain):
    recording = smollm2.record(PROMPT, fresh=True)
    mary, john = (smollm2.encode(name, special_tokens=False).ids[0] for name in (" Mary", " John"))
    figure = smollm2.look("attribution", target=mary, versus=john)
    ids = torch.tensor([recording.prompt.ids])
    with torch.no_grad():
        logits = plain(input_ids=ids).logits[0, -1].double()
    own = float(logits[mary] - logits[john])
    assert figure.verdict.status == "verified"
    assert float(figure.values.astype("f8").sum()) == pytest.approx(own, rel=1e-4)
    # Measured once: layer 23's head 3 speaks against the name that it sees repeated.
    named = dict(zip(figure.axes[0].labels, figure.values.tolist(), strict=True))
    assert figure.axes[0].labels[0] == "L23 head 3"
    assert named["L23 head 3"] == pytest.approx(2.855, abs=0.01)
    assert named["L29 head 1"] == pytest.approx(1.730, abs=0.01)
    assert named["L24 head 4"] == pytest.approx(-1.071, abs=0.01)


def test_the_head_that_is_named_looks_at_john_and_the_answer_goes_without_it(smollm2, plain):
    recording = smollm2.record(PROMPT, fresh=True)
    mary, john = (smollm2.encode(name, special_tokens=False).ids[0] for name in (" Mary", " John"))
    repeated = recording.prompt.ids.index(john, 5)
    assert smollm2.look("attention", layer=23, head=3).values[-1].argmax() == repeated

    def silence(_, args):
        joined = args[0].clone()
        joined[:, -1, 3 * 64 : 4 * 64] = 0
        return (joined,)

    ids = torch.tensor([recording.prompt.ids])
    with torch.no_grad():
        before = plain(input_ids=ids).logits[0, -1]
        hook = plain.model.layers[23].self_attn.o_proj.register_forward_pre_hook(silence)
        after = plain(input_ids=ids).logits[0, -1]
        hook.remove()
    # All it does, later layers included, is nearly what it writes directly: 2.855.
    assert float((before - after)[mary] - (before - after)[john]) == pytest.approx(2.93, abs=0.05)

"""No edited number is ever found in an unedited pass, and only what an edit reaches runs again."""

import pytest
import torch

from llmscope.record.capture import recorder
from llmscope.record.interventions import edited
from tests.families import small_model
from tests.record.interventions.test_edited import scope_for
from tests.record.walk_edited import walk

pytestmark = pytest.mark.usefixtures("hooks_watch")

WALKED = (
    *("gpt2", "llama", "gpt_neox", "gemma3_text", "mistral", "bloom", "opt", "jamba"),
    *("gemma2", "falcon", "granite", "mixtral", "deepseek_v3", "olmo2", "mamba"),
)


def pair(family):
    return scope_for(small_model(family)), scope_for(small_model(family))


@pytest.mark.slow
@pytest.mark.parametrize("family", WALKED)
def test_a_walk_of_prompts_and_edits(family, tmp_path):
    counts = walk(*pair(family), tmp_path, steps=300, seed=1)
    assert counts["edited"] > 60
    assert counts["cancelled"] > 10


def cache_handed_on(monkeypatch):
    """The unedited pass goes on from the keys and values of the edited one."""
    record = edited.EditedRecorder.record

    def leaking(self, base, edits, **options):
        made = record(self, base, edits, **options)
        self._recorder._latest = made
        return made

    monkeypatch.setattr(edited.EditedRecorder, "record", leaking)


def only_past_handed_on(monkeypatch):
    """As above, but nothing that is shown is wrong until somebody types on."""
    record = edited.EditedRecorder.record

    def leaking(self, base, edits, **options):
        made = record(self, base, edits, **options)
        latest = self._recorder._latest
        if made.past is not None and latest.past is not None:
            object.__setattr__(latest, "past", made.past)
        return made

    monkeypatch.setattr(edited.EditedRecorder, "record", leaking)


def written_in_place(monkeypatch):
    """An edited pass writes its last key over that of the unedited one."""
    run = edited.EditedRecorder._run

    def leaking(self, base, *options):
        made = run(self, base, *options)
        if made.changes and made.past is not None:
            base.past[2][0][:, -1] = made.past[2][0][:, -1]
        return made

    monkeypatch.setattr(edited.EditedRecorder, "_run", leaking)


def edits_not_in_the_key(monkeypatch):
    """What was run for other edits is taken for that of these."""

    def before(self, edits, other, lens):
        latest = self._latest
        fits = latest is not None and len(latest.edits) == len(edits)
        return latest if fits and len(latest.changes) == len(edits) else None

    monkeypatch.setattr(edited.EditedRecorder, "_before", before)


def other_not_in_the_key(monkeypatch):
    """What was patched from another prompt B is taken for what is patched from this one."""
    monkeypatch.setattr(
        edited.EditedRecorder,
        "_before",
        lambda self, edits, other, lens: (
            self._latest if self._latest and self._latest.edits == edits else None
        ),
    )


def lens_not_in_the_key(monkeypatch):
    """What was run with another learned lens is taken for what is run with this one."""
    before = edited.EditedRecorder._before
    monkeypatch.setattr(
        edited.EditedRecorder,
        "_before",
        lambda self, edits, other, lens: before(self, edits, other, self._learned),
    )


def all_anchored(monkeypatch):
    """A mean, or the last token, is taken for the same whatever is typed."""
    monkeypatch.setattr(edited, "anchored", lambda edit: True)


def rows_never_compared(monkeypatch):
    """How far two prompts are the same is all that counts."""
    monkeypatch.setattr(
        edited,
        "_reusable_rows",
        lambda before, base, changes: recorder.shared_length(before.prompt.ids, base.prompt.ids),
    )


LEAKS = (
    cache_handed_on,
    only_past_handed_on,
    written_in_place,
    edits_not_in_the_key,
    other_not_in_the_key,
    lens_not_in_the_key,
    all_anchored,
    rows_never_compared,
)


@pytest.mark.slow
@pytest.mark.parametrize("leak", LEAKS)
def test_a_walk_finds_what_leaks(leak, tmp_path, monkeypatch):
    leak(monkeypatch)
    # A pass of other edits may also have another number of changes: then `zip` notices.
    with pytest.raises((AssertionError, ValueError)):
        walk(*pair("llama"), tmp_path, steps=600)


class Rows:
    """How many rows passed through what each layer computes."""

    def __init__(self, scope):
        self.rows = [0, 0, 0]
        for index, layer in enumerate(scope.loaded_model.anatomy.layers):
            layer.mlp_input_module.register_forward_hook(self._count(index))
        self.scope = scope
        scope.prepare_reuse()  # hooks change a model: it is measured anew
        self.rows = [0, 0, 0]

    def _count(self, index):
        def count(module, args, output):
            self.rows[index] += args[0].shape[:-1].numel()

        return count

    def of(self, ids, *edits, **options):
        """Rows through each layer that one call of `record` ran."""
        self.rows = [0, 0, 0]
        self.scope.record(ids, edits=edits, **options)
        return self.rows


IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30]


@pytest.fixture(scope="module")
def counters():
    """One for each family, made once."""
    return {}


@pytest.fixture(params=["gpt2", "llama", "gpt_neox", "gemma3_text", "mixtral", "opt"])
def rows(request, counters):
    if request.param not in counters:
        scope = scope_for(small_model(request.param))
        counters[request.param] = Rows(scope)
        scope.prepare_reuse()
        for layer in range(4):  # what layers can stand is tried once
            scope.record(IDS, edits=[f"steer {layer - 1 if layer else 'embed'} token id:4 1"])
    counted = counters[request.param]
    counted.scope.forget()
    assert counted.of(IDS) == [10, 10, 10]
    assert counted.of(IDS) == [0, 0, 0]
    return counted


@pytest.mark.parametrize(
    ("edit", "ran"),
    [
        ("zero head 0.1", [10, 10, 10]),
        ("zero head 1.1", [0, 10, 10]),
        ("zero mlp 2 @7", [0, 0, 3]),
        ("scale attention 1 2 @4..", [0, 6, 6]),
        ("patch layer 1 @-1 from B @2", [0, 1, 1]),
        ("steer embed token id:4 1 @3", [7, 7, 7]),
        ("steer 0 token id:4 1 @3", [0, 7, 7]),
        ("steer 1 token id:4 1 @3..5", [0, 0, 7]),
        ("steer 2 token id:4 1", [0, 0, 0]),
        ("steer -1 token id:4 1 @-1", [0, 0, 0]),
    ],
)
@pytest.mark.few(5)
def test_an_edit_runs_the_layers_and_tokens_that_it_reaches(rows, edit, ran):
    rows.of(IDS, "patch stream 2 from B", versus_prompt=IDS[::-1])  # prompt B is run once
    assert rows.of(IDS, edit, versus_prompt=IDS[::-1]) == ran
    assert rows.of(IDS, edit, versus_prompt=IDS[::-1]) == [0, 0, 0]
    assert rows.of(IDS) == [0, 0, 0]


@pytest.mark.few(3)
def test_a_letter_runs_one_row_below_and_one_above(rows):
    edit = "steer 0 token id:4 1 @3.."
    rows.of(IDS, edit)
    assert rows.of([*IDS, 7], edit) == [1, 2, 2]
    assert rows.of([*IDS, 7, 8, 9], edit) == [2, 4, 4]
    assert rows.of([*IDS, 7], edit) == [0, 0, 0]  # cut back
    assert rows.of([*IDS[:5], 1], edit) == [1, 2, 2]
    assert rows.of([*IDS[:2], 1, 2, 3], edit) == [3, 5, 5]
    idle = "scale layer 0 1"
    assert rows.of([*IDS[:2], 1, 2, 3, 4], edit, idle)[0] == 1


@pytest.mark.few(3)
def test_what_depends_on_the_whole_prompt_runs_again(rows):
    rows.of(IDS, "mean mlp 1 @4..")
    assert rows.of([*IDS, 7], "mean mlp 1 @4..") == [1, 8, 8]
    rows.of(IDS, "zero mlp 1 @-2")
    assert rows.of([*IDS, 7], "zero mlp 1 @-2") == [1, 3, 3]
    rows.of(IDS, "zero mlp 1 @..-3")
    assert rows.of([*IDS, 7], "zero mlp 1 @..-3") == [1, 12, 12]


@pytest.mark.few(3)
def test_to_turn_a_strength_runs_the_layers_from_there(rows):
    for strength, ran in ((2, [0, 10, 10]), (2.5, [0, 10, 10]), (0, [0, 0, 0]), (-1, [0, 10, 10])):
        assert rows.of(IDS, f"steer 0 token id:4 {strength}") == ran
    for factor, ran in ((2, [0, 0, 10]), (1, [0, 0, 0]), (0, [0, 0, 10])):
        assert rows.of(IDS, f"scale mlp 2 {factor}") == ran
    together = ["steer 0 token id:4 {} @5..", "zero head 2.1 @1.."]
    assert rows.of(IDS, *together[1:]) == [0, 0, 9]
    assert rows.of(IDS, *(edit.format(1) for edit in together)) == [0, 9, 9]
    assert rows.of(IDS, *(edit.format(0) for edit in together)) == [0, 0, 9]


@pytest.mark.few(3)
def test_idle_edits_run_nothing(rows):
    idle = ["scale layer 0 1", "steer embed token id:4 0", "scale head 1.1 1 @2"]
    assert rows.of(IDS, *idle) == [0, 0, 0]
    assert rows.of([*IDS, 7], *idle) == [1, 1, 1]
    assert rows.scope.latest.changes == ()
    assert len(rows.scope.latest.edits) == 3


@pytest.mark.few(3)
def test_rows_before_an_edit_are_shared_and_not_copied(rows):
    rows.of(IDS, "zero mlp 1 @6..")
    recording = rows.scope.latest
    assert recording.parts[0][0] is recording.base.parts[0][0]
    assert recording.parts[0][1] == 6
    assert (recording.ran, recording.reused, recording.depth) == (4, 6, 1)
    same = [one.rows("stream", 0, range(6, 10)) for one in (recording, recording.base)]
    assert same[0].data_ptr() == same[1].data_ptr()


@pytest.mark.few(3)
def test_a_new_prompt_b_counts_only_where_it_is_patched_from(rows):
    rows.of(IDS, "zero mlp 1", versus_prompt=IDS[::-1])
    assert rows.of(IDS, "zero mlp 1", versus_prompt=IDS[1:]) == [0, 0, 0]


class Told:
    """A layer that tells a later one something beside the stream."""

    def __init__(self, scope, teller, hearer):
        self.said = None
        layers = scope.loaded_model.anatomy.layers
        layers[teller].mlp_input_module.register_forward_hook(self.tell)
        layers[hearer].mlp_input_module.register_forward_hook(self.hear)

    def tell(self, module, args, output):
        self.said = output

    def hear(self, module, args, output):
        said, self.said = self.said, None  # whoever says nothing is not heard
        if said is None:
            raise ValueError("nobody told me")
        return output + said


class Remembered(Told):
    """The same, but what was said in an earlier pass is still there."""

    def hear(self, module, args, output):
        return output + self.said[:, -output.shape[1] :]


@pytest.mark.few(3)
@pytest.mark.parametrize("kind", [Told, Remembered])
@pytest.mark.parametrize(
    ("teller", "hearer", "depths"), [(0, 2, [0, 0, 3]), (1, 2, [1, 0, 3]), (0, 1, [0, 2, 3])]
)
def test_layers_that_hand_on_more_than_a_stream_run_again(kind, teller, hearer, depths):
    scope, reference = pair("llama")
    kind(scope, teller, hearer)
    kind(reference, teller, hearer)
    reference._instrumented.edited.depth = lambda layer: 0
    for layer, depth in enumerate(depths):
        for edit in (f"steer {layer} token id:4 1", f"steer {layer} token id:4 1 @5.."):
            found = scope.record(IDS, edits=[edit])
            own = reference.record(IDS, edits=[edit], fresh=True)
            assert found.depth == depth
            assert own.depth == 0
            for at in range(4):
                one, other = found.rows("stream", at), own.rows("stream", at)
                assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())


def test_a_layer_that_gives_more_than_a_stream_runs_again():
    scope, reference = pair("llama")
    module = scope.loaded_model.anatomy.layers[1].module
    module.register_forward_hook(lambda module, args, output: (output, torch.ones(1)))
    scope.loaded_model.anatomy.layers[2].module.register_forward_pre_hook(
        lambda module, args: (args[0][0], *args[1:])
    )
    edit = "zero mlp 2 @4.."
    found, own = (one.record(IDS, edits=[edit]) for one in (scope, reference))
    assert (found.depth, own.depth) == (0, 2)
    assert torch.allclose(found.logits, own.logits, rtol=0, atol=1e-4)


def test_rows_that_stand_are_joined_once_however_often_a_strength_is_turned():
    scope, reference = pair("llama")
    for end in range(2, len(IDS) + 1):
        scope.record(IDS[:end])
    for where in ("", " @4.."):
        one, two = (scope.record(IDS, edits=[f"steer 1 token id:4 {by}{where}"]) for by in (1, 2))
        own = reference.record(IDS, edits=[f"steer 1 token id:4 2{where}"], fresh=True)
        assert len(two.base.parts) == len(IDS) - 1
        for layer in range(two.depth):
            kept = [recording.parts[-1][0].layers[layer] for recording in (one, two)]
            assert kept[0] is kept[1]
            for name in ("stream", "query", "attention_write", "mlp_write", "activity"):
                some, all_of_them = two.rows(name, layer), own.rows(name, layer)
                assert float((some - all_of_them).abs().max()) <= 1e-5 * float(
                    all_of_them.abs().max()
                )

"""Every lens, and a few edits, on every family: a figure, maybe refused, or a ScopeError."""

import warnings

import pytest

from llmscope.errors import ScopeError
from llmscope.figure import Figure
from llmscope.lenses import lens, names
from tests.all_families import NOT_BUILT, families
from tests.family_matrix import IDS, scope_of
from tests.lenses.asked import options_for

OTHER = (9, 33, 71, 4, 12, 42, 60, 1, 88, 25, 7, 13, 66)
EDITS = ("zero head 1.2", "mean head 0.1", "zero mlp 1", "zero neuron 1.3", "patch stream 1 from B")
# Each mode of each lens is looked at: a projection in a wrapper, several streams, a model that does
# not run on embeddings, an indexer, layers that run several times, rows before the tokens.
CLOSELY = ("moshi", "gemma3n_text", "gemma4_text", "axk2", "hrm_text", "cpmant", "zamba2", "xlnet")


def look_at_all(family, modes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scope = scope_of(family)
        except ScopeError:
            return
        recording = scope.record(IDS)
        for name in names():
            found = lens(name)
            other = {"versus_prompt": OTHER} if found.versus else {}
            for mode in (found.modes if modes else found.modes[:1]) or ("",):
                place = options_for(name, mode=mode, layer=1, head=1)
                figure = scope.look(name, recording=recording, **place, **other)
                assert isinstance(figure, Figure)
                assert figure.verdict.status != "refused" or figure.verdict.reason
        for edit in EDITS:
            try:
                edited = scope.record(IDS, edits=[edit], versus_prompt=OTHER)
            except ScopeError:
                continue
            assert isinstance(scope.look("next-token", recording=edited), Figure)


@pytest.mark.slow
@pytest.mark.parametrize("family", [one for one in families() if one not in NOT_BUILT])
def test_each_lens_gives_a_figure_or_one_line(family):
    look_at_all(family, modes=family in CLOSELY)


def test_heads_are_found_behind_a_projection_in_a_wrapper():
    scope = scope_of("moshi")
    recording = scope.record(IDS)
    assert scope.look("ablation", recording=recording, mode="heads").values.shape[-1] == 4
    assert scope.record(IDS, edits=["zero head 1.2"]).changes


def test_one_of_several_streams_is_not_edited():
    with pytest.raises(ScopeError, match="4 residual streams"):
        scope_of("gemma3n_text").record(IDS, edits=["patch stream 1 from B"], versus_prompt=OTHER)

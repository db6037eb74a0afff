"""Every causal language model class that the installed transformers maps, from one builder."""

import pytest
import torch

from tests.all_families import NOT_BUILT, VOCABULARY, families, small_model

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]  # longer than the windows of 6


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in families() if name not in NOT_BUILT])
def test_a_small_model_is_built_from_the_names_of_the_configs_fields(family):
    model = small_model(family)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([IDS]), use_cache=False).logits
    assert logits.shape == (1, len(IDS), VOCABULARY)
    assert torch.isfinite(logits).all()
    assert sum(parameter.numel() for parameter in model.parameters()) < 5_000_000

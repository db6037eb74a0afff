"""Masks that add to the scores of each key, as Doge's dynamic ones."""

import numpy as np
import torch

from llmscope.record.capture import attention_hook
from llmscope.record.capture.masks import key_bias
from tests.all_families import small_model
from tests.family_matrix import scope_of

IDS = [(7 * index + index * index) % 96 for index in range(40)]


def test_a_bias_of_each_key_is_read_and_nothing_else():
    seen = torch.ones(4, 6, dtype=torch.bool).tril(2) & (torch.arange(6) > 0)
    bias = torch.tensor([[9.0, 0.5, -1, 2, 3, 1], [9.0, 1.5, 0, -2, 7, 4]])  # [head, key]
    hidden = torch.finfo(torch.float32).min
    mask = bias[:, None].expand(2, 4, 6).masked_fill(~seen, hidden)[None]
    found, visible = key_bias(mask)
    assert torch.equal(found[:, 1:], bias[:, 1:])
    assert torch.equal(visible[0, 0], seen)
    of_query, of_head = mask.clone(), mask.clone()
    of_query[0, 0, 2, 1] += 0.25
    of_head[0, 0, 2, 1] = hidden
    nothing = torch.zeros_like(mask).masked_fill(~seen, hidden)
    for other in (of_query, of_head, nothing, seen[None, None], None):
        assert key_bias(other) is None


def test_patterns_of_a_mask_that_adds_to_keys_are_the_models_own(monkeypatch):
    scope = scope_of("doge")
    plain = small_model("doge", attn_implementation="eager").double()
    for length in (9, 10, 17, 18, 33):  # typed: keys beside the window are of earlier passes
        with torch.no_grad():
            batch = torch.tensor([IDS[:length]])
            own = plain(input_ids=batch, use_cache=False, output_attentions=True).attentions
        scope.record(IDS[:length])
        for layer in range(3):
            figure = scope.look("attention", layer=layer, mode="all")
            assert figure.verdict.status == "verified"
            cells = np.nan_to_num(figure.values)
            np.testing.assert_allclose(cells, own[layer][0].numpy(), atol=2e-6)
    monkeypatch.setattr(attention_hook, "key_bias", lambda mask: None)
    assert scope_of("doge").verdicts("patterns").status == "refused"

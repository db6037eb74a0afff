"""A LoRA adapter on the real model: on and off are those of peft, within rounding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from llmscope.models.anatomy import find
from llmscope.models.loading.adapters import adapted
from llmscope.record.capture.recorder import Recorder
from llmscope.record.derive.tensors import attention_output
from llmscope.record.derive.verify import verify
from tests.record.conftest import prompt_of

pytestmark = pytest.mark.xdist_group("smollm2")


@pytest.mark.slow
def test_it_is_peft_with_and_without_the_adapter(smollm2, plain, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    torch.manual_seed(1)
    trained = get_peft_model(plain, config)
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                weight += 0.02 * torch.randn_like(weight)
    trained.save_pretrained(tmp_path)
    ids = smollm2.encode("The capital of France is").ids
    batch = torch.tensor([ids])
    with torch.no_grad():
        on = trained.eval()(batch).logits[0, -1]
        with trained.disable_adapter():
            off = trained(batch).logits[0, -1]
        trained.unload()  # `plain` serves other tests

    model = adapted(smollm2.model, tmp_path, "poet")
    recorder = Recorder(replace(smollm2.loaded_model, module=model, anatomy=find(model)))
    recording = recorder.record(prompt_of(ids))
    scale = float(on.abs().max())
    assert float((recording.logits - on).abs().max()) <= 1e-5 * scale
    assert float((on - off).abs().max()) > 0.02 * scale  # the adapter says something
    base = smollm2.record("The capital of France is", fresh=True)
    assert float((base.logits - off).abs().max()) <= 1e-5 * float(off.abs().max())
    verdicts = verify(recorder)
    for capability in ("readout", "writes", "patterns", "activations"):
        assert verdicts(capability).status == "verified", verdicts(capability)
    written = recording.rows("attention_write", 17).numpy()
    assert (
        np.abs(attention_output(recording, 17).numpy() - written).max()
        <= 1e-5 * np.abs(written).max()
    )

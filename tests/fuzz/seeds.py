"""The good files that are mutated: snapshots, checkpoints, tokenizers and adapters, made once."""

from __future__ import annotations

import json
from pathlib import Path

FAMILIES = ("llama", "gpt2", "mixtral", "gemma3_text", "phi3", "mamba")
"""Families whose config is mutated: plain, fused, experts, windows, no attention."""
VOCABULARIES = ("byte_level", "split_bytes", "byte_fallback", "unigram", "word_piece")


def make_seeds(folder: Path) -> None:
    """Write every good file below a folder: `snapshots/`, `hidden/` and so on."""
    _snapshots(folder / "snapshots")
    _hidden_states(folder / "hidden")
    _models(folder / "models")
    _adapters(folder / "adapters", folder / "models" / "llama")
    _transcripts(folder / "transcripts")
    _parquet(folder / "parquet")
    _run(folder / "run")
    _batch(folder)
    _ggufs(folder / "gguf")


def _snapshots(folder: Path) -> None:
    from tests.cli.running import run

    folder.mkdir(parents=True)
    lenses = ("tokens", "logit-lens", "next-token", "attention", "residual")
    words = [word for lens in lenses for word in ("--lens", lens)]
    for name in ("plain.json", "plain.npz", "arrays.safetensors"):
        out = folder / name
        made = run("snapshot", "builtin:sort", "--prompt", "CABACB", *words, "--out", out)
        assert made.exit_code == 0, made.output
    edited = folder / "edited.json"
    edits = ("--edit", "patch stream 1 from B", "--versus-prompt", "BACBAC")
    made = run("snapshot", "builtin:sort", "--prompt", "CABACB", *words, *edits, "--out", edited)
    assert made.exit_code == 0, made.output


def _hidden_states(folder: Path) -> None:
    import torch

    from tests.vllm_files import write

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(3, 8, generator=generator) for _ in range(2)]
    write(folder / "states.safetensors", [1, 2, 0], states)


def _models(folder: Path) -> None:
    from tests.families import small_model
    from tests.models import vocabularies

    for family in FAMILIES:
        small_model(family, vocab_size=vocabularies.SIZE + 100).save_pretrained(folder / family)
        vocabularies.byte_level().save_pretrained(folder / family)
    for name in VOCABULARIES:
        make = getattr(vocabularies, name, None)
        if make is None:
            continue
        into = folder / f"tokenizer-{name}"
        small_model("llama", vocab_size=vocabularies.SIZE + 100).save_pretrained(into)
        make().save_pretrained(into)


def _adapters(folder: Path, base: Path) -> None:
    from peft import IA3Config, LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    kinds = {
        "lora": LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"]),
        "dora": LoraConfig(use_dora=True, target_modules=r".*\.(k_proj|o_proj)"),
        "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    }
    for name, config in kinds.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        model.save_pretrained(folder / name)
        path = folder / name / "adapter_config.json"
        settings = json.loads(path.read_text())
        settings["base_model_name_or_path"] = str(base)
        path.write_text(json.dumps(settings))


def _transcripts(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True)
    call = {"function": {"name": "find", "arguments": '{"place": "river"}'}, "id": "c1"}
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "where does anna live ?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "forest street", "tool_call_id": "c1"},
        {"role": "assistant", "content": "anna lives in forest street ."},
    ]
    records = [
        {"messages": messages, "tools": []},
        {"conversations": [{"from": "human", "value": "the cat"}, {"from": "gpt", "value": "a"}]},
        {"prompt": messages[1:2], "chosen": messages[4:], "rejected": messages[4:]},
        {"instruction": "where ?", "input": "anna", "output": "here"},
        {"text": "the cat"},
    ]
    lines = "".join(json.dumps(one) + "\n" for one in records)
    (folder / "chats.jsonl").write_text(lines)
    (folder / "one.jsonl").write_text("".join(json.dumps(one) + "\n" for one in messages))
    (folder / "list.json").write_text(json.dumps(records))
    table = pyarrow.Table.from_pylist([{"messages": messages}, {"text": "the cat"}])
    pyarrow.parquet.write_table(table, folder / "chats.parquet")


def _parquet(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True)
    rows = [
        {"prompt": f"prompt {at}", "id": at, "score": at / 7, "more": {"a": ["x", None] * at}}
        for at in range(20)
    ]
    table = pyarrow.Table.from_pylist(rows)
    for compression in ("zstd", "none"):
        path = folder / f"prompts-{compression}.parquet"
        pyarrow.parquet.write_table(table, path, compression=compression, row_group_size=7)


def _run(folder: Path) -> None:
    from tests.runs.making import written

    written(folder)


def _batch(folder: Path) -> None:
    from tests.cli.running import run

    prompts = folder / "prompts.jsonl"
    texts = ("CAB", "A", "BACCAB", "AC", "CABACB")
    lines = [json.dumps({"prompt": text, "id": at}) for at, text in enumerate(texts)]
    prompts.write_text("\n".join(lines))
    lenses = ("--lens", "next-token", "--lens", "logit-lens")
    words = ["snapshot", "builtin:sort", "--prompts", str(prompts), *lenses]
    made = run(*words, "--out", folder / "batch")
    assert made.exit_code == 0, made.output
    (folder / "batch.json").write_text(json.dumps(words))


def _ggufs(folder: Path) -> None:
    from tests.models import ggufs

    folder.mkdir(parents=True)
    for family in ("llama", "gpt2", "gemma2"):
        ggufs.write(folder / f"{family}.gguf", family, ggufs.made(family))

"""`snapshot --edit`: the numbers of an edited pass, and how wrong ones are told."""

import io
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from llmscope.edits import EXAMPLES, GRAMMAR
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.writer import write_lens
from llmscope.models.sources.builtin import home
from tests.cli.running import failure, record, run
from tests.models.chats import LLAMA2, chat_tokenizer
from tests.models.checkpoints import save_model

NEXT = ("--lens", "next-token")
ASK = ("--prompt", "CABACB", *NEXT)
IDS = [2, 0, 1, 0, 2, 1]


def edited(*texts):
    return [word for text in texts for word in ("--edit", text)]


def logits(found):
    """The logits after the last token, by id."""
    (figure,) = found["figures"]
    extra = figure["extra"]
    return [value for _, value in sorted(zip(extra["ids"], extra["logits"], strict=True))]


@pytest.fixture(scope="module")
def sort():
    return AutoModelForCausalLM.from_pretrained(home() / "sort").eval()


def near(found, truth):
    bound = 1e-5 * float(truth.abs().max())
    assert logits(found) == pytest.approx(truth.tolist(), abs=bound, rel=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "parts", [("zero attention {}", "zero mlp {}"), ("zero layer {}",), ("scale layer {} 0",)]
)
def test_without_any_layer_the_embedding_alone_is_read(sort, parts):
    found = record(*ASK, *edited(*(part.format(i) for i in range(3) for part in parts)))
    inner = sort.transformer
    stream = inner.wte.weight[IDS[-1]] + inner.wpe.weight[len(IDS) - 1]
    near(found, sort.lm_head(inner.ln_f(stream)))


@torch.no_grad()
def test_without_any_head_the_bias_of_their_projection_is_left(sort):
    heads = [f"zero head {layer}.{head}" for layer in range(3) for head in range(3)]
    found = record(*ASK, *edited(*heads, *(f"zero mlp {layer}" for layer in range(3))))
    inner = sort.transformer
    stream = inner.wte.weight[IDS[-1]] + inner.wpe.weight[len(IDS) - 1]
    stream = stream + sum(layer.attn.c_proj.bias for layer in inner.h)
    near(found, sort.lm_head(inner.ln_f(stream)))


@torch.no_grad()
def test_the_same_of_a_random_model_by_ids(tmp_path):
    model = save_model(tmp_path / "model")
    found = record(
        *(tmp_path / "model", "--ids", "5,6,7", *NEXT, "--top-k", 96),
        *edited("zero layer -1", "zero attention 1", "zero mlp 1", "scale layer 0 0"),
    )
    stream = model.model.embed_tokens(torch.tensor(7))
    near(found, model.lm_head(model.model.norm(stream)))


@torch.no_grad()
def test_steering_adds_so_much_of_a_token(sort):
    found = record(*ASK, *edited("steer -1 token C 2.5 @-1"))
    held = {}
    hook = sort.transformer.h[-1].register_forward_hook(lambda _, __, out: held.update(out=out))
    sort(torch.tensor([IDS]))
    hook.remove()
    out = held["out"]
    stream = (out[0] if isinstance(out, tuple) else out)[0, -1] + 2.5 * sort.lm_head.weight[2]
    near(found, sort.lm_head(sort.transformer.ln_f(stream)))


@pytest.fixture
def lens(tmp_path):
    """The files of two Jacobian lenses for the built-in model `sort`, and a map of each."""
    made = []
    for name in ("one", "other"):
        weight = torch.randn(48, 48, generator=torch.Generator().manual_seed(len(made))) * 0.2
        learned = LearnedLens("jacobian", {1: AffineMap(weight), 2: AffineMap(-weight)}, 48, 3, {})
        path = tmp_path / f"{name}.safetensors"
        write_lens(learned, path, "float32")
        made.append((path, weight))
    return made


@torch.no_grad()
def steered(sort, vector):
    """The logits after the last token with a vector added to the stream after layer 0."""

    def add(_, __, out):
        return (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector

    hook = sort.transformer.h[0].register_forward_hook(add)
    found = sort(torch.tensor([IDS])).logits[0, -1]
    hook.remove()
    return found


def test_the_learned_lens_of_edits_is_the_translator(sort, lens, tmp_path):
    row = sort.lm_head.weight[2].detach()
    edit = edited("steer 0 jlens C 2.5")
    for path, weight in lens:
        own = steered(sort, 2.5 * weight.T @ row)
        found = record(*ASK, *edit, "--translator", path)
        near(found, own)
        assert found["edits"] == ["steer 0 jlens C 2.5"]
    # It is the one that the logit lens reads through as well.
    looked = record(*ASK[:2], "--lens", "logit-lens", *edit, "--translator", lens[0][0])
    plain = record(*ASK[:2], "--lens", "logit-lens", "--translator", lens[0][0])
    assert looked["figures"][0]["title"] == plain["figures"][0]["title"]
    assert looked["figures"][0]["values"] != plain["figures"][0]["values"]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "CABACB"}\n')
    out = tmp_path / "out"
    words = ("--prompts", prompts, "--out", out, *NEXT, *edit, "--translator", lens[1][0])
    words = (*words, "--tensors")
    done = run("snapshot", *words)
    assert done.exit_code == 0, done.stderr
    (file,) = out.glob("tensors/*.safetensors")
    ids, scores = (
        next(value for name, value in load_file(file).items() if name.endswith(f"next-token.{end}"))
        for end in ("ids", "logits")
    )
    own = steered(sort, 2.5 * lens[1][1].T @ row)
    assert scores.numpy() == pytest.approx(own[ids.long()].numpy(), rel=1e-4)


def test_a_translator_needs_a_lens_or_an_edit_that_uses_it(lens):
    words = ("--translator", lens[0][0])
    for edit in ([], edited("zero mlp 0"), edited("steer 0 token C 1")):
        told = failure("snapshot", *ASK, *words, *edit, code=2)
        assert "none of these lenses has it" in told
    for text in ("steer 0 jlens C 1", "swap 0 A C"):
        told = failure("snapshot", *ASK, *edited(text))
        assert f"error: {text}: no Jacobian lens of sort comes with it" in told
        assert "--translator" in told
    record(*ASK, *words, *edited("swap 0 A C"))


def test_a_patch_of_the_last_stream_gives_the_other_prompts_answer():
    here = record(*ASK, *edited("patch stream -1 from B"), "--versus-prompt", "AACCBB")
    there = record("--prompt", "AACCBB", *NEXT)
    assert logits(here) == pytest.approx(logits(there), rel=1e-5)
    assert here["edits"] == ["patch stream -1 from B"]
    assert (here["versus_prompt"], here["prompt"]) == ("AACCBB", "CABACB")
    assert here["focus"]["versus_prompt"] == [0, 0, 2, 2, 1, 1]


def test_ids_have_a_prompt_b_of_ids(tmp_path):
    save_model(tmp_path / "model")
    ask = (tmp_path / "model", "--ids", "5,6,7", *NEXT)
    other = ("--versus-prompt", "8 9")
    found = record(*ask, *edited("patch stream -1 @-1 from B @-1"), *other)
    there = record(tmp_path / "model", "--ids", "8,9", *NEXT)
    assert logits(found) == pytest.approx(logits(there), rel=1e-5)
    assert found["versus_prompt"] is None
    assert found["focus"]["versus_prompt"] == [8, 9]
    said = failure("snapshot", *ask, "--change", "--versus-prompt", "text", code=2)
    assert "--versus-prompt: beside --ids whole numbers" in said
    change = ("--versus-prompt", "96", "--change")
    assert "prompt B: token id 96" in failure("snapshot", *ask, *change)


def test_edits_are_made_and_told_in_their_order():
    patch, steer = "patch stream 1 from B", "steer 1 token C 4"
    other = ("--versus-prompt", "AACCBB")
    steered_last = record(*ASK, *edited(patch, steer), *other)
    patched_last = record(*ASK, *edited(steer, patch), *other)
    assert steered_last["edits"] == [patch, steer]
    assert patched_last["edits"] == [steer, patch]
    # What is patched in last leaves nothing of what stood there.
    patched = record(*ASK, *edited(patch), *other)
    assert logits(patched_last) == logits(patched)
    assert logits(steered_last) != pytest.approx(logits(patched), rel=1e-3)


def test_an_idle_edit_changes_nothing_and_is_told():
    plain, idle = record(*ASK), record(*ASK, *edited("scale mlp 1 1.0", "steer 1 token A 0"))
    assert logits(idle) == logits(plain)
    assert idle["figures"][0]["values"] == plain["figures"][0]["values"]
    assert idle["edits"] == ["scale mlp 1 1", "steer 1 token A 0"]
    assert "edits" not in plain
    assert "versus_prompt" not in plain
    assert idle["schema"] == plain["schema"] == 1


@pytest.mark.few(3)
@pytest.mark.parametrize("lens", ["residual", "attention", "tokens", "mlp", "next-token"])
def test_a_change_is_edited_minus_unedited(lens):
    whole = ("--top-k", 200) if lens in ("mlp", "next-token") else ()
    ask = ("--prompt", "CABACB", "--lens", lens, *whole)
    edit = edited("zero layer 1")
    found = record(*ask, *edit, "--change")
    assert found["focus"]["change"] is True
    (change,) = found["figures"]
    assert change["title"].endswith("change")
    (after,), (before,) = record(*ask, *edit)["figures"], record(*ask)["figures"]

    def values(figure):
        array = np.array(figure["values"], dtype=float)
        if lens in ("mlp", "next-token"):  # lists, whose order is by size
            array = array[..., np.argsort(figure["axes"][-1]["labels"])]
        return array

    known = values(after) - values(before)
    np.testing.assert_allclose(values(change), known, rtol=0, atol=2e-6)
    assert np.nanmax(abs(known)) > 1e-5


def test_arrays_and_pictures_say_what_was_edited(tmp_path):
    ask = ("snapshot", *ASK, *edited("zero mlp 1", "zero head 0.1"))
    path = tmp_path / "edited.npz"
    assert run(*ask, "--out", path).exit_code == 0
    arrays = np.load(io.BytesIO(path.read_bytes()))
    assert arrays["edits"].tolist() == ["zero mlp 1", "zero head 0.1"]
    (figure,) = record(*ask[1:])["figures"]
    assert arrays["values"].tolist() == figure["values"]
    text = run(*ask, "--format", "txt", "--size", "50x8").stdout.splitlines()
    assert [line.strip() for line in text[:2]] == ["edits  1 zero mlp 1", "2 zero head 0.1"]
    assert len(text) == 10


@pytest.mark.slow
def test_the_whole_screen_is_of_the_edited_pass():
    ask = ("snapshot", "--prompt", "CABACB", "--lens", "screen")
    edit = edited("patch stream -1 from B", "zero mlp 0")
    other = ("--versus-prompt", "AACCBB")
    picture = run(*ask, *edit, *other)
    assert (picture.exit_code, picture.stderr) == (0, "")
    assert "2 edits" in picture.stdout
    share = logits(record("--prompt", "AACCBB", *NEXT))
    top = float(torch.tensor(share).softmax(0).max())
    assert f"{top:.2%}".replace("%", " %") in picture.stdout
    changed = run(*ask, *edit, *other, "--change")
    assert changed.exit_code == 0
    assert "change" in changed.stdout
    numbers = record(*ask[1:], *edit, *other, "--format", "json")
    assert numbers["edits"] == ["patch stream -1 from B", "zero mlp 0"]
    assert "there is no head 9" in failure(*ask, *edited("zero head 1.9"))


def test_prompt_b_is_put_into_the_chat_template_too(tmp_path):
    save_model(tmp_path, vocab_size=300, max_position_embeddings=256)
    tokenizer = chat_tokenizer(LLAMA2)
    tokenizer.save_pretrained(tmp_path)
    found = record(
        *(tmp_path, "--chat", "--system", "Be brief.", "--prompt", "Hi", "--versus-prompt", "Bye"),
        *(*NEXT, *edited("patch mlp 1 @-1 from B")),
    )
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Bye"}]
    settings = {"add_generation_prompt": True}
    ids = tokenizer.apply_chat_template(messages, return_dict=False, **settings)
    assert found["focus"]["versus_prompt"] == ids
    text = tokenizer.apply_chat_template(messages, tokenize=False, **settings)
    assert found["versus_prompt"] == text


@pytest.mark.slow
def test_a_command_survives_the_shell(tmp_path):
    """As it is pasted: quotes in quotes, blanks, a name that has both."""
    path = tmp_path / 'it\'s "my" vector.safetensors'
    save_file({"joy": torch.ones(48), "woe": torch.zeros(48)}, path)
    first = f"steer 1 {shlex.quote(f'{path}:joy')} -0.5 @1..-2"
    words = ["snapshot", *ASK, *edited(first, 'steer 0 "CAB" - "BCA" 2')]
    code = "from llmscope.cli import main; main()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {shlex.join(words)}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["edits"] == [first, "steer 0 CAB - BCA 2"]
    # What it says can be said again.
    again = record(*ASK, *edited(*found["edits"]))
    assert logits(again) == pytest.approx(logits(found), rel=1e-6)


class TestWrong:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (edited("zero haed 1.1"), "head 5.3, neuron"),
            (edited("zero mlp 1", ""), "an edit is empty"),
            (edited("zero mlp 1 @2..1"), "ends before it begins"),
            (edited("scale mlp\n1 \x1b[31m"), "\\x1b[31m"),
            (edited("patch mlp 1 from B"), "--versus-prompt"),
            (["--change"], "--edit"),
            (["--versus-prompt", ""], "prompt B is empty"),
        ],
    )
    def test_usage_is_told_before_a_model_is_looked_for(self, arguments, said):
        told = failure("snapshot", "./nope", *ASK, *arguments, code=2)
        assert said in told
        assert "\x1b" not in told

    def test_a_file_of_vectors_is_looked_into_before_a_model_is(self, tmp_path):
        def told(vector):
            return failure("snapshot", "./nope", *ASK, *edited(f"steer 1 {vector} 4"))

        assert "there is no file" in told(tmp_path / "nope.safetensors")
        broken, several = tmp_path / "broken.safetensors", tmp_path / "several.safetensors"
        broken.write_bytes(b"x" * 9)
        assert "cannot be read" in told(broken)
        save_file({name: torch.ones(48) for name in "abcdef"}, several)
        assert "holds 6 tensors (try: one of them: FILE.safetensors:a," in told(several)
        assert "no tensor of that name (try: FILE.safetensors:a," in told(f"{several}:joy")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("zero head 1.3", "error: zero head 1.3: there is no head 3"),
            ("zero mlp -4", "error: zero mlp -4: there is no layer -4"),
            ("zero neuron 0.999", "there is no neuron 999"),
            ("zero mlp 1 @6", "there is no token 6: the prompt has 6 (try: 0 to 5)"),
            ("steer 1 token AB 4", "is not one token but 2"),
            ("patch mlp 1 from B", "the prompt has 6 tokens and prompt B 3 (try: tokens of both"),
            ("patch mlp 1 @1..2 from B @0..2", "patches 2 tokens from 3"),
        ],
    )
    def test_what_does_not_fit_names_the_edit(self, text, said):
        other = ("--versus-prompt", "AAC") if text.startswith("patch") else ()
        assert said in failure("snapshot", *ASK, *other, *edited("zero mlp 0", text))

    def test_a_vector_of_another_width(self, tmp_path):
        save_file({"v": torch.ones(47)}, tmp_path / "v.safetensors")
        told = failure("snapshot", *ASK, *edited(f"steer 1 {tmp_path}/v.safetensors 4"))
        assert "47 numbers (try: 48" in told

    def test_a_prompt_b_that_cannot_be_run(self):
        ask = ("snapshot", *ASK, "--change", "--versus-prompt")
        assert "prompt B: the prompt is empty" in failure(*ask, "xyz")
        assert "prompt B: the prompt has 12 tokens" in failure(*ask, "ABC" * 4)
        noted = run(*ask, "AxB")
        assert noted.stderr.startswith("note: prompt B: dropped 1 character")


def test_the_page_tells_the_grammar():
    page = run("edits")
    assert (page.exit_code, page.stderr) == (0, "")
    assert GRAMMAR in page.stdout
    for example in EXAMPLES:
        assert f"--edit '{example}'" in page.stdout
    assert max(map(len, page.stdout.splitlines())) <= 100

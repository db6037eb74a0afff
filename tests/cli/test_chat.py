"""--chat: from a message to the ids that the model reads, in a script and on the screen."""

import pytest

from tests.cli.running import failure, record, run
from tests.ending import ended
from tests.models.chats import DEAF, DEFAULT_SYSTEM, GEMMA, LLAMA2, chat_tokenizer
from tests.models.checkpoints import save_model

ASK = ("--lens", "tokens", "--chat", "--prompt", "Hi there")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small random model with a tokenizer; `use` gives it a chat template."""
    path = tmp_path_factory.mktemp("chat") / "model"
    save_model(path, vocab_size=300, max_position_embeddings=256)
    return path


def use(folder, template):
    tokenizer = chat_tokenizer(template)
    for old in folder.glob("chat_template*"):
        old.unlink()
    tokenizer.save_pretrained(folder)
    return tokenizer


def ids(found):
    return [token["id"] for token in found["tokens"]]


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("template", [LLAMA2, DEFAULT_SYSTEM])
def test_the_recorded_ids_are_those_of_apply_chat_template(folder, template, system):
    tokenizer = use(folder, template)
    messages = [{"role": "user", "content": "Hi there"}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    found = record(folder, *ASK, *(() if system is None else ("--system", system)))
    assert ids(found) == tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert found["prompt"] == tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )


def test_a_context_belongs_to_the_message(folder, tmp_path):
    tokenizer = use(folder, LLAMA2)
    context = tmp_path / "context"
    context.write_text("A fact.\n")
    found = record(folder, *ASK, "--context-file", context)
    messages = [{"role": "user", "content": "A fact.\nHi there"}]
    assert ids(found) == tokenizer.apply_chat_template(messages, return_dict=False)


def test_the_screen_shows_the_template(folder):
    use(folder, GEMMA)
    ask = ("--lens", "screen", "--chat", "--prompt", "Hi there", "--size", "120x30")
    result = run("snapshot", folder, *ask)
    assert result.exit_code == 0, result.stderr
    assert "Prompt · user · assistant" in result.stdout
    assert "<s><start_of_turn>user" in result.stdout
    assert "<s><s>" not in result.stdout


def test_what_does_not_go_together_is_wrong_usage():
    for command in ("snapshot", "open"):
        arguments = ("--lens", "tokens") if command == "snapshot" else ()
        said = failure(command, *arguments, "--prompt", "CAB", "--system", "x", code=2)
        assert "--chat" in said
    said = failure("snapshot", "--lens", "tokens", "--ids", "1", "--chat", code=2)
    assert "no chat template" in said


def test_what_cannot_be_done_is_one_line(folder):
    assert failure("snapshot", *ASK) == (
        "error: this model's tokenizer has no chat template "
        "(try: the prompt without --chat, or a model that was tuned for chat)\n"
    )
    use(folder, GEMMA)
    said = failure("snapshot", folder, *ASK, "--system", "x")
    assert said == (
        "error: the chat template refuses this: System role not supported "
        "(try: the prompt without --system)\n"
    )
    use(folder, DEAF)
    assert "drops the system message" in failure("snapshot", folder, *ASK, "--system", "x")


@pytest.mark.slow
def test_the_program_opens_in_the_template_and_c_takes_it_out(folder, tmp_path):
    from tests.test_terminal import Terminal  # skips where there are no pseudo-terminals

    use(folder, DEFAULT_SYSTEM)
    terminal = Terminal(
        tmp_path, "open", str(folder), "--chat", "--system", "Be brief.", "--prompt", "Hi there"
    )
    try:
        terminal.wait("Prompt · system · user · assistant", "Be brief.<|im_end|>", "verified")
        terminal.child.send("\x1b")
        terminal.wait("e edit")
        terminal.child.send("cc")
        terminal.wait("Prompt ─", "Hi there")
        assert "im_start" not in terminal.text.split("Map")[0]
        terminal.child.send("cc")
        terminal.wait("Prompt · system · user · assistant", "Be brief.<|im_end|>")
    finally:
        ended(terminal.child)


@pytest.mark.parametrize(("before", "after"), [("A fact.\n", "Hi?\n"), ("\n A fact.\n", "Hi?")])
def test_a_context_ends_where_it_did_though_the_template_trims(folder, tmp_path, before, after):
    """Gemma's trims what was written: its first token after the context is the query's first."""
    use(folder, GEMMA)
    context = tmp_path / "context"
    context.write_text(before)
    found = record(
        folder, "--lens", "context", "--chat", "--prompt", after, "--context-file", context
    )
    (figure,) = found["figures"]
    tokens = [token["text"] for token in found["tokens"]]
    told = figure["extra"]
    first = told["kept"] + told["context"]
    assert "".join(tokens[first:]).startswith("Hi?")
    assert "".join(tokens[:first]).endswith("A fact.\n")


def test_a_template_that_changes_the_prompt_leaves_no_context_to_find(folder, tmp_path):
    use(folder, "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}")
    context = tmp_path / "context"
    context.write_text("a fact.\n")
    told = failure("snapshot", folder, *ASK, "--context-file", context, "--lens", "context")
    assert "the chat template changes the prompt" in told

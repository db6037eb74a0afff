"""`llmscope serve`: what it takes, what it starts, and what it says."""

import socket
from contextlib import closing

import pytest

from llmscope.cli.commands import serve
from llmscope.cli.output.file_page import file_page
from llmscope.draw import load_theme
from llmscope.errors import ScopeError
from llmscope.runs.shipped import run_folder
from llmscope.web.bind import listen
from tests.cli.running import failure, fresh, run


@pytest.fixture
def asked(monkeypatch):
    """What was to be served, and what was to be opened."""
    calls = {"serve": [], "file": [], "open": []}
    monkeypatch.setattr(serve, "_serve", lambda *given: calls["serve"].append(given) or 0)
    monkeypatch.setattr(serve, "_serve_file", lambda *given: calls["file"].append(given) or 0)
    monkeypatch.setattr(
        "llmscope.cli.commands.open.show", lambda one: calls["open"].append(one) or 0
    )
    return calls


ODD = "--x $(touch y) 'a\" é\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["gpt2"],
        ["./a folder", "--prompt", ODD],
        ["--prompt", "", "--chat", "--system", "-"],
        ["--edit", "zero mlp 1", "--edit", "zero mlp 2", "--no-ascii", "--unverified"],
        ["x", "--temperature", "0.8", "--sample-top-k", "40", "--threads", "2", "--ascii"],
        ["x", "--adapter", "one", "--adapter=--two", "--theme", "abyss", "--color", "16"],
        ["--trust-remote-code", "--allow-pickle", "--no-special-tokens", "--debug"],
        ["--resume", "--device", "cpu"],
    ],
    ids=str,
)
def test_a_page_opens_what_the_terminal_would(asked, arguments):
    assert run("open", *arguments).exit_code == 0
    assert run("serve", "--port", "8001", "--host", "localhost", *arguments).exit_code == 0
    ((host, port, command, model, pages),) = asked["serve"]
    assert (host, port, pages) == ("localhost", 8001, 4)
    at = command.index("llmscope")
    assert command[at + 1] == "open"
    assert run(*command[at + 1 :]).exit_code == 0
    assert asked["open"][0] == asked["open"][1]
    assert asked["open"][0].load.model == model


@pytest.fixture
def snapshot(tmp_path):
    path = tmp_path / "a b.json"
    assert run("snapshot", "--prompt", "CAB", "--lens", "tokens", "--out", path).exit_code == 0
    return path


def test_a_page_shows_a_run(asked, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "llmscope.cli.launch.watch", lambda what, **look: shown.append((what, look["theme"])) or 0
    )
    for named in ("builtin:town-run", str(run_folder("builtin:town-run"))):
        result = run("serve", named, "--theme", "abyss", "--port", "0", "--ascii")
        assert result.exit_code == 0, result.stderr
        (*_, words, model, _) = asked["serve"].pop()
        at = words.index("llmscope")
        assert (words[at + 1], model) == ("watch", named)
        assert run(*words[at + 1 :]).exit_code == 0
        assert shown.pop() == ((named,), "abyss")
    assert asked["open"] == asked["file"] == []


def test_a_file_is_shown_on_a_page_without_a_program(asked, snapshot):
    result = run("serve", snapshot, "--theme", "abyss", "--port", "0", "--ascii")
    assert result.exit_code == 0, result.stderr
    ((host, port, path, look),) = asked["file"]
    assert (host, port, path) == ("127.0.0.1", 0, snapshot)
    assert (look.theme, look.ascii) == ("abyss", True)
    assert asked["serve"] == asked["open"] == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_page_of_a_file_is_that_of_snapshot(snapshot, tmp_path, theme):
    out = tmp_path / "a.html"
    words = ("snapshot", "--prompt", "CAB", "--lens", "tokens", "--theme", theme, "--out", out)
    assert run(*words).exit_code == 0
    served, written = file_page(snapshot, theme, None, None), out.read_text()
    until = "<summary>Where it came from</summary>"
    assert served.split(until)[0] == written.split(until)[0]
    assert load_theme(theme).background in served


@pytest.mark.parametrize("option", [("--max-pages", "3"), ("--bandwidth", "low")])
def test_options_of_a_screen_do_not_go_with_a_file(asked, snapshot, option):
    told = failure("serve", snapshot, *option, code=2)
    assert option[0] in told
    assert "only for a screen" in " ".join(told.split())
    assert asked["file"] == []


def test_a_file_that_cannot_be_replayed_is_told_before_anything_is_served(asked, tmp_path):
    damaged, run_json = tmp_path / "a.json", tmp_path / "run" / "run.json"
    run_json.parent.mkdir()
    for path in (damaged, run_json):
        path.write_text("{")
    assert "run.json" in failure("serve", run_json.parent)
    assert asked["serve"] == []
    with pytest.raises(ScopeError, match=r"a\.json is no snapshot"):
        file_page(damaged, None, None, None)


def test_options_of_a_model_do_not_go_with_a_file(asked, snapshot):
    for option in (("--prompt", "x"), ("--device", "cpu"), ("--chat",)):
        told = failure("serve", snapshot, *option, code=2)
        assert option[0] in told
        assert "was recorded" in told
    assert asked["serve"] == asked["file"] == []


def test_the_port_can_be_set_and_the_host_is_said_each_time(asked, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_PORT", "8123")
    run("serve")
    run("serve", "--port", "0")
    assert [call[:2] for call in asked["serve"]] == [("127.0.0.1", 8123), ("127.0.0.1", 0)]
    monkeypatch.setenv("LLMSCOPE_HOST", "0.0.0.0")
    assert "no setting 'LLMSCOPE_HOST'" in failure("serve")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--theme", "nope"], 1, "no theme"),
        (["--edit", "zero haed 5.3"], 2, "head 5.3"),
        (["--seed", "3"], 2, "needs a --temperature"),
        (["--context-file", "-"], 2, "a page has no stdin"),
        (["--context-file", "/nowhere"], 1, "cannot read /nowhere"),
        (["--resume", "gpt2"], 2, "takes no model"),
        (["--port", "65536"], 2, "--port"),
        (["--host", ""], 1, "there is no host ''"),
        (["--host", "192.0.2.1"], 1, "'192.0.2.1' is no address of this machine"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_before_anything_is_served(arguments, code, told):
    assert told in " ".join(failure("serve", *arguments, code=code).split())


def test_a_port_that_is_taken_is_told_in_one_line():
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        line = failure("serve", "--port", port)
    assert line.startswith(f"error: port {port} is taken (try: --port ")


def test_a_damaged_file_costs_one_line(tmp_path):
    (tmp_path / "a.json").write_text("{")
    assert "a.json" in failure("serve", tmp_path / "a.json", "--port", "0")


def test_without_the_package_it_says_what_to_install():
    code = "import sys; sys.modules['textual_serve'] = None\nfrom llmscope.cli import main; main()"
    result = fresh("serve", code=code)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: serve needs the package textual-serve")
    assert "pip install '.[serve]' in the checkout" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_other_machines_are_told_in_a_warning(host, warned, capsys, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "here there")
    listening = listen(host, 0)
    for one in listening.sockets:
        one.close()
    serve._tell("http://link", listening)
    out, told = capsys.readouterr()
    assert out == "http://link\n", "stdout is the link alone"
    assert ("warning: other machines can reach this" in told) == warned
    assert (f"ssh -L {listening.port}:127.0.0.1:{listening.port}" in told) != warned
    assert "the link opens one browser, once" in told
    assert ("runs a program here as you" in told) == warned
    serve._tell("http://link", listening, "a·b.json")
    out, told = capsys.readouterr()
    assert out == "http://link\n"
    assert "the link can be opened by anyone who has it; it only shows a·b.json" in told
    assert ("whoever has the link sees a·b.json" in told) == warned
    assert "runs a program" not in told

"""The tools as plain functions, and what they list."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from llmscope.agents.answer import LIMIT, clip_text, fit_answer
from llmscope.agents.establishes import VERDICTS, establishes
from llmscope.agents.files import OutputFolder
from llmscope.agents.session import AgentCall, AgentSession, LoadOptions
from llmscope.agents.tools import TOOLS, run
from llmscope.errors import ARGUMENTS, TOOL, ScopeError, option
from llmscope.lenses import lens, names
from tests.agents.truth import ANIMALS, probability
from tests.cli.running import run as command

pytestmark = pytest.mark.xdist_group("agents")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session of this process, with the default model."""
    folder = OutputFolder(tmp_path_factory.mktemp("files"))
    return AgentSession(LoadOptions("builtin:town"), folder)


def answer(session, tool, call=None, **given):
    text = run(session, tool, given, call or AgentCall())
    assert len(text.encode()) <= LIMIT
    return text


def test_the_client_sees_eight_tools_and_what_they_take(agent):
    async def listed():
        return await agent.client.list_tools()

    tools = agent.portal.call(listed).tools
    assert [one.name for one in tools] == list(TOOLS)
    assert len(tools) <= 8
    for one in tools:
        assert one.input_schema == TOOLS[one.name].schema()
        assert one.input_schema["additionalProperties"] is False
        assert 40 < len(one.description) < 600
    assert "verdict" in (agent.client.instructions or "")


def test_every_lens_says_what_it_establishes():
    for name in names():
        said = establishes(lens(name))
        assert 60 < len(said) < 600, name
        assert (
            said == f"{lens(name).establishes} It does not establish {lens(name).not_established}"
        )
    assert list(VERDICTS) == ["verified", "partial", "unverified", "refused"]


@pytest.mark.parametrize("name", names())
def test_every_lens_is_looked_at_and_explained_within_the_limit(session, name):
    explained = answer(session, "explain", topic=name)
    assert explained.startswith(f"{name}: ")
    reads_b = lens(name).reads_prompt_b
    other = {"versus_prompt": ANIMALS.replace("cow", "hen")}
    told = answer(session, "look", lens=name, prompt=ANIMALS, **(other if reads_b else {}))
    if not reads_b:
        with pytest.raises(ScopeError, match="neither the lens nor an edit in force reads"):
            answer(session, "look", lens=name, prompt=ANIMALS, **other)
    assert re.search(r"^verdict: (verified|partial|refused)", told, re.M)
    assert re.search(r"^establishes: ", told, re.M)


def test_rows_that_do_not_fit_are_in_the_file_that_is_named(session):
    told = answer(session, "look", lens="attention", layer=3, prompt=ANIMALS)
    count, path = re.search(r"^([\d,]+) more rows in (.+)$", told, re.M).groups()
    rows = [line for line in told.split("\n") if "\t" in line][1:]
    total = int(re.search(r"([\d,]+) rows, ", told)[1].replace(",", ""))
    assert len(rows) + int(count.replace(",", "")) == total
    figure = json.loads(Path(path).read_text())["figures"][0]
    assert (figure["lens"], figure["extra"]["layer"]) == ("attention", 3)
    assert len(figure["values"]) == len(figure["axes"][0]["labels"])


def test_rows_that_were_left_out_can_be_asked_for(session):
    given = {"lens": "ablation", "prompt": ANIMALS, "order": "largest"}
    first = answer(session, "look", rows=10, **given)
    rest = answer(session, "look", rows=10, skip=10, **given)
    tables = [[line for line in one.split("\n") if "\t" in line][1:] for one in (first, rest)]
    sizes = [abs(float(row.split("\t")[-1])) for table in tables for row in table]
    assert len(sizes) == 20
    assert sizes == sorted(sizes, reverse=True)


def test_a_long_help_has_parts(session):
    first = answer(session, "explain", topic="logit-lens")
    assert "part=2 goes on" in first
    second = answer(session, "explain", topic="logit-lens", part=2)
    assert "Belrose" in second
    assert "goes on" not in second
    with pytest.raises(ScopeError, match="2 parts"):
        answer(session, "explain", topic="logit-lens", part=3)


def test_topics_of_explain(session):
    assert "zero PART" in answer(session, "explain", topic="edits")
    assert all(name in answer(session, "explain", topic="verdicts") for name in VERDICTS)
    listed = answer(session, "explain", topic="lenses")
    assert all(f"{name}: " in listed for name in names())


def test_without_a_model_a_call_says_what_to_open(tmp_path):
    empty = AgentSession(LoadOptions(), OutputFolder(tmp_path))
    for tool, given in (("look", {"lens": "tokens"}), ("generate", {}), ("edit", {"edits": []})):
        with pytest.raises(ScopeError, match="no model is open") as error:
            answer(empty, tool, prompt="a", **given)
        assert "model=builtin:town" in error.value.hint
    assert not empty.is_open


def test_attention_of_one_token_is_its_row(session):
    told = answer(session, "look", lens="attention", layer=4, head=0, position=-1, prompt=ANIMALS)
    rows = [line.split("\t") for line in told.split("\n") if "\t" in line][1:]
    assert "query 10" in told
    assert sum(float(row[-1]) for row in rows) == pytest.approx(1, abs=2e-3)


def test_a_difference_is_this_prompt_minus_the_other(session):
    given = {"lens": "next-token", "prompt": ANIMALS, "target": " calf"}
    other = ANIMALS.replace("cow", "hen")
    told = answer(session, "look", versus_prompt=other, change=True, **given)
    row = next(line for line in told.split("\n") if "·calf\t" in line)
    truth = probability(ANIMALS, " calf") - probability(other, " calf")
    assert float(row.split("\t")[3]) == pytest.approx(truth, rel=1e-3)


def test_edits_that_do_not_fit_leave_those_before(session):
    answer(session, "edit", edits=["zero head 1.0"], prompt=ANIMALS)
    with pytest.raises(ScopeError):
        answer(session, "edit", edits=["zero head 77.0"])
    assert [str(one) for one in session.edits] == ["zero head 1.0"]
    told = answer(session, "compare")
    assert "with the edits" in told
    answer(session, "edit", edits=[])


def test_a_patch_of_the_last_stream_gives_what_prompt_b_gives(session):
    other = ANIMALS.replace("cow", "hen")
    told = answer(
        session,
        "edit",
        edits=["patch stream 5 @-1 from B"],
        prompt=ANIMALS,
        versus_prompt=other,
    )
    rows = [line.split("\t") for line in told.split("\n") if "\t" in line][1:]
    answer(session, "edit", edits=[])
    assert len(rows) >= 5
    for token, _, edited, _ in rows:
        truth = probability(other, token.replace("·", " "))
        assert float(edited) == pytest.approx(truth, rel=1e-3)


def test_the_second_model_stays_for_the_lenses(session):
    told = answer(session, "compare", prompt="what do you sell ?", versus_model="builtin:town-sft")
    assert re.search(r"^KL\(A ‖ B\) [\d.e-]+ nats", told, re.M)
    told = answer(session, "look", lens="model-diff", mode="next", prompt="what do you sell ?")
    assert "verdict: verified" in told
    session.scope(AgentCall()).compare(None)


def test_a_call_that_is_given_up_ends_between_layers(session):
    from llmscope.support.sandbox import Cancelled

    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(Cancelled):
        answer(
            session,
            "look",
            AgentCall(cancelled),
            lens="next-token",
            prompt="a cow and a hen and a dog",
        )
    assert len(calls) <= 5


def test_chat_puts_the_prompt_into_the_template(session, monkeypatch):
    scope = session.scope(AgentCall())
    template = "{% for one in messages %}question: {{ one.content }} {% endfor %}answer:"
    monkeypatch.setattr(scope.tokenizer, "chat_template", template)
    told = answer(session, "look", lens="next-token", prompt="where does Anna live?", chat=True)
    assert "question: where does anna live? answer:" in told
    text = "question: where does Anna live? answer:"
    truth = scope.look("next-token", recording=scope.record(text, special_tokens=False))
    rows = [line.split("\t") for line in told.split("\n") if "\t" in line][1:]
    assert float(rows[0][3]) == pytest.approx(float(truth.values[0]), rel=1e-3)


def test_sampling_is_repeatable(session):
    given = {"prompt": "the cat", "tokens": 6, "temperature": 1.5}
    one, two = (answer(session, "generate", seed=seed, **given) for seed in (1, 1))
    other = answer(session, "generate", seed=2, **given)
    assert one == two
    assert one.split("generated")[1] != other.split("generated")[1]


def test_an_answer_is_cut_between_rows_and_characters():
    rows = [f"row {number} ‹é›" for number in range(500)]
    text = fit_answer(["head"], rows, ["foot"], file=lambda: "FILE")
    kept = [line for line in text.split("\n") if line.startswith("row")]
    assert kept == rows[: len(kept)]
    assert f"{500 - len(kept)} more rows in FILE" in text
    assert LIMIT - 60 < len(text.encode()) <= LIMIT
    assert fit_answer(["head"], rows[:2], ["foot"]) == "head\nrow 0 ‹é›\nrow 1 ‹é›\nfoot"
    cut = clip_text("é" * 5000)
    assert len(cut.encode()) <= LIMIT
    assert cut.endswith("é…")


@pytest.mark.parametrize(("name", "mode"), [("attention", "mean"), ("residual", "cosine")])
def test_an_exported_table_is_that_of_a_batch(session, tmp_path, name, mode):
    parquet = pytest.importorskip("pyarrow.parquet")
    answer(session, "look", lens=name, mode=mode, prompt=ANIMALS)
    for suffix in ("csv", "parquet"):
        answer(session, "export", path=f"{name}.{suffix}")
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    prompts.write_text(json.dumps({"prompt": ANIMALS}) + "\n")
    words = ("--prompts", prompts, "--lens", f"{name}:{mode}", "--out", out)
    assert command("snapshot", "builtin:town", *words).exit_code == 0
    (shard,) = (out / name).iterdir()
    batch, table = (
        parquet.read_table(path) for path in (shard, session.folder.path / f"{name}.parquet")
    )
    assert table.schema.names == batch.schema.names
    assert table.schema.names == [column.name for column in lens(name).table(mode)]
    text = (session.folder.path / f"{name}.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == table.schema.names
    assert len(rows) == len(table) == len(batch) > 0
    for column in table.schema.names:
        ours, theirs = table[column].to_pylist(), batch[column].to_pylist()
        if isinstance(ours[0], float):
            assert ours == pytest.approx(theirs, abs=1e-6)
            assert [float(row[column]) for row in rows] == pytest.approx(ours, rel=1e-6)
        else:
            assert ours == theirs
            assert [row[column] for row in rows] == [str(value) for value in ours]


def test_hints_name_the_arguments_of_tools(session):
    taken = {one.name for tool in TOOLS.values() for one in tool.parameters}
    assert {name.replace("-", "_") for name in ARGUMENTS} <= taken
    for spelled in TOOL.values():
        if not spelled.startswith("llmscope "):
            named = re.findall(r"(\w+)=", spelled)
            assert set(named) <= taken
            tools = re.findall(r"^(\w+) with \w+=", spelled)
            assert all(named[0] in {one.name for one in TOOLS[tool].parameters} for tool in tools)
    _answer = pytest.importorskip("llmscope.agents.server")._answer
    alone = {"prompt": "cat -> kitten", "lens": "model-diff"}
    text, failed = _answer(session, "look", alone, AgentCall())
    assert not failed
    assert "compare with versus_model=OTHER, or llmscope snapshot --versus-dtype" in text
    assert option("versus-model").startswith("scope.compare")  # for Python again


def test_trust_is_that_of_the_command_line():
    options = LoadOptions("a", trust_remote_code=False, allow_pickle=False)
    assert not options.another("b").trust_remote_code
    taken = {one.name for tool in TOOLS.values() for one in tool.parameters}
    assert not taken & {"trust_remote_code", "allow_pickle", "unverified", "out"}

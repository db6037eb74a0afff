"""The tool `generate`: let the model go on with a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import CELL, cell, fit_answer, line
from llmscope.agents.parameters import Parameter, Tool
from llmscope.agents.tools.shared import CHAT, PROMPT, state_lines, verdict_line, verdict_of
from llmscope.errors import ScopeError
from llmscope.models.sampler import Sampler

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession

MOST_TOKENS = 2000
"""Maximum number of tokens of one call."""
USUAL = 20
SHOWN = 700
"""Maximum characters of the generated text in an answer."""


def generate(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Return the text that the model generates after a prompt, with the edits in force."""
    from llmscope.engine.events import Request, Sample, Written
    from llmscope.engine.sampling import sampled

    scope = session.scope(call)
    text = session.text(arguments)
    names = {"temperature": "temperature", "sample_top_k": "top_k", "top_p": "top_p"}
    names |= {"min_p": "min_p", "seed": "seed"}
    settings = {field: arguments[name] for name, field in names.items() if name in arguments}
    if settings.keys() - {"temperature"} and not settings.get("temperature"):
        raise ScopeError(
            "a cut or a seed has no effect without a temperature", "temperature=1 with it"
        )
    sampler = Sampler(**settings)
    wanted = arguments.get("tokens", USUAL)
    recording = session.record(text, call)
    first, ids, labels, end = recording, list[int](), list[str](), "all tokens that were asked for"
    for number in range(wanted):
        written = Written(len(text), tuple(ids)) if ids else None
        request = Request(0, text, (), written=written)
        result = sampled(scope, recording, request, Sample(sampler))
        if result.error:
            raise ScopeError(result.error)
        if result.stops:
            end = f"the stop token {cell(result.label)}"
            break
        ids.append(result.token)
        labels.append(result.label)
        if result.full:
            end = "the context is full"
            break
        call.report(f"{number + 1} of {wanted} tokens")
        if number + 1 < wanted:
            recording = session.record(text, call, written=tuple(ids))
    tokens = scope.loaded_model.tokens
    written_text = tokens.describe(ids).text if tokens is not None and ids else ""
    pieces = [cell(label) for label in labels]

    def file() -> str:
        path = session.folder.put(session.folder.free("generate", ".txt"), written_text)
        return session.folder.shown(path)

    whole = line(written_text, SHOWN)
    cut = len(" ".join(written_text.split())) > SHOWN
    return fit_answer(
        [
            *state_lines(first),
            verdict_line(verdict_of(scope, first)),
            "establishes: what the model says with this sampler; another draw may differ",
            f"sampler: {sampler.said}",
            f"generated {len(ids)} tokens: {whole}".rstrip(" :"),
            f"whole text: {file()}" if cut else "",
            f"ended by: {end}",
        ],
        [f"tokens: {' '.join(pieces)}"] if 0 < sum(map(len, pieces)) < 20 * CELL else [],
    )


GENERATE = Tool(
    "generate",
    "Continue the prompt, with the edits in force: the likeliest token each time, or sampled with "
    "a temperature and a seed. Answers the text, its tokens and why it ended.",
    (
        PROMPT,
        CHAT,
        Parameter(
            "tokens", "integer", f"Maximum number of tokens; {USUAL}.", least=1, most=MOST_TOKENS
        ),
        Parameter("temperature", "number", "Divides the logits; 0: the likeliest.", least=0),
        Parameter("sample_top_k", "integer", "Keep this many tokens; 0: all.", least=0),
        Parameter("top_p", "number", "Keep this share of the probability.", least=0, most=1),
        Parameter("min_p", "number", "Keep this share of the likeliest one's.", least=0, most=1),
        Parameter("seed", "integer", "Seed of the draws.", least=0),
    ),
    generate,
)

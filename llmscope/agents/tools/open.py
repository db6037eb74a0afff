"""The tool `open`: load a model, or tell about the one that is open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscope.agents.answer import fit_answer, line
from llmscope.agents.parameters import Parameter, Tool
from llmscope.agents.tools.compare import BASE
from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.agents.session import AgentCall, AgentSession
    from llmscope.scope.scope import Scope

LOADS = ("adapters", "dtype", "device")
"""Arguments that only a model which is loaded now can have."""


def open_model(session: AgentSession, arguments: Mapping[str, Any], call: AgentCall) -> str:
    """Load a model if one is named, switch its adapter if one is named, and tell about it."""
    model = arguments.get("model")
    if model is None and any(name in arguments for name in LOADS):
        raise ScopeError("these need a model to load", "model=NAME with them")
    if model is not None:
        from llmscope.models.spec import parse

        for spec in (model, *arguments.get("adapters", ())):
            parse(spec)  # a name that no source takes leaves the open model as it is
        changed = {name: arguments[name] for name in ("dtype", "device") if name in arguments}
        changed["adapters"] = tuple(arguments.get("adapters", ()))
        session.open(session.options.another(model, **changed), call)
    scope = session.scope(call)
    if "adapter" in arguments:
        scope.use(None if arguments["adapter"] == BASE else arguments["adapter"])
        session.seen = None
    return fit_answer(_facts(session, scope), (), _next_steps(session))


def _facts(session: AgentSession, scope: Scope) -> list[str]:
    info = scope.info()
    context = "" if info.context is None else f", context {info.context:,} tokens"
    names_by_status: dict[str, list[str]] = {}
    reasons = []
    for name in scope.verdicts.capabilities:
        verdict = scope.verdicts(name)
        names_by_status.setdefault(verdict.status, []).append(name)
        if verdict.reason:
            reasons.append(f"{name}: {verdict.reason}")
    edits = "; ".join(map(str, session.edits)) or "none"
    lines = [
        f"open: {info.spec}",
        f"{info.architecture}, {info.layers} layers, {info.heads} heads, width {info.width}, "
        f"{info.vocabulary:,} tokens, {info.parameters:,} parameters, {info.dtype} on "
        f"{info.device}{context}",
        f"adapter in use: {info.adapter or BASE}; others: {', '.join(info.adapters) or 'none'}",
        "; ".join(f"{status}: {', '.join(names)}" for status, names in names_by_status.items()),
        *reasons[:3],
        *(f"note: {notice}" for notice in info.notices[:3]),
        f"chat template: {'yes' if scope.chat.words else 'none'}",
        f"learned lenses: {', '.join(info.lenses) or 'none'}; dictionaries of features: "
        f"{len(scope.features)}",
        f"edits in force: {edits}",
        f"files go to {session.folder.shown(session.folder.path)}",
    ]
    return [line(fact, 240) for fact in lines]


def _next_steps(session: AgentSession) -> list[str]:
    wanted = "next: look lens=next-token prompt=…, or explain topic=lenses"
    return [wanted] if session.prompt is None else []


OPEN = Tool(
    "open",
    "Load a model, which then stays loaded: a hub id, a folder, a GGUF file, pypi:NAME or "
    "builtin:NAME (builtin:town, builtin:sort). Without a model, tell about the open one, or "
    "switch its adapter. Answers what it is, and which of its parts are verified. Loading drops "
    "the edits.",
    (
        Parameter("model", "text", "Which model to load; left out: the open one."),
        Parameter("adapters", "texts", "PEFT adapters or checkpoints to load with it."),
        Parameter("adapter", "text", f"The adapter to switch on, by its name, or {BASE}."),
        Parameter("dtype", "text", "auto, float32, bfloat16 or float16."),
        Parameter("device", "text", "auto, cpu, cuda, cuda:N, mps or spread."),
    ),
    open_model,
)

"""The workspaces: a main figure on the left, details on the right, one key each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llmscope.tui.state.view_state import ViewState


class PaneEntry(NamedTuple):
    """Where a pane is, so that its title is known before its module is imported.

    Attributes:
        title: the name as displayed.
        widget: its class, as `module:name`; the module is in `llmscope.tui.panes`.
    """

    title: str
    widget: str


PANES = {
    "map": PaneEntry("the map", "map:MapPane"),
    "next-token": PaneEntry("next token", "next_token:NextTokenPane"),
    "attention": PaneEntry("attention", "attention:AttentionPane"),
    "mlp": PaneEntry("MLP", "mlp:MlpPane"),
    "tokens": PaneEntry("tokens", "tokens:TokensPane"),
    "reader": PaneEntry("the text", "reader:ReaderPane"),
    "heads": PaneEntry("heads", "lens:HeadsPane"),
    "heads-all": PaneEntry("all heads of the layer", "lens:AllHeadsPane"),
    "neuron-tokens": PaneEntry("what the neuron says", "lens:NeuronTokensPane"),
    "neuron-activation": PaneEntry("when the neuron fires", "lens:NeuronActivationPane"),
    "features": PaneEntry("features", "features:FeaturesPane"),
    "feature-prompt": PaneEntry("when the feature fires", "features:FeaturePromptPane"),
    "feature-tokens": PaneEntry("what the feature says", "features:FeatureTokensPane"),
    "feature-fit": PaneEntry("fit of the dictionary", "features:FeatureFitPane"),
    "attribution": PaneEntry("attribution", "lens:AttributionPane"),
    "attribution-heads": PaneEntry("attribution by head", "lens:AttributionHeadsPane"),
    "saliency": PaneEntry("saliency", "lens:SaliencyPane"),
    "context": PaneEntry("context", "context:ContextPane"),
    "context-proof": PaneEntry("proof", "context:ProofPane"),
    "context-steps": PaneEntry("growth", "context:StepsPane"),
    "context-gain": PaneEntry("gain", "context:GainPane"),
    "edits": PaneEntry("edits", "edits:EditsPane"),
    "ablation": PaneEntry("ablation", "what_if:AblationPane"),
    "patching": PaneEntry("patching", "what_if:PatchingPane"),
    "walkthrough": PaneEntry("walkthrough", "walkthrough:WalkthroughPane"),
    "walk-values": PaneEntry("values of the step", "walk_values:ValuesPane"),
    "walk-said": PaneEntry("step in words", "walkthrough:StepTextPane"),
    "contrast": PaneEntry("contrast with B", "contrast:ContrastPane"),
    "contrast-kl": PaneEntry("divergence of predictions", "contrast:DivergencePane"),
    "contrast-word": PaneEntry("word in both", "contrast:WordPane"),
    "stages": PaneEntry("what training changed", "stages:StagesPane"),
    "stages-kl": PaneEntry("how predictions changed", "stages:StagesKlPane"),
    "models": PaneEntry("two models by layer", "models:ModelsMapPane"),
    "models-kl": PaneEntry("predictions of two models", "models:ModelsKlPane"),
    "models-next": PaneEntry("next token in both", "models:ModelsNextPane"),
    "models-parts": PaneEntry("changed parts", "models:ModelsPartsPane"),
    "models-streams": PaneEntry("streams of two models", "models:ModelsStreamsPane"),
    "reasoning": PaneEntry("reasoning", "reasoning:ReasoningPane"),
    "forks": PaneEntry("forks", "reasoning:ForksPane"),
    "passages": PaneEntry("passages", "reasoning:PassagesPane"),
    "prompts": PaneEntry("list of prompts", "prompts:PromptsPane"),
}
"""Our own panes. What else is known of a pane is in its class."""
TITLES = {key: entry.title for key, entry in PANES.items()}


@dataclass(frozen=True)
class Workspace:
    """A set of panes that answer one kind of question.

    Attributes:
        name: identifies it in actions and in stored state.
        title: the name as displayed.
        spine: the pane of the main figure, which cannot be hidden.
        details: the other panes, in their order. A pane may be in several workspaces.
        least: the one pane that a tiny screen has room for.
        spare: the detail that a medium screen omits; empty if it omits none.
        abbreviation: a beginning of the title that can be read as it, for where room is short;
            empty for the whole title.
        letter: the letter that shows it in the menu of all tabs.
        within: the workspace whose tab it shares; empty if it has a tab of its own.
        words: what else users may type to find it, separated by commas.
    """

    name: str
    title: str
    spine: str
    details: tuple[str, ...]
    least: str
    spare: str = ""
    words: str = ""
    abbreviation: str = ""
    letter: str = ""
    within: str = ""

    @property
    def tab(self) -> str:
        """Return the name of the workspace that its tab is called by."""
        return self.within or self.name

    @property
    def short(self) -> str:
        """Return the title where room is short."""
        return self.abbreviation or self.title

    @property
    def panes(self) -> tuple[str, ...]:
        """Return all of its panes."""
        return (self.spine, *self.details)


# fmt: off
WORKSPACES = (
    # The map shows the tokens and their surprisal already.
    Workspace("overview", "Overview", "map", ("next-token", "attention", "mlp", "tokens"),
        least="next-token", spare="tokens", letter="o", abbreviation="Over",
        words="overview, workspace, workspaces, main, dashboard, start"),
    Workspace("heads", "Heads", "heads", ("heads-all", "attention", "next-token"),
        least="attention", letter="h", words="heads, attention heads, head types, circuits"),
    Workspace("neurons", "Answer: neurons", "mlp",
        ("neuron-tokens", "neuron-activation", "next-token"), least="neuron-tokens", letter="n",
        within="answer", words="neurons, neuron"),
    Workspace("answer", "Answer", "attribution", ("attribution-heads", "saliency", "next-token"),
        least="attribution-heads", letter="a",
        words="answer, why this answer, explain the answer, explanation, who wrote it"),
    # The proof pane shows the next token of each run.
    Workspace("context", "Context", "context-gain",
        ("context-proof", "context", "context-steps", "next-token"), least="context-proof",
        spare="next-token", letter="c",
        words="context, in-context learning, ICL, few-shot, few shot, examples in the prompt, "
        "implicit learning"),
    Workspace("what-if", "What if", "ablation", ("edits", "patching", "next-token"), least="edits",
        letter="w", words="what if, interventions, causal, causality, experiment"),
    Workspace("walkthrough", "Walkthrough", "walkthrough",
        ("walk-values", "walk-said", "next-token"), least="walk-said", letter="k",
        abbreviation="Walk",
        words="walkthrough, step by step, steps, forward pass, how it works, transformer, "
        "computation, RoPE, LayerNorm, RMSNorm, layer norm, embedding, unembedding, arithmetic, "
        "trace"),
    Workspace("compare", "A and B", "contrast", ("contrast-kl", "contrast-word", "next-token"),
        least="contrast-kl", letter="b",
        words="compare, comparison, two prompts, A/B, A and B, diff, diff prompts, side by side"),
    Workspace("stages", "Stages", "stages", ("stages-kl", "next-token"), least="stages-kl",
        letter="s",
        words="stages, fine-tuning, fine-tune, finetuning, training, training stages, "
        "post-training, RLHF, DPO, SFT, instruction tuning, base and tuned, before and after "
        "training, model diff"),
    Workspace("features", "Features", "features",
        ("feature-tokens", "feature-prompt", "feature-fit", "next-token"), least="feature-tokens",
        spare="feature-fit", letter="f", abbreviation="Feat",
        words="features, SAE, SAEs, sparse autoencoder, transcoder, dictionary, dictionary "
        "learning, latents, latent, superposition, monosemanticity, Gemma Scope, SAELens"),
    Workspace("models", "A and B: two models", "models",
        ("models-kl", "models-next", "models-parts", "models-streams"), least="models-kl",
        spare="models-streams", letter="m", within="compare",
        words="models, two models, pair of models, compare models, model diffing, quantization, "
        "quantized, quantised, GGUF and full, int8, bf16, distilled, merged, revisions, A and B"),
    Workspace("reader", "Text", "reader", ("attention", "next-token", "tokens"), least="tokens",
        spare="tokens", letter="t",
        words="reader, read, long text, long context, the text itself, document"),
    Workspace("reasoning", "Text: reasoning", "reasoning", ("forks", "passages", "next-token"),
        least="forks", spare="next-token", letter="r", within="reader",
        words="reasoning, chain of thought, thinking, long texts, traces, documents, RAG"),
    Workspace("prompts", "Prompts", "prompts", (), least="prompts", letter="p",
        abbreviation="Prompt",
        words="prompts, list of prompts, file of prompts, my prompts, where two models part, "
        "largest KL, most surprising tokens, worst prompts"),
)
# fmt: on
FIRST = ("overview", "heads", "answer", "what-if", "reader")
"""The tabs that are always there, with the digits from 1 on."""
BY_SUBJECT = ("reasoning",)
"""Of the workspaces that share a tab, those that the tab shows while their subject is there."""
TABS = 9
"""The digits that show a tab."""
KEYS = {
    workspace.name: (
        str(FIRST.index(workspace.name) + 1) if workspace.name in FIRST else f"0 {workspace.letter}"
    )
    for workspace in WORKSPACES
}
"""The keys that show each workspace by default."""
BY_NAME = {workspace.name: workspace for workspace in WORKSPACES}


def workspace_of(
    pane: str, current: Workspace, among: Sequence[Workspace] = WORKSPACES
) -> Workspace:
    """Return the workspace in which to show a pane: the current one if it has the pane."""
    return current if pane in current.panes else next(w for w in among if pane in w.panes)


def with_subject(state: ViewState, *, context: bool, parts: bool) -> set[str]:
    """Return the workspaces whose subject is there, by their names.

    Args:
        state: the view state.
        context: whether the prompt has a context that is marked off.
        parts: whether the prompt is a chat, a chain of thought, or has passages.
    """
    info = state.info
    shipped = () if info is None else info.family
    adapters = set() if info is None else set(info.adapters) - set(shipped)
    subjects = {
        "context": context or bool(info is not None and info.taught),
        "compare": state.versus_prompt is not None,
        "stages": bool(adapters) or state.adapter is not None,
        "features": bool(state.dictionaries),
        "models": state.two_models,
        "reasoning": parts,
        "prompts": state.prompts is not None,
    }
    return {name for name, there in subjects.items() if there}


def sharing(workspaces: Sequence[Workspace], tab: str) -> list[Workspace]:
    """Return the workspaces that share a tab, that with its name first."""
    return sorted(
        (workspace for workspace in workspaces if workspace.tab == tab),
        key=lambda workspace: bool(workspace.within),
    )


def tab_title(workspaces: Sequence[Workspace], workspace: Workspace) -> str:
    """Return the title of the tab of a workspace."""
    return sharing(workspaces, workspace.tab)[0].title


def tabs_of(
    workspaces: Sequence[Workspace], open_tabs: Collection[str], current: str
) -> list[Workspace]:
    """Return the workspaces that have a tab: the first ones, those that are open, and the current.

    Those that are always there come first, so that their digits never change. A tab that several
    share stands by the current one, or by that with its name.
    """
    by_name = {workspace.name: workspace for workspace in workspaces}
    here = by_name.get(current)
    tabs = {by_name[name].tab for name in open_tabs if name in by_name}
    if here is not None:
        tabs.add(here.tab)
    names = [name for name in FIRST if name in by_name]
    names += [
        workspace.name
        for workspace in workspaces
        if workspace.name in tabs and workspace.name not in names
    ]
    return [here if here is not None and here.tab == name else by_name[name] for name in names]

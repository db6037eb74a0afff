"""Help for the focused pane, built from the lens's help text and the registry of actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmscope.config import CONFIG
from llmscope.draw.color.theme import Theme
from llmscope.edits import GRAMMAR
from llmscope.lenses import lens, names
from llmscope.text import display_text
from llmscope.tui.actions.keymap import Keymap
from llmscope.tui.actions.registry import EVERY
from llmscope.tui.actions.types import Action, Where
from llmscope.tui.dialogs.base import Overlay
from llmscope.tui.theme.textual_theme import text_styles

if TYPE_CHECKING:
    from llmscope.tui.mode import LiveMode

PROMPT_HELP = """\
Whatever you type is read by the model at once, and every pane follows. The tokens are shown in \
place: each has its own shade, and the one under the cursor is marked. The cursor stays on the \
last token while you type, unless you put it on another one.

For a model that was tuned for chat, c in the figures puts the text into the model's own chat \
template, special tokens included, and takes it out again; undo does so too. Everything stays \
yours to edit. The title names who speaks and marks the one whose words the cursor is in; what the \
template writes itself is dim. While there is a template, no special tokens are added to the text.

The model can write on here: F3 writes a token, F4 one after the other until any key, the end \
that the model sets, or that of its context. What it wrote is underlined, and the title counts it; \
undo takes a token back, or a whole run, with its very picture. In the figures E and R do the \
same, u takes a token back, A begins another branch from the token under the cursor and keeps this \
one, ( and ) go through the branches, and S sets how a token is drawn: temperature, top-k, top-p, \
min-p, and a seed with which the same text comes again.

In the workspace Compare there are two prompts, A and B; tab goes from one to the other.

Leave the prompt with esc or tab to walk through the figures: tokens run from left to right, \
layers from top to bottom; point at a place and see what happens there."""


EDITS_HELP = (
    "What if the pass were another one?",
    f"""\
Each edit changes the pass of the prompt, and every pane then shows the pass with all of them \
made, in their order, which counts: one edit finds what those before it have left. The title \
counts those in force; the model itself stays as it is.

{GRAMMAR}""",
)
"""The title and text for the one pane that shows no lens."""
ROOMY = 100
"""Minimum terminal width in columns for showing the actions' names in the config file."""
IN_THIS_PANE = {
    "map": """\
Up and down move by layers, left and right by tokens; {map-view} turns to the next view, {whole} \
shows the whole prompt in blocks of tokens, each by its maximum. Below is the surprisal of each \
token. The lower border prints what the ends of the colours stand for.""",
    "next-token": """\
Up and down choose a candidate: the map's view of the target then asks about it. {pin-target} \
keeps it wherever the cursor goes.

{write-token} writes a token after the prompt and {write-on} goes on; {sampler} sets how it is \
drawn. At temperature 0 that is the first candidate; above, the pane shows the distribution that \
is drawn from, its settings in the title (T, k, p, min-p), and dims what is never drawn.

Top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"; min-p: Nguyen et al. \
2024, "Turning Up the Heat".""",
    "attention": """\
Up and down move by tokens, {head-previous} and {head-next} by heads; {attention-mode} goes round \
one head, the mean and the maximum. Of a long prompt it holds the part around the cursor, and \
{whole} shows all of it in blocks.

Vaswani et al. 2017, "Attention Is All You Need"; sinks: Xiao et al. 2023, "Efficient Streaming \
Language Models with Attention Sinks".""",
    "mlp": """\
Up and down choose a neuron, which the line in words then reads. In a layer that is a mixture of \
experts the pane shows its router instead.

Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value Memories"; gated: Shazeer 2020, \
"GLU Variants Improve Transformer".""",
    "tokens": """\
Up and down move by tokens. A number that is not there yet is a dash.""",
    "heads": """\
Here the cursor is a layer and a head: up and down are layers, left and right heads, and the panes \
beside follow. {map-view} goes round induction, previous token and duplicate token, which are \
measured once on random tokens that are repeated twice, and sink and entropy on this prompt.""",
    "heads-all": """\
One small picture for each head, its number above it: which columns stand out is what to look for. \
Left and right are heads, up and down layers; a click takes a head.""",
    "neuron-tokens": """\
The neuron is the one chosen in the MLP pane, or else the strongest on this token.""",
    "neuron-activation": """\
The neuron is the one chosen in the MLP pane, or else the strongest on this token. The cursor \
stands on the token that all panes are about.""",
    "attribution": """\
The answer is the likeliest next token; {pin-target} pins another. {versus} holds it against the \
candidate that is chosen in the pane of the next token: what is shown is then their difference. \
{map-view} goes round the largest parts, the neurons of the cursor's layer, and the layers.""",
    "attribution-heads": """\
Here the cursor is a layer and a head. Heads of the answer that is asked about, or of the \
difference that {versus} makes of it.""",
    "saliency": """\
{map-view} changes between gradient × input, which is one backward pass, and integrated gradients, \
which are 32 of them and take a moment.""",
    "context": """\
A line --- in the prompt says where the context ends; the model is never given that line. Without \
one the last line is the query. {context-mark} puts the mark after the line of the text cursor.

The last column is the stream: how far its vector after the attention is from that of the patched \
run before the shift, ‖u - u₀‖ / ‖u‖. Up and down move by layers.

{teach} teaches the context to the weights and leaves the query alone in the prompt: type another \
one, and the proof tells how far the change carries, often not far. {teach} once more is the base \
model again, and undo in the prompt brings the context back. {bake} writes the change as a PEFT \
adapter.""",
    "context-proof": """\
A row is a run of the model: what it says next and how probable that is, KL(with the context ‖ \
this run) in nats after the last token, and the largest difference of a logit. 0 nats: the same \
distribution. The patched run does without the context and says the same up to rounding; the naive \
patch, each layer for itself, does not. With a taught context on, the rows are the base model that \
reads the context before this prompt, the taught model, and the base alone.""",
    "context-steps": """\
A column is an example of the context, a line or what stands between blank lines; {map-view} makes \
it a token. A cell is how far it moves the update of that layer. Up and down move by layers.""",
    "context-gain": """\
From left to right, the number of examples before the query; the height is the surprisal of the \
answer, in bits: lower is better known. The answer is what the whole prompt makes likeliest, or \
the target that {pin-target} pinned.""",
    "edits": """\
{edit-zero} in any pane zeroes what is under the cursor there (a head, a neuron, a layer), and \
takes that back; {edit-write} writes any edit, and in this pane the chosen one anew. What is wrong \
stays in the line, with the reason.

Up and down choose an edit. {edit-toggle} switches it off or on, {edit-remove} removes it, \
{edit-weaker} and {edit-stronger} turn the strength of a steering or a scale, from any pane, \
through zero and on; {edit-earlier} makes it earlier in the order, the first one last. {edits-all} \
switches all off at once and on again, to compare by eye. {change} shows in every pane what the \
edits changed instead of what is: with them less without them. Where no edit is made and there is \
a prompt B, it is A − B.

✓ is on, · off, ✗ what the model cannot take, with the reason, or what waits for a prompt B. \
{keep-b} keeps the present prompt as B and {write-b} writes one; {keep-b} once more is no B \
again.""",
    "ablation": """\
Here the cursor is a layer and a head, and {edit-zero} keeps the ablation of that cell as an edit. \
{map-view} goes round heads and parts (attention, MLP, all of the layer), each set to zero or to \
its mean over the prompt, measured by the answer or, for the whole distribution, by KL. The answer \
is the likeliest next token; {pin-target} pins another, {versus} holds it against a second one. \
The title says how many cells are there.""",
    "patching": """\
{keep-b} keeps the present prompt as B, {write-b} writes one; then make this prompt the other one. \
Up and down move by layers, left and right by tokens or heads, and {edit-zero} keeps the patch of \
that cell as an edit. {map-view} goes round the stream, attention, MLP and heads. The title says \
how many cells are there.""",
    "walkthrough": """\
Begin at the top and press down: a row is a step of the pass, and each is made of those above it. \
The panes beside show its numbers and say in words what it does. Or let {walk-on} walk by itself, \
a step after the other, and {walk-back} backwards; the same key, or any other, stops it.

One layer is open, the others are a row that says what they add. After the last step in a layer \
the next layer is opened, and before the first one the layer above it, so that one walks through \
all of them in order; a walk that goes by itself opens the first layer too. {layer-previous} and \
{layer-next} open another layer at the same step, {head-previous} and {head-next} take another \
head; left and right move by tokens.

{step-from} goes to what the step is made of: where that is several things, a digit says which, \
and {step-from} once more takes the first. {step-back} goes back, as often as you went. \
{pane-next} goes to the numbers, each of which tells how it came about.

At the end stands the likeliest next token. {write-token} writes it after the prompt, and the walk \
begins again with the longer text; undo in the prompt takes it back. So a text grows, a token at a \
time.

A step with × could not be verified against the model: the pane in words says why.""",
    "walk-values": """\
The numbers of the step that is chosen in the table: a row is a token where the step has tokens, \
of the head under the cursor where it has heads. The arrows walk among them, a click goes to one, \
and the words tell of the number under the cursor: its formula, the largest terms where it is a \
sum and what all others make together, and of which numbers it was made. {step-from} goes to \
those, {step-back} comes back.

{map-view} shows the weights that the step reads, one after the other, and then again what comes \
out of it. Weights are what the model has learned: they are the same for every text. Of what is \
larger than 64 × 64 the part around the cursor is there, and follows it; tokens of a large \
vocabulary stand in the order of their numbers, the largest first.""",
    "walk-said": """\
The chosen step: what it does, its formula, of which steps it is made, the shape of what comes \
out, the weights that it reads, how closely llmscope's own numbers agree with the model's, and the \
first numbers at the cursor. While the keys are in the pane of the numbers, it tells of the number \
under the cursor first. Up and down choose another step, {step-from} goes to what it is made of.""",
    "contrast": """\
Two prompts stand above the figures, A and B, and each letter in either shows at once. {write-b} \
goes to B from anywhere, {edit} to A, {onward} from A to B; {keep-b} keeps this prompt as B. Where \
there is no B yet, up and down choose a pair to begin with and {take} takes it. The cursor is in \
both: B marks the token that A's is aligned with. {change} shows A − B in the other panes, in \
every workspace: blank at tokens that only A has, 0 where both have seen the same.

{map-view} goes round the cosine of each token's two streams, the same with the mean taken off, \
and the attention to what only one of the prompts has, where left and right are heads. Up and down \
move by layers, left and right by tokens. A token that only A has shows nothing. Where the title \
says that what differs comes later, the token cannot know of it: put the cue first.""",
    "contrast-kl": """\
A row is a token of A, the columns are the divergence of the two predictions after it, both ways. \
Below are the tokens whose probability differs most after the one under the cursor.""",
    "contrast-word": """\
From left to right the layers. {map-view} changes between how alike the token under the cursor is \
in A and in B, and what its stream says of two lists of words; {words} writes those. A word that \
is more than one token counts by its first, and a notice says so.""",
    "stages": """\
The adapter that is on, against the base model; {adapter} goes round those that are loaded. \
{map-view} changes between how much of each matrix was changed, in how many directions, what the \
largest of them say in the layer under the cursor, and at which depth the change shows along the \
prompt. Up and down move by layers. A matrix with 0 was left as it was.""",
    "stages-kl": """\
A bar is how far the adapter moved the prediction after a token. Below are the tokens whose \
probability it changed most after the one under the cursor, with the adapter and without. \
{map-view} shows how much likelier it finds each token than the base does; {keep-b} keeps a prompt \
as B, and then the sums of both answers are held against each other. Of a chat, and with a B, only \
the answer's tokens have bars; {map-view} goes on to all, and to the score of a reward model. \
Left and right move by tokens.""",
}
"""For each pane, how to use it and its sources, in addition to the help of its lens."""


class HelpScreen(Overlay[None]):
    """A modal help page, until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "close", show=False)
    ]

    def __init__(
        self,
        theme: Theme,
        lens_name: str | None,
        where: Where,
        keymap: Keymap,
        pane: str | None,
        mode: LiveMode,
    ) -> None:
        super().__init__()
        self._pane = pane
        self._theme = theme
        self._lens = lens_name
        self._where: Where = where
        self._keymap = keymap
        self._mode = mode

    def compose(self) -> ComposeResult:
        """Yield the page."""
        page = VerticalScroll(Static(self.page(), markup=False), id="help")
        page.border_title = Content("Help")
        page.border_subtitle = Content("↑↓ scroll · esc closes")
        yield page

    def on_mount(self) -> None:
        """Focus the page, so that the arrow keys scroll it."""
        self.query_one("#help").focus()

    def page(self) -> Content:
        """Return the question, the explanation and the keys."""
        ink = text_styles(self._theme)
        question, text = "The prompt", PROMPT_HELP
        if self._mode.subject:
            question, text = self._mode.subject, ""
        if self._lens in names():
            assert self._lens is not None
            found = lens(self._lens)
            question, text = found.question, found.help
        elif self._pane is not None:
            question, text = EDITS_HELP
        if self._pane is not None:
            text += f"\n\n{self._keymap.filled(IN_THIS_PANE[self._pane])}"
        if self._mode.help:
            text = f"{text}\n\n{self._keymap.filled(self._mode.help)}".lstrip()
        parts = [
            Content.assemble((display_text(question), ink.strong)),
            Content(""),
            Content.assemble((display_text(text), ink.text)),
            Content(""),
        ]
        shown = [
            action
            for action in EVERY
            if self._keymap.keys(action) and self._mode.offers(action.name)
        ]
        first = [action for action in shown if action.where == self._where]
        rest = [action for action in shown if action.where != self._where]
        named = f", and their names for [keys] in {CONFIG}" if self.app.size.width >= ROOMY else ""
        for title, actions in ((f"Keys here{named}", first), ("Keys elsewhere", rest)):
            parts += [Content.assemble((title, ink.strong)), *map(self._row, actions), Content("")]
        return Content("\n").join(parts)

    def _row(self, action: Action) -> Content:
        ink = text_styles(self._theme)
        keys = " ".join(self._keymap.shown(action))
        name = f"  {action.name}" if self.app.size.width >= ROOMY else ""
        return Content.assemble(
            (f"{keys:<12}", ink.text),
            (f"{self._mode.titled(action):<52}", ink.dim),
            (name, ink.dim),
        )

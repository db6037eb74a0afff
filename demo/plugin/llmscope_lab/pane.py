"""A pane for llmscope's screen. In a module of its own, because it alone needs Textual."""

from llmscope.tui.panes import LensPane


class MarginPane(LensPane):
    """The lens `margin` beside the heads."""

    key = "margin"
    title = "Margin"
    workspace = "heads"
    words = "margin, confidence, runner-up"
    usage = "Up and down move by tokens."
    lens = "margin"

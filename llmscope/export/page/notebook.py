"""The widget class; it imports anywidget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from llmscope.export.page.document import data_text, script, styles

RENDER = """
async function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "llmscope-page";
  el.append(root);
  const page = await show(root, JSON.parse(model.get("data")), {
    cursor: model.get("cursor"),
    onCursor: (cursor) => {
      model.set("cursor", cursor);
      model.save_changes();
    },
  });
  const follow = () => page.move(model.get("cursor"));
  model.on("change:cursor", follow);
  return () => model.off("change:cursor", follow);
}
export default { render };
"""


class FigureWidget(anywidget.AnyWidget):
    """Figures in a notebook, drawn by the script of the html page; see `llmscope.widget`.

    Without a running kernel, as in a notebook on a web page, its svg is shown instead.

    Args:
        data: what the script draws, as `llmscope.export.page.data.page_data` returns it.
        still: the same figures as svg and text, by MIME type.

    Attributes:
        cursor: the position of the token at the cursor, from 0.
    """

    _esm = script() + RENDER
    _css = styles().partition("\n\n")[2]  # without the rules for a page of its own
    data = traitlets.Unicode().tag(sync=True)
    cursor = traitlets.Int().tag(sync=True)

    def __init__(self, data: Mapping[str, Any], still: Callable[[], dict[str, str]]) -> None:
        self._count, self._still = len(data["tokens"]), still
        super().__init__(data=data_text(data), cursor=data["cursor"])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget by MIME type, with the svg and the text of the same figures."""
        mimebundle = super()._repr_mimebundle_(**kwargs)
        bundle, *metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle,)
        whole = {**(bundle or {}), **self._still()}
        return (whole, *metadata) if metadata else whole

    @traitlets.validate("cursor")
    def _inside(self, proposal: Mapping[str, Any]) -> int:
        """Return the proposed cursor, counted from 0, within the prompt."""
        place = int(proposal["value"])
        place += self._count if place < 0 else 0
        return min(max(place, 0), max(self._count - 1, 0))

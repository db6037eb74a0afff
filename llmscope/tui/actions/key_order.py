"""Text fields that handle keys in the order in which they were pressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events

if TYPE_CHECKING:
    from textual.widget import Widget as Mixin
else:
    Mixin = object  # a second widget base class would hide what the field inherits


class InOrder(Mixin):
    """A text field whose bound keys act at once.

    Textual inserts a letter where it arrives, but sends a bound key, such as backspace, up to the
    app before it acts: letters from the same burst overtake it.
    """

    async def _on_key(self, event: events.Key) -> None:
        if not event.is_printable and await self.act_on(event.key):
            event.stop()
            event.prevent_default()

    async def act_on(self, key: str) -> bool:
        """Run the action that a key is bound to here; return whether it is bound to one."""
        for binding in self._bindings.key_to_bindings.get(key, ()):
            if not binding.priority and await self.app.run_action(binding.action, self):
                return True
        return False

    def takes(self, event: events.Key) -> bool:
        """Return whether a key inserts text here, or is bound here."""
        return event.is_printable or event.key in self._bindings.key_to_bindings

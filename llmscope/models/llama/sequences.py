"""Which tokens the KV cache of llama.cpp holds, and how a pass finds its prefix in it.

The recorder hands a pass the keys and values of its prefix; llama.cpp has them in sequences of its
own. A prefix is found by its keys of the last layer, which differ wherever any earlier number does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.models.llama.names import Names
from llmscope.models.llama.native import SEQUENCES
from llmscope.models.llama.process import LlamaProcess

GONE = -1
"""What stands for the start of the process where it has the tokens no longer."""
REMEMBERED = 16
"""Number of sequences that the process no longer has and whose tokens are kept."""


@dataclass(eq=False)
class CachedTokens:
    """The tokens of one sequence.

    Attributes:
        number: the sequence in llama.cpp.
        ids: its tokens.
        keys: their keys in the last layer. [row, width]
        changed: whether a pass was changed on the way: then it cannot be run again from the ids.
        unshared: how many of its rows no other sequence shares.
        started: the start of the process that it is of; `GONE` if it was dropped since.
    """

    number: int
    ids: list[int]
    keys: Tensor
    changed: bool
    unshared: int
    started: int


class Sequences:
    """The sequences of one process.

    Args:
        process: the process.
        names: the names of the tensors.
        key: the name of the keys of the last layer.
    """

    def __init__(self, process: LlamaProcess, names: Names, key: str) -> None:
        self._process, self._names, self._key = process, names, key
        self._latest: list[CachedTokens] = []

    def decode(
        self,
        ids: Sequence[int],
        past: Tensor | None,
        wanted: Sequence[str],
        writes: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Run tokens on top of a prefix, and return the tensors that are wanted.

        Args:
            ids: the tokens.
            past: the keys of the prefix in the last layer, [head, row, head width]; None: no
                prefix.
            wanted: the names of the tensors.
            writes: tensors that replace those of their names.

        Raises:
            ScopeError: llama.cpp failed, or no longer has an edited prefix.
        """
        self._process.ensure()
        length = 0 if past is None else past.shape[1]
        before = self._find(past) if past is not None else None
        if before is not None and before.started != self._process.starts:
            before = self._again(before, length)
        source, keep, prefix = 0, 0, torch.empty(0)
        if before is not None:
            source, keep, prefix = before.number, length, before.keys[:length]
        if before is not None and len(before.ids) == keep and not writes:
            target, number = before, source
        else:
            target, number = None, self._free(keeping=before)
            source = number if before is None else source
        self._make_room(keep + len(ids), before)
        size = self._names.bytes_per_token * len(ids)
        tensors = self._process.decode(number, source, keep, ids, wanted, size, writes)
        keys = self._process.as_cached(tensors[self._key], "key")
        if target is not None:  # not before: a pass that failed leaves it to be run again
            self._latest.remove(target)
        elif before is not None:  # used again: it is no longer the oldest
            self._latest.remove(before)
            self._latest.append(before)
        self._latest.append(
            CachedTokens(
                number,
                [*(before.ids[:keep] if before else ()), *ids],
                torch.cat([prefix.view(-1, keys.shape[1]), keys]),
                bool(writes) or (before is not None and before.changed),
                len(ids) + (target.unshared if target is not None else 0),
                self._process.starts,
            )
        )
        return tensors

    def _find(self, past: Tensor) -> CachedTokens | None:
        """Return a sequence that begins with these keys."""
        rows = past.transpose(0, 1).flatten(1)
        count = len(rows)
        for tokens in sorted(self._latest, key=lambda tokens: len(tokens.ids) != count):
            if (
                len(tokens.keys) >= count
                and torch.equal(tokens.keys[count - 1], rows[-1])  # most differ there already
                and torch.equal(tokens.keys[:count], rows)
            ):
                return tokens
        raise ScopeError(
            "llama.cpp no longer has the tokens that this pass goes on from",
            "the prompt again, as a new one",
        )

    def _again(self, tokens: CachedTokens, length: int) -> CachedTokens:
        """Run the tokens of a prefix again, which the process lost when it ended."""
        if tokens.changed:
            raise ScopeError(
                "llama.cpp was started anew, and has no edited pass any more",
                "the same again, without the edit and then with it",
            )
        ids = tokens.ids[:length]
        self._make_room(length, None)
        number = self._free(keeping=None)
        self._process.decode(number, number, 0, ids, (), self._names.bytes_per_token * length)
        tokens_again = CachedTokens(
            number, ids, tokens.keys[:length], False, length, self._process.starts
        )
        self._latest.append(tokens_again)
        return tokens_again

    @property
    def _living(self) -> list[CachedTokens]:
        """The tokens that the process has, the oldest first."""
        return [tokens for tokens in self._latest if tokens.started == self._process.starts]

    def _free(self, *, keeping: CachedTokens | None) -> int:
        """Return the number of a sequence that nothing needs."""
        numbers = {tokens.number for tokens in self._living}
        number = next((index for index in range(SEQUENCES) if index not in numbers), None)
        if number is not None:
            return number
        oldest = next(tokens for tokens in self._living if tokens is not keeping)
        self._bury(oldest)
        return oldest.number

    def _make_room(self, rows: int, keeping: CachedTokens | None) -> None:
        """Drop the oldest sequences, so that the KV cache has room for more rows."""
        while sum(tokens.unshared for tokens in self._living) + rows > self._process.context:
            oldest = next((tokens for tokens in self._living if tokens is not keeping), None)
            if oldest is None:
                return
            self._bury(oldest)
            self._process.call("forget", oldest.number)

    def _bury(self, tokens: CachedTokens) -> None:
        """Remember tokens that the process drops, if they can be run again."""
        if tokens.changed:
            self._latest.remove(tokens)
            return
        tokens.started = GONE
        gone = [known for known in self._latest if known.started != self._process.starts]
        for known in gone[:-REMEMBERED]:
            self._latest.remove(known)

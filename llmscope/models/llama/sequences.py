"""Which tokens the KV cache of llama.cpp holds, and how a pass finds its prefix in it.

The recorder hands a pass the keys and values of its prefix; llama.cpp has them in sequences of its
own. A prefix is found by its keys of the last layer, which differ wherever any earlier number does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.models.llama.names import Names
from llmscope.models.llama.native import SEQUENCES
from llmscope.models.llama.process import LOGITS, LlamaProcess, SequenceRun

GONE = -1
"""What stands for the start of the process where it has the tokens no longer."""
TOGETHER = 8
"""Most passes that run at once."""
ROWS = 256
"""Most tokens of several passes that run at once."""
REMEMBERED = 16
"""Number of sequences that the process no longer has and whose tokens are kept."""


@dataclass(frozen=True, eq=False)
class TokenPass:
    """Tokens to run.

    Attributes:
        ids: the tokens.
        past: the keys of their prefix in the last layer, [row, width]; None: no prefix.
        writes: tensors that replace those of their names. [row, ...]
    """

    ids: Sequence[int]
    past: Tensor | None
    writes: Mapping[str, Tensor]

    @property
    def length(self) -> int:
        """The number of tokens of the prefix."""
        return 0 if self.past is None else len(self.past)


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
        self._process, self._names, self.key = process, names, key
        self._latest: list[CachedTokens] = []

    def decode(self, passes: Sequence[TokenPass], wanted: Sequence[str]) -> list[dict[str, Tensor]]:
        """Run tokens on top of prefixes, several passes at once, and return wanted tensors of each.

        Args:
            passes: the tokens of each pass, its prefix, and what is changed in it.
            wanted: the names of the tensors.

        Raises:
            ScopeError: llama.cpp failed, or no longer has an edited prefix.
        """
        self._process.ensure()
        results, start = list[dict[str, Tensor]](), 0
        while start < len(passes):
            count = self._count_together(passes[start:])
            results += self._decode(passes[start : start + count], wanted)
            start += count
        return results

    def forget_latest(self) -> None:
        """Drop the tokens that ran last: the next ones get their cells of the KV cache."""
        self._process.call("forget", self._latest.pop().number)

    def _count_together(self, passes: Sequence[TokenPass]) -> int:
        """Return how many of the first passes run at once."""
        rows = longest = 0
        for index, each in enumerate(passes[:TOGETHER]):
            rows += len(each.ids)
            longest = max(longest, each.length)
            if index and (rows > ROWS or rows + longest > self._process.context):
                return index
        return min(len(passes), TOGETHER)

    def _decode(
        self, passes: Sequence[TokenPass], wanted: Sequence[str]
    ) -> list[dict[str, Tensor]]:
        """Run passes at once."""
        prefixes = [self._prefix(each) for each in passes]
        rows = sum(len(each.ids) for each in passes)
        self._make_room(rows + (0 if prefixes[0] else passes[0].length), prefixes)
        numbers, runs, writes, row = (
            set[int](),
            list[SequenceRun](),
            list[tuple[str, int, Tensor]](),
            0,
        )
        extends = len(passes) == 1 and _ends_with_prefix(passes[0], prefixes[0])
        for each, before in zip(passes, prefixes, strict=True):
            if extends and before is not None:
                number = before.number
            else:
                number = self._free(keeping=prefixes, besides=numbers)
            numbers.add(number)
            source = number if before is None else before.number
            runs.append(SequenceRun(number, source, each.length, each.ids))
            writes += [(name, row, tensor) for name, tensor in each.writes.items()]
            row += len(each.ids)
        tensors = self._process.decode(runs, wanted, self._names.bytes_per_token, writes)
        results, row = [], 0
        for index, (each, before, run) in enumerate(zip(passes, prefixes, runs, strict=True)):
            result = {
                name: rows_of[index] if name == LOGITS else rows_of[row : row + len(each.ids)]
                for name, rows_of in tensors.items()
            }
            self._note(each, before, run, result[self.key], extends=extends)
            results.append(result)
            row += len(each.ids)
        return results

    def _note(
        self,
        each: TokenPass,
        before: CachedTokens | None,
        run: SequenceRun,
        keys: Tensor,
        *,
        extends: bool,
    ) -> None:
        """Note the tokens of a pass that ran: one that failed leaves its prefix to be run again."""
        keys = self._process.as_cached(keys, "key")
        unshared = len(each.ids)
        prefix = keys[:0] if before is None else before.keys[: each.length]
        if before is not None:
            self._latest.remove(before)
            if extends:
                unshared += before.unshared
            else:  # used again: it is no longer the oldest
                self._latest.append(before)
        self._latest.append(
            CachedTokens(
                run.sequence,
                [*(before.ids[: each.length] if before else ()), *each.ids],
                torch.cat([prefix.view(-1, keys.shape[1]), keys]),
                bool(each.writes) or (before is not None and before.changed),
                unshared,
                self._process.starts,
            )
        )

    def _prefix(self, each: TokenPass) -> CachedTokens | None:
        """Return the sequence that begins with the prefix of a pass; None without a prefix."""
        if not each.length:
            return None
        assert each.past is not None
        before = self._find(each.past)
        if before.started != self._process.starts:
            before = self._again(before, each.length)
        return before

    def _find(self, rows: Tensor) -> CachedTokens:
        """Return a sequence that begins with these keys. [row, width]"""
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
        self._make_room(length, ())
        number = self._free(keeping=(), besides=())
        self._process.decode([SequenceRun(number, number, 0, ids)], (), self._names.bytes_per_token)
        tokens_again = CachedTokens(
            number, ids, tokens.keys[:length], False, length, self._process.starts
        )
        self._latest.append(tokens_again)
        return tokens_again

    @property
    def _living(self) -> list[CachedTokens]:
        """The tokens that the process has, the oldest first."""
        return [tokens for tokens in self._latest if tokens.started == self._process.starts]

    def _free(self, *, keeping: Sequence[CachedTokens | None], besides: Collection[int]) -> int:
        """Return the number of a sequence that nothing needs.

        Args:
            keeping: the sequences that are needed.
            besides: further numbers that are needed.
        """
        numbers = {tokens.number for tokens in self._living} | set(besides)
        number = next((index for index in range(SEQUENCES) if index not in numbers), None)
        if number is not None:
            return number
        needed = {id(tokens) for tokens in keeping}
        oldest = next(tokens for tokens in self._living if id(tokens) not in needed)
        self._bury(oldest)
        return oldest.number

    def _make_room(self, rows: int, keeping: Sequence[CachedTokens | None]) -> None:
        """Drop the oldest sequences, so that the KV cache has room for more rows."""
        needed = {id(tokens) for tokens in keeping}
        while sum(tokens.unshared for tokens in self._living) + rows > self._process.context:
            oldest = next((each for each in self._living if id(each) not in needed), None)
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


def _ends_with_prefix(each: TokenPass, before: CachedTokens | None) -> bool:
    """Return whether a pass can be added to the sequence of its prefix itself."""
    return before is not None and len(before.ids) == each.length and not each.writes

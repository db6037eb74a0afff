"""docs/study.md: its commands run and say what stands there, and hooks by hand give the numbers."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from demo.who_gave_it import pairs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("smollm2")
PAGE = (ROOT / "docs" / "study.md").read_text("utf-8")
BLOCK = re.compile(r"^```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
WIDTH, GROUP = 64, 3  # of a head; heads that share keys and values


def steps() -> list[tuple[list[list[str]], list[str]]]:
    """Return the commands of each block of the page, and the lines that their output has."""
    found: list[tuple[list[list[str]], list[str]]] = []
    for block in BLOCK.finditer(PAGE):
        lines = block["text"].replace("\\\n", " ").splitlines()
        if block["kind"] == "sh":
            found.append(([shlex.split(line) for line in lines], []))
        elif not block["kind"]:
            found[-1][1].extend(lines)
    return found


def close(line: str, other: str) -> bool:
    """Return whether two lines are the same but for the last digit of their numbers."""
    if " ".join(NUMBER.sub("#", line).split()) != " ".join(NUMBER.sub("#", other).split()):
        return False
    for mine, theirs in zip(NUMBER.findall(line), NUMBER.findall(other), strict=True):
        digits = len(mine.partition(".")[2])
        if abs(float(mine) - float(theirs)) > 1.5 * 10**-digits * ("." in mine):
            return False
    return True


def run(words: list[str], folder: Path) -> str:
    """Run a command of the page in a folder, and return what it prints."""
    if words[0] == "llmscope":
        words = ["-m", "llmscope", *words[1:]]
    else:
        assert words[0] == "python"
        words = words[1:]
    out = folder / words.pop() if ">" in words else None
    words = [word for word in words if word != ">"]
    result = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stderr
    if out is not None:
        out.write_text(result.stdout, "utf-8")
    return result.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")  # the wheel is there
def test_the_page_runs_and_says_what_stands_there(tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("matplotlib")
    assert sum(len(expected) for _, expected in steps()) > 15
    for commands, expected in steps():
        printed = [line for words in commands for line in run(words, tmp_path).splitlines()]
        missing = [line for line in expected if not any(close(line, one) for one in printed)]
        assert missing == [], "\n".join(printed)
    assert (tmp_path / "heads.pdf").read_bytes().startswith(b"%PDF")
    assert len((tmp_path / "heads.csv").read_text().splitlines()) > 135


@pytest.mark.slow
def test_the_part_in_python_prints_what_stands_there():
    assert runpy.run_path(str(ROOT / "demo" / "examples.py"))["remade"](PAGE) == PAGE


class ByHand:
    """Passes of plain transformers over one pair, with hooks.

    Attributes:
        ids: of the prompt and of prompt B.
        answers: the two tokens whose logits are subtracted.
    """

    def __init__(self, plain, scope, pair):
        self.model = plain
        self.layers = plain.model.layers
        self.ids = [list(scope.prompt(pair[name]).ids) for name in ("prompt", "versus_prompt")]
        self.answers = [scope.token(pair[name]) for name in ("target", "versus")]
        self.joined = [self._joined(ids) for ids in self.ids]
        self.own, self.other = map(self.difference, self.ids)

    @torch.no_grad()
    def logits(self, ids, *hooks):
        """The last logits, with functions before modules: (module, function)."""
        placed = [module.register_forward_pre_hook(function) for module, function in hooks]
        logits = self.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        for hook in placed:
            hook.remove()
        return logits

    def difference(self, ids, *hooks):
        """How far the logit of the first answer is above that of the other."""
        target, versus = self.answers
        logits = self.logits(ids, *hooks)
        return float(logits[target] - logits[versus])

    def share(self, *hooks):
        """How far a changed pass over the prompt goes from its answer to that of prompt B."""
        return (self.difference(self.ids[0], *hooks) - self.own) / (self.other - self.own)

    def _joined(self, ids):
        """The outputs of all heads of each layer, before their projection."""
        kept = {}
        hooks = [
            (layer.self_attn.o_proj, lambda _, args, at=at: kept.update({at: args[0].clone()}))
            for at, layer in enumerate(self.layers)
        ]
        self.logits(ids, *hooks)
        return kept

    @torch.no_grad()
    def written(self, layer, head):
        """What a head writes to the difference of the logits, through the final norm's scale."""
        columns, final = slice(head * WIDTH, (head + 1) * WIDTH), []
        norm, unembedding = self.model.model.norm, self.model.lm_head.weight
        self.logits(self.ids[0], (norm, lambda _, args: final.append(args[0][0, -1])))
        (stream,) = final
        scale = (stream.square().mean() + norm.variance_epsilon).rsqrt()
        target, versus = self.answers
        direction = (unembedding[target] - unembedding[versus]) * norm.weight * scale
        weight = self.layers[layer].self_attn.o_proj.weight[:, columns]
        return float(weight @ self.joined[0][layer][0, -1, columns] @ direction)

    def head_replaced(self, layer, head, values):
        """A hook that puts values in place of a head's output. [row, width of a head]"""

        def replace(_, args):
            joined = args[0].clone()
            joined[..., head * WIDTH : (head + 1) * WIDTH] = values
            return (joined,)

        return self.layers[layer].self_attn.o_proj, replace

    def head_of_b(self, layer, head):
        """A hook that puts a head's output in B's pass in its place."""
        columns = slice(head * WIDTH, (head + 1) * WIDTH)
        return self.head_replaced(layer, head, self.joined[1][layer][..., columns])

    @torch.no_grad()
    def edge_into_values(self, sender, receiver):
        """A hook: the values of the receiving head read what the sending head writes in B's pass.

        Each is a layer and a head. The receiver's pattern stays, and so does all else.
        """
        (low, head), (high, reader) = sender, receiver
        columns = slice(head * WIDTH, (head + 1) * WIDTH)
        moved = self.joined[1][low][..., columns] - self.joined[0][low][..., columns]
        delta = moved @ self.layers[low].self_attn.o_proj.weight[:, columns].T
        seen = {}

        def look(_, args, kwargs, output):
            seen["stream"] = (args[0] if args else kwargs["hidden_states"]).clone()

        before = self.layers[high].register_forward_hook(look, with_kwargs=True)
        eager = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        pattern = self.model(
            input_ids=torch.tensor([self.ids[0]]), output_attentions=True
        ).attentions[high][0, reader]
        self.model.set_attn_implementation(eager)
        before.remove()
        layer, group = self.layers[high], reader // GROUP
        rows = slice(group * WIDTH, (group + 1) * WIDTH)
        normed = layer.input_layernorm(seen["stream"] + delta)
        values = normed @ layer.self_attn.v_proj.weight[rows].T
        return self.head_replaced(high, reader, pattern @ values[0])


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.slow
def test_a_pair_of_the_study_is_what_hooks_by_hand_give(smollm2, plain, number):
    pair = pairs(2)[number]
    hand = ByHand(plain, smollm2, pair)
    smollm2.record(pair["prompt"], fresh=True)
    answers = {"target": hand.answers[0], "versus": hand.answers[1]}
    answers["versus_prompt"] = hand.ids[1]
    patched = smollm2.look("patching", mode="heads", layers=[17, 20, 23], **answers)
    assert patched.extra["difference"] == pytest.approx(hand.own, abs=1e-3)
    assert patched.extra["versus_difference"] == pytest.approx(hand.other, abs=1e-3)
    for cell in ((23, 3), (20, 0), (17, 4)):
        share = hand.share(hand.head_of_b(*cell))
        assert abs(share) > 0.05
        assert patched.values[cell] == pytest.approx(share, abs=2e-4)
    paths = smollm2.look(
        "patching", mode="paths", receiver="head 20.0.v", layers=[17], heads=[4], **answers
    )
    edge = hand.share(hand.edge_into_values((17, 4), (20, 0)))
    assert abs(edge) > 0.02
    assert paths.values[17, 4] == pytest.approx(edge, abs=2e-4)
    written = smollm2.look(
        "attribution", mode="heads", target=answers["target"], versus=answers["versus"]
    )
    assert written.extra["sum"] == pytest.approx(hand.own, abs=1e-3)
    for cell in ((23, 3), (20, 0), (24, 4)):
        assert written.values[cell] == pytest.approx(hand.written(*cell), abs=1e-3)

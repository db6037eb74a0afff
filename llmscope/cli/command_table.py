"""The commands, and what each does in a line."""

from __future__ import annotations

COMMANDS = {
    "open": "Open the microscope on a model, and watch it while you type.",
    "serve": "Show the screen on a web page, on this machine alone.",
    "snapshot": "Look at prompts through lenses, and write what they show.",
    "read": "Open a chat or an agent trace in the model's chat template.",
    "replay": "Open a snapshot on the screen, without the model and torch.",
    "report": "Tell the means of a batch with intervals, by any column.",
    "watch": "Watch what lenses show of some prompts during a training.",
    "diff": "Say where two snapshots or two hidden states differ.",
    "compare": "Compare two models' predictions and streams over a corpus.",
    "lenses": "List the lenses: the question each answers, and its modes.",
    "edits": "Tell how edits to the pass are written, with examples.",
    "bake": "Write a context as a PEFT adapter (LoRA).",
    "fit": "Fit learned lenses and directions, and measure them.",
    "examples": "Collect where in a corpus features and neurons are active.",
    "models": "List the models on this machine, and their sizes.",
    "cache": "List what llmscope keeps on the disk, and remove it.",
    "mcp": "Offer llmscope to an agent: eight tools over MCP.",
    "themes": "List the themes, each with its colours.",
    "config": "Print the config file's path, and each setting's value.",
    "doctor": "Check versions, devices, terminal, folders and a model.",
}
"""What each command does, by name: the one of `llmscope.cli.commands.NAME`.

`llmscope --help` lists this, so that it imports no command. A line has 62 characters at most.
"""

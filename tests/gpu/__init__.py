"""What holds on a GPU: one command that checks it and writes a report.

    python -m tests.gpu --out report.json [--device cuda|cpu] [--only SECTION ...] [--quick]

It needs no network: weights are random, unless a folder is given. On a CPU the same code runs on
smaller shapes, except for what only a GPU has; the report says what was skipped and why.
"""

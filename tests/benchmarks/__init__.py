"""What llmscope costs, beside the bare model and beside other tools, on the same machine.

    python -m tests.benchmarks [--quick] [--only NAME] [--out FILE.json]

One process a contender. In each round every contender runs once, so that whatever else the machine
does falls on all of them; what is reported are medians, ratios of medians, and the spread of the
ratio from round to round. pytest collects nothing here.
"""

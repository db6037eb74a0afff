"""Where features, neurons and heads are active in a corpus, as `llmscope examples` writes it.

Reading needs no torch; `llmscope.jobs.examples` makes the examples.
"""

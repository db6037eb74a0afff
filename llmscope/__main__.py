"""`python -m llmscope`, the same as the `llmscope` command."""

from llmscope.cli import main

main()

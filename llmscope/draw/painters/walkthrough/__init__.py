"""The painters of the walkthrough: its steps, and one value of a step."""

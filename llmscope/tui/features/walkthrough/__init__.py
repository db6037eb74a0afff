"""The walkthrough of the forward pass."""

"""What a model was fine-tuned on, read from its activations on the first tokens of other text."""

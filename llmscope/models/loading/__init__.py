"""Load a model from a folder of weights: device, memory, adapters."""

"""From a folder of weights to a loaded model: device, memory, adapters."""

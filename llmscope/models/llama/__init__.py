"""llama.cpp as a backend: a GGUF file as it runs there, with its own kernels and KV cache."""

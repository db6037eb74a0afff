"""Two models over the same texts: how far their predictions are apart, for which tokens, where."""

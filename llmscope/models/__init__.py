"""From a spec string to a `LoadedModel`: find and load the weights, and find a decoder's parts."""

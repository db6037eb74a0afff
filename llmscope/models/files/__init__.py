"""The files of a model, judged within bounds before any library opens them."""

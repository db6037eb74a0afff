"""From a `Figure`, a size and a colour tier to rows of cells, for the screen and for exports."""

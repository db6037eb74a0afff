"""Statistics over the tables of a batch: means with intervals, comparisons, and their figures."""

"""What the screen shows: a live model, a snapshot, a training, a report."""

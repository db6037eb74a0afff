"""Analyses of a recording: logit lens, attribution, saliency, head scores, neurons."""

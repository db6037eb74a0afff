"""Interventions: edits compiled to hooks, sweeps, frozen norms."""

"""llmscope in pipelines of Ray Data. Importing this imports neither Ray nor torch."""

from llmscope.jobs.snapshots.predictor import Predictor

__all__ = ["Predictor"]

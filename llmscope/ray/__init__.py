"""llmscope in pipelines of Ray Data. Importing this imports neither Ray nor torch."""

from llmscope.batch.predictor import Predictor

__all__ = ["Predictor"]

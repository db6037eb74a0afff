"""llmscope in pipelines of Ray Data: `Predictor` is what `map_batches` takes.

Importing this imports neither Ray nor torch.
"""

from llmscope.batch.predictor import Predictor

__all__ = ["Predictor"]

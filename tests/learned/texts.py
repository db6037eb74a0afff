"""Texts of the built-in base's world, for fits in tests."""

import sys
from itertools import islice
from pathlib import Path
from random import Random

# The demos are beside the package and not in it; an installed llmscope comes first.
sys.path.append(str(Path(__file__).parents[2]))

from demo.lifecycle.base import documents

TEXTS = [" ".join(islice(documents(Random(seed)), 2)) for seed in range(60)]

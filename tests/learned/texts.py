"""Texts of the built-in base's world, for fits in tests."""

from itertools import islice
from random import Random

from demo.lifecycle.base import documents

TEXTS = [" ".join(islice(documents(Random(seed)), 2)) for seed in range(60)]

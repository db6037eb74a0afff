"""From a spec string to a `Subject`: where weights come from, where a decoder's parts are."""

from __future__ import annotations

import os

# Idle OpenMP threads that spin make the same step up to a hundred times slower on a busy machine.
# The runtime reads this once, when torch is imported, so it is set before anything here does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""Cases of random numbers and of activations that are no plain map."""

from __future__ import annotations

from typing import Any

import numpy as np

RNG = np.random.default_rng(11)

CASES: dict[str, Any] = {
    "uniform": ("uniform", {"site": 3, "shape": [2, 5]}, [RNG.normal(size=(3, 4))]),
}
LINEAR: dict[str, int] = {}
PEERS: dict[str, Any] = {}

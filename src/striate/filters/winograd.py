"""Winograd's convolution F(4×4, 3×3) of plain images in NumPy: 36 products for 16 outputs.

Here to be named and compared; layers have it in machine code (`kernels.winograd`), where many
channels make it pay. Source: Lavin & Gray, Fast algorithms for convolutional neural networks,
arXiv:1509.09308.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]
_STEP, _SIZE = 4, 6
_SOURCE = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_WEIGHT = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_RESULT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)


def channels_winograd(padded: Float32, weight: Array) -> Float32:
    """(n, c, ph, pw) with (o, c, 3, 3) to (n, o, ph − 2, pw − 2)."""
    n, c, ph, pw = padded.shape
    rows, columns = ph - 2, pw - 2
    down, across = -(-rows // _STEP), -(-columns // _STEP)
    grid = np.zeros((n, c, down * _STEP + 2, across * _STEP + 2), np.float32)
    grid[:, :, :ph, :pw] = padded
    tiles = np.lib.stride_tricks.sliding_window_view(grid, (_SIZE, _SIZE), (2, 3))
    tiles = tiles[:, :, ::_STEP, ::_STEP]  # (n, c, down, across, 6, 6)
    v = _SOURCE @ tiles @ _SOURCE.T
    u = (_WEIGHT @ np.asarray(weight, np.float64) @ _WEIGHT.T).astype(np.float32)
    v = v.transpose(4, 5, 1, 0, 2, 3).reshape(_SIZE**2, c, -1)
    u = u.transpose(2, 3, 0, 1).reshape(_SIZE**2, -1, c)
    m = np.matmul(u, v).reshape(_SIZE, _SIZE, len(weight), n, down, across)
    y = _RESULT @ m.transpose(3, 2, 4, 5, 0, 1) @ _RESULT.T  # (n, o, down, across, 4, 4)
    whole = y.transpose(0, 1, 2, 4, 3, 5).reshape(n, len(weight), down * _STEP, across * _STEP)
    return np.ascontiguousarray(whole[:, :, :rows, :columns])

"""Connected components of a class mask: objects without embeddings, the yardstick for all that use them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_DIAGONAL_TOO = np.ones((3, 3))


def connected_components(mask: NDArray[np.bool_], *, min_area: int = 1) -> NDArray[np.int32]:
    """Number the connected parts of a mask; pixels touch by side or corner.

    Args:
        mask: HxW booleans.
        min_area: smaller parts, in pixels, are none.

    Returns:
        N int32, for the N true pixels in row-major order: parts 0..K-1, or -1 for one that is too small.

    >>> mask = np.array([[1, 0, 0, 1], [1, 0, 0, 0]], dtype=bool)
    >>> connected_components(mask).tolist(), connected_components(mask, min_area=2).tolist()
    ([0, 1, 0], [0, -1, 0])
    """
    parts, count = ndimage.label(mask, _DIAGONAL_TOO)
    labels: NDArray[np.int32] = parts[mask].astype(np.int32) - 1
    large = np.bincount(labels, minlength=count) >= min_area
    number = np.where(large, np.cumsum(large) - 1, -1).astype(np.int32)
    return number[labels]

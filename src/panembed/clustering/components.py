"""Connected parts: of a class mask, objects without embeddings as a yardstick for all that use them; and of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray

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
    parts, count = scipy.ndimage.label(mask, _DIAGONAL_TOO)
    labels: NDArray[np.int32] = parts[mask].astype(np.int32) - 1
    large = np.bincount(labels, minlength=count) >= min_area
    number = np.where(large, np.cumsum(large) - 1, -1).astype(np.int32)
    return number[labels]


def largest_parts(mask: NDArray[np.bool_], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Leave each cluster only the largest of its connected parts; pixels touch by side or corner.

    Args:
        mask: HxW booleans with N true pixels.
        labels: cluster 0..K-1 of each, in row-major order, or -1 for none.

    Returns:
        N int32: the same, but -1 for pixels of other parts. Of parts of one size the first from the top left stays.

    >>> largest_parts(np.ones((1, 6), dtype=bool), np.array([0, 0, 1, 0, 1, 1], dtype=np.int32)).tolist()
    [0, 0, -1, -1, 1, 1]
    """
    image = np.zeros(mask.shape, dtype=np.int32)
    image[mask] = labels + 1
    boxes: Sequence[Any] = scipy.ndimage.find_objects(image)  # None for numbers that don't occur
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        parts, count = scipy.ndimage.label(image[box] == number, _DIAGONAL_TOO)
        if count > 1:
            largest = np.bincount(parts.ravel())[1:].argmax() + 1
            image[box][(parts > 0) & (parts != largest)] = 0
    kept: NDArray[np.int32] = image[mask] - 1
    return kept


def clear_border(mask: NDArray[np.bool_], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Take out connected parts of clusters that reach the image's outermost rows or columns, by scikit-image.

    Pixels touch by side or corner. Of a cluster in several parts the others stay, so a speck at the border, or a
    neighbour that was taken for a part of it, doesn't take a whole object along.

    Args:
        mask: HxW booleans with N true pixels.
        labels: cluster 0..K-1 of each, in row-major order, or -1 for none.

    Returns:
        N int32: the same, but -1 for pixels of such parts.

    >>> clear_border(np.ones((3, 3), dtype=bool), np.array([0, 0, 0, 0, 1, 2, 0, 0, 0], dtype=np.int32)).tolist()
    [-1, -1, -1, -1, 1, -1, -1, -1, -1]
    """
    from skimage import segmentation  # slow to import, and rarely needed

    image = np.zeros(mask.shape, dtype=np.int32)
    image[mask] = labels + 1
    kept: NDArray[np.int32] = segmentation.clear_border(image)[mask] - 1
    return kept

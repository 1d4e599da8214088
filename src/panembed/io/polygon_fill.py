"""Pixels inside an outline: those whose middle is, by the even-odd rule.

So do ImageJ and QuPath fill, and Java's and SVG's even-odd rule. A pixel in column x and row y is the square from
(x, y) to (x + 1, y + 1); a middle that lies on the line itself counts if the inside is to the right of it or below.
Outlines that follow the edges of pixels, as ours do, therefore enclose exactly their pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.labels.object_masks import NOTHING

MAX_COORDINATE = 1e7
"""Corners farther from the image are refused: no camera is so large, and fractions of a pixel get lost."""


def check_corners(points: ArrayLike) -> NDArray[np.float64]:
    """Corners as Nx2 float64 (x, y); ValueError where they are no finite pairs of numbers, or farther than 10^7.

    >>> check_corners([[0, 1.5]]).tolist()
    [[0.0, 1.5]]
    """
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("expected pairs of numbers x, y") from None
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError("expected pairs of numbers x, y")
    if array.size and not (np.abs(array) <= MAX_COORDINATE).all():
        raise ValueError(f"expected corners within {MAX_COORDINATE:.0e} pixels of the image")
    return array


def fill_rings(rings: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> tuple[NDArray[np.bool_], int, int]:
    """Fill closed lines together: what lies inside an odd number of them.

    Args:
        rings: Nx2 (x, y) each; the last corner is joined to the first.
        shape: height and width of the image, which cuts the outline.

    Returns:
        The pixels in a window as small as the corners allow, and its top and left in the image.

    >>> pixels, top, left = fill_rings([np.array([[1.0, 0], [3, 0], [3, 2], [1, 2]])], (2, 4))
    >>> pixels.tolist(), top, left
    ([[True, True], [True, True]], 0, 1)
    """
    height, width = shape
    corners = [ring for ring in rings if len(ring) >= 3]
    if not corners:
        return NOTHING
    every = np.concatenate(corners)
    left, top = (int(max(0, bound)) for bound in np.floor(every.min(0)))
    right, bottom = (int(min(limit, bound)) for limit, bound in zip((width, height), np.ceil(every.max(0))))
    if right <= left or bottom <= top:
        return NOTHING
    start = every
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in corners])
    down = start[:, 1] <= end[:, 1]
    upper, lower = np.where(down[:, None], start, end), np.where(down[:, None], end, start)
    # Rows whose middle the edge passes: from its upper end, which counts, to its lower one, which does not.
    first = np.clip(np.ceil(upper[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), top, bottom).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (row + 0.5 - upper[edge, 1]) / (lower[edge, 1] - upper[edge, 1])
    crossing = upper[edge, 0] + share * (lower[edge, 0] - upper[edge, 0])
    column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
    toggles = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    np.add.at(toggles, (row - top, column - left), 1)
    return np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1, top, left


def reaches_out(rings: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> bool:
    """Is a corner outside the image, by more than what rounding does?

    >>> reaches_out([np.array([[0, 0], [5.0, 2]])], (2, 4))
    True
    """
    height, width = shape
    slack = 1e-3
    return any(
        bool(((ring < -slack) | (ring > np.array([width, height]) + slack)).any()) for ring in rings if len(ring)
    )

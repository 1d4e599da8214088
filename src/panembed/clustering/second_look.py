"""Objects that mean shift took for a part of another: small ones, whose embeddings lie close to a large neighbour's.

Two modes nearer than the bandwidth may be two objects, or one object with a lump in it. In embedding space alone they
look alike. In the image they don't: a small object is a compact patch, while lumps of one object are its rims and
scattered pixels. So a second search finds modes that lie closer, and keeps those whose pixels make a patch of their
own, with a valley of density between them and the object that they were taken for.

Shape suffixes: N points, E dimensions, K modes.
"""

from __future__ import annotations

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import ArrayLike, NDArray

from panembed.clustering.mean_shift import as_points, assign, find_modes

_KERNEL = 0.6
"""Radius of the kernel of the second search, as a share of the separation."""

_CONNECTED = 0.8
"""Share of a patch's pixels that must hang together."""

_INTERIOR = 0.7
"""How many of those must have all eight neighbours among them, as a share of a disc's; rims have next to none."""

_VALLEY = 0.6
"""Highest density between two modes, as a share of the smaller mode's own."""

_EDGES = np.linspace(-0.6, 1.6, 23)
"""Along the line from the old mode (0) to the new one (1), in bins whose densities are compared."""


def look_again(
    points: ArrayLike,
    mask: NDArray[np.bool_],
    modes: NDArray[np.float32],
    *,
    separation: float,
    min_area: int = 20,
) -> NDArray[np.float32]:
    """Add modes of objects that lie nearer to another than the first search could tell.

    The thresholds above were chosen on validation images of leaves (CVPPP A1), where it helped; on test images it found
    as many more small leaves, but split so many others that nothing was won (docs/accuracy-log.md).

    Args:
        points: NxE embeddings of the mask's pixels, in row-major order.
        mask: HxW booleans, N of them true.
        modes: KxE float32, those found so far.
        separation: least distance of two modes; below the bandwidth of the first search.
        min_area: least number of pixels of a new object.

    Returns:
        The modes, and new ones behind them.

    Raises:
        ValueError: points and mask don't fit, or a parameter is out of range.

    >>> mask = np.ones((12, 20), dtype=bool)
    >>> points = np.zeros((12, 20, 1), dtype=np.float32)
    >>> points[3:9, 12:18] = 1.25  # a patch of its own, too near for a bandwidth of 1.5
    >>> first = np.zeros((1, 1), dtype=np.float32)
    >>> look_again(points.reshape(-1, 1), mask, first, separation=1.0).tolist()
    [[0.0], [1.25]]
    """
    points_ne = as_points(points)
    if len(points_ne) != np.count_nonzero(mask):
        raise ValueError(f"points: expected one for each of {np.count_nonzero(mask)} pixels, found {len(points_ne)}")
    if not separation > 0:
        raise ValueError(f"separation: expected more than 0, found {separation}")
    if len(modes) == 0 or len(points_ne) == 0:
        return modes
    labels, squared = assign(points_ne, modes)
    nearer = find_modes(points_ne, bandwidth=separation, seed_bandwidth=_KERNEL * separation, min_cluster_size=min_area)
    for mode_e in nearer:
        if np.square(modes - mode_e).sum(1).min() <= separation**2:
            continue
        squared_n = np.square(points_ne - mode_e).sum(1)
        taken_n = squared_n < squared
        if np.count_nonzero(taken_n) < min_area or not _is_patch(mask, taken_n):
            continue
        former = int(np.bincount(labels[taken_n]).argmax())
        if not _has_valley(points_ne[taken_n | (labels == former)], modes[former], mode_e):
            continue
        labels[taken_n], squared[taken_n] = len(modes), squared_n[taken_n]
        modes = np.concatenate([modes, mode_e[None]])
    return modes


def _is_patch(mask: NDArray[np.bool_], taken_n: NDArray[np.bool_]) -> bool:
    """Whether the pixels hang together, and are not mostly rim."""
    image = np.zeros(mask.shape, dtype=bool)
    image[mask] = taken_n
    (box,) = scipy.ndimage.find_objects(image.astype(np.uint8))
    parts, _ = scipy.ndimage.label(image[box])
    size = np.bincount(parts.ravel())[1:]
    largest = int(size.max())
    if largest < _CONNECTED * np.count_nonzero(taken_n):
        return False
    interior = scipy.ndimage.binary_erosion(parts == 1 + size.argmax(), np.ones((3, 3), dtype=bool))
    radius_of_disc = max(1.0, np.sqrt(largest / np.pi))
    return bool(np.count_nonzero(interior) >= _INTERIOR * np.pi * (radius_of_disc - 1) ** 2)


def _has_valley(points_ne: NDArray[np.float32], from_e: NDArray[np.float32], to_e: NDArray[np.float32]) -> bool:
    """Whether the points thin out between two modes."""
    line_e = to_e - from_e
    count, _ = np.histogram((points_ne - from_e) @ (line_e / (line_e @ line_e)), _EDGES)
    smooth = np.convolve(count, (0.25, 0.5, 0.25), "same")
    # Bin 6 begins at the old mode, bin 16 at the new one.
    return bool(smooth[8:15].min() <= _VALLEY * smooth[13:19].max())

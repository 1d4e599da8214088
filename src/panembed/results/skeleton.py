"""Length and width of objects along their middle line, for leaves, roots, fibres and whatever is bent."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray


def skeleton_size(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Length of the middle line of an object, and the object's mean width along it, in pixels.

    The middle line is the longest way in the skeleton (Zhang and Suen 1984, by scikit-image), from pixel centre to
    pixel centre, without side branches. It ends about half a width before the tips. The width is twice the distance
    from the line to the nearest pixel outside, less the pixel itself: even widths come out one pixel too small.

    Args:
        mask: HxW, at least one true pixel; of several pieces the one with the longest line counts.

    >>> length, width = skeleton_size(np.ones((3, 21), dtype=bool))
    >>> round(length, 1), round(width, 1)
    (19.4, 2.8)
    """
    from skimage.morphology import skeletonize  # slow to import

    padded = np.pad(mask, 1)
    line = skeletonize(padded)
    distance = scipy.ndimage.distance_transform_edt(padded)
    width = padded.shape[1]
    pixels = set(np.flatnonzero(line if line.any() else padded).tolist())
    steps = [(dy * width + dx, math.hypot(dy, dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    beside = {place: [(place + by, far) for by, far in steps if place + by in pixels] for place in pixels}
    best: tuple[float, list[int]] = (-1.0, [])
    while beside:
        reached, _ = _ways(beside, next(iter(beside)))
        end = max(reached, key=lambda place: (reached[place], place))
        lengths, before = _ways(beside, end)
        tip = max(lengths, key=lambda place: (lengths[place], place))
        if lengths[tip] > best[0]:
            best = lengths[tip], _way_to(tip, before)
        for place in reached:
            del beside[place]
    length, way = best
    return float(length), float(np.mean(2 * distance.ravel()[way] - 1))


def _ways(beside: Mapping[int, list[tuple[int, float]]], start: int) -> tuple[dict[int, float], dict[int, int]]:
    """Lengths of the shortest ways from a pixel to all that can be reached, and for each the pixel before it."""
    lengths, before = {start: 0.0}, dict[int, int]()
    waiting = [(0.0, start)]
    while waiting:
        length, place = heapq.heappop(waiting)
        if length > lengths[place]:
            continue
        for neighbour, step in beside[place]:
            way = length + step
            if way < lengths.get(neighbour, math.inf):
                lengths[neighbour], before[neighbour] = way, place
                heapq.heappush(waiting, (way, neighbour))
    return lengths, before


def _way_to(place: int, before: Mapping[int, int]) -> list[int]:
    way = [place]
    while place in before:
        place = before[place]
        way.append(place)
    return way

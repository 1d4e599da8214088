"""Shapes of objects, all at once where that is faster: as scikit-image's regionprops measures them.

Objects are numbered 1..K in HxW `ids`, 0 is none. All figures are of K objects in that order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Pixels of objects, sorted by object, then row by row.

    Attributes:
        y: rows, N.
        x: columns, N.
        owner: objects 0..K-1, N.
        starts: of each object, the place of its first pixel, K.
    """

    y: Ints
    x: Ints
    owner: Ints
    starts: Ints

    @classmethod
    def of(cls, ids: NDArray[np.integer], count: int) -> Pixels:
        """Of HxW numbers 1..count, each there at least once."""
        y, x = np.nonzero(ids)
        owner = ids[y, x].astype(np.int64) - 1
        order = np.argsort(owner, kind="stable")
        owner = owner[order]
        return cls(y[order], x[order], owner, np.asarray(np.searchsorted(owner, np.arange(count))))


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Centre and ellipse of the same second moments of each object; `orientation` as regionprops has it.

    Attributes:
        x: of the centre, pixels.
        y: of the centre, pixels.
        major_axis: length of the ellipse, pixels.
        minor_axis: its width, pixels.
        eccentricity: 0 to 1.
        orientation: radians, -pi/2 to pi/2: from the direction down the rows to the major axis, counter-clockwise.
    """

    x: Floats
    y: Floats
    major_axis: Floats
    minor_axis: Floats
    eccentricity: Floats
    orientation: Floats


def moments(pixels: Pixels) -> Moments:
    """Centres and ellipses of all objects in one pass; a pixel is a square, whose own second moment is 1/12."""
    owner = pixels.owner
    area = np.bincount(owner)

    def mean(values: NDArray[Any]) -> Floats:
        return np.asarray(np.bincount(owner, values) / area)

    x, y = mean(pixels.x), mean(pixels.y)
    dx, dy = pixels.x - x[owner], pixels.y - y[owner]
    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    # Eigenvalues of the covariance: half its trace plus and minus this.
    spread = np.hypot((xx - yy) / 2, xy)
    longest, shortest = (xx + yy) / 2 + spread, np.maximum((xx + yy) / 2 - spread, 0)
    eccentricity = np.sqrt(2 * spread / np.where(longest > 0, longest, 1))
    # Without what rounding leaves of 0, where a sign would turn the ellipse.
    negligible = 1e-12 * (xx + yy)
    xy = np.where(np.abs(xy) <= negligible, 0, xy)
    flat = 0.5 * np.arctan2(2 * xy, yy - xx)
    even = np.abs(xx - yy) <= negligible
    orientation = np.where(even, np.where(xy > 0, math.pi / 4, -math.pi / 4), flat)
    return Moments(
        x, y, 4 * np.sqrt(longest), 4 * np.sqrt(shortest), np.minimum(eccentricity, 1), np.asarray(orientation)
    )


def perimeters(ids: NDArray[np.integer], count: int) -> Floats:
    """Lengths of the outlines through the centres of border pixels, as `skimage.measure.perimeter` estimates them.

    A border pixel counts by how many border pixels of its object lie beside it and aslant (Benkrid and Crookes 2000).
    """
    padded = np.pad(ids, 1)
    is_border = np.zeros(padded.shape, dtype=bool)
    inner, middle = (slice(1, -1), slice(1, -1)), padded[1:-1, 1:-1]
    for shift in _SIDES:
        is_border[inner] |= _shifted(padded, shift) != middle
    is_border[inner] &= middle > 0
    width = padded.shape[1]
    flat, borders = padded.ravel(), is_border.ravel()
    place = np.flatnonzero(borders)
    owner = flat[place]
    kind = np.ones(len(place), dtype=np.int64)
    for shifts, weight in ((_SIDES, 2), (_CORNERS, 10)):
        for down, across in shifts:
            beside = place + down * width + across
            kind += weight * (borders[beside] & (flat[beside] == owner))
    weights = np.zeros(64)
    weights[[5, 7, 15, 17, 25, 27]] = 1
    weights[[21, 33]] = math.sqrt(2)
    weights[[13, 23]] = (1 + math.sqrt(2)) / 2
    return np.asarray(np.bincount(owner - 1, weights[kind], minlength=count))


_SIDES, _CORNERS = ((-1, 0), (1, 0), (0, -1), (0, 1)), ((-1, -1), (-1, 1), (1, -1), (1, 1))


def _shifted(padded: NDArray[Any], shift: tuple[int, int]) -> NDArray[Any]:
    down, across = shift
    height, width = padded.shape
    return padded[1 + down : height - 1 + down, 1 + across : width - 1 + across]


def hulls(pixels: Pixels) -> tuple[Ints, Floats]:
    """Pixels inside the convex hull of each object, and the hull's greatest diameter (Feret's).

    As regionprops has them: the hull is that of the midpoints of all pixel sides, pixels whose centres are inside or on
    it count, and the diameter is between midpoints of sides of these pixels. All in whole numbers, hence exact.
    """
    count = len(pixels.starts)
    # First and last pixel of each object in each row.
    new_row = np.ones(len(pixels.y), dtype=bool)
    new_row[1:] = (np.diff(pixels.y) != 0) | (np.diff(pixels.owner) != 0)
    first = np.flatnonzero(new_row)
    last = np.append(first[1:], len(pixels.y)) - 1
    rows = _Rows(pixels.owner[first], pixels.y[first], pixels.x[first], pixels.x[last])
    filled = _filled(rows)
    area = np.bincount(filled.owner, filled.right - filled.left + 1, minlength=count).astype(np.int64)
    corners = [_corners(filled, side) for side in (-1, 1)]
    owner, y, x = (np.concatenate(columns) for columns in zip(*corners))
    order = np.argsort(owner, kind="stable")
    points = np.column_stack([y, x])[order]
    cuts = np.searchsorted(owner[order], np.arange(count + 1)).tolist()
    diameters = np.zeros(count)
    for place, (begin, end) in enumerate(pairwise(cuts)):
        of_one = points[begin:end]
        diameters[place] = math.sqrt(float(np.square(of_one[:, None] - of_one[None]).sum(2).max())) / 2
    return area, diameters


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """First and last pixel of objects in each of their rows, sorted by object and row."""

    owner: Ints
    y: Ints
    left: Ints
    right: Ints


def _filled(rows: _Rows) -> _Rows:
    """The same of the objects' convex hulls, rows that hold no pixel left out."""
    count = int(rows.owner[-1]) + 1
    begins = np.searchsorted(rows.owner, np.arange(count))
    top, bottom = rows.y[begins], rows.y[np.append(begins[1:], len(rows.y)) - 1]
    heights = bottom - top + 1
    owner = np.repeat(np.arange(count), heights)
    y = np.arange(len(owner)) - np.repeat(np.cumsum(heights) - heights, heights) + top[owner]
    ends = []
    for side in (-1, 1):
        of, at, x = _corners(rows, side)
        key = _key(of, at, y)
        before = np.searchsorted(key, _key(owner, 2 * y, y), side="right") - 1
        step, part = at[before + 1] - at[before], 2 * y - at[before]
        inward = -side * (x[before] * step + (x[before + 1] - x[before]) * part)
        ends.append(side * (inward // (-2 * step)))  # rounded towards the inside
    kept = ends[0] <= ends[1]
    return _Rows(owner[kept], y[kept], ends[0][kept], ends[1][kept])


def _key(owner: Ints, doubled_y: Ints, y: Ints) -> Ints:
    """Numbers that put places in order of object and row."""
    return owner * (2 * int(y.max(initial=0)) + 4) + doubled_y + 1


def _corners(rows: _Rows, side: int) -> tuple[Ints, Ints, Ints]:
    """Corners of the convex hulls of the midpoints of pixel sides, on the left (-1) or right (1) side, from the top.

    Returns:
        Object, and y and x in half pixels.
    """
    edge = rows.left if side < 0 else rows.right
    owner = np.tile(rows.owner, 3)
    y = np.concatenate([2 * rows.y - 1, 2 * rows.y, 2 * rows.y + 1])
    outward = np.concatenate([2 * side * edge, 2 * side * edge + 1, 2 * side * edge])
    # Of two midpoints at one height the outer one.
    order = np.lexsort((-outward, y, owner))
    owner, y, outward = owner[order], y[order], outward[order]
    kept = np.append(True, (np.diff(owner) != 0) | (np.diff(y) != 0))
    while True:
        owner, y, outward = owner[kept], y[kept], outward[kept]
        # What lies on the line between its neighbours, or inside, is no corner, whichever of these are.
        kept = np.ones(len(owner), dtype=bool)
        bend = (y[1:-1] - y[:-2]) * (outward[2:] - outward[1:-1]) - (outward[1:-1] - outward[:-2]) * (y[2:] - y[1:-1])
        kept[1:-1] = (bend < 0) | (owner[:-2] != owner[1:-1]) | (owner[1:-1] != owner[2:])
        if kept.all():
            return owner, y, side * outward

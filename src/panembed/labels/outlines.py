"""Outlines of objects along the edges of their pixels, so that a polygon that is filled again is the mask.

A pixel in column x and row y is the square from (x, y) to (x + 1, y + 1), as ImageJ, QuPath, COCO and YOLO have it; all
corners are whole numbers. An object of several pieces is several polygons. Pixels that touch by a corner only are of
two pieces: so every ring is simple, and polygons are valid by the rules of OGC (shapely, QuPath, databases).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ring: TypeAlias = NDArray[np.int32]
"""Corners of a closed line, Nx2 (x, y); the first is not repeated at the end, and no three lie on one line."""

_RIGHT, _DOWN, _LEFT, _UP = range(4)


@dataclass(frozen=True, slots=True)
class Polygon:
    """One connected piece of an object.

    Attributes:
        outer: its outline, clockwise on the screen (y points down).
        holes: what is cut out of it, each the other way round; they touch the outline and one another in corners at
            most.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The outline and the holes."""
        return (self.outer, *self.holes)


def outlines(labels: NDArray[np.integer]) -> dict[int, list[Polygon]]:
    """Trace the objects of a label map.

    Args:
        labels: HxW integers, 0 for none.

    Returns:
        For every number in `labels` but 0, ascending, its pieces in the order of their first pixels.

    Raises:
        ValueError: not an HxW array of integers from 0.

    >>> (piece,) = outlines(np.array([[0, 7, 7], [0, 7, 7]]))[7]
    >>> piece.outer.tolist(), piece.holes
    ([[1, 0], [3, 0], [3, 2], [1, 2]], ())
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: expected an HxW array of integers, found {labels.dtype} {labels.shape}")
    if labels.size and labels.min() < 0:
        raise ValueError(f"labels: expected numbers from 0, found {labels.min()}")
    if not labels.any():
        return {}
    from skimage.measure import label  # slow to import, and not every prediction is exported

    pieces, count = label(labels, background=0, connectivity=1, return_num=True)
    owner = np.zeros(count + 1, dtype=np.int64)
    owner[pieces.ravel()] = labels.ravel()
    outer: list[Ring | None] = [None] * (count + 1)
    holes: list[list[Ring]] = [[] for _ in range(count + 1)]
    for piece, ring in _rings(pieces):
        if _doubled_area(ring) > 0:
            outer[piece] = ring
        else:
            holes[piece].append(ring)
    found: dict[int, list[Polygon]] = {int(number): [] for number in np.unique(owner[1:])}
    for piece in range(1, count + 1):
        line = outer[piece]
        assert line is not None
        found[int(owner[piece])].append(Polygon(line, tuple(holes[piece])))
    return found


def _rings(pieces: NDArray[np.integer]) -> list[tuple[int, Ring]]:
    """All rings round the pieces, 4-connected regions of one number, as (piece, ring); the piece lies to the right."""
    height, width = pieces.shape
    padded = np.pad(pieces, 1)
    inner = padded[1:-1, 1:-1]
    stride = width + 1
    starts, directions, owners = [], [], []
    # Where an edge begins, as seen from its pixel, and the neighbour beyond it.
    for way, neighbour, (down, across) in (
        (_RIGHT, padded[:-2, 1:-1], (0, 0)),
        (_DOWN, padded[1:-1, 2:], (0, 1)),
        (_LEFT, padded[2:, 1:-1], (1, 1)),
        (_UP, padded[1:-1, :-2], (1, 0)),
    ):
        y, x = (place.astype(np.int64) for place in np.nonzero((inner > 0) & (inner != neighbour)))
        starts.append((y + down) * stride + x + across)
        directions.append(np.full(len(y), way, dtype=np.int8))
        owners.append(inner[y, x].astype(np.int64))
    start, direction, owner = np.concatenate(starts), np.concatenate(directions), np.concatenate(owners)
    end = start + np.array([1, stride, -1, -stride])[direction]
    # An edge is followed by the one of its piece that begins where it ends. Where a piece meets itself in a corner, two
    # do: the one that turns right stays with its pixel.
    key = owner * (stride * (height + 1))
    order = np.lexsort((direction, key + start))
    ordered = (key + start)[order]
    first = np.asarray(np.searchsorted(ordered, key + end))
    following: NDArray[np.int64] = order[first]
    is_double = np.append(ordered[1:] == ordered[:-1], False)[first]
    wanted = (direction + 1) % 4
    wrong = is_double & (direction[following] != wanted)
    following[wrong] = order[first[wrong] + 1]
    return _walk(start, direction, owner, following, stride)


def _walk(
    start: NDArray[np.integer],
    direction: NDArray[np.int8],
    owner: NDArray[np.int64],
    following: NDArray[np.integer],
    stride: int,
) -> list[tuple[int, Ring]]:
    """The rings that the edges make, from where each begins, and the edge that follows it."""
    after = following.tolist()
    seen = bytearray(len(after))
    order, bounds = [], [0]
    for first in range(len(after)):
        if seen[first]:
            continue
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            order.append(edge)
            edge = after[edge]
        bounds.append(len(order))
    walked = np.array(order)
    is_corner = np.empty(len(walked), dtype=bool)
    # Corner: the edge before has another direction. The edge before the first of a ring is its last.
    turned = direction[walked]
    is_corner[1:] = turned[1:] != turned[:-1]
    heads = np.array(bounds[:-1])
    is_corner[heads] = turned[heads] != turned[np.array(bounds[1:]) - 1]
    corner = np.flatnonzero(is_corner)
    y, x = np.divmod(start[walked[corner]], stride)
    points = np.column_stack([x, y]).astype(np.int32)
    owners = owner[walked[heads]].tolist()
    cuts = np.searchsorted(corner, bounds).tolist()
    rings: list[tuple[int, Ring]] = []
    for piece, begin, stop in zip(owners, cuts[:-1], cuts[1:]):
        rings.extend((piece, ring) for ring in _simple(points[begin:stop]))
    return rings


def _simple(ring: Ring) -> list[Ring]:
    """The ring cut in its corners that it visits twice, so that each part visits every corner once."""
    keys = (ring[:, 1].astype(np.int64) << 32 | ring[:, 0]).tolist()
    if len(set(keys)) == len(keys):
        return [ring]
    parts: list[Ring] = []
    path: list[int] = []
    place: dict[int, int] = {}
    for index, key in enumerate(keys):
        if key in place:
            back = place[key]
            loop = path[back:]
            for dropped in loop:
                del place[keys[dropped]]
            parts.append(ring[loop])
            del path[back:]
        place[key] = len(path)
        path.append(index)
    parts.append(ring[path])
    return parts


def _doubled_area(ring: Ring) -> int:
    """Twice the area, positive for clockwise rings."""
    x, y = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def joined(rings: Sequence[Ring]) -> Ring:
    """One closed line through several rings, for formats that know neither holes nor pieces.

    It runs from the first corner of the first ring to that of each other ring, round it, and back the same way, along
    edges of pixels. By the even-odd rule, and by winding where holes run the other way round, it fills what the rings
    fill.

    Args:
        rings: of one object: the outline of a piece and its holes, or of all pieces.

    Returns:
        Nx2 corners; the way between rings is there twice.

    >>> joined([np.array([[0, 0], [3, 0], [3, 3]]), np.array([[1, 1], [1, 2], [2, 2]])]).tolist()
    [[0, 0], [3, 0], [3, 3], [0, 0], [1, 0], [1, 1], [1, 2], [2, 2], [1, 1], [1, 0]]
    """
    first, *others = rings
    if not others:
        return first
    home = first[:1]
    parts = [first]
    for ring in others:
        # Not aslant, which might pass through the middle of a pixel.
        bend = np.array([[ring[0, 0], home[0, 1]]], dtype=first.dtype)
        parts.extend([home, bend, ring, ring[:1], bend])
    return np.concatenate(parts)


def fill(polygons: Sequence[Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask that polygons with whole corners enclose, by the even-odd rule: the inverse of `outlines`.

    Args:
        polygons: pieces of one object.
        shape: height and width of the mask.

    >>> fill([Polygon(np.array([[1, 0], [3, 0], [3, 1], [1, 1]]))], (2, 3)).tolist()
    [[False, True, True], [False, False, False]]
    """
    height, width = shape
    toggles = np.zeros((height + 1, width + 1), dtype=np.int32)
    for polygon in polygons:
        for ring in polygon.rings:
            # Crossing an upright edge from left to right changes sides: the rows that it passes are marked.
            for (x, y), (to_x, to_y) in zip(ring.tolist(), np.roll(ring, -1, 0).tolist()):
                if x == to_x:
                    toggles[min(y, to_y) : max(y, to_y), x] += 1
    return np.asarray(np.cumsum(toggles, axis=1)[:height, :width] % 2 == 1)

"""COCO's ways to write a mask, polygons and run-length codes, read pixel by pixel as pycocotools does.

Runs go down the columns, background first. The rules are those of `maskApi.c` (Piotr Dollar and Tsung-Yi Lin, 2014):
polygons are drawn on a grid five times as fine, and where they cross the middles of columns is counted. At slanted
edges that differs from a rule by middles of pixels; outlines along the edges of pixels give the same by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.io.polygon_fill import check_corners
from panembed.labels.object_masks import NOTHING, Window

_FINER = 5


def polygon_mask(polygon: Sequence[float] | NDArray[Any], shape: tuple[int, int]) -> Window:
    """Fill one polygon as `rleFrPoly` does.

    Args:
        polygon: x, y, x, y, ... in pixels.
        shape: height and width of the image.

    Returns:
        The pixels in a window as small as the polygon allows, and the window's top and left in the image.

    Raises:
        ValueError: an odd number of numbers, or numbers that are none.

    >>> pixels, top, left = polygon_mask([1, 0, 3, 0, 3, 2, 1, 2], (2, 4))
    >>> pixels.tolist(), top, left
    ([[True, True], [True, True]], 0, 1)
    """
    if len(polygon) % 2:
        raise ValueError("expected pairs of numbers x, y")
    height, width = shape
    corners = check_corners(np.reshape(np.asarray(polygon, dtype=object), (-1, 2)))
    # C casts by cutting fractions off.
    fine = np.trunc(_FINER * corners + 0.5).astype(np.int64)
    begin, end = fine, np.roll(fine, -1, axis=0)
    across, down = np.abs(end - begin).T
    flat = across >= down
    flip = np.where(flat, begin[:, 0] > end[:, 0], begin[:, 1] > end[:, 1])
    start, stop = np.where(flip[:, None], end, begin), np.where(flip[:, None], begin, end)
    # A column is crossed between its fine columns 5c + 2 and 5c + 3.
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first = np.clip(-(-(low - 2) // _FINER), 0, width)
    last = np.clip((high - 3) // _FINER, -1, width - 1)
    count = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(fine)), count)
    if not len(edge):
        return NOTHING
    column = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    y = np.where(
        flat[edge],
        _flat_crossing(start[edge], stop[edge], column),
        _steep_crossing(start[edge], stop[edge], column),
    )
    row = np.ceil(np.clip((y + 0.5) / _FINER - 0.5, 0, height)).astype(np.int64)
    top, left = int(row.min()), int(column.min())
    toggles = np.zeros((int(row.max()) - top + 1, int(column.max()) - left + 1), dtype=np.int32)
    np.add.at(toggles, (row - top, column - left), 1)
    return np.cumsum(toggles, axis=0)[:-1] % 2 == 1, top, left


def _flat_crossing(start: NDArray[np.int64], stop: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lower fine row of the two points on either side of the crossing; x grows by one from point to point."""
    span = np.maximum(stop[:, 0] - start[:, 0], 1)
    slope = (stop[:, 1] - start[:, 1]) / span
    step = _FINER * column + 2 - start[:, 0]
    before, after = (np.trunc(start[:, 1] + slope * t + 0.5).astype(np.int64) for t in (step, step + 1))
    lower: NDArray[np.int64] = np.minimum(before, after)
    return lower


def _steep_crossing(start: NDArray[np.int64], stop: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fine row above the crossing; y grows by one from point to point, x by less."""
    span = np.maximum(stop[:, 1] - start[:, 1], 1)
    slope = (stop[:, 0] - start[:, 0]) / span
    wanted = _FINER * column + 3
    safe = np.where(slope == 0, 1, slope)
    guess = np.floor((wanted - 0.5 - start[:, 0]) / safe).astype(np.int64)
    crossing = guess
    for t in range(-2, 3):  # the guess may be off by the rounding of floats
        step = np.clip(guess + t, 0, span - 1)
        here, there = (np.trunc(start[:, 0] + slope * s + 0.5).astype(np.int64) for s in (step, step + 1))
        crossing = np.where((here >= wanted) != (there >= wanted), step, crossing)
    return crossing + start[:, 1]


def decode_rle(counts: str | bytes | Sequence[int], shape: tuple[int, int]) -> Window:
    """Read a run-length code.

    Args:
        counts: COCO's compressed text, or the list of lengths.
        shape: height and width; what the code says of its size must be checked against the image's before.

    Returns:
        The pixels in a window as small as they allow, and the window's top and left in the image.

    Raises:
        ValueError: the lengths are none, or do not sum up to the image. Nothing is allocated before that is known.

    >>> decode_rle([2, 2], (2, 2))[0].tolist(), decode_rle("22", (2, 2))[1:]
    ([[True], [True]], (0, 1))
    """
    height, width = shape
    lengths = _expanded(counts) if isinstance(counts, str | bytes) else _lengths(counts)
    total = sum(lengths)
    if min(lengths, default=0) < 0:
        raise ValueError("has a negative length")
    if total != height * width:
        raise ValueError(f"has lengths that sum up to {total:,}, but the image has {height * width:,} pixels")
    ends = np.cumsum(lengths)
    filled = np.flatnonzero((np.arange(len(lengths)) % 2 == 1) & (np.asarray(lengths) > 0))
    if not len(filled):
        return NOTHING
    left = int(ends[filled[0] - 1]) // height
    right = -(-int(ends[filled[-1]]) // height)
    cut = np.clip(ends, left * height, right * height)
    inside = np.arange(len(lengths)) % 2 == 1
    pixels = np.repeat(inside, np.diff(cut, prepend=left * height)).reshape(right - left, height).T
    rows = np.flatnonzero(pixels.any(axis=1))
    return pixels[rows[0] : rows[-1] + 1], int(rows[0]), left


def _lengths(counts: Sequence[int]) -> list[int]:
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in counts):
        raise ValueError("has lengths that are no whole numbers")
    return list(counts)


def _expanded(text: str | bytes) -> list[int]:
    """Lengths of the text: 5 bits a letter, least first; from the fourth on, differences to the last but one."""
    try:
        letters = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise ValueError("has letters that no run-length code has") from None
    lengths: list[int] = []
    place = value = 0
    for letter in letters:
        bits = letter - 48
        if not 0 <= bits < 64 or place > 12:
            raise ValueError("has letters that no run-length code has")
        value |= (bits & 0x1F) << (5 * place)
        place += 1
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << (5 * place)
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        place = value = 0
    if place:
        raise ValueError("is cut off")
    return lengths


def encode_rle(ids: NDArray[np.integer], number: int, bbox: tuple[int, int, int, int]) -> dict[str, Any]:
    """The pixels of one object as COCO's compressed run-length code: runs down the columns, background first.

    Args:
        ids: HxW numbers of objects.
        number: the object's.
        bbox: x, y, width, height that hold it.

    >>> encode_rle(np.array([[0, 5], [0, 5]]), 5, (1, 0, 1, 2))
    {'size': [2, 2], 'counts': '22'}
    """
    height, width = ids.shape
    x, y, box_width, box_height = bbox
    columns = np.zeros((box_width, box_height + 2), dtype=np.int8)
    columns[:, 1:-1] = (ids[y : y + box_height, x : x + box_width] == number).T
    step = np.diff(columns, axis=1)
    (start_x, start_y), (end_x, end_y) = np.nonzero(step > 0), np.nonzero(step < 0)
    starts, ends = (x + start_x) * height + y + start_y, (x + end_x) * height + y + end_y
    # A run that goes on at the top of the next column.
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    edges = np.column_stack([starts, ends]).ravel()
    counts = np.diff(edges, prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": _compressed(counts)}


def _compressed(counts: NDArray[np.integer]) -> str:
    """As `rleToString` of pycocotools' maskApi: from the fourth on differences to the last but one, 5 bits a letter."""
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    letters = bytearray()
    for number in numbers.tolist():
        more = True
        while more:
            low = number & 0x1F
            number >>= 5
            more = number != (-1 if low & 0x10 else 0)
            letters.append(48 + (low | 0x20 if more else low))
    return letters.decode("ascii")

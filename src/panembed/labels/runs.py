"""Runs of equal pixels: label images have some hundred times fewer of them than pixels, so counting goes by runs.

A run is a stretch of equal neighbours in the flattened image; it may go on in the next row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_TABLE_PER_VALUE = 16
_SMALL_TABLE = 1 << 16


@dataclass(frozen=True, slots=True)
class Runs:
    """R runs of pixels with one class and one instance; neighbouring runs may be equal.

    Attributes:
        starts: flat position of the first pixel of each run, ascending from 0.
        category: class index of each run, R uint8.
        instance: instance id of each run, R int32.
        size: pixels in all.

    >>> Runs(np.array([0, 3]), np.array([1, 0], np.uint8), np.array([7, 0], np.int32), 5).lengths.tolist()
    [3, 2]
    """

    starts: Ints
    category: NDArray[np.uint8]
    instance: NDArray[np.int32]
    size: int

    @property
    def lengths(self) -> Ints:
        """Pixels of each run."""
        return np.diff(self.starts, append=self.size)


def run_starts(*maps: NDArray[Any]) -> Ints:
    """Flat positions where at least one of the equal-sized HxW maps changes, and 0.

    >>> run_starts(np.array([[4, 4], [4, 5]]), np.array([[1, 2], [2, 2]])).tolist()
    [0, 1, 3]
    """
    changed = np.zeros(maps[0].size, dtype=bool)
    changed[:1] = True
    for array in maps:
        flat = array.ravel()
        changed[1:] |= flat[1:] != flat[:-1]
    return np.flatnonzero(changed)


def color_run_starts(image: NDArray[np.uint8]) -> Ints:
    """Flat positions of the pixels of an HxWxS image that differ from the one before, and 0.

    >>> color_run_starts(np.array([[[1, 0], [1, 0], [1, 3], [2, 2]]], dtype=np.uint8)).tolist()
    [0, 2, 3]
    """
    samples = image.shape[2]
    if not image.size:
        return np.zeros(0, dtype=np.int64)
    # Samples are compared, not pixels put together as numbers first, which takes ten times as long.
    flat = image.reshape(-1)
    places = np.flatnonzero(flat[samples:] != flat[:-samples]) // samples + 1
    return np.append(0, places[np.diff(places, prepend=0) > 0])


def merge_starts(a: Ints, b: Ints) -> tuple[Ints, Ints, Ints]:
    """Cut an image where either of two lists of runs begins a run.

    Args:
        a: starts of the first list, ascending from 0.
        b: of the second, of an image of the same size.

    Returns:
        The starts of the pieces, and for each piece the run that it lies in, of the first and of the second list.

    >>> [part.tolist() for part in merge_starts(np.array([0, 2, 5]), np.array([0, 5, 7]))]
    [[0, 2, 5, 7], [0, 1, 2, 2], [0, 0, 1, 2]]
    """
    # The last bit tells whose start it is; a stable sort takes two ascending lists in one pass.
    events = np.sort(np.concatenate([a << 1, (b << 1) | 1]), kind="stable")
    starts, of_b = events >> 1, events & 1
    is_last = np.append(starts[1:] != starts[:-1], np.ones(min(len(events), 1), dtype=bool))
    return starts[is_last], np.cumsum(1 - of_b)[is_last] - 1, np.cumsum(of_b)[is_last] - 1


def compact(values: Ints) -> tuple[Ints, Ints]:
    """Sorted distinct values (all >= 0), and the place of each among them: a faster `np.unique` with its inverse.

    >>> [part.tolist() for part in compact(np.array([30, 7, 30]))]
    [[7, 30], [1, 0, 1]]
    """
    if not len(values):
        return values, values
    span = int(values.max()) + 1
    if span <= max(_SMALL_TABLE, _TABLE_PER_VALUE * len(values)):
        present = np.zeros(span, dtype=bool)
        present[values] = True
        found = np.flatnonzero(present)
        place_of_value = np.empty(span, dtype=np.int64)
        place_of_value[found] = np.arange(len(found))
        return found, place_of_value[values]
    bits = len(values).bit_length()
    if span.bit_length() + bits < 64:  # sorting values that carry their place is several times faster than argsort
        packed = np.sort((values << bits) | np.arange(len(values)))
        ordered, order = packed >> bits, packed & ((1 << bits) - 1)
    else:
        order = np.argsort(values)
        ordered = values[order]
    is_first = np.append(True, ordered[1:] != ordered[:-1])
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.cumsum(is_first) - 1
    return ordered[is_first], place

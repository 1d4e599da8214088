"""What is odd about the objects of a label image: signs that the numbers went through something that changed them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from panembed.labels.panoptic_map import PanopticMap

_VOID_NUMBERS = (254, 255, 65_534, 65_535, 0xFFFFFF, 2**31 - 1)
"""Numbers by which data sets mark pixels of no object; the rim around each object is the commonest use."""

_MOST_OF_TYPE = (254, 255, 65_534, 65_535)
"""Largest numbers of files with 8 and 16 bits, with and without one for void."""

_RIM = 4.0
"""Half the width of a rim, in pixels, at most."""


def oddities(truth: PanopticMap, things: Iterable[int]) -> list[str]:
    """Signs of a mistake in the objects of one image, in words; most images have none.

    - Slivers: most objects are at most two pixels thin and lie along others, as numbers do that were resized smoothly
      or saved as JPEG.
    - A rim: an object with a number that often means void, or one that touches most others, is a line around them.
    - Numbers that begin again: all of 1..255 (or what else the bits of a file hold) are in use, and none is larger.

    Args:
        truth: HxW.
        things: the thing classes.

    >>> grid = np.kron(np.arange(256).reshape(16, 16), np.ones((4, 4), int))
    >>> oddities(PanopticMap((grid > 0).astype(int), grid), [1])
    ['all numbers 1 to 255 are in use: did they begin again in 8 bits, so that far objects share one?']
    """
    objects = np.where(np.isin(truth.semantic, list(things)), truth.instance, 0)
    numbers, sizes = np.unique(objects[objects > 0], return_counts=True)
    if len(numbers) == 0:
        return []
    pairs = _touching(objects)
    found = []
    if _are_slivers(objects, numbers, pairs):
        found.append(
            "most objects are slivers along others: were the labels resized smoothly (interpolated) or saved as JPEG? "
            "Resize labels by nearest neighbour only"
        )
    elif (rim := _rim(objects, numbers, sizes, pairs)) is not None:
        found.append(
            f"number {rim} is a thin rim around other objects: void? Write `ignore: [{rim}]` into labels.yaml if it is"
        )
    top = int(numbers[-1])
    if top in _MOST_OF_TYPE and top == len(numbers):
        bits = next(bits for bits in (8, 16) if top < 2**bits)
        found.append(
            f"all numbers 1 to {top} are in use: did they begin again in {bits} bits, so that far objects share one?"
        )
    return found


def _touching(objects: NDArray[np.integer]) -> NDArray[np.int64]:
    """Pairs of different objects that share an edge of pixels, Px2, both ways, each once."""
    edges = [(objects[:, 1:], objects[:, :-1]), (objects[1:], objects[:-1])]
    found = []
    for one, other in edges:
        differ = (one != other) & (one > 0) & (other > 0)
        found.append(np.stack([one[differ], other[differ]], axis=1).astype(np.int64))
    both = np.concatenate(found)
    # As one number each, which sorts many times faster than rows.
    packed = np.unique(np.concatenate([both[:, 0] << 32 | both[:, 1], both[:, 1] << 32 | both[:, 0]]))
    return np.stack([packed >> 32, packed & 0xFFFFFFFF], axis=1)


def _are_slivers(objects: NDArray[np.integer], numbers: NDArray[np.integer], pairs: NDArray[np.int64]) -> bool:
    """Whether most objects are nowhere three pixels thick, and touch others."""
    same = np.zeros(objects.shape, dtype=bool)
    same[1:-1, 1:-1] = True
    for axis in (0, 1):
        for shift in (1, -1):
            same &= objects == np.roll(objects, shift, axis)
    thick = np.unique(objects[same & (objects > 0)])
    slivers = np.isin(numbers, thick, invert=True) & np.isin(numbers, pairs[:, 0])
    count = int(np.count_nonzero(slivers))
    return count >= 4 and 2 * count > len(numbers)


def _rim(
    objects: NDArray[np.integer], numbers: NDArray[np.integer], sizes: NDArray[np.intp], pairs: NDArray[np.int64]
) -> int | None:
    """The number of a line around most other objects."""
    others = len(numbers) - 1
    if others < 1:
        return None
    touched = dict(zip(*(part.tolist() for part in np.unique(pairs[:, 0], return_counts=True))))
    for number, size in zip(numbers.tolist(), sizes.tolist()):
        usual = number in _VOID_NUMBERS
        share = touched.get(number, 0) / others
        if share < (0.5 if usual else 0.8) or not (usual or others >= 4):
            continue
        if size >= 8 and ndimage.distance_transform_edt(np.pad(objects == number, 1)).max() <= _RIM:
            return int(number)
    return None

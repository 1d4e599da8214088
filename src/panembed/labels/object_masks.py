"""Objects as masks of their own, which may overlap, and the panoptic map that is made of them.

Formats that draw each object by itself, as an outline, a run-length code or a picture, let objects overlap; a panoptic
map has one object a pixel. The rule here: the smaller object lies on top, as Ultralytics has it, so that a small object
on a large one is never lost; of two of one size the later one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import IGNORE
from panembed.labels.panoptic_map import PanopticMap

Window = tuple[NDArray[np.bool_], int, int]
"""Pixels in a part of the image, and its first row and column there."""

NOTHING: Window = (np.zeros((0, 0), dtype=bool), 0, 0)
"""The window of an object without a pixel."""

VOID = -1
"""`ObjectMask.category` of pixels that mean no class."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMask:
    """One object, or a group of objects not told apart.

    Attributes:
        category: class index, or `VOID`.
        pixels: hxw bool, a window of the image.
        top: first row of the window in the image.
        left: its first column.
        is_crowd: a group.
        is_object: False for what is painted as its class without being told apart, such as background.
        key: masks of one key are pieces of one object; None for an object of one mask.

    >>> ObjectMask(1, np.ones((2, 3), bool)).area
    6
    """

    category: int
    pixels: NDArray[np.bool_]
    top: int = 0
    left: int = 0
    is_crowd: bool = False
    is_object: bool = True
    key: Hashable = None

    @property
    def area(self) -> int:
        """Pixels of the object."""
        return int(np.count_nonzero(self.pixels))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image that `pixels` covers."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def paint(
    objects: Sequence[ObjectMask], shape: tuple[int, int], background: int, *, in_order: bool = False
) -> tuple[PanopticMap, Counter[str]]:
    """Lay objects over one another.

    Crowds lie below objects, and all crowds of a class are one, with instance 0. Objects get instance ids 1, 2, ... in
    their order here, whatever their class.

    Args:
        objects: inside the image.
        shape: height and width of the image.
        background: class index of pixels without an object.
        in_order: later objects lie on top, instead of smaller ones.

    Returns:
        The map, and what it lost, counted: pixels of several objects, objects of which nothing is seen, and objects
        without a pixel.

    >>> large, small = ObjectMask(1, np.ones((2, 3), bool)), ObjectMask(1, np.ones((1, 1), bool))
    >>> found, lost = paint([small, large], (2, 3), 0)
    >>> found.instance.tolist(), dict(lost)
    ([[1, 2, 2], [2, 2, 2]], {'pixels in more than one object': 1})
    """
    semantic = np.full(shape, background, dtype=np.uint8)
    instance = np.zeros(shape, dtype=np.int32)
    shared = np.zeros(shape, dtype=bool)
    areas = [mask.area for mask in objects]
    numbers = _numbers(objects, areas)
    order = sorted(range(len(objects)), key=lambda k: (not objects[k].is_crowd, 0 if in_order else -areas[k]))
    for place in order:
        mask, number = objects[place], numbers[place]
        if not areas[place]:
            continue
        below = instance[mask.window][mask.pixels]
        if number:
            shared[mask.window][mask.pixels] |= (below > 0) & (below != number)
        semantic[mask.window][mask.pixels] = IGNORE if mask.category == VOID else mask.category
        instance[mask.window][mask.pixels] = number
    crowd = {(mask.category, 0) for mask, area in zip(objects, areas) if mask.is_crowd and area}
    empty = sum(mask.is_object and not mask.is_crowd and not area for mask, area in zip(objects, areas))
    hidden = max(numbers, default=0) - len(np.unique(instance[instance > 0]))
    lost = {
        "objects without a pixel": empty,
        "pixels in more than one object": int(np.count_nonzero(shared)),
        "objects hidden by others": hidden,
    }
    return PanopticMap(semantic, instance, crowd), +Counter(lost)


def _numbers(objects: Sequence[ObjectMask], areas: Sequence[int]) -> list[int]:
    """The instance id of every mask; 0 for those that are no object or have no pixel."""
    of_key: dict[Hashable, int] = {}
    numbers = []
    for place, (mask, area) in enumerate(zip(objects, areas)):
        counted = not mask.is_crowd and mask.is_object and area > 0
        key = ("alone", place) if mask.key is None else mask.key
        numbers.append(of_key.setdefault(key, len(of_key) + 1) if counted else 0)
    return numbers


def union(windows: list[Window]) -> Window:
    """All pixels of several windows, in one.

    >>> union([(np.ones((1, 1), bool), 0, 0), (np.ones((1, 1), bool), 1, 2)])[0].astype(int).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    if len(windows) == 1:
        return windows[0]
    some = [(pixels, top, left) for pixels, top, left in windows if pixels.size]
    if not some:
        return NOTHING
    top, left = min(t for _, t, _ in some), min(at for _, _, at in some)
    bottom = max(t + pixels.shape[0] for pixels, t, _ in some)
    right = max(at + pixels.shape[1] for pixels, _, at in some)
    whole = np.zeros((bottom - top, right - left), dtype=bool)
    for pixels, t, at in some:
        whole[t - top : t - top + pixels.shape[0], at - left : at - left + pixels.shape[1]] |= pixels
    return whole, top, left

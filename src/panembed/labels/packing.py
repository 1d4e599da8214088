"""Class and instance as one number (Zachow 2022, Eq. 2.1): an exchange format only, in memory they are two arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.errors import InputError, OutputError
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.labels.runs import Runs, run_starts

MAX_PACKED_INSTANCES = 1000
"""Eq. 2.1 leaves three decimal digits for the instance."""


def pack(panoptic: PanopticMap, label_set: LabelSet) -> NDArray[np.int32]:
    """Write class and instance as one number (Zachow 2022, Eq. 2.1; also Cityscapes' instanceIds).

    Things become `1000 * class id + n`, where n counts the class's objects from 0 in the order of their instance ids.
    Stuff becomes the class id, and so do things not told apart: instance 0, and crowds whatever their instance id, as
    Cityscapes writes its groups. Several crowds of a class are one from then on. Pixels without a class become -1.

    Raises:
        OutputError: a class has more than 1,000 objects, a thing class has id 0, or a stuff id is 1,000 or more (or
            that of things with instance 0).
        ValueError: the map holds a class index that the label set lacks.

    >>> from panembed.labels.categories import Category
    >>> leaves = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
    >>> pack(PanopticMap([[0, 1, 1, 1]], [[0, 7, 8, 9]], crowd=[(1, 8)]), leaves).tolist()
    [[0, 1000, 1, 1001]]
    """
    runs = panoptic.runs()
    unknown = runs.category[(runs.category >= len(label_set)) & (runs.category != IGNORE)]
    if unknown.size:
        raise ValueError(f"class index {unknown[0]} is not in the label set of {len(label_set)} classes")
    instance = runs.instance.copy()
    for index, number in panoptic.crowd:
        instance[(runs.category == index) & (instance == number)] = 0
    packed = np.full(len(instance), -1, dtype=np.int32)
    for index, category in enumerate(label_set):
        if category.is_thing and category.id == 0:
            raise OutputError(
                f"class {category.name!r}: a thing with id 0 can't be told from stuff in class * 1000 + instance; "
                "give it an id of 1 or more"
            )
        if category.id >= 1000 and not category.is_thing:
            raise OutputError(
                f"class {category.name!r}: id {category.id} does not fit class * 1000 + instance; expected < 1000"
            )
        mask = runs.category == index
        packed[mask] = category.id
        if not category.is_thing:
            continue
        if category.id >= 1000 and bool((mask & (instance == 0)).any()):
            raise OutputError(
                f"class {category.name!r}: pixels without instance would become {category.id}, which stands for an "
                f"object of class {category.id // 1000}; expected an id < 1000"
            )
        mask &= instance > 0
        ids, numbers = np.unique(instance[mask], return_inverse=True)
        if len(ids) > MAX_PACKED_INSTANCES:
            raise OutputError(
                f"class {category.name!r} has {len(ids)} objects, but class * 1000 + instance holds at most "
                f"{MAX_PACKED_INSTANCES} a class; write COCO panoptic instead"
            )
        packed[mask] = category.id * 1000 + numbers
    return np.repeat(packed, runs.lengths).reshape(panoptic.shape)


def unpack(packed: ArrayLike, label_set: LabelSet, ignore_values: Iterable[int] = (-1,)) -> PanopticMap:
    """Read Eq. 2.1: the inverse of `pack`. Instance ids become n + 1.

    A thing's bare class id (below 1,000) gives pixels of that class with instance 0, and marks them as a crowd.

    Args:
        packed: HxW integers.
        label_set: the classes whose ids occur.
        ignore_values: numbers that mean no class.

    Raises:
        InputError: a class id occurs that the label set lacks.
    """
    array = np.asarray(packed)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"packed: expected an HxW array of integers, found {array.dtype} {array.shape}")
    starts = run_starts(array)
    values, inverse = np.unique(array.ravel()[starts], return_inverse=True)
    semantic, instance = np.zeros(len(values), dtype=np.uint8), np.zeros(len(values), dtype=np.int32)
    ignored = {int(v) for v in ignore_values}
    crowd = set()
    for position, value in enumerate(values.tolist()):
        if value in ignored:
            semantic[position] = IGNORE
            continue
        category_id, number = divmod(value, 1000) if value >= 1000 else (value, -1)
        try:
            index = label_set.index_of(category_id)
        except KeyError:
            known = ", ".join(f"{c.id} {c.name}" for c in label_set)
            raise InputError(
                f"unknown class id {category_id} (pixel value {value}); the label set has {known}"
            ) from None
        semantic[position] = index
        if label_set[index].is_thing:
            instance[position] = number + 1
            if number < 0:
                crowd.add((index, 0))
    runs = Runs(starts, semantic[inverse], instance[inverse], array.size)
    return PanopticMap.from_runs(runs, (array.shape[0], array.shape[1]), crowd)

"""A panoptic map: class index and instance id of every pixel, as two arrays, and the table of its segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.runs import Runs, compact, merge_starts, run_starts


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a panoptic map: an object, or all pixels of a stuff class (see `PanopticMap.split_stuff`).

    Attributes:
        id: its value in the segment-id map, from 1.
        category: class index.
        instance: instance id in the panoptic map; 0 for stuff.
        area: pixels.
        bbox: x, y, width, height in pixels; right and lower edge are exclusive.
        is_crowd: a group of objects not told apart.
    """

    id: int
    category: int
    instance: int
    area: int
    bbox: tuple[int, int, int, int]
    is_crowd: bool = False


class PanopticMap:
    """Class and instance of every pixel.

    Args:
        semantic: HxW integers, class index 0..254, 255 (`IGNORE`) for none. Kept as uint8.
        instance: HxW integers >= 0, kept as int32. 0 for none: all stuff, and thing pixels that belong to no object
            (void, unless `crowd` lists (class index, 0)). Ids count within a class: the same number in two classes
            means two objects. Gaps are allowed.
        crowd: (class index, instance) of things that are groups of objects not told apart.
        split_stuff: stuff classes of which each instance id is a segment of its own, as files of other tools may have
            it; all pixels of any other stuff class are one segment, whatever their instance ids.

    Raises:
        ValueError: the arrays are not two-dimensional integers of one size, or hold values out of range.

    >>> PanopticMap([[0, 1], [1, 1]], [[0, 1], [1, 2]]).num_instances
    2
    """

    __slots__ = ("_arrays", "_runs", "crowd", "shape", "split_stuff")

    _arrays: tuple[NDArray[np.uint8], NDArray[np.int32]]
    _runs: Runs | None

    def __init__(
        self,
        semantic: ArrayLike,
        instance: ArrayLike,
        crowd: Iterable[tuple[int, int]] = (),
        split_stuff: Iterable[int] = (),
    ) -> None:
        semantic, instance = np.asarray(semantic), np.asarray(instance)
        for name, array in (("semantic", semantic), ("instance", instance)):
            if array.ndim != 2 or not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
                raise ValueError(f"{name}: expected an HxW array of integers, found {array.dtype} {array.shape}")
        if semantic.shape != instance.shape:
            raise ValueError(f"semantic is {semantic.shape} but instance is {instance.shape}; expected one size")
        if semantic.size and semantic.dtype != np.uint8 and (semantic.min() < 0 or semantic.max() > IGNORE):
            raise ValueError(f"semantic: expected class indices 0..{IGNORE}, found {semantic.min()}..{semantic.max()}")
        if instance.size and (instance.min() < 0 or instance.max() > np.iinfo(np.int32).max):
            raise ValueError(f"instance: expected ids 0..2**31-1, found {instance.min()}..{instance.max()}")
        self._runs = None
        self._arrays = np.ascontiguousarray(semantic, dtype=np.uint8), np.ascontiguousarray(instance, dtype=np.int32)
        self._describe((semantic.shape[0], semantic.shape[1]), crowd, split_stuff)

    @classmethod
    def from_runs(
        cls,
        runs: Runs,
        shape: tuple[int, int],
        crowd: Iterable[tuple[int, int]] = (),
        split_stuff: Iterable[int] = (),
    ) -> PanopticMap:
        """Make a map from the runs of its rows. Pixels are filled in when they are asked for; scoring never does.

        >>> runs = Runs(np.array([0, 3]), np.array([1, 0], np.uint8), np.array([7, 0], np.int32), 4)
        >>> PanopticMap.from_runs(runs, (2, 2)).instance.tolist()
        [[7, 7], [7, 0]]
        """
        panoptic = cls.__new__(cls)
        panoptic._runs = runs
        panoptic._describe(shape, crowd, split_stuff)
        return panoptic

    def _describe(self, shape: tuple[int, int], crowd: Iterable[tuple[int, int]], split_stuff: Iterable[int]) -> None:
        self.shape: tuple[int, int] = shape
        self.crowd: frozenset[tuple[int, int]] = frozenset((int(c), int(i)) for c, i in crowd)
        self.split_stuff: frozenset[int] = frozenset(int(c) for c in split_stuff)

    @property
    def semantic(self) -> NDArray[np.uint8]:
        """HxW uint8, class index or `IGNORE`."""
        return self._pixels()[0]

    @property
    def instance(self) -> NDArray[np.int32]:
        """HxW int32, instance id or 0."""
        return self._pixels()[1]

    def _pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        runs = self._runs  # before the arrays, which are there once it is gone
        if runs is not None:
            semantic, instance = np.repeat(runs.category, runs.lengths), np.repeat(runs.instance, runs.lengths)
            self._arrays = semantic.reshape(self.shape), instance.reshape(self.shape)
            # Whoever has the arrays may change them.
            self._runs = None
        return self._arrays

    def runs(self) -> Runs:
        """Runs of pixels with one class and instance, in the order of the flattened map."""
        found = self._runs  # read once: another thread may ask for the pixels meanwhile
        if found is not None:
            return found
        semantic, instance = self._arrays
        starts = run_starts(semantic, instance)
        return Runs(starts, semantic.ravel()[starts], instance.ravel()[starts], semantic.size)

    def counts_instances(self, label_set: LabelSet) -> NDArray[np.bool_]:
        """Of every class index 0..255, whether its instance ids tell segments apart: things, and `split_stuff`."""
        counts = np.zeros(IGNORE + 1, dtype=bool)
        counts[[*label_set.things, *self.split_stuff]] = True
        return counts

    @property
    def num_instances(self) -> int:
        """How many (class, instance) pairs with instance > 0 occur on pixels that have a class; no stuff."""
        runs = self.runs()
        kept = (runs.instance > 0) & (runs.category != IGNORE) & ~np.isin(runs.category, list(self.split_stuff))
        keys, _ = compact((runs.category[kept].astype(np.int64) << 32) | runs.instance[kept])
        return len(keys)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PanopticMap)
            and np.array_equal(self.semantic, other.semantic)
            and np.array_equal(self.instance, other.instance)
            and self.crowd == other.crowd
            and self.split_stuff == other.split_stuff
        )

    __hash__ = None  # type: ignore[assignment]  # arrays inside may change

    def __repr__(self) -> str:
        return f"PanopticMap({self.shape[0]}x{self.shape[1]}, {self.num_instances} instances)"

    def segments(self, label_set: LabelSet) -> tuple[NDArray[np.int32], list[Segment]]:
        """Number the segments 1..S in order of class and instance.

        Things with instance 0 are void (0), unless (class, 0) is in `crowd`. Instance numbers on stuff are ignored,
        but for `split_stuff`.

        Returns:
            The HxW int32 segment-id map, 0 for void, and the table of its segments.

        Raises:
            ValueError: the map holds a class index that the label set lacks.
        """
        width = self.shape[1]
        is_thing = np.zeros(IGNORE + 1, dtype=bool)
        is_thing[list(label_set.things)] = True
        runs = self.runs()
        # No run may span two rows, for the boxes.
        starts, place, _ = merge_starts(runs.starts, np.arange(0, runs.size, max(width, 1)))
        lengths = np.diff(starts, append=runs.size)
        run_instance = np.where(self.counts_instances(label_set)[runs.category], runs.instance, 0)
        keys, inverse = compact((runs.category.astype(np.int64) << 32) | run_instance)
        classes, ids = keys >> 32, keys & 0xFFFFFFFF
        unknown = classes[(classes >= len(label_set)) & (classes != IGNORE)]
        if unknown.size:
            raise ValueError(f"class index {unknown[0]} is not in the label set of {len(label_set)} classes")
        lookup = np.zeros(len(keys), dtype=np.int32)
        found: list[tuple[int, int, bool]] = []
        for position, (category, number) in enumerate(zip(classes.tolist(), ids.tolist())):
            crowd = (category, number) in self.crowd
            if category == IGNORE or (is_thing[category] and number == 0 and not crowd):
                continue
            found.append((category, number, crowd))
            lookup[position] = len(found)
        run_segment = lookup[inverse[place]]
        segment_map = np.repeat(run_segment, lengths).reshape(self.shape)
        area, boxes = _areas_and_boxes(run_segment, starts, lengths, width, len(found))
        table = [
            Segment(row, category, number, area[row], boxes[row], crowd)
            for row, (category, number, crowd) in enumerate(found, start=1)
        ]
        return segment_map, table


def _areas_and_boxes(
    run_segment: NDArray[np.int32], starts: NDArray[np.intp], lengths: NDArray[np.intp], width: int, count: int
) -> tuple[list[int], list[tuple[int, int, int, int]]]:
    """Pixels and x, y, width, height of segments 0..count, from the runs that they are made of."""
    area = np.bincount(run_segment, weights=lengths, minlength=count + 1).astype(np.int64)
    y, x = np.divmod(starts, max(width, 1))
    far = np.iinfo(np.intp).max
    left, top = np.full(count + 1, far), np.full(count + 1, far)
    right, bottom = np.zeros(count + 1, dtype=np.intp), np.zeros(count + 1, dtype=np.intp)
    np.minimum.at(left, run_segment, x)
    np.minimum.at(top, run_segment, y)
    np.maximum.at(right, run_segment, x + lengths)
    np.maximum.at(bottom, run_segment, y + 1)
    boxes = np.stack([left, top, right - left, bottom - top], axis=1).tolist()
    return area.tolist(), [(box[0], box[1], box[2], box[3]) for box in boxes]

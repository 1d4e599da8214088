"""Classes and panoptic maps: the words everything else is written in.

In memory a panoptic segmentation is two arrays, class index and instance id. Packing both into one number
(Zachow 2022, Eq. 2.1) is an exchange format only, see `pack` and `unpack`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.errors import InputError, OutputError, SettingsError
from panembed.labels.runs import Runs, compact, merge_starts, run_starts

IGNORE = 255
"""Class index of pixels that have no class: excluded from losses, void in Panoptic Quality."""

MAX_PACKED_INSTANCES = 1000
"""Eq. 2.1 leaves three decimal digits for the instance."""


def distinct_color(index: int) -> tuple[int, int, int]:
    """Give the `index`-th of an endless list of well-told-apart RGB colours, 0..255 each.

    Hues follow the golden ratio, so that any run of indices is spread over the colour circle.

    >>> distinct_color(0) != distinct_color(1)
    True
    """
    hue = (0.33 + index * 0.618033988749895) % 1.0
    saturation = (0.85, 0.60, 0.95)[index % 3]
    value = (0.95, 0.80, 0.65)[(index // 3) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@dataclass(frozen=True, slots=True)
class Category:
    """One class.

    Attributes:
        id: the number that stands for the class in files, 0..65534; free of order and gaps.
        name: for people.
        is_thing: True for countable objects (*things*), False for *stuff*.
        color: RGB, 0..255 each.
    """

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int] = (128, 128, 128)


class LabelSet:
    """The classes of a data set, in the order of the network's channels.

    A class's *index* is its place in this list, 0..C-1: that is what `PanopticMap.semantic` and the network hold.
    Its `Category.id` is what files hold.

    Args:
        categories: at least one, at most 255, with ids and names that occur once.

    >>> leaves = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
    >>> leaves.things, leaves.stuff, leaves.index_of(1)
    ((1,), (0,), 1)
    """

    def __init__(self, categories: Iterable[Category]) -> None:
        self.categories: tuple[Category, ...] = tuple(categories)
        if not 1 <= len(self.categories) <= IGNORE:
            raise SettingsError(f"a label set needs 1 to {IGNORE} classes, found {len(self.categories)}")
        for what, values in (("id", [c.id for c in self]), ("name", [c.name for c in self])):
            twice = sorted({str(v) for v in values if values.count(v) > 1})
            if twice:
                raise SettingsError(f"label set: class {what} {twice[0]!r} occurs twice; each must be its own")
        for category in self:
            # 65,535 is void in 16-bit pictures of classes.
            if not 0 <= category.id <= 65_534:
                raise SettingsError(f"label set: class {category.name!r} has id {category.id}; expected 0..65534")

    def __iter__(self) -> Any:
        return iter(self.categories)

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, index: int) -> Category:
        return self.categories[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.categories == other.categories

    def __hash__(self) -> int:
        return hash(self.categories)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{c.id}={c.name}{'*' if c.is_thing else ''}" for c in self.categories)
        return f"LabelSet({kinds}; * thing)"

    @cached_property
    def things(self) -> tuple[int, ...]:
        """Indices of the thing classes, ascending."""
        return tuple(i for i, c in enumerate(self.categories) if c.is_thing)

    @cached_property
    def stuff(self) -> tuple[int, ...]:
        """Indices of the stuff classes, ascending."""
        return tuple(i for i, c in enumerate(self.categories) if not c.is_thing)

    @property
    def ignore(self) -> int:
        """The class index of pixels without a class."""
        return IGNORE

    def index_of(self, category_id: int) -> int:
        """Class index of the class that files call `category_id`; KeyError where there is none."""
        return {c.id: i for i, c in enumerate(self.categories)}[category_id]

    def to_list(self) -> list[dict[str, Any]]:
        """Plain data, for YAML and JSON; `from_list` reads it back."""
        return [{"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color)} for c in self]

    @classmethod
    def from_list(cls, rows: Iterable[Mapping[str, Any]]) -> LabelSet:
        """Build from rows with `id`, `name`, `isthing` and perhaps `color` (COCO panoptic's `categories`)."""
        categories = []
        for number, row in enumerate(rows):
            try:
                own = distinct_color(number)
                # Stuff is dark and nearly grey, so that objects are seen on it.
                color = row.get("color") or (own if row["isthing"] else [30 + channel // 5 for channel in own])
                red, green, blue = (int(channel) for channel in color)
                categories.append(Category(int(row["id"]), str(row["name"]), bool(row["isthing"]), (red, green, blue)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SettingsError(
                    f"class {number} of the label set: expected id, name, isthing and perhaps color [r, g, b], "
                    f"found {row!r}"
                ) from error
        return cls(categories)


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


def pack(panoptic: PanopticMap, label_set: LabelSet) -> NDArray[np.int32]:
    """Write class and instance as one number (Zachow 2022, Eq. 2.1; also Cityscapes' instanceIds).

    Things become `1000 * class id + n`, where n counts the class's objects from 0 in the order of their instance ids.
    Stuff becomes the class id, and so do things not told apart: instance 0, and crowds whatever their instance id, as
    Cityscapes writes its groups. Several crowds of a class are one from then on. Pixels without a class become -1.

    Raises:
        OutputError: a class has more than 1,000 objects, a thing class has id 0, or a stuff id is 1,000 or more (or
            that of things with instance 0).
        ValueError: the map holds a class index that the label set lacks.

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

"""How segments of a prediction and of the truth overlap: the one count that the metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.labels import IGNORE, LabelSet, PanopticMap

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_TABLE = 1 << 24
"""Values below this are numbered by a table, higher ones by sorting, which is slower."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Segments of both maps, numbered from 1 in order of class and instance, 0 for void; and the pairs that overlap.

    Attributes:
        truth_class: class index of each true segment; entry 0, void, is 0 and means nothing.
        prediction_class: of each predicted segment, as `truth_class`.
        is_crowd: whether a true segment is a crowd; False for void.
        truth_area: pixels of each true segment.
        prediction_area: pixels of each predicted segment.
        prediction_on_void: pixels of each predicted segment on the truth's void.
        truth: of each pair that overlaps, the true segment; void counts too.
        prediction: of each pair, the predicted segment.
        area: of each pair, the pixels in common.
    """

    truth_class: Ints
    prediction_class: Ints
    is_crowd: NDArray[np.bool_]
    truth_area: Floats
    prediction_area: Floats
    prediction_on_void: Floats
    truth: Ints
    prediction: Ints
    area: Floats


def count_overlaps(prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet) -> Overlaps:
    """Count the pixels that each predicted and each true segment have in common.

    Works on runs of equal pixels along the rows, some hundred times fewer than pixels.

    Args:
        prediction: HxW, class indices of `label_set`; its `crowd` marks make pixels of instance 0 a segment.
        truth: as the prediction, of one size with it.
        label_set: C classes.

    Raises:
        ValueError: the two maps differ in size, or hold a class index that the label set lacks.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> truth = PanopticMap([[0, 0, 0, 255]], [[1, 1, 2, 0]])
    >>> pairs = count_overlaps(PanopticMap([[0, 0, 0, 0]], [[5, 5, 5, 5]]), truth, leaves)
    >>> list(zip(pairs.truth.tolist(), pairs.prediction.tolist(), pairs.area.tolist()))
    [(0, 1, 1.0), (1, 1, 2.0), (2, 1, 1.0)]
    """
    if prediction.shape != truth.shape:
        sizes = [f"{height}x{width}" for height, width in (prediction.shape, truth.shape)]
        raise ValueError(f"the prediction is {sizes[0]} but the truth is {sizes[1]} pixels; expected one size")
    starts = _run_starts(truth.semantic, truth.instance, prediction.semantic, prediction.instance)
    lengths = np.diff(starts, append=truth.semantic.size)
    truth_of_run, truth_class, is_crowd = _number_segments(truth, starts, label_set, "truth")
    pred_of_run, pred_class, _ = _number_segments(prediction, starts, label_set, "prediction")
    pair_keys, pair_of_run = compact(truth_of_run * len(pred_class) + pred_of_run)
    area = np.bincount(pair_of_run, weights=lengths).astype(np.float64)
    t, p = np.divmod(pair_keys, len(pred_class))
    return Overlaps(
        truth_class=truth_class,
        prediction_class=pred_class,
        is_crowd=is_crowd,
        truth_area=np.bincount(t, weights=area, minlength=len(truth_class)).astype(np.float64),
        prediction_area=np.bincount(p, weights=area, minlength=len(pred_class)).astype(np.float64),
        prediction_on_void=np.bincount(p[t == 0], weights=area[t == 0], minlength=len(pred_class)).astype(np.float64),
        truth=t,
        prediction=p,
        area=area,
    )


def _run_starts(*maps: NDArray[Any]) -> Ints:
    """Flat positions where at least one of the equal-sized maps changes, and 0."""
    changed = np.zeros(maps[0].size, dtype=bool)
    changed[:1] = True
    for array in maps:
        flat = array.ravel()
        changed[1:] |= flat[1:] != flat[:-1]
    return np.flatnonzero(changed)


def _number_segments(
    panoptic: PanopticMap, starts: Ints, label_set: LabelSet, role: str
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Number the segments from 1 in order of class and instance; 0 is void.

    Returns:
        The segment at every run start; the class of every segment; whether it is a crowd. Void has class 0, no crowd.
    """
    is_thing = np.zeros(IGNORE + 1, dtype=bool)
    is_thing[list(label_set.things)] = True
    semantic = panoptic.semantic.ravel()[starts]
    instance = np.where(is_thing[semantic], panoptic.instance.ravel()[starts], 0)
    base = int(instance.max(initial=0)) + 1
    keys, key_of_run = compact(semantic.astype(np.int64) * base + instance)
    classes, ids = np.divmod(keys, base)
    unknown = classes[(classes >= len(label_set)) & (classes != IGNORE)]
    if unknown.size:
        raise ValueError(f"{role}: class index {unknown[0]} is not in the label set of {len(label_set)} classes")
    is_crowd = np.zeros(len(keys), dtype=bool)
    for category, number in panoptic.crowd:
        is_crowd |= (classes == category) & (ids == number)
    kept = (classes != IGNORE) & (~is_thing[classes] | (ids > 0) | is_crowd)
    segment_of_key = np.where(kept, np.cumsum(kept), 0)
    return segment_of_key[key_of_run], np.append(0, classes[kept]), np.append(False, is_crowd[kept])


def compact(values: Ints) -> tuple[Ints, Ints]:
    """Sorted distinct values (all >= 0), and the place of each among them: a faster `np.unique` with its inverse."""
    if not len(values):
        return values, values
    span = int(values.max()) + 1
    if span <= MAX_TABLE:
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

"""How segments of a prediction and of the truth overlap: the one count that the metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.labels.runs import Runs, compact, merge_starts

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
        confusion: pixels of each true class (C + 1 rows, the last is without class) by predicted class (columns, as
            the rows). Thing pixels that belong to no object, void as segments, have their class here.
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
    confusion: Ints


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
    truth_runs, pred_runs = truth.runs(), prediction.runs()
    truth_side = _number_segments(truth, truth_runs, label_set, "truth")
    pred_side = _number_segments(prediction, pred_runs, label_set, "prediction")
    truth_class, pred_class = truth_side.segment_class, pred_side.segment_class
    starts, in_truth, in_pred = merge_starts(truth_runs.starts, pred_runs.starts)
    lengths = np.diff(starts, append=truth_runs.size)
    # First pairs of parts, of which the classes are known; then pairs of segments, where several parts may be void.
    parts = len(pred_side.part_class)
    pairs, pair_of_run = compact(truth_side.part_of_run[in_truth] * parts + pred_side.part_of_run[in_pred])
    area = np.bincount(pair_of_run, weights=lengths).astype(np.float64)
    t, p = np.divmod(pairs, max(parts, 1))
    size = len(label_set) + 1
    cell = np.minimum(truth_side.part_class[t], size - 1) * size + np.minimum(pred_side.part_class[p], size - 1)
    confusion = np.bincount(cell, weights=area, minlength=size * size).astype(np.int64).reshape(size, size)
    pairs, place = compact(truth_side.segment_of_part[t] * len(pred_class) + pred_side.segment_of_part[p])
    area = np.bincount(place, weights=area).astype(np.float64)
    t, p = np.divmod(pairs, len(pred_class))
    return Overlaps(
        truth_class=truth_class,
        prediction_class=pred_class,
        is_crowd=truth_side.is_crowd,
        truth_area=np.bincount(t, weights=area, minlength=len(truth_class)).astype(np.float64),
        prediction_area=np.bincount(p, weights=area, minlength=len(pred_class)).astype(np.float64),
        prediction_on_void=np.bincount(p[t == 0], weights=area[t == 0], minlength=len(pred_class)).astype(np.float64),
        truth=t,
        prediction=p,
        area=area,
        confusion=confusion,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One map: its parts are the pixels of one class and instance, in that order; each is a segment or void.

    Attributes:
        part_of_run: the part that each run belongs to.
        part_class: class index of each part.
        segment_of_part: number of its segment from 1, or 0 for void.
        segment_class: class index of each segment; void, the first, has 0.
        is_crowd: whether a segment is a crowd; False for void.
    """

    part_of_run: Ints
    part_class: Ints
    segment_of_part: Ints
    segment_class: Ints
    is_crowd: NDArray[np.bool_]


def _number_segments(panoptic: PanopticMap, runs: Runs, label_set: LabelSet, role: str) -> _Side:
    is_thing = np.zeros(IGNORE + 1, dtype=bool)
    is_thing[list(label_set.things)] = True
    instance = np.where(panoptic.counts_instances(label_set)[runs.category], runs.instance, 0)
    base = int(instance.max(initial=0)) + 1
    keys, part_of_run = compact(runs.category.astype(np.int64) * base + instance)
    classes, ids = np.divmod(keys, base)
    unknown = classes[(classes >= len(label_set)) & (classes != IGNORE)]
    if unknown.size:
        raise ValueError(f"{role}: class index {unknown[0]} is not in the label set of {len(label_set)} classes")
    is_crowd = np.zeros(len(keys), dtype=bool)
    for category, number in panoptic.crowd:
        is_crowd |= (classes == category) & (ids == number)
    kept = (classes != IGNORE) & (~is_thing[classes] | (ids > 0) | is_crowd)
    return _Side(
        part_of_run=part_of_run,
        part_class=classes,
        segment_of_part=np.where(kept, np.cumsum(kept), 0),
        segment_class=np.append(0, classes[kept]),
        is_crowd=np.append(False, is_crowd[kept]),
    )

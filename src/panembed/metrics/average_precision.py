"""Average precision (AP) of objects, as Cityscapes' instance benchmark scores it (Cordts et al. 2016, section 4.2).

The reference is `evalInstanceLevelSemanticLabeling.py` of cityscapesScripts. For every thing class and every IoU
threshold 0.50, 0.55, ..., 0.95, predictions over all images are matched, giving TP, FP and FN; AP averages over
thresholds and then over classes with true objects, AP50 is the first threshold alone.

**A panoptic map has no scores.** AP is the area under a precision-recall curve that is drawn by accepting predictions
from the surest to the least sure. Here every confidence is 1.0, so there is no order: all predictions are accepted at
once, and the curve is one point, precision p = TP / (TP + FP) at recall r = TP / (TP + FN). The official script adds
the point (recall 0, precision 1) and takes the step half-way between the two, so that

    AP at a threshold = r * (1 + p) / 2.

That is what the benchmark gives to methods without scores, and what is computed here, though it flatters: half of the
recall counts at precision 1, whatever p is (known, and kept for consistency with the server: pull request 171 of
mcordts/cityscapesScripts). Compare it with such methods only: good scores would give the same masks another number, and
pycocotools' AP is a third definition. The plain product r * p can be had from `DetectionCounts`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.overlaps import Ints, Overlaps, count_overlaps

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
"""IoU that a match must exceed, T = 10 values; made as the official script makes them, to the last bit."""

_NUM_ACCURACIES = 9
"""Thresholds 0.5 to 0.9."""

CITYSCAPES_MIN_AREA = 100
"""Pixels below which Cityscapes ignores true objects."""


@dataclass(frozen=True, slots=True)
class ClassAveragePrecision:
    """Average precision of one thing class.

    Attributes:
        ap: mean over IoU 0.5:0.05:0.95, 0..1; None where the truth has no object that counts.
        ap50: at IoU 0.5, 0..1 or None.
        num_truth: true objects that count: no groups, none below the least area.

    >>> ClassAveragePrecision(0.4, 0.5, 3).ap50
    0.5
    """

    ap: float | None
    ap50: float | None
    num_truth: int


@dataclass(frozen=True, slots=True)
class AveragePrecisionResult:
    """Average precision over thing classes.

    Attributes:
        ap: mean of the classes' AP over classes with true objects, 0..1; None where there is no such class.
        ap50: the same for AP50.
        per_class: every thing class by name, in the label set's order.

    >>> AveragePrecisionResult(None, None, {}).to_dict()
    {'ap': None, 'ap50': None, 'per_class': {}}
    """

    ap: float | None
    ap50: float | None
    per_class: dict[str, ClassAveragePrecision]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """What average precision without scores is made of; counts of several images add up.

    Attributes:
        tp: true objects that are found, C classes x T thresholds.
        fp: predicted objects that are wrong, CxT.
        fn: true objects that are missed, CxT.

    >>> one = DetectionCounts.zero(2)
    >>> (one + one).tp.shape
    (2, 10)
    """

    tp: Ints
    fp: Ints
    fn: Ints

    @classmethod
    def zero(cls, num_classes: int) -> DetectionCounts:
        """Counts of no image at all."""
        tp, fp, fn = np.zeros((3, num_classes, len(THRESHOLDS)), dtype=np.int64)
        return cls(tp, fp, fn)

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        return DetectionCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def precision(self) -> NDArray[np.float64]:
        """TP / (TP + FP), CxT, 0 where nothing is predicted."""
        return np.asarray(self.tp / np.maximum(self.tp + self.fp, 1))

    def accuracy(self) -> NDArray[np.float64]:
        """TP / (TP + FP + FN), CxT, 0 where there is nothing at all: the "AP" of the Data Science Bowl and StarDist."""
        return np.asarray(self.tp / np.maximum(self.tp + self.fp + self.fn, 1))

    def recall(self) -> NDArray[np.float64]:
        """TP / (TP + FN), CxT, 0 where there is nothing to find."""
        return np.asarray(self.tp / np.maximum(self.tp + self.fn, 1))


class AveragePrecision:
    """Average precision over a set of images, one at a time; see the module for the definition.

    Args:
        label_set: the classes; both maps of every image hold their indices. Only things are scored.
        min_area: true objects of fewer pixels count neither as found nor as missed. 100 is Cityscapes' rule, made for
            images of 1024x2048; take 0 for leaves or nuclei, most of which may be smaller.

    Raises:
        ValueError: `min_area` is negative.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> precision = AveragePrecision(leaves, min_area=0)
    >>> precision.update(PanopticMap([[0, 0, 0, 0]], [[1, 1, 1, 2]]), PanopticMap([[0, 0, 0, 0]], [[5, 5, 5, 5]]))
    >>> precision.compute().ap50  # recall 1, precision 1/2
    0.75
    """

    def __init__(self, label_set: LabelSet, min_area: int = CITYSCAPES_MIN_AREA) -> None:
        if min_area < 0:
            raise ValueError(f"min_area: expected pixels >= 0, found {min_area}")
        self.label_set = label_set
        self.min_area = min_area
        self.counts = DetectionCounts.zero(len(label_set))

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> None:
        """Count one image.

        Raises:
            ValueError: the two maps differ in size, or hold a class index that the label set lacks.
        """
        self.add(count_overlaps(prediction, truth, self.label_set))

    def add(self, overlaps: Overlaps) -> None:
        """Count one image whose overlaps, of the same classes, have been counted."""
        self.counts += count_detections(overlaps, self.label_set, self.min_area)

    def merge(self, other: AveragePrecision) -> None:
        """Add the images that `other` has counted; ValueError if it has other classes or another least area."""
        if other.label_set != self.label_set or other.min_area != self.min_area:
            raise ValueError(
                f"can't merge scores of {other.label_set}, min_area {other.min_area}, with those of {self.label_set}, "
                f"min_area {self.min_area}"
            )
        self.counts += other.counts

    def accuracy(self) -> dict[str, float | None]:
        """TP / (TP + FP + FN) at IoU 0.5, 0.55, ..., 0.9, 0..1: the mean over classes with true objects.

        >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
        >>> precision = AveragePrecision(leaves, min_area=0)
        >>> precision.update(PanopticMap([[0, 0, 0, 0]], [[1, 1, 1, 2]]), PanopticMap([[0, 0, 0, 0]], [[5, 5, 5, 5]]))
        >>> precision.accuracy()["accuracy@0.5"], precision.accuracy()["accuracy@0.9"]
        (0.5, 0.0)
        """
        values, things = self.counts.accuracy(), list(self.label_set.things)
        kept = [index for index in things if (self.counts.tp + self.counts.fn)[index, 0]]
        return {
            f"accuracy@{threshold:.2g}": float(values[kept, place].mean()) if kept else None
            for place, threshold in enumerate(THRESHOLDS.tolist()[:_NUM_ACCURACIES])
        }

    def compute(self) -> AveragePrecisionResult:
        """Average precision over all images so far."""
        values = self.counts.recall() * (1 + self.counts.precision()) / 2
        num_truth = (self.counts.tp + self.counts.fn)[:, 0]
        per_class, kept = {}, []
        for index in self.label_set.things:
            ap = ap50 = None
            if num_truth[index]:
                ap, ap50 = float(values[index].mean()), float(values[index, 0])
                kept.append((ap, ap50))
            per_class[self.label_set[index].name] = ClassAveragePrecision(ap, ap50, int(num_truth[index]))
        if not kept:
            return AveragePrecisionResult(None, None, per_class)
        ap, ap50 = (sum(column) / len(kept) for column in zip(*kept))
        return AveragePrecisionResult(ap, ap50, per_class)


def match_objects(
    prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet, min_area: int = CITYSCAPES_MIN_AREA
) -> DetectionCounts:
    """Match the objects of one image and count, per class and threshold, as Cityscapes' official script does.

    - A pair of one class matches when its IoU exceeds the threshold. Other than in Panoptic Quality, the union counts
      the prediction's pixels on the truth's void.
    - Groups (`crowd`) and true objects below `min_area` are no truth: they are neither found nor missed, and a
      prediction that matches one is dropped.
    - An unmatched prediction is dropped, not a false positive, if the share of its pixels on void, on groups of its
      class and on small objects of its class exceeds *the threshold*; at 0.95 nearly all of it must be ignored.
      (Pixels on a group that is below `min_area` count twice, as they do there.)
    - Thing pixels with instance 0 are void, unless `crowd` lists (class index, 0). All that is neither void nor an
      object is stuff, which forgives nothing.

    Two differences: a class with predictions that are all dropped scores 0, where the script crashes; and objects of
    unscored classes (caravan, trailer), void in a `PanopticMap`, are plain background there.

    Args:
        prediction: HxW, class indices of `label_set`; its `crowd` marks count for nothing.
        truth: as the prediction, of one size with it.
        label_set: C classes.
        min_area: pixels.

    Returns:
        Counts, zero for stuff.

    Raises:
        ValueError: the two maps differ in size, or hold a class index that the label set lacks.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> truth = PanopticMap([[0, 0, 0, 0, 255]], [[1, 1, 1, 2, 0]])
    >>> counts = match_objects(PanopticMap([[0, 0, 0, 0, 0]], [[1, 1, 0, 2, 3]]), truth, leaves, min_area=2)
    >>> counts.tp[0, :5].tolist(), counts.fp[0, :5].tolist(), counts.fn[0, :5].tolist()
    ([1, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1])
    """
    return count_detections(count_overlaps(prediction, truth, label_set), label_set, min_area)


def count_detections(pairs: Overlaps, label_set: LabelSet, min_area: int = CITYSCAPES_MIN_AREA) -> DetectionCounts:
    """`match_objects` where the overlaps have been counted."""
    counts = DetectionCounts.zero(len(label_set))
    truth_class, pred_class, is_crowd = pairs.truth_class, pairs.prediction_class, pairs.is_crowd
    t, p, overlap = pairs.truth, pairs.prediction, pairs.area
    truth_area, pred_area, ignored = pairs.truth_area, pairs.prediction_area, pairs.prediction_on_void

    same_class = (truth_class[t] == pred_class[p]) & (t > 0) & (p > 0)
    t, p, overlap = t[same_class], p[same_class], overlap[same_class]
    is_small = truth_area < min_area
    times_ignored = is_crowd[t].astype(np.int64) + is_small[t]
    ignored = ignored + np.bincount(p, weights=overlap * times_ignored, minlength=len(pred_class))

    # A segment has at most one partner above an IoU of 0.5, so marking each is enough.
    match = (overlap / (truth_area[t] + pred_area[p] - overlap))[:, None] > THRESHOLDS
    found = np.zeros((len(truth_class), len(THRESHOLDS)), dtype=bool)
    used = np.zeros((len(pred_class), len(THRESHOLDS)), dtype=bool)
    np.logical_or.at(found, t, match)
    np.logical_or.at(used, p, match)

    is_thing = np.zeros(len(label_set), dtype=bool)
    is_thing[list(label_set.things)] = True
    is_truth = is_thing[truth_class] & ~is_crowd & ~is_small
    is_object = is_thing[pred_class]
    is_truth[0] = is_object[0] = False
    wrong = ~used & ((ignored / np.maximum(pred_area, 1))[:, None] <= THRESHOLDS)
    np.add.at(counts.tp, truth_class[is_truth], found[is_truth])
    np.add.at(counts.fn, truth_class[is_truth], ~found[is_truth])
    np.add.at(counts.fp, pred_class[is_object], wrong[is_object])
    return counts

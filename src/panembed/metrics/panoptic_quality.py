"""Panoptic Quality (PQ) and its factors SQ and RQ (Kirillov et al. 2019, "Panoptic Segmentation", Eq. 1 and 2).

A predicted and a true segment of one class match when their IoU is above 0.5, which at most one pair can be. For
every class, summed over all images,

    PQ = sum of IoU over TP / (TP + FP / 2 + FN / 2) = SQ * RQ,
    SQ = mean IoU of the matches,    RQ = TP / (TP + FP / 2 + FN / 2),

then averaged over the classes that occur. Void and crowds count as in panopticapi, the authors' own evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.overlaps import Floats, Ints, Overlaps, count_overlaps


@dataclass(frozen=True, slots=True)
class Score:
    """Panoptic Quality of one class, or its average over classes.

    Attributes:
        pq: Panoptic Quality, 0..1; None where no class has a segment to count.
        sq: segmentation quality, the mean IoU of the matches, 0..1; 0 for a class without a match.
        rq: recognition quality, the F1 score of finding segments, 0..1.
        num_classes: how many classes the three are averaged over.
        tp: matched pairs.
        fp: predicted segments without a match.
        fn: true segments without a match.

    >>> Score(0.4, 0.8, 0.5, num_classes=1, tp=1, fp=1, fn=1).to_dict()["pq"]
    0.4
    """

    pq: float | None
    sq: float | None
    rq: float | None
    num_classes: int
    tp: int
    fp: int
    fn: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, by attribute name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PanopticQualityResult:
    """Panoptic Quality of all classes, of things, of stuff, and of each class.

    Attributes:
        all: average over the classes that occur.
        things: average over the thing classes that occur.
        stuff: average over the stuff classes that occur.
        per_class: every class of the label set by name, in its order.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> truth = PanopticMap([[0, 0, 255]], [[1, 2, 0]])
    >>> result = PanopticQuality(leaves).update(truth, truth)
    >>> result.things.pq, result.per_class["leaf"].tp, result.to_dict()["stuff"]["pq"]
    (1.0, 2, None)
    """

    all: Score
    things: Score
    stuff: Score
    per_class: dict[str, Score]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data for JSON: `all`, `things`, `stuff`, and `per_class` by name."""
        return {
            "all": self.all.to_dict(),
            "things": self.things.to_dict(),
            "stuff": self.stuff.to_dict(),
            "per_class": {name: score.to_dict() for name, score in self.per_class.items()},
        }


@dataclass(frozen=True, slots=True)
class MatchCounts:
    """What Panoptic Quality is made of; counts of several images add up.

    Attributes:
        tp: matched pairs of each class, C integers.
        fp: predicted segments without a match, C integers.
        fn: true segments without a match, C integers.
        iou: sum of the matches' IoU, C floats.

    >>> one = MatchCounts(np.array([1]), np.array([0]), np.array([2]), np.array([0.75]))
    >>> (one + one).iou.tolist()
    [1.5]
    """

    tp: Ints
    fp: Ints
    fn: Ints
    iou: NDArray[np.float64]

    @classmethod
    def zero(cls, num_classes: int) -> MatchCounts:
        """Counts of no image at all."""
        tp, fp, fn = np.zeros((3, num_classes), dtype=np.int64)
        return cls(tp, fp, fn, np.zeros(num_classes))

    def __add__(self, other: MatchCounts) -> MatchCounts:
        return MatchCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou + other.iou)


class PanopticQuality:
    """Panoptic Quality of a set of images, one at a time; see `match_segments` for the rules.

    Args:
        label_set: the classes; both maps of every image hold their indices.

    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> quality = PanopticQuality(leaves)
    >>> truth = PanopticMap([[0, 0, 1, 1, 1, 1]], [[0, 0, 1, 1, 2, 2]])
    >>> image = quality.update(PanopticMap([[0, 0, 1, 1, 1, 1]], [[0, 0, 8, 8, 8, 3]]), truth)
    >>> image.per_class["leaf"].tp, image.per_class["leaf"].fp, image.per_class["leaf"].fn
    (1, 1, 1)
    >>> result = quality.compute()
    >>> round(result.things.pq, 3), result.stuff.pq
    (0.333, 1.0)
    """

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self.counts = MatchCounts.zero(len(label_set))

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> PanopticQualityResult:
        """Count one image, and return its own result.

        Raises:
            ValueError: the two maps differ in size, or hold a class index that the label set lacks.
        """
        return self.add(count_overlaps(prediction, truth, self.label_set))

    def add(self, overlaps: Overlaps) -> PanopticQualityResult:
        """Count one image whose overlaps, of the same classes, have been counted, and return its own result."""
        counts = match_overlaps(overlaps, self.label_set)
        self.counts += counts
        return summarize(counts, self.label_set)

    def merge(self, other: PanopticQuality) -> None:
        """Add the images that `other` has counted; ValueError if it has other classes."""
        if other.label_set != self.label_set:
            raise ValueError(f"can't merge scores of different classes: {self.label_set} and {other.label_set}")
        self.counts += other.counts

    def compute(self) -> PanopticQualityResult:
        """Panoptic Quality over all images so far."""
        return summarize(self.counts, self.label_set)


def summarize(counts: MatchCounts, label_set: LabelSet) -> PanopticQualityResult:
    """Turn counts into Panoptic Quality: per class, then averaged over classes with TP + FP + FN > 0.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> summarize(MatchCounts(np.array([1]), np.array([1]), np.array([1]), np.array([0.8])), leaves).all.pq
    0.4
    """
    scores = [_score(*row) for row in zip(*(a.tolist() for a in (counts.tp, counts.fp, counts.fn, counts.iou)))]
    return PanopticQualityResult(
        all=_average(scores),
        things=_average(scores[index] for index in label_set.things),
        stuff=_average(scores[index] for index in label_set.stuff),
        per_class={category.name: score for category, score in zip(label_set, scores)},
    )


def _score(tp: int, fp: int, fn: int, iou: float) -> Score:
    if tp + fp + fn == 0:
        return Score(None, None, None, 0, 0, 0, 0)
    weight = tp + fp / 2 + fn / 2
    return Score(iou / weight, iou / tp if tp else 0.0, tp / weight, 1, tp, fp, fn)


def _average(scores: Iterable[Score]) -> Score:
    kept = [(s.pq, s.sq, s.rq, s.tp, s.fp, s.fn) for s in scores if s.num_classes]
    if not kept:
        return Score(None, None, None, 0, 0, 0, 0)
    pq, sq, rq, tp, fp, fn = (sum(column) for column in zip(*kept))
    return Score(pq / len(kept), sq / len(kept), rq / len(kept), len(kept), tp, fp, fn)


def match_segments(prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet) -> MatchCounts:
    """Match the segments of one image and count, per class, as panopticapi does.

    - All pixels of a stuff class are one segment, whatever their instance numbers, unless `split_stuff` lists the
      class. Thing pixels with instance 0 are void, unless `crowd` lists (class index, 0).
    - The union of a pair leaves out what the prediction has on the truth's void.
    - True crowds match nothing and miss nothing. A prediction's `crowd` marks count for nothing.
    - A predicted segment without a match is dropped, not a false positive, if more than half of it lies on the
      truth's void and the crowd of its class. Of several crowds of one class only the last counts here (panopticapi
      keeps the last in the file): the one with the highest instance number.
    - Predicted void is not forgiven: true segments under it are missed. (torchmetrics forgives it, so its figures are
      not comparable.)

    Args:
        prediction: HxW, class indices of `label_set`.
        truth: as the prediction, of one size with it.
        label_set: C classes.

    Raises:
        ValueError: the two maps differ in size, or hold a class index that the label set lacks.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> truth = PanopticMap([[0, 0, 0, 0, 255, 255]], [[1, 1, 1, 2, 0, 0]])
    >>> counts = match_segments(PanopticMap([[0, 0, 0, 0, 0, 0]], [[7, 7, 0, 0, 4, 4]]), truth, leaves)
    >>> counts.tp, counts.fp, counts.fn, counts.iou.round(3)
    (array([1]), array([0]), array([1]), array([0.667]))
    """
    return match_overlaps(count_overlaps(prediction, truth, label_set), label_set)


def match_overlaps(pairs: Overlaps, label_set: LabelSet) -> MatchCounts:
    """`match_segments` where the overlaps have been counted.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> panoptic = PanopticMap([[0, 0]], [[1, 2]])
    >>> match_overlaps(count_overlaps(panoptic, panoptic, leaves), leaves).tp
    array([2])
    """
    num_classes = len(label_set)
    found = find_matches(pairs, num_classes)
    missed, wrong = found.true_counts.copy(), found.prediction_counts.copy()
    missed[found.true] = wrong[found.prediction] = False
    matched_class = pairs.truth_class[found.true]
    return MatchCounts(
        tp=np.bincount(matched_class, minlength=num_classes),
        fp=np.bincount(pairs.prediction_class[wrong], minlength=num_classes),
        fn=np.bincount(pairs.truth_class[missed], minlength=num_classes),
        iou=np.bincount(matched_class, weights=found.iou, minlength=num_classes).astype(np.float64),
    )


@dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of segments that match, and the segments that count, by the rules of `match_segments`.

    Attributes:
        true: of each match, the true segment, as `Overlaps` numbers them.
        prediction: of each match, the predicted segment.
        iou: of each match.
        true_counts: whether a true segment is found or missed; crowds and void are neither.
        prediction_counts: whether a predicted segment is right or wrong; what lies on void or a crowd, and void, is
            neither.
    """

    true: Ints
    prediction: Ints
    iou: Floats
    true_counts: NDArray[np.bool_]
    prediction_counts: NDArray[np.bool_]


def find_matches(pairs: Overlaps, num_classes: int) -> Matches:
    """Match the segments of one image by the rules of `match_segments`."""
    truth_class, pred_class, is_crowd = pairs.truth_class, pairs.prediction_class, pairs.is_crowd
    t, p, overlap = pairs.truth, pairs.prediction, pairs.area
    truth_area, pred_area, on_void = pairs.truth_area, pairs.prediction_area, pairs.prediction_on_void

    same_class = (truth_class[t] == pred_class[p]) & (t > 0) & (p > 0)
    t, p, overlap = t[same_class], p[same_class], overlap[same_class]
    iou = overlap / (truth_area[t] + pred_area[p] - overlap - on_void[p])
    match = (iou > 0.5) & ~is_crowd[t]

    true_counts = ~is_crowd
    true_counts[0] = False

    last_crowd = np.full(num_classes, -1)
    last_crowd[truth_class[is_crowd]] = np.flatnonzero(is_crowd)
    on_crowd = t == last_crowd[truth_class[t]]
    forgiven = on_void + np.bincount(p[on_crowd], weights=overlap[on_crowd], minlength=len(pred_class))
    prediction_counts = forgiven <= 0.5 * pred_area
    prediction_counts[p[match]] = True
    prediction_counts[0] = False
    return Matches(t[match], p[match], iou[match], true_counts, prediction_counts)

"""Average precision of objects with scores, as COCO's evaluation counts it, and how well scores are calibrated.

The reference is pycocotools (`COCOeval`, iouType "segm", area range all): per class, predictions of all images in the
order of falling scores; in its image each takes the true object of the highest IoU that is at least the threshold and
not taken yet; precision, made to fall monotonously, is read at recalls 0, 0.01, ..., 1, and averaged. AP is the mean
over IoU 0.50, 0.55, ..., 0.95 and classes with true objects.

Crowds: a prediction that matches a crowd, its pixels in the crowd divided by its own, counts neither way. Void, which
COCO doesn't have: a prediction with more than half of its pixels there counts neither way, if it has no match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.overlaps import Overlaps, count_overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU that a match must reach, T = 10 values; to the last bit those of pycocotools."""

RECALLS = np.linspace(0, 1, 101)
"""Where precision is read."""

_ALMOST_ONE = 1 - 1e-10


@dataclass(frozen=True, slots=True)
class ScoredDetections:
    """One image's predictions of one class, best score first.

    Attributes:
        scores: K floats.
        matched: TxK, whether a true object is found.
        ignored: TxK, whether it counts neither way.
        num_truth: true objects that count.
    """

    scores: NDArray[np.float64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    num_truth: int


@dataclass(frozen=True, slots=True)
class ScoredPrecisionResult:
    """Average precision with scores.

    Attributes:
        ap: mean over thresholds and classes with true objects, 0..1; None where there is no such class.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        per_class: AP of every thing class by name, None without true objects.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    per_class: dict[str, float | None]


class ScoredPrecision:
    """Average precision of scored objects over a set of images; see the module.

    Args:
        label_set: the classes; only things are scored.
        max_detections: predictions of a class in one image that count, the best first. COCO's is 100; None takes all,
            as images of nuclei may hold more.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> precision = ScoredPrecision(leaves)
    >>> truth, found = PanopticMap([[0, 0, 0, 0]], [[1, 1, 2, 2]]), PanopticMap([[0, 0, 0, 0]], [[1, 1, 0, 2]])
    >>> precision.update(found, np.array([0.9, 0.4]), truth)
    >>> round(precision.compute().ap50, 3), round(precision.compute().ap75, 3)
    (1.0, 0.505)
    """

    def __init__(self, label_set: LabelSet, max_detections: int | None = None) -> None:
        self.label_set = label_set
        self.max_detections = max_detections
        self._images: dict[int, list[ScoredDetections]] = {index: [] for index in label_set.things}

    def update(self, prediction: PanopticMap, scores: NDArray[np.floating], truth: PanopticMap) -> None:
        """Count one image.

        Args:
            prediction: HxW.
            scores: of its objects, in the order of class and instance.
            truth: HxW.

        Raises:
            ValueError: the maps differ in size, or there are not as many scores as objects.
        """
        self.add(count_overlaps(prediction, truth, self.label_set), scores)

    def add(self, overlaps: Overlaps, scores: NDArray[np.floating]) -> None:
        """Count one image whose overlaps have been counted; `scores` as in `update`."""
        objects = _predicted_objects(overlaps, self.label_set)
        if len(objects) != len(scores):
            raise ValueError(f"scores: expected one for each of {len(objects)} objects, found {len(scores)}")
        score_of = np.zeros(len(overlaps.prediction_class))
        score_of[objects] = scores
        for index in self.label_set.things:
            self._images[index].append(_match_class(overlaps, score_of, index, self.max_detections))

    def compute(self) -> ScoredPrecisionResult:
        """Average precision over all images so far."""
        values = {index: _precision(images) for index, images in self._images.items()}
        kept = [value for value in values.values() if value is not None]
        names = {index: self.label_set[index].name for index in values}
        per_class = {names[i]: None if value is None else float(value.mean()) for i, value in values.items()}
        if not kept:
            return ScoredPrecisionResult(None, None, None, per_class)
        mean = np.mean(kept, axis=0)
        return ScoredPrecisionResult(float(mean.mean()), float(mean[0]), float(mean[5]), per_class)


def _predicted_objects(overlaps: Overlaps, label_set: LabelSet) -> NDArray[np.int64]:
    """Numbers of the predicted segments that are things."""
    is_thing = np.isin(overlaps.prediction_class, label_set.things)
    is_thing[0] = False
    return np.flatnonzero(is_thing)


def _match_class(
    overlaps: Overlaps, score_of: NDArray[np.float64], index: int, max_detections: int | None
) -> ScoredDetections:
    t, p, area = overlaps.truth, overlaps.prediction, overlaps.area
    found = np.flatnonzero(overlaps.prediction_class == index)
    found = found[found > 0]
    # Of equal scores the first stays first, as in pycocotools.
    found = found[np.argsort(-score_of[found], kind="stable")][:max_detections]
    true = np.flatnonzero(overlaps.truth_class == index)
    true = true[true > 0]
    num_truth = int(np.count_nonzero(~overlaps.is_crowd[true]))
    matched, ignored = np.zeros((2, len(THRESHOLDS), len(found)), dtype=bool)
    here = (overlaps.truth_class[t] == index) & (overlaps.prediction_class[p] == index) & (t > 0) & (p > 0)
    t, p, area = t[here], p[here], area[here]
    union = np.where(
        overlaps.is_crowd[t],
        overlaps.prediction_area[p],
        overlaps.truth_area[t] + overlaps.prediction_area[p] - area,
    )
    iou = area / union
    order = np.argsort(p, kind="stable")
    t, p, iou = t[order], p[order], iou[order]
    begin, end = np.searchsorted(p, found), np.searchsorted(p, found, "right")
    on_void = overlaps.prediction_on_void[found] / np.maximum(overlaps.prediction_area[found], 1)
    for row, threshold in enumerate(min(value, _ALMOST_ONE) for value in THRESHOLDS.tolist()):
        taken: set[int] = set()
        for column, (low, high) in enumerate(zip(begin.tolist(), end.tolist())):
            best, best_iou, is_crowd = -1, threshold, False
            for true_id, value in zip(t[low:high].tolist(), iou[low:high].tolist()):
                crowd = bool(overlaps.is_crowd[true_id])
                # A true object that counts goes before any crowd.
                if value < threshold or true_id in taken or (crowd and best >= 0 and not is_crowd):
                    continue
                if best < 0 or value >= best_iou or (is_crowd and not crowd):
                    best, best_iou, is_crowd = true_id, value, crowd
            if best >= 0:
                matched[row, column], ignored[row, column] = not is_crowd, is_crowd
                if not is_crowd:
                    taken.add(best)
            else:
                ignored[row, column] = on_void[column] > 0.5
    return ScoredDetections(score_of[found], matched, ignored, num_truth)


def _precision(images: list[ScoredDetections]) -> NDArray[np.float64] | None:
    """Average precision at each threshold; None without true objects."""
    num_truth = sum(image.num_truth for image in images)
    if not num_truth:
        return None
    scores = np.concatenate([image.scores for image in images])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([image.matched for image in images], axis=1)[:, order]
    ignored = np.concatenate([image.ignored for image in images], axis=1)[:, order]
    values = np.zeros(len(THRESHOLDS))
    for row in range(len(THRESHOLDS)):
        true = np.cumsum(matched[row])
        false = np.cumsum(~matched[row] & ~ignored[row])
        recall = true / num_truth
        precision = true / np.maximum(true + false, np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(recall, RECALLS, side="left")
        read = np.append(precision, 0)[np.minimum(place, len(precision))]
        values[row] = read.mean()
    return values


def match_to_truth(
    prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each predicted object, in the order of class and instance: whether it has a match, and whether it counts.

    A match is a true object of its class with an IoU above 0.5. Objects without one that lie on void or crowds of their
    class by more than half don't count.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> match_to_truth(PanopticMap([[0, 0, 0]], [[1, 2, 2]]), PanopticMap([[0, 0, 0]], [[1, 0, 0]]), leaves)[0]
    array([ True, False])
    """
    return matches_of(count_overlaps(prediction, truth, label_set), label_set)


def matches_of(overlaps: Overlaps, label_set: LabelSet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`match_to_truth` where the overlaps have been counted."""
    t, p, area = overlaps.truth, overlaps.prediction, overlaps.area
    same = (overlaps.truth_class[t] == overlaps.prediction_class[p]) & (t > 0) & (p > 0)
    t, p, area = t[same], p[same], area[same]
    crowd = overlaps.is_crowd[t]
    # As in Panoptic Quality, what lies on void is no part of the union.
    union = overlaps.truth_area[t] + overlaps.prediction_area[p] - area - overlaps.prediction_on_void[p]
    matched = np.zeros(len(overlaps.prediction_class), dtype=bool)
    matched[p[~crowd & (area > 0.5 * union)]] = True
    ignored = overlaps.prediction_on_void.copy()
    np.add.at(ignored, p[crowd], area[crowd])
    objects = _predicted_objects(overlaps, label_set)
    counts = matched | (ignored <= 0.5 * overlaps.prediction_area)
    return matched[objects], counts[objects]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Scores against what became of the objects, in bins of equal width.

    Attributes:
        edges: B + 1 ends of the bins, from 0 to 1.
        counts: objects in each bin.
        mean_score: mean score of those, NaN in empty bins.
        share_matched: how many of them match, NaN in empty bins.
        error: expected calibration error: the mean distance of the two, weighted by counts; NaN without objects.
        auc: area under the ROC curve, the probability that a true object has a higher score than a false one; None
            where one kind is missing.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean_score: NDArray[np.float64]
    share_matched: NDArray[np.float64]
    error: float
    auc: float | None


def reliability(scores: NDArray[np.floating], matches: NDArray[np.bool_], num_bins: int = 10) -> Reliability:
    """Compare scores with matches.

    Args:
        scores: N floats 0..1.
        matches: N, whether each object has a match.
        num_bins: of equal width.

    >>> found = reliability(np.array([0.9, 0.9, 0.1]), np.array([True, True, False]))
    >>> round(found.error, 2), found.auc
    (0.1, 1.0)
    """
    scores = np.asarray(scores)
    place = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    divisor = np.where(counts, counts, np.nan)
    mean_score = np.bincount(place, scores, minlength=num_bins) / divisor
    share = np.bincount(place, matches.astype(float), minlength=num_bins) / divisor
    gaps = np.abs(mean_score - share)[counts > 0]
    error = float(np.dot(gaps, counts[counts > 0]) / len(scores)) if len(scores) else float("nan")
    return Reliability(np.linspace(0, 1, num_bins + 1), counts, mean_score, share, error, _auc(scores, matches))


def false_among_lowest(scores: NDArray[np.floating], matches: NDArray[np.bool_], share: float = 0.05) -> float | None:
    """What part of all false objects is among the lowest scores; None where none is false.

    Args:
        scores: N floats.
        matches: N, whether each object has a match.
        share: of all objects, that are looked at; rounded to whole objects.

    >>> false_among_lowest(np.array([0.1, 0.6, 0.9, 0.8]), np.array([False, False, True, True]), 0.25)
    0.5
    """
    if matches.all():
        return None
    lowest = np.argsort(scores, kind="stable")[: round(share * len(scores))]
    return float(np.count_nonzero(~matches[lowest]) / np.count_nonzero(~matches))


def _auc(scores: NDArray[np.floating], matches: NDArray[np.bool_]) -> float | None:
    positive = int(np.count_nonzero(matches))
    negative = len(matches) - positive
    if not positive or not negative:
        return None
    # Mean ranks, so that ties count half.
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((rank[matches].sum() - positive * (positive + 1) / 2) / (positive * negative))

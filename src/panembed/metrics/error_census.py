"""What went wrong with each object: merged, split, missed, invented, badly outlined, of the wrong class.

After Hoover et al. 1996, "An experimental comparison of range image segmentation algorithms", IEEE TPAMI 18(7),
673-689, who sort regions into correct, over-segmented, under-segmented, missed and noise by the shares of their area in
common. Here "correct" is a match of Panoptic Quality, so the counts add up to its TP, FP and FN; thresholds for a bad
outline and a wrong class are those of Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection
Errors" (IoU 0.5 and 0.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.overlaps import Ints, Overlaps, count_overlaps
from panembed.metrics.panoptic_quality import find_matches

TRUE_LABELS = ("found", "merged", "split", "boundary", "wrong_class", "missed")
"""What can become of a true object."""

PREDICTED_LABELS = ("found", "merged", "split", "boundary", "wrong_class", "spurious", "ignored")
"""What a predicted object can be."""


def classify_objects(
    pairs: Overlaps, label_set: LabelSet, *, most: float = 0.5, least: float = 0.1
) -> tuple[Ints, Ints]:
    """Give every object exactly one label.

    Objects are segments of things; true crowds are none. A prediction's area leaves out what lies on the truth's void.
    A prediction *covers* a true object of its class if it is its match or has more than `most` of it; it *lies in* a
    true object of its class if it is its match or has more than `most` of itself there. The first label that fits
    counts:

    - found: it and a prediction of its class (a true object of its class) have IoU > 0.5, which makes them a TP.
    - ignored, of predicted objects only: more than half lies on void or a crowd of its class; no FP either.
    - wrong_class: the same as found, but with an object of another thing class.
    - merged: a true object of which more than `most` is under predictions that cover another true object too; a
      predicted object that covers two or more.
    - split: a true object in which two or more predictions lie, that have more than `most` of it together; a predicted
      object of which more than `most` is on true objects in which another prediction lies too.
    - boundary: it and an object of its class that isn't found either share more than `least` of both areas.
    - missed (true), spurious (predicted): all others.

    Args:
        pairs: of one image.
        label_set: its classes.
        most: share of an area, 0.5..1; Hoover's tolerance.
        least: share of an area that is an overlap to speak of, 0..`most`.

    Returns:
        For every true segment a place in `TRUE_LABELS`, for every predicted segment one in `PREDICTED_LABELS`; -1 for
        void, stuff and true crowds.

    Raises:
        ValueError: thresholds out of range.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> truth, prediction = PanopticMap([[0] * 4], [[1, 1, 2, 2]]), PanopticMap([[0] * 4], [[7, 7, 7, 7]])
    >>> true, predicted = classify_objects(count_overlaps(prediction, truth, leaves), leaves)
    >>> [TRUE_LABELS[i] for i in true[1:]], [PREDICTED_LABELS[i] for i in predicted[1:]]
    (['merged', 'merged'], ['merged'])
    """
    if not 0.5 <= most < 1 or not 0 <= least <= most:
        raise ValueError(f"expected 0.5 <= most < 1 and 0 <= least <= most, found most {most} and least {least}")
    is_thing = np.zeros(len(label_set), dtype=bool)
    is_thing[list(label_set.things)] = True
    is_true = is_thing[pairs.truth_class] & ~pairs.is_crowd
    is_predicted = is_thing[pairs.prediction_class]
    is_true[0] = is_predicted[0] = False
    num_true, num_predicted = len(is_true), len(is_predicted)
    true_area, predicted_area = pairs.truth_area, pairs.prediction_area - pairs.prediction_on_void

    both = is_true[pairs.truth] & is_predicted[pairs.prediction]
    t, p, overlap = pairs.truth[both], pairs.prediction[both], pairs.area[both]
    high = overlap / (true_area[t] + predicted_area[p] - overlap) > 0.5
    same = pairs.truth_class[t] == pairs.prediction_class[p]
    match, confused = high & same, high & ~same
    of_true, of_predicted = overlap / true_area[t], overlap / predicted_area[p]
    covers = same & (match | (of_true > most))
    lies_in = same & (match | (of_predicted > most))
    num_covered = np.bincount(p[covers], minlength=num_predicted)
    num_inside = np.bincount(t[lies_in], minlength=num_true)

    def pixels(index: Ints, which: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
        return np.bincount(index[which], weights=overlap[which], minlength=count).astype(np.float64)

    under_other = pixels(t, same & (num_covered[p] > covers), num_true) > most * true_area
    in_pieces = (num_inside >= 2) & (pixels(t, lies_in, num_true) > most * true_area)
    on_other = pixels(p, same & (num_inside[t] > lies_in), num_predicted) > most * predicted_area
    found_true, found_predicted = _among(t[match], num_true), _among(p[match], num_predicted)
    shared = same & (of_true > least) & (of_predicted > least) & ~found_true[t] & ~found_predicted[p]

    true = _first_of(
        num_true, found_true, under_other, in_pieces, _among(t[shared], num_true), _among(t[confused], num_true)
    )
    predicted = _first_of(
        num_predicted,
        found_predicted,
        num_covered >= 2,
        on_other,
        _among(p[shared], num_predicted),
        _among(p[confused], num_predicted),
    )
    predicted[~find_matches(pairs, len(label_set)).prediction_counts] = PREDICTED_LABELS.index("ignored")
    true[~is_true] = predicted[~is_predicted] = -1
    return true, predicted


class ErrorCensus:
    """Counts of `classify_objects` over a set of images, one at a time.

    Args:
        label_set: the classes; both maps of every image hold their indices.
        most: see `classify_objects`.
        least: see `classify_objects`.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> census = ErrorCensus(leaves)
    >>> row = census.update(PanopticMap([[0] * 6], [[1, 1, 1, 0, 0, 5]]), PanopticMap([[0] * 6], [[1, 1, 1, 3, 3, 0]]))
    >>> row["census_found"], row["census_missed"], row["census_predicted_ignored"]
    (1, 1, 1)
    >>> census.compute()["by_size"][0]
    {'area_from': 2, 'area_to': 2, 'objects': 1, 'found': 0, 'merged': 0, 'split': 0, 'boundary': 0, \
'wrong_class': 0, 'missed': 1}
    """

    def __init__(self, label_set: LabelSet, *, most: float = 0.5, least: float = 0.1) -> None:
        self.label_set, self.most, self.least = label_set, most, least
        # One row per object: class and label; true objects also have an area.
        self._true: list[Ints] = []
        self._predicted: list[Ints] = []

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> dict[str, int]:
        """Count one image.

        Returns:
            Its own counts: `census_LABEL` of true objects, `census_predicted_LABEL` of predicted ones.

        Raises:
            ValueError: the two maps differ in size, or hold a class index that the label set lacks.
        """
        return self.add(count_overlaps(prediction, truth, self.label_set))

    def add(self, pairs: Overlaps) -> dict[str, int]:
        """Count one image whose overlaps, of the same classes, have been counted, and return its own counts."""
        true, predicted = classify_objects(pairs, self.label_set, most=self.most, least=self.least)
        self._true.append(np.stack([pairs.truth_class, true, pairs.truth_area.astype(np.int64)], axis=1)[true >= 0])
        self._predicted.append(np.stack([pairs.prediction_class, predicted], axis=1)[predicted >= 0])
        row = {f"census_{name}": count for name, count in _counts(true, TRUE_LABELS).items()}
        return row | {f"census_predicted_{name}": n for name, n in _counts(predicted, PREDICTED_LABELS).items()}

    def merge(self, other: ErrorCensus) -> None:
        """Add the images that `other` has counted; ValueError if its classes or thresholds are others."""
        if (other.label_set, other.most, other.least) != (self.label_set, self.most, self.least):
            raise ValueError("can't merge censuses of different classes or thresholds")
        self._true += other._true
        self._predicted += other._predicted

    def compute(self, num_sizes: int = 4) -> dict[str, Any]:
        """All counts as plain data.

        Args:
            num_sizes: how many groups of about equally many true objects, from the smallest to the largest.

        Returns:
            `true` and `predicted`: objects, and how many have each label. `per_class`: the same by name of thing.
            `by_size`: of true objects, with the least and greatest area in pixels. `most` and `least`: the thresholds.
        """
        true = np.concatenate([np.empty((0, 3), dtype=np.int64), *self._true])
        predicted = np.concatenate([np.empty((0, 2), dtype=np.int64), *self._predicted])
        return {
            "true": _summary(true, TRUE_LABELS),
            "predicted": _summary(predicted, PREDICTED_LABELS),
            "per_class": {
                self.label_set[index].name: {
                    "true": _summary(true[true[:, 0] == index], TRUE_LABELS),
                    "predicted": _summary(predicted[predicted[:, 0] == index], PREDICTED_LABELS),
                }
                for index in self.label_set.things
            },
            "by_size": [
                {"area_from": int(rows[0, 2]), "area_to": int(rows[-1, 2]), **_summary(rows, TRUE_LABELS)}
                for rows in _size_groups(true, num_sizes)
            ],
            "most": self.most,
            "least": self.least,
        }


def _among(indices: Ints, count: int) -> NDArray[np.bool_]:
    """Which of 0..count-1 are among the indices."""
    flags = np.zeros(count, dtype=bool)
    flags[indices] = True
    return flags


def _first_of(count: int, found: Any, merged: Any, split: Any, boundary: Any, wrong_class: Any) -> Ints:
    """The first label that fits, as a place in `TRUE_LABELS` or `PREDICTED_LABELS`, which differ only after these."""
    labels = np.full(count, TRUE_LABELS.index("missed"), dtype=np.int64)
    for name, flags in (
        ("boundary", boundary),
        ("split", split),
        ("merged", merged),
        ("wrong_class", wrong_class),
        ("found", found),
    ):
        labels[flags] = TRUE_LABELS.index(name)
    return labels


def _counts(labels: Ints, names: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(names, np.bincount(labels[labels >= 0], minlength=len(names)).tolist()))


def _summary(rows: Ints, names: tuple[str, ...]) -> dict[str, int]:
    return {"objects": len(rows), **_counts(rows[:, 1], names)}


def _size_groups(rows: Ints, num_sizes: int) -> list[Ints]:
    """True objects by area, in groups as equal as objects of one area, which stay together, allow."""
    rows = rows[np.argsort(rows[:, 2], kind="stable")]
    wanted = np.arange(1, num_sizes) * len(rows) // num_sizes
    cuts = np.unique(np.searchsorted(rows[:, 2], rows[wanted, 2])) if len(rows) else wanted
    return [group for group in np.split(rows, cuts) if len(group)]

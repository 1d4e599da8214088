"""The measures of leaf segmentation: symmetric best Dice, difference in count, foreground Dice.

Defined in Scharr et al. 2016, "Leaf segmentation in plant phenotyping: a collation study", Machine Vision and
Applications 27, 585-606, for the challenge (CVPPP LSC) on the data of Minervini et al. 2016. Every function
takes HxW integer label arrays: 0 is background, every other number is a leaf. Numbers name leaves and nothing more, so
gaps and order don't matter. Score at the image's native size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.metrics.overlaps import Overlaps
from panembed.metrics.panoptic_quality import find_matches


def best_dice(a: ArrayLike, b: ArrayLike) -> float:
    """Mean over the leaves of `a` of the best Dice with any leaf of `b`.

    Not symmetric: leaves of `b` that nothing in `a` resembles cost nothing.

    Args:
        a: HxW integer labels.
        b: HxW integer labels of the same size.

    Returns:
        0..1. If one of the two has no leaf: 0. If neither has one: 1, since they agree (the challenge's images all
        have leaves, so its rule says nothing here).

    Raises:
        ValueError: the sizes differ, or the arrays are not two-dimensional integers >= 0.

    >>> best_dice([[3, 3, 3, 0]], [[7, 7, 0, 9]])
    0.8
    """
    return _shared(a, b).best_dice()


def symmetric_best_dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """SBD of one image: the lower of `best_dice(prediction, truth)` and `best_dice(truth, prediction)`.

    Arguments, edge cases and errors are those of `best_dice`. For a data set, take the mean over images.

    >>> symmetric_best_dice([[3, 3, 3, 0]], [[7, 7, 0, 9]])
    0.4
    """
    shared = _shared(prediction, truth)
    return min(shared.best_dice(), shared.turned().best_dice())


def difference_in_count(prediction: ArrayLike, truth: ArrayLike) -> int:
    """DiC of one image: number of predicted leaves minus number of true leaves.

    For a data set, take the mean of the absolute values (|DiC|). Arguments and errors are those of `best_dice`.

    >>> difference_in_count([[1, 1, 5]], [[0, 2, 2]])
    1
    """
    shared = _shared(prediction, truth)
    return len(shared.area_a) - len(shared.area_b)


def foreground_dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """FBD of one image: Dice of all leaf pixels together, 0..1; 1 if both images are empty, 0 if only one is.

    Arguments and errors are those of `best_dice`.

    >>> foreground_dice([[1, 2, 0, 0]], [[4, 4, 4, 0]])
    0.8
    """
    return _shared(prediction, truth).foreground_dice()


class LeafScores:
    """All leaf measures over a set of images, one at a time.

    >>> scores = LeafScores()
    >>> scores.update([[1, 1, 0, 0]], [[9, 9, 0, 4]])["sbd"]
    0.5
    >>> {name: round(value, 2) for name, value in scores.compute().items()}
    {'sbd': 0.5, 'abs_dic': 1.0, 'dic': -1.0, 'fbd': 0.8}
    """

    def __init__(self) -> None:
        self.num_images = 0
        self._sums = dict.fromkeys(("sbd", "abs_dic", "dic", "fbd"), 0.0)

    def update(self, prediction: ArrayLike, truth: ArrayLike) -> dict[str, float]:
        """Score one image, and return its own `sbd`, `abs_dic`, `dic` and `fbd`; errors as in `best_dice`."""
        return self._add(_shared(prediction, truth))

    def add(self, pairs: Overlaps, num_classes: int, thing: int) -> dict[str, float]:
        """Score the objects of one class of an image whose overlaps have been counted, and return its own scores.

        Objects count as Panoptic Quality counts them: crowds don't, nor predictions most of which lies on void or a
        crowd, unless they match. Pixels on the truth's void belong to no object.

        Args:
            pairs: of the whole image.
            num_classes: of the label set.
            thing: index of the class.
        """
        found = find_matches(pairs, num_classes)
        is_true = found.true_counts & (pairs.truth_class == thing)
        is_predicted = found.prediction_counts & (pairs.prediction_class == thing)
        both = is_predicted[pairs.prediction] & is_true[pairs.truth]
        return self._add(
            _Shared(
                (np.cumsum(is_predicted) - 1)[pairs.prediction[both]],
                (np.cumsum(is_true) - 1)[pairs.truth[both]],
                pairs.area[both],
                (pairs.prediction_area - pairs.prediction_on_void)[is_predicted],
                pairs.truth_area[is_true],
            )
        )

    def _add(self, shared: _Shared) -> dict[str, float]:
        difference = float(len(shared.area_a) - len(shared.area_b))
        image = {
            "sbd": min(shared.best_dice(), shared.turned().best_dice()),
            "abs_dic": abs(difference),
            "dic": difference,
            "fbd": shared.foreground_dice(),
        }
        self.num_images += 1
        for name, value in image.items():
            self._sums[name] += value
        return image

    def merge(self, other: LeafScores) -> None:
        """Add the images that `other` has scored."""
        self.num_images += other.num_images
        for name, value in other._sums.items():
            self._sums[name] += value

    def compute(self) -> dict[str, float | None]:
        """Means over the images: `sbd` and `fbd` 0..1, `abs_dic` and `dic` in leaves; None before the first image."""
        return {name: value / self.num_images if self.num_images else None for name, value in self._sums.items()}


@dataclass(frozen=True, slots=True)
class _Shared:
    """Pixels that A leaves share with B others.

    Attributes:
        a: of each of P pairs that overlap, the leaf of the first side.
        b: of each, that of the second.
        area: of each, the pixels in common.
        area_a: A pixels of each leaf.
        area_b: B.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    area: NDArray[np.float64]
    area_a: NDArray[np.float64]
    area_b: NDArray[np.float64]

    def turned(self) -> _Shared:
        return _Shared(self.b, self.a, self.area, self.area_b, self.area_a)

    def best_dice(self) -> float:
        if not len(self.area_a) or not len(self.area_b):
            return float(len(self.area_a) == len(self.area_b))
        best = np.zeros(len(self.area_a))
        np.maximum.at(best, self.a, 2 * self.area / (self.area_a[self.a] + self.area_b[self.b]))
        return float(best.mean())

    def foreground_dice(self) -> float:
        area = float(self.area_a.sum() + self.area_b.sum())
        return 2 * float(self.area.sum()) / area if area else 1.0


def _shared(a: ArrayLike, b: ArrayLike) -> _Shared:
    """Pixels that each leaf of `a` shares with each of `b`, HxW integer labels both; 0 is no leaf."""
    a, b = np.asarray(a), np.asarray(b)
    for array in (a, b):
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"expected HxW arrays of integers, found {array.dtype} {array.shape}")
    if a.shape != b.shape:
        raise ValueError(f"the two label arrays are {a.shape} and {b.shape}; expected one size")
    # Runs of equal pixels are far fewer than pixels, so that sorting them is cheap.
    flat_a, flat_b = a.ravel(), b.ravel()
    is_start = np.ones(a.size, dtype=bool)
    is_start[1:] = (flat_a[1:] != flat_a[:-1]) | (flat_b[1:] != flat_b[:-1])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=a.size)
    ids_a, row = np.unique(np.append(flat_a[starts], flat_a.dtype.type(0)), return_inverse=True)
    ids_b, column = np.unique(np.append(flat_b[starts], flat_b.dtype.type(0)), return_inverse=True)
    if ids_a[0] < 0 or ids_b[0] < 0:
        raise ValueError(f"expected labels >= 0, found {min(ids_a[0], ids_b[0])}")
    row, column = row[:-1], column[:-1]
    area_a = np.bincount(row, weights=lengths, minlength=len(ids_a)).astype(np.float64)[1:]
    area_b = np.bincount(column, weights=lengths, minlength=len(ids_b)).astype(np.float64)[1:]
    both = (row > 0) & (column > 0)
    cells, pair = np.unique(row[both] * len(ids_b) + column[both], return_inverse=True)
    area = np.bincount(pair, weights=lengths[both], minlength=len(cells)).astype(np.float64)
    row, column = np.divmod(cells, len(ids_b))
    return _Shared(row - 1, column - 1, area, area_a, area_b)

"""The measures of leaf segmentation: symmetric best Dice, difference in count, foreground Dice.

Defined in Scharr et al. 2016, "Leaf segmentation in plant phenotyping: a collation study", Machine Vision and
Applications 27, 585-606, for the challenge (CVPPP LSC) on the data of Minervini et al. 2016. Every function
takes HxW integer label arrays: 0 is background, every other number is a leaf. Numbers name leaves and nothing more, so
gaps and order don't matter. Score at the image's native size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    return _best_dice(*_overlaps(a, b))


def symmetric_best_dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """SBD of one image: the lower of `best_dice(prediction, truth)` and `best_dice(truth, prediction)`.

    Arguments, edge cases and errors are those of `best_dice`. For a data set, take the mean over images.

    >>> symmetric_best_dice([[3, 3, 3, 0]], [[7, 7, 0, 9]])
    0.4
    """
    overlap, area_a, area_b = _overlaps(prediction, truth)
    return min(_best_dice(overlap, area_a, area_b), _best_dice(overlap.T, area_b, area_a))


def difference_in_count(prediction: ArrayLike, truth: ArrayLike) -> int:
    """DiC of one image: number of predicted leaves minus number of true leaves.

    For a data set, take the mean of the absolute values (|DiC|). Arguments and errors are those of `best_dice`.

    >>> difference_in_count([[1, 1, 5]], [[0, 2, 2]])
    1
    """
    overlap, _, _ = _overlaps(prediction, truth)
    return int(overlap.shape[0]) - int(overlap.shape[1])


def foreground_dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """FBD of one image: Dice of all leaf pixels together, 0..1; 1 if both images are empty, 0 if only one is.

    Arguments and errors are those of `best_dice`.

    >>> foreground_dice([[1, 2, 0, 0]], [[4, 4, 4, 0]])
    0.8
    """
    return _foreground_dice(*_overlaps(prediction, truth))


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
        overlap, area_prediction, area_truth = _overlaps(prediction, truth)
        there = _best_dice(overlap, area_prediction, area_truth)
        back = _best_dice(overlap.T, area_truth, area_prediction)
        difference = float(overlap.shape[0] - overlap.shape[1])
        image = {
            "sbd": min(there, back),
            "abs_dic": abs(difference),
            "dic": difference,
            "fbd": _foreground_dice(overlap, area_prediction, area_truth),
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


def _best_dice(overlap: NDArray[np.int64], area_a: NDArray[np.int64], area_b: NDArray[np.int64]) -> float:
    if not overlap.size:
        return float(len(area_a) == len(area_b))
    dice = 2 * overlap / (area_a[:, None] + area_b[None, :])
    return float(dice.max(axis=1).mean())


def _foreground_dice(overlap: NDArray[np.int64], area_a: NDArray[np.int64], area_b: NDArray[np.int64]) -> float:
    area = int(area_a.sum() + area_b.sum())
    return 2 * int(overlap.sum()) / area if area else 1.0


def _overlaps(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pixels that each leaf of `a` (A rows) shares with each of `b` (B columns), and the areas of both, A and B."""
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
    cell = row[:-1] * len(ids_b) + column[:-1]
    table = np.bincount(cell, weights=lengths, minlength=len(ids_a) * len(ids_b)).astype(np.int64)
    table = table.reshape(len(ids_a), len(ids_b))
    return table[1:, 1:], table[1:].sum(axis=1), table[:, 1:].sum(axis=0)

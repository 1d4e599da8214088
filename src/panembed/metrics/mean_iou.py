"""Intersection over union of classes (IoU), and its mean (mIoU): how good the class of every pixel is.

For every class, over the pixels of all images together, IoU = TP / (TP + FP + FN) (Everingham et al. 2015, "The PASCAL
Visual Object Classes Challenge: A Retrospective", section 4.2); the mean is over the classes that occur.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panembed.labels.categories import IGNORE, LabelSet


@dataclass(frozen=True, slots=True)
class MeanIoUResult:
    """IoU of each class and its mean.

    Attributes:
        miou: mean of `per_class` over the classes that occur, 0..1; None where none does.
        per_class: IoU by class name, 0..1; None for a class that neither truth nor prediction has on scored pixels.

    >>> MeanIoUResult(0.5, {"leaf": 0.5, "pot": None}).to_dict()
    {'miou': 0.5, 'per_class': {'leaf': 0.5, 'pot': None}}
    """

    miou: float | None
    per_class: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class MeanIoU:
    """IoU of classes over a set of images, one at a time.

    Pixels that are void in the truth are left out. Void in the prediction is not forgiven: there the true class is
    missed.

    Args:
        label_set: C classes; the maps hold their indices.

    Attributes:
        confusion: pixels of each true class (rows, C) by predicted class (columns, C + 1; the last is void).

    >>> plants = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> iou = MeanIoU(plants)
    >>> iou.update([[0, 0, 1, 255, 1]], [[0, 1, 1, 1, 255]])
    >>> iou.compute().per_class, round(iou.compute().miou, 3)
    ({'soil': 0.5, 'leaf': 0.3333333333333333}, 0.417)
    """

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self.confusion: NDArray[np.int64] = np.zeros((len(label_set), len(label_set) + 1), dtype=np.int64)

    def update(self, prediction: ArrayLike, truth: ArrayLike) -> None:
        """Count one image.

        Args:
            prediction: HxW integers, class indices 0..C-1, or 255 for void.
            truth: as the prediction, of one size with it.

        Raises:
            ValueError: the sizes differ, or a map holds anything else.
        """
        maps = {"prediction": np.asarray(prediction), "truth": np.asarray(truth)}
        sizes = [array.shape for array in maps.values()]
        if sizes[0] != sizes[1]:
            raise ValueError(f"the prediction is {sizes[0]} but the truth is {sizes[1]}; expected one size")
        for role, array in maps.items():
            if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
                raise ValueError(f"{role}: expected an HxW array of integers, found {array.dtype} {array.shape}")
            if array.dtype != np.uint8 and array.size and (array.min() < 0 or array.max() > IGNORE):
                raise ValueError(f"{role}: expected class indices 0..{IGNORE}, found {array.min()}..{array.max()}")
        # Two bytes make one number that counts in a table of 65,536.
        pairs = maps["truth"].astype(np.uint16) << 8 | maps["prediction"].astype(np.uint16)
        table = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(IGNORE + 1, IGNORE + 1)
        num_classes = len(self.label_set)
        for role, used in (("prediction", table.sum(axis=0)), ("truth", table.sum(axis=1))):
            unknown = np.flatnonzero(used[num_classes:IGNORE])
            if unknown.size:
                raise ValueError(
                    f"{role}: class index {num_classes + unknown[0]} is not in the label set of {num_classes} classes"
                )
        self.confusion[:, :-1] += table[:num_classes, :num_classes]
        self.confusion[:, -1] += table[:num_classes, IGNORE]

    def merge(self, other: MeanIoU) -> None:
        """Add the images that `other` has counted; ValueError if it has other classes."""
        if other.label_set != self.label_set:
            raise ValueError(f"can't merge scores of different classes: {self.label_set} and {other.label_set}")
        self.confusion += other.confusion

    def compute(self) -> MeanIoUResult:
        """IoU over all images so far."""
        hits = self.confusion.diagonal()
        union = self.confusion.sum(axis=1) + self.confusion[:, :-1].sum(axis=0) - hits
        values = [hit / area if area else None for hit, area in zip(hits.tolist(), union.tolist())]
        kept = [value for value in values if value is not None]
        return MeanIoUResult(
            sum(kept) / len(kept) if kept else None,
            {category.name: value for category, value in zip(self.label_set, values)},
        )

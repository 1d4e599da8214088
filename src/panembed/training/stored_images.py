"""Images and labels at a working size, for a training to take again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panembed.datasets.sample import Dataset, Sample
from panembed.inference.preparation import resize_image, resize_nearest
from panembed.labels.categories import IGNORE
from panembed.machine.environment import memory

logger = logging.getLogger("panembed")

MAX_BYTES = min(8 << 30, memory() // 4)
"""Images and labels of a part that are kept in memory, unless told otherwise; all of Cityscapes would be 40 GB."""


class StoredImages(Sequence[tuple[Tensor, Tensor]]):
    """Images and labels of a data set at a working size: in memory as far as they fit, the others read again each time.

    Items are image 3xHxW uint8 and labels 2xHxW float32: class index + 1 (0 for ignore), and object numbered from 1
    within the image over all classes.

    Args:
        dataset: where they come from.
        ids: which of them.
        size: height and width that they are stretched to; None keeps their own.
        view: what the network sees of an HxWx3 uint8 image; None for all of it.
        each: called once with every sample, as it is and as the network sees it.
        max_bytes: of them to keep.

    Attributes:
        num_kept: how many are in memory.
        class_counts: pixels of each class index.
        has_objects: whether any image shows one.
        num_signals: how many images the view differs from.

    Raises:
        InputError: one can't be read; each is read once here.
    """

    def __init__(
        self,
        dataset: Dataset,
        ids: Sequence[str],
        size: tuple[int, int] | None,
        *,
        view: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        each: Callable[[Sample, Sample], None] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._dataset, self._ids, self._size, self._view = dataset, ids, size, view
        self._kept: list[tuple[Tensor, Tensor]] = []
        self.class_counts = np.zeros(IGNORE, dtype=np.int64)
        self.has_objects, self.num_signals = False, 0
        left = max_bytes
        for id in ids:
            sample = dataset.load(id)
            seen = self._seen(sample)
            self.num_signals += seen is not sample
            if each is not None:
                each(sample, seen)
            image, labels = _keep(seen, size, dataset.label_set.things)
            self.class_counts += np.bincount(labels[0].numpy().ravel(), minlength=IGNORE + 1)[1:]
            self.has_objects |= bool(labels[1].any())
            left -= image.nbytes + labels.nbytes
            if left >= 0:
                self._kept.append((image, labels))
        self.num_kept = len(self._kept)
        if self.num_kept < len(ids):
            logger.info("%d of %d images fit in memory; the others are read each time", self.num_kept, len(ids))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        """The image and the labels of this index."""
        if index < self.num_kept:
            image, labels = self._kept[index]
        else:
            sample = self._seen(self._dataset.load(self._ids[index]))
            image, labels = _keep(sample, self._size, self._dataset.label_set.things)
        return image, labels.float()

    def _seen(self, sample: Sample) -> Sample:
        """With the image that the network sees; the same sample where that is its own."""
        picture = sample.image if self._view is None else self._view(sample.image)
        return sample if picture is sample.image else Sample(picture, sample.truth, sample.id)


def _keep(sample: Sample, size: tuple[int, int] | None, things: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Image 3xHxW uint8, and integer labels 2xHxW: class index + 1 (0 for ignore) and object numbered from 1."""
    image, semantic = sample.image, sample.truth.semantic
    # Segments of stuff may be numbered, too, and are no objects.
    instance = np.where(np.isin(semantic, things), sample.truth.instance, 0)
    key = (semantic.astype(np.int64) << 32) | instance
    for category, number in sample.truth.crowd:
        # A group is no object: its pixels have a class but pull on nothing.
        instance = np.where((semantic == category) & (instance == number), 0, instance)
    _, numbers = np.unique(np.where((instance > 0) & (semantic != IGNORE), key, -1), return_inverse=True)
    numbers = numbers.reshape(semantic.shape)
    none = (instance == 0) | (semantic == IGNORE)
    numbers = np.where(none, 0, numbers + (0 if none.any() else 1))
    classes = np.where(semantic == IGNORE, 0, semantic.astype(np.int64) + 1)
    if size is not None:
        image = resize_image(image, size)
        classes, numbers = resize_nearest(classes, size), resize_nearest(numbers, size)
    smallest = np.int16 if numbers.max(initial=0) <= np.iinfo(np.int16).max else np.int32
    labels = torch.from_numpy(np.stack([classes, numbers]).astype(smallest))
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), labels

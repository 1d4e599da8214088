"""A small data set with all kinds of segments, made in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from panembed.datasets.sample import Sample
from panembed.errors import InputError
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap

LABEL_SET = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])


class Fixed:
    """A data set of given samples."""

    def __init__(self, *samples: Sample) -> None:
        self.label_set = LABEL_SET
        self.root = Path("fixed")
        self.samples = {sample.id: sample for sample in samples}
        self.ids = list(self.samples)

    def __len__(self) -> int:
        return len(self.ids)

    def image_path(self, id: str) -> Path:
        return self.root / id

    def read_image(self, id: str) -> np.ndarray:
        return self.samples[id].image

    def read_truth(self, id: str) -> PanopticMap:
        return self.samples[id].truth

    def load(self, id: str) -> Sample:
        if id not in self.samples:
            raise InputError(id)
        return self.samples[id]


def blocks(height: int = 96, width: int = 128, id: str = "a") -> Sample:
    """Blocks of leaf, weed, soil, void and crowd; instance ids have gaps, and classes share them."""
    rng = np.random.default_rng(0)
    table = np.array([(0, 0), (1, 1), (1, 70), (2, 1), (2, 5), (1, 9), (255, 0), (2, 0)])
    rows, columns = -(-height // 16), -(-width // 16)
    which = np.concatenate([np.arange(8), rng.integers(0, 8, rows * columns - 8)])
    which = np.kron(rng.permutation(which).reshape(rows, columns), np.ones((16, 16), int))[:height, :width]
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(image, PanopticMap(table[which, 0], table[which, 1], [(1, 9), (2, 0)]), id)

"""What training images are like: kept with the model, and said where it may be a mistake."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

from panembed.datasets.oddities import oddities
from panembed.datasets.sample import Dataset, Sample
from panembed.datasets.splits import Split
from panembed.errors import InputError
from panembed.inference.learned import Learned, picture_digest
from panembed.inference.preparation import Preparation

logger = logging.getLogger("panembed")

FEW = 5
"""Scores of fewer images say little."""


class TrainingData:
    """Looks at every training image once, as it is read.

    Args:
        dataset: the images.
        preparation: of the network.
    """

    def __init__(self, dataset: Dataset, preparation: Preparation) -> None:
        self._dataset, self._preparation = dataset, preparation
        self._things = {index: dataset.label_set[index].name for index in dataset.label_set.things}
        self._learned = Learned()
        self._ids: dict[str, str] = {}
        self._odd: dict[str, list[str]] = defaultdict(list)

    def add(self, sample: Sample, seen: Sample) -> None:
        """Take in an image, as it is and as the network sees it."""
        self._learned.add(sample.image, seen.image, sample.truth, self._things, self._preparation)
        self._ids.setdefault(self._learned.pictures[-1], sample.id)
        for oddity in oddities(sample.truth, self._things):
            self._odd[oddity].append(sample.id)

    def learned(self) -> dict[str, Any]:
        """What the model keeps of it."""
        return self._learned.to_plain()

    def warn(self, split: Split) -> None:
        """Log what may be a mistake: odd labels, files not read, pictures in two parts, parts of few images."""
        for oddity, ids in sorted(self._odd.items()):
            logger.warning(
                "%d of the %d training images, %s among them: %s", len(ids), len(split.train), ids[0], oddity
            )
        if not_read := getattr(self._dataset, "not_read", ()):
            logger.warning(
                "%d files of kinds that are not read, %s among them, are left out; save them as PNG, JPEG, BMP or TIFF",
                *(len(not_read), not_read[0]),
            )
        self._warn_of_twins(split)
        few = [f"{len(ids)} {name}" for name, ids in (("validation", split.val), ("test", split.test)) if _is_few(ids)]
        if few:
            logger.warning(
                "only %s images: scores and settings chosen by so few may be chance; label more, or mark most for one "
                "part in split.json",
                " and ".join(few),
            )

    def _warn_of_twins(self, split: Split) -> None:
        for part in ("val", "test"):
            twins = []
            for id in split.select(part):
                try:
                    digest = picture_digest(self._dataset.read_image(id))
                except InputError:
                    continue  # told when it is scored
                if digest in self._ids:
                    twins.append((id, self._ids[digest]))
            if twins:
                logger.warning(
                    "%d of the %d %s images are training images under another name, %s = %s among them; their scores "
                    "will flatter",
                    *(len(twins), len(split.select(part)), part, *twins[0]),
                )


def _is_few(ids: tuple[str, ...]) -> bool:
    return 0 < len(ids) < FEW

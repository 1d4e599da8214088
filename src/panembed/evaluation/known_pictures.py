"""Pictures that a model has learned from, under whatever name."""

from __future__ import annotations

from collections.abc import Iterable

from panembed.datasets.sample import Dataset
from panembed.errors import InputError
from panembed.inference.learned import picture_digest


def known_pictures(dataset: Dataset, ids: Iterable[str], pictures: Iterable[str]) -> list[str]:
    """Those images that are, pixel by pixel, among the pictures of these digests.

    Args:
        dataset: the images.
        ids: which of them.
        pictures: as `panembed.inference.learned.picture_digest` gives them.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> plants = SyntheticDataset(3, size=64)
    >>> known_pictures(plants, plants.ids, [picture_digest(plants.read_image(plants.ids[1]))]) == [plants.ids[1]]
    True
    """
    known = set(pictures)
    if not known:
        return []
    found = []
    for id in ids:
        try:
            digest = picture_digest(dataset.read_image(id))
        except InputError:
            continue  # told when it is scored
        if digest in known:
            found.append(id)
    return found

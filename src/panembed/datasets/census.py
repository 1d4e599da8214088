"""What is in a data set: sizes, classes, objects, and files that can't be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from panembed.datasets.sample import Dataset
from panembed.errors import PanembedError
from panembed.labels import IGNORE


@dataclass
class Census:
    """Counts over a data set.

    Attributes:
        images: that could be read.
        sizes: how many images of each height and width.
        pixels: of each class index; `IGNORE` for pixels without a class.
        images_with: how many images show each class index.
        objects: for each thing class index, the number of objects in every image that could be read.
        areas: for each thing class index, the pixels of every object.
        broken: reason by id, for images that can't be used.
    """

    images: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    images_with: Counter[int] = field(default_factory=Counter)
    objects: dict[int, list[int]] = field(default_factory=dict)
    areas: dict[int, list[int]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def take_census(dataset: Dataset, each: Callable[[str], object] | None = None) -> Census:
    """Read every image and label of a data set, and count; a broken file is noted and the rest go on.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> take_census(SyntheticDataset(2, size=64)).images
    2
    """
    things = dataset.label_set.things
    census = Census(objects={i: [] for i in things}, areas={i: [] for i in things})
    for id in dataset.ids:
        try:
            truth = dataset.load(id).truth
        except PanembedError as error:
            census.broken[id] = str(error)
        else:
            census.images += 1
            census.sizes[truth.shape] += 1
            counts = np.bincount(truth.semantic.ravel(), minlength=IGNORE + 1)
            for index in np.flatnonzero(counts).tolist():
                census.pixels[index] += int(counts[index])
                census.images_with[index] += 1
            for thing in things:
                areas = np.bincount(truth.instance[truth.semantic == thing])[1:]
                areas = areas[areas > 0]
                census.objects[thing].append(len(areas))
                census.areas[thing] += areas.tolist()
        if each is not None:
            each(id)
    return census

"""What is in a data set: sizes, classes, objects, files that can't be used, and files worth a second look."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.measure import label

from panembed.datasets.object_layers import LayeredDataset
from panembed.datasets.oddities import oddities
from panembed.datasets.sample import Dataset, FileDataset, Sample
from panembed.errors import PanembedError
from panembed.io.image_files import IMAGE_SUFFIXES
from panembed.labels.categories import IGNORE

MOST_OF_IMAGE = 0.6
"""From this share of the image on, a lone object is worth a look."""

MASK_PIECES = 3
"""From this number of pieces on, an object is taken for a mask of many."""


MOST_CLASSES = 20
"""Images of more objects are not suspected of having classes for objects."""


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
        per_image: the number of objects of all classes in every image that could be read.
        image_kinds: how many image files of each kind, such as `PNG RGBA`.
        label_kinds: how many label files of each kind, such as `PNG P`.
        broken: reason by id, for images that can't be used.
        crowds: groups of objects not told apart, by id of the images that have some.
        losses: what the files say and the truth doesn't hold, such as overlaps: a count by id, by what it is.
        suspicious: ids by what is odd about them; they can be used, but may be mistakes.
    """

    images: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    images_with: Counter[int] = field(default_factory=Counter)
    objects: dict[int, list[int]] = field(default_factory=dict)
    areas: dict[int, list[int]] = field(default_factory=dict)
    per_image: list[int] = field(default_factory=list)
    image_kinds: Counter[str] = field(default_factory=Counter)
    label_kinds: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    crowds: dict[str, int] = field(default_factory=dict)
    losses: dict[str, dict[str, int]] = field(default_factory=dict)
    suspicious: dict[str, list[str]] = field(default_factory=dict)


def take_census(
    dataset: Dataset,
    each: Callable[[str], object] | None = None,
    show: Callable[[Sample], object] | None = None,
) -> Census:
    """Read every image and label of a data set, and count; a broken file is noted and the rest go on.

    Where a data set can check its truth by other files (`CityscapesDataset.verify`), it is asked to.

    Args:
        dataset: with truth.
        each: called with every id, broken or not.
        show: called with every sample that could be read.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> take_census(SyntheticDataset(2, size=64)).images
    2
    """
    things = dataset.label_set.things
    census = Census(objects={i: [] for i in things}, areas={i: [] for i in things})
    verify: Callable[[str], None] | None = getattr(dataset, "verify", None)
    found = _Suspicions(has_stuff=bool(dataset.label_set.stuff))
    for id in dataset.ids:
        try:
            sample = dataset.load(id)
            if verify is not None:
                verify(id)
        except PanembedError as error:
            census.broken[id] = str(error)
        else:
            _count(census, dataset, sample)
            found.look(sample, census)
            if isinstance(dataset, LayeredDataset):
                for what, count in dataset.losses(id).items():
                    census.losses.setdefault(what, {})[id] = count
            if show is not None:
                show(sample)
        if each is not None:
            each(id)
    census.suspicious = found.result(census)
    return census


def _count(census: Census, dataset: Dataset, sample: Sample) -> None:
    truth = sample.truth
    census.images += 1
    census.sizes[truth.shape] += 1
    counts = np.bincount(truth.semantic.ravel(), minlength=IGNORE + 1)
    for index in np.flatnonzero(counts).tolist():
        census.pixels[index] += int(counts[index])
        census.images_with[index] += 1
    if truth.crowd:
        census.crowds[sample.id] = len(truth.crowd)
    in_image = 0
    for thing in dataset.label_set.things:
        numbers = truth.instance[truth.semantic == thing]
        _, areas = np.unique(numbers[numbers > 0], return_counts=True)
        census.objects[thing].append(len(areas))
        census.areas[thing] += areas.tolist()
        in_image += len(areas)
    census.per_image.append(in_image)
    if isinstance(dataset, FileDataset):
        census.image_kinds[_file_kind(dataset.image_path(sample.id))] += 1
        census.label_kinds[_file_kind(dataset.label_path(sample.id))] += 1


def _file_kind(path: Path) -> str:
    """Format and Pillow's mode, such as `PNG I;16`, of pictures; only the head of the file is read."""
    if path.is_dir():
        return "folder"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return path.suffix.lstrip(".").upper() or "file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return f"{image.format} {image.mode}"
    except (OSError, ValueError, Image.DecompressionBombError):
        return f"{path.suffix.lstrip('.').upper()}, kind unknown"


def _pieces(objects: NDArray[np.int32], semantic: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For every piece of an object, which object it is of; pixels of one piece touch, if by a corner only."""
    key = np.where(objects > 0, (semantic.astype(np.int64) << 32) | objects, 0)
    _, number = np.unique(key, return_inverse=True)
    pieces = label(number.reshape(key.shape) + 1, connectivity=2, background=0)
    first = np.unique(pieces, return_index=True)[1]
    of_piece = key.ravel()[first]
    return of_piece[of_piece > 0]


class _Suspicions:
    """Collects what is odd about single images, and what shows only when all are known."""

    def __init__(self, *, has_stuff: bool) -> None:
        self._has_stuff = has_stuff
        self._ids: dict[str, list[str]] = defaultdict(list)
        self._sizes: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._in_pieces: list[str] = []
        self._pictures: dict[bytes, list[str]] = defaultdict(list)

    def look(self, sample: Sample, census: Census) -> None:
        truth = sample.truth
        self._sizes[truth.shape].append(sample.id)
        digest = hashlib.sha256(repr(sample.image.shape).encode())
        digest.update(np.ascontiguousarray(sample.image).data)
        self._pictures[digest.digest()].append(sample.id)
        if (sample.image == sample.image[0, 0]).all():
            self._ids["the image is of one colour"].append(sample.id)
        if (truth.semantic == IGNORE).all():
            self._ids["no pixel has a class"].append(sample.id)
        elif census.objects and census.per_image[-1] == 0:
            unnumbered = np.isin(truth.semantic, list(census.objects)).any()
            why = "no objects" + (", but pixels of things that no number tells apart" if unnumbered else "")
            self._ids[why].append(sample.id)
        for oddity in oddities(truth, census.objects):
            self._ids[oddity].append(sample.id)
        if census.per_image[-1] == 1:
            is_object = (truth.instance > 0) & np.isin(truth.semantic, list(census.objects))
            if is_object.mean() >= MOST_OF_IMAGE:
                self._ids["a single object covers most of the image"].append(sample.id)
            pieces = ndimage.label(is_object, structure=np.ones((3, 3)))[1]
            if pieces > 1:
                self._in_pieces.append(sample.id)
            if pieces >= MASK_PIECES:
                self._ids[f"a single object in {MASK_PIECES} or more pieces: a mask of many?"].append(sample.id)
        elif 1 < census.per_image[-1] <= MOST_CLASSES:
            objects = np.where(np.isin(truth.semantic, list(census.objects)), truth.instance, 0)
            _, parts = np.unique(_pieces(objects, truth.semantic), return_counts=True)
            if np.count_nonzero(parts >= MASK_PIECES) > 0.5 * census.per_image[-1]:
                self._ids[
                    f"most objects are in {MASK_PIECES} or more pieces: are the numbers classes? (labels.yaml says)"
                ].append(sample.id)

    def result(self, census: Census) -> dict[str, list[str]]:
        for group in self._pictures.values():
            if len(group) > 1:
                self._ids["the same picture more than once"].append(" = ".join(group))
        most_in_pieces = 2 * len(self._in_pieces) > census.images > 1
        if census.per_image and max(census.per_image) == 1 and most_in_pieces:
            self._ids["one object in pieces in most images: masks, whose objects share a number?"] += self._in_pieces
        stuff = {index for index in census.pixels if index != IGNORE} - census.objects.keys()
        if census.objects and census.pixels and not stuff and self._has_stuff:
            self._ids["no pixel of any image is background: are the numbers colours, or is 0 missing?"] += [
                sample_id for group in self._sizes.values() for sample_id in group
            ]
        most = max(census.sizes.values(), default=0)
        if census.images >= 10 and most >= 0.9 * census.images:
            for group in self._sizes.values():
                if len(group) <= 0.05 * census.images:
                    self._ids["of another size than nearly all"] += group
        return dict(self._ids)

"""Results read back from the pictures of a prediction folder, as they were written or as somebody edited them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panembed.errors import InputError
from panembed.io.coco_panoptic import decode_ids
from panembed.io.label_images import read_label_image
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.record import Entry, digest
from panembed.results.remarks import Remark
from panembed.results.result import PanopticResult

_COLOURS = ("RGB", "RGBA", "LA", "CMYK", "YCbCr", "PA")

_CLEAR_MAJORITY = 0.9
"""Share of an object's pixels on thing classes that one of these must have to be the object's."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """NAME_instances.png and NAME_semantic.png of an image.

    Attributes:
        path: of the former, or of the TIFF in its place.
        ids: HxW int32, the objects' numbers, 0 for none.
        semantic: HxW uint8 class indices, 255 for void.
        changed: whether either differs from what was predicted; `classes_changed` whether the latter does.
    """

    path: Path
    ids: NDArray[np.int32]
    semantic: NDArray[np.uint8]
    changed: bool
    classes_changed: bool


def read_pictures(folder: Path, entry: Entry, label_set: LabelSet) -> Pictures:
    """Read the pictures of an image.

    Raises:
        InputError: one is missing, broken, of another size than the image or of colours, or holds a class that there
            isn't.
    """
    path = folder / f"{entry.name}_instances.png"
    if not path.is_file() and path.with_suffix(".tif").is_file():
        path = path.with_suffix(".tif")
    ids, mode = _read(path, entry, "the numbers of objects")
    if ids.min() < 0:
        raise InputError(f"{path}: holds {ids.min()}; expected numbers of objects from 0; renumber them")
    if mode == "L" and entry.numbers and ids.any() and not np.isin(ids, entry.numbers).any():
        raise InputError(
            f"{path}: has 8 bits, and none of the numbers that were predicted is left; a program has stretched or "
            "shrunk them; save it with 16 bits"
        )
    class_path = folder / f"{entry.name}_semantic.png"
    class_ids, _ = _read(class_path, entry, "the numbers of classes")
    lookup = {category.id: index for index, category in enumerate(label_set)}
    void = 255 if max(lookup) < 255 else 65_535
    values, place = np.unique(class_ids, return_inverse=True)
    if unknown := set(values.tolist()) - lookup.keys() - {void}:
        known = ", ".join(f"{category.id} {category.name}" for category in label_set)
        raise InputError(f"{class_path}: holds the class {min(unknown)}; expected {known}, or {void} for none")
    indices = np.array([lookup.get(value, IGNORE) for value in values.tolist()], dtype=np.uint8)
    classes_changed = digest(class_ids) != entry.digests["semantic"]
    return Pictures(
        path,
        ids,
        indices[place].reshape(ids.shape),
        classes_changed or digest(ids) != entry.digests["instances"],
        classes_changed,
    )


def _read(path: Path, entry: Entry, what: str) -> tuple[NDArray[np.int32], str]:
    """HxW numbers, and Pillow's name of the kind of picture."""
    ids = read_label_image(path)
    if ids.shape != tuple(entry.shape):
        (height, width), (wanted_height, wanted_width) = ids.shape, entry.shape
        raise InputError(
            f"{path}: is {width} x {height} pixels, but the image is {wanted_width} x {wanted_height}; save it in the "
            "image's size"
        )
    with Image.open(path) as picture:  # a TIFF of 32 bits, too; only its header is read
        mode = picture.mode
    if mode in _COLOURS:
        raise InputError(f"{path}: is a picture of colours; expected one channel with {what}; save it as grey, 16 bits")
    return ids, mode


def as_predicted(pictures: Pictures, entry: Entry, label_set: LabelSet) -> PanopticResult:
    """The result that the pictures were written from, but for its image, which is grey.

    Args:
        pictures: that are as they were written.
        entry: of the same image.
        label_set: the classes.
    """
    objects = [(index, instance) for index, instance in entry.segments if label_set[index].is_thing]
    lookup = np.zeros(max(entry.numbers, default=0) + 1, dtype=np.int32)
    lookup[entry.numbers] = [instance for _, instance in objects]
    return _result(entry, label_set, PanopticMap(pictures.semantic, lookup[pictures.ids]), entry.numbers, entry.scores)


def from_panoptic(folder: Path, entry: Entry, label_set: LabelSet) -> PanopticResult | None:
    """The result as predicted, from panoptic/NAME.png; None where that isn't as it was written."""
    segment_map = _segment_map(folder, entry)
    if segment_map is None:
        return None
    semantic, instance = (
        np.array([none, *(segment[place] for segment in entry.segments)])[segment_map]
        for place, none in ((0, IGNORE), (1, 0))
    )
    return _result(entry, label_set, PanopticMap(semantic, instance), entry.numbers, entry.scores)


def _segment_map(folder: Path, entry: Entry) -> NDArray[np.int32] | None:
    try:
        with Image.open(folder / "panoptic" / f"{entry.name}.png") as picture:
            segment_map = decode_ids(np.asarray(picture))
    except (OSError, ValueError, SyntaxError):
        return None
    return segment_map if digest(segment_map) == entry.digests["panoptic"] else None


def _result(
    entry: Entry,
    label_set: LabelSet,
    panoptic: PanopticMap,
    numbers: list[int],
    scores: list[float | None] | None,
    image: NDArray[np.uint8] | None = None,
) -> PanopticResult:
    if image is None:
        image = np.broadcast_to(np.uint8(128), (*panoptic.shape, 3))
    return PanopticResult(
        panoptic,
        label_set,
        image,
        entry.name,
        scores=None if scores is None else np.array(scores, dtype=np.float64),
        pixel_size=entry.scale(),
        numbers=numbers,
        remarks=[Remark(*remark) for remark in entry.remarks],
    )


def as_edited(
    folder: Path, pictures: Pictures, entry: Entry, label_set: LabelSet, image: NDArray[np.uint8] | None
) -> PanopticResult:
    """The result that edited pictures stand for.

    An object has the class that it was predicted with; a new number, or any where NAME_semantic.png was edited, the
    class that this picture has there. What was erased becomes the only stuff class, or void where there are several.
    Objects are called by their numbers in the picture.

    Args:
        folder: of the prediction.
        pictures: of the image.
        entry: what was predicted for it.
        label_set: the classes.
        image: HxWx3 uint8; None where it isn't at hand.

    Raises:
        InputError: an object whose class isn't clear.
    """
    class_of = _classes(pictures, entry, label_set)
    before = _segment_map(folder, entry)
    semantic = pictures.semantic.copy()
    erased = (pictures.ids == 0) & np.isin(semantic, label_set.things)
    if before is not None:
        # Pixels of a thing class that belonged to no object stay what they were.
        erased &= before > 0
    semantic[erased] = label_set.stuff[0] if len(label_set.stuff) == 1 else IGNORE
    lookup = np.zeros(int(pictures.ids.max()) + 1, dtype=np.uint8)
    lookup[list(class_of)] = list(class_of.values())
    semantic = np.where(pictures.ids > 0, lookup[pictures.ids], semantic)
    numbers = sorted(class_of, key=lambda number: (class_of[number], number))
    return _result(
        entry,
        label_set,
        PanopticMap(semantic, pictures.ids),
        numbers,
        _scores(before, pictures.ids, entry, label_set, numbers),
        image,
    )


def _classes(pictures: Pictures, entry: Entry, label_set: LabelSet) -> dict[int, int]:
    """Class index of every object by its number."""
    predicted = [index for index, _ in entry.segments if label_set[index].is_thing]
    known = dict(zip(entry.numbers, predicted))
    numbers, place = np.unique(pictures.ids, return_inverse=True)
    counts = np.zeros((len(numbers), 256), dtype=np.int64)
    np.add.at(counts, (place.ravel(), pictures.semantic.ravel()), 1)
    things = label_set.things
    classes = {}
    for number, row in zip(numbers.tolist(), counts[:, list(things)]):
        if number == 0:
            continue
        if len(things) == 1:
            classes[number] = things[0]
        elif number in known and not pictures.classes_changed:
            classes[number] = known[number]
        elif row.sum() and row.max() >= _CLEAR_MAJORITY * row.sum():
            classes[number] = things[int(row.argmax())]
        else:
            found = ", ".join(label_set[index].name for index, count in zip(things, row) if count) or "no thing class"
            expected = " or ".join(label_set[index].name for index in things)
            raise InputError(
                f"{pictures.path}: object {number} lies on {found} in {entry.name}_semantic.png; expected one of "
                f"{expected}; paint the class of its pixels there"
            )
    return classes


def _scores(
    before: NDArray[np.int32] | None,
    ids: NDArray[np.int32],
    entry: Entry,
    label_set: LabelSet,
    numbers: list[int],
) -> list[float | None] | None:
    """Scores of objects that are as they were predicted, None for others; None where nobody knows any."""
    if entry.scores is None or before is None:
        return None
    called = np.zeros(len(entry.segments) + 1, dtype=np.int64)
    called[[i for i, (index, _) in enumerate(entry.segments, 1) if label_set[index].is_thing]] = entry.numbers
    former = called[before].ravel()
    size = max(int(ids.max()), int(former.max())) + 1
    differs = former != ids.ravel()
    touched = np.bincount(ids.ravel(), differs, size) + np.bincount(former, differs, size)
    scores = dict(zip(entry.numbers, entry.scores))
    return [scores[number] if number in scores and touched[number] == 0 else None for number in numbers]

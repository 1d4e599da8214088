"""Predictions in a folder of label images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from panembed.errors import InputError, SettingsError
from panembed.io.cityscapes import CITYSCAPES, decode_instance_ids
from panembed.io.label_images import read_label_image
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.packing import unpack
from panembed.labels.panoptic_map import PanopticMap

_LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
_INSTANCES, _SEMANTIC, _OVERLAY = "_instances", "_semantic", "_overlay"
# What files use for pixels without a class; each only where no class has that id.
_VOID = (-1, 0, 255, 65_535)
_WHITE = (255, 0xFFFFFF)


class LabelImagePredictions:
    """Predictions in a folder of label images, see the module for what they may hold.

    Void is -1, 0, 255 or 65535, unless that is a class's id. Where an object's pixels are of several classes in
    `NAME_semantic`, it counts as one object of each.

    Args:
        folder: with the files, perhaps in sub-folders.
        label_set: the classes of the truth.
        format: `instances`, `class-instance`, or auto: see `open_predictions`.

    Raises:
        InputError: the folder holds no label images.
        SettingsError: `instances` with several thing classes and no `NAME_semantic`.

    >>> LabelImagePredictions("nowhere", LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}]))
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: holds no label images; expected NAME.png or tif, named like the images
    """

    def __init__(self, folder: str | os.PathLike[str], label_set: LabelSet, format: str = "auto") -> None:
        self.source = Path(folder)
        self._label_set = label_set
        found = _label_files(self.source)
        if not found:
            raise InputError(f"{folder}: holds no label images; expected NAME.png or tif, named like the images")
        self._files = [(paths, semantic) for _, paths, semantic in found]
        self.names = [names for names, _, _ in found]
        self._guessed = format == "auto"
        self.format = self._recognise() if format == "auto" else format
        if self.format == "instances" and len(label_set.things) != 1:
            for path, semantic in self._files:
                if semantic is None:
                    stem = path.stem.removesuffix(_INSTANCES)
                    raise SettingsError(
                        f"{path}: object numbers alone don't say which of the {len(label_set.things)} thing classes an "
                        f"object is; expected {stem}{_SEMANTIC}.png beside it, or numbers of class * 1000 + object"
                    )

    def _recognise(self) -> str:
        things, stuff = self._label_set.things, self._label_set.stuff
        if any(semantic is not None or path.stem.endswith(_INSTANCES) for path, semantic in self._files):
            return "instances"
        _refuse_masks([path for path, _ in self._files])
        if len(things) != 1 or len(stuff) > 1:
            return "class-instance"
        known = {category.id for category in self._label_set}
        for path, _ in self._files:
            numbers = np.unique(read_label_image(path))
            numbers = numbers[~np.isin(numbers, [v for v in _VOID if v not in known])]
            packed = numbers >= 1000
            if not np.isin(np.where(packed, numbers // 1000, numbers), sorted(known)).all():
                return "instances"
            if packed.any():
                return "class-instance"
        return "instances"

    def path(self, index: int) -> Path:
        """The label image at a place in `names`."""
        return self._files[index][0]

    def read(self, index: int) -> PanopticMap:
        """The map at a place in `names`; InputError where its numbers mean nothing."""
        path, semantic = self._files[index]
        numbers = read_label_image(path)
        if self.format == "instances":
            return self._from_instances(numbers, path, semantic)
        void = set(_VOID) - {category.id for category in self._label_set}
        try:
            if list(self._label_set) == list(CITYSCAPES):
                # Its own files hold classes that scoring leaves out, too.
                packed = decode_instance_ids(np.where(np.isin(numbers, list(void)), 0, numbers))
            else:
                packed = unpack(numbers, self._label_set, void)
        except InputError as error:
            hint = "; if the numbers only tell objects apart, say so with the format instances" if self._guessed else ""
            raise InputError(f"{path}: {error}{hint}") from error
        # Things not told apart are no group in a prediction: they are pixels without an object.
        return PanopticMap(packed.semantic, packed.instance)

    def _from_instances(self, instance: NDArray[np.int32], path: Path, semantic: Path | None) -> PanopticMap:
        if int(instance.min()) < 0:
            raise InputError(f"{path}: holds the number {instance.min()}; expected 0, and objects from 1")
        top = int(instance.max())
        if self._guessed and top in _WHITE and not ((instance != 0) & (instance != top)).any():
            raise InputError(
                f"{path}: is a black and white mask; expected a number of its own for every object; number them with "
                "skimage.measure.label, or say that it is one object with the format instances"
            )
        things, stuff = self._label_set.things, self._label_set.stuff
        if semantic is None:
            around = stuff[0] if len(stuff) == 1 else IGNORE
            return PanopticMap(np.where(instance > 0, things[0], around), instance)
        classes = read_label_image(semantic)
        if classes.shape != instance.shape:
            raise InputError(
                f"{semantic}: is {_size(classes.shape)} pixels, but {path.name} is {_size(instance.shape)}; expected "
                "one size"
            )
        return PanopticMap(_class_indices(classes, self._label_set, semantic), instance)


def _refuse_masks(paths: list[Path]) -> None:
    """Where every image holds one and the same number, in pieces, objects were never numbered.

    Raises:
        InputError: names the first file of this kind.
    """
    first: Path | None = None
    number = 0
    for path in paths:
        try:
            values = read_label_image(path)
        except InputError:
            continue  # told when it is scored
        top = int(values.max())
        if top == 0:
            continue
        if top != (number or top) or ((values != 0) & (values != top)).any():
            return
        number = top
        if first is None and ndimage.label(values, structure=np.ones((3, 3)))[1] > 1:
            first = path
    if first is not None:
        raise InputError(
            f"{first}: is a mask of one number ({number}) in several pieces, as all predictions are; expected a number "
            "of its own for every object; number them with skimage.measure.label, or say that each image holds one "
            "object with --prediction-format instances"
        )


def _label_files(folder: Path) -> list[tuple[tuple[str, ...], Path, Path | None]]:
    """Names, label image and perhaps semantic image of every prediction, sorted by name."""
    if not folder.is_dir():
        return []
    files: dict[str, Path] = {}
    twice: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() in _LABEL_SUFFIXES and not any(part.startswith(".") for part in inside.parts):
            name = inside.with_suffix("").as_posix()
            (twice if name in files else files)[name] = path
    if any(name.endswith(_INSTANCES) for name in files):
        labels = {name: name.removesuffix(_INSTANCES) for name in files if name.endswith(_INSTANCES)}
    else:
        extra = {name + ending for name in files for ending in (_SEMANTIC, _OVERLAY)}
        labels = {name: name for name in files if name not in extra}
    for name in labels:
        if name in twice:
            raise InputError(f"{twice[name]}: has the same name as {files[name].name}; expected one; remove the other")
    return [
        (tuple(dict.fromkeys((base, name))), files[name], files.get(base + _SEMANTIC)) for name, base in labels.items()
    ]


def _class_indices(classes: NDArray[np.int32], label_set: LabelSet, path: Path) -> NDArray[np.uint8]:
    """Class indices from class ids, HxW."""
    ids = {category.id: index for index, category in enumerate(label_set)}
    values, inverse = np.unique(classes, return_inverse=True)
    indices = np.full(len(values), IGNORE, dtype=np.uint8)
    for position, value in enumerate(values.tolist()):
        if value in ids:
            indices[position] = ids[value]
        elif value not in _VOID:
            known = ", ".join(f"{category.id} {category.name}" for category in label_set)
            raise InputError(f"{path}: holds the unknown class id {value}; the truth has {known}")
    return indices[inverse.reshape(classes.shape)]


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"

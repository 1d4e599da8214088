"""One picture for each object: black, and white where the object is.

As the Data Science Bowl 2018 comes (BBBC038):       Or, the images in one folder:

    root/                                                root/
      ID/images/ID.png                                     images/NAME.png
      ID/masks/*.png                                       masks/NAME/*.png
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.folder import OBJECTS, LabelCoding
from panembed.datasets.object_layers import LayeredDataset
from panembed.errors import InputError
from panembed.io.image_files import images_in
from panembed.io.label_images import read_label_image
from panembed.labels.categories import LabelSet
from panembed.labels.object_masks import NOTHING, ObjectMask, Window

_IMAGES, _MASKS = "images", "masks"


class MaskFilesDataset(LayeredDataset):
    """Images with a mask for every object.

    A mask holds 0 and one other number; its pieces are one object. Images whose folder has no `masks/` are left out:
    the Data Science Bowl's test images are so. Objects that overlap are told by `losses`.

    Args:
        root: the folder.
        otherwise: whose classes name the objects, where it has one thing and one stuff class.

    Raises:
        InputError: nothing of that is found, or a folder holds several images.

    >>> MaskFilesDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: no such folder; expected one with ID/images/ID.png and ID/masks/*.png
    """

    def __init__(self, root: str | os.PathLike[str], *, otherwise: LabelCoding | None = None) -> None:
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; expected one with ID/images/ID.png and ID/masks/*.png")
        files, left_out = _in_one_folder(root) if _has_one_folder(root) else _in_folders(root)
        if not files:
            found = f"{len(left_out)} images, none of them with masks" if left_out else "no images"
            raise InputError(f"{root}: found {found}; expected ID/images/ID.png and ID/masks/*.png; check the download")
        super().__init__(root, object_classes(otherwise), files, left_out)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        objects = []
        for path in images_in(self.label_path(id)):
            numbers = read_label_image(path)
            if numbers.shape != shape:
                raise InputError(
                    f"{path}: mask is {numbers.shape[1]}x{numbers.shape[0]} pixels, but its image "
                    f"{self.image_path(id).name} is {shape[1]}x{shape[0]}; expected the same size"
                )
            objects.append(ObjectMask(1, *_window(numbers, path)))
        return objects, Counter()


def object_classes(otherwise: LabelCoding | None) -> LabelSet:
    """Background and one class of objects, named as settings say, if they name one.

    >>> object_classes(None)
    LabelSet(0=background, 1=object*; * thing)
    """
    named = otherwise is not None and otherwise.encoding == "instances"
    if otherwise is None or not named or otherwise.label_set.stuff != (0,):
        return OBJECTS
    return otherwise.label_set


def is_mask_files(root: Path) -> bool:
    """Is there a folder with `images` and `masks` in it, or `masks/` with a folder for each image?

    >>> is_mask_files(Path("/no/such/folder"))
    False
    """
    return _has_one_folder(root) or any((child / _MASKS).is_dir() for child in _children(root) if _is_case(child))


def _window(numbers: NDArray[np.int32], path: Path) -> Window:
    """The object's pixels in a window, its top and left."""
    is_object = numbers != 0
    rows, columns = np.flatnonzero(is_object.any(axis=1)), np.flatnonzero(is_object.any(axis=0))
    if not len(rows):
        return NOTHING
    part = numbers[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    values = np.unique(part[part != 0])
    if len(values) > 1:
        found = ", ".join(map(str, values[:3].tolist()))
        raise InputError(
            f"{path}: holds {len(values)} numbers beside 0 ({found}); expected a mask of one object, 0 and one other "
            "number; if every number is an object, put the label images into labels/"
        )
    return part != 0, int(rows[0]), int(columns[0])


def _children(root: Path) -> list[Path]:
    try:
        return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []


def _is_case(folder: Path) -> bool:
    return (folder / _IMAGES).is_dir() and bool(images_in(folder / _IMAGES))


def _has_one_folder(root: Path) -> bool:
    masks = root / _MASKS
    return (root / _IMAGES).is_dir() and masks.is_dir() and bool(_children(masks)) and not images_in(masks)


def _in_folders(root: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    files: dict[str, tuple[Path, Path]] = {}
    left_out: list[str] = []
    for case in _children(root):
        if not (case / _IMAGES).is_dir():
            if (case / _MASKS).is_dir():
                raise InputError(f"{case}: has masks/ but no images/; expected {case.name}/images/{case.name}.png")
            continue
        images = images_in(case / _IMAGES)
        if not (case / _MASKS).is_dir():
            left_out += [case.name] if images else []
            continue
        if len(images) != 1:
            raise InputError(f"{case / _IMAGES}: holds {len(images)} images; expected one, beside masks/")
        files[case.name] = images[0], case / _MASKS
    return files, left_out


def _in_one_folder(root: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    files: dict[str, tuple[Path, Path]] = {}
    left_out: list[str] = []
    images = images_in(root / _IMAGES)
    for image in images:
        if (root / _MASKS / image.stem).is_dir():
            if image.stem in files:
                raise InputError(f"{image}: has the same name as {files[image.stem][0].name}; rename or remove one")
            files[image.stem] = image, root / _MASKS / image.stem
        else:
            left_out.append(image.stem)
    names = {image.stem for image in images}
    for folder in _children(root / _MASKS):
        if folder.name not in names:
            expected = f"{folder.name}.png (or jpg, bmp, tif) in {root / _IMAGES}"
            raise InputError(f"{folder}: has no image; expected {expected}")
    return files, left_out

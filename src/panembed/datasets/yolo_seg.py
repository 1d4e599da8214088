"""YOLO's segmentation labels: a text file for each image, a line for each object.

    root/data.yaml                     names of classes; any name, or classes.txt
    root/images/NAME.jpg, root/labels/NAME.txt
    or images/train/, labels/train/, ...; or train/images/, train/labels/, valid/images/, ...

A line is the class, counted from 0, and corners x y x y ... as fractions of the image's width and height.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from panembed.datasets.folder import LabelCoding, composed
from panembed.datasets.mask_files import object_classes
from panembed.datasets.object_layers import OUTSIDE, LayeredDataset, with_background
from panembed.errors import InputError, shown
from panembed.io.image_files import IMAGE_SUFFIXES
from panembed.io.polygon_fill import check_corners, fill_rings, reaches_out
from panembed.io.raster import one_line
from panembed.io.yaml_text import load_yaml
from panembed.labels.object_masks import ObjectMask

_IMAGES, _LABELS = "images", "labels"
_CLASSES = "classes.txt"
_UNNAMED = "object"
_LOOKED_AT = 50


class YoloSegDataset(LayeredDataset):
    """Images with YOLO's outlines.

    An object holds the pixels whose middle is inside its outline, by the even-odd rule; the smaller of two objects that
    overlap lies on top. An outline that runs to further pieces or holes, and back the same way, holds just these.
    Classes have ids from 1 in the order of `names`. Images without a text file are left out; an empty file means that
    there is no object. Ids are `NAME`, or `train/NAME`.

    Args:
        root: the folder.
        otherwise: whose classes name the objects, where there is one class and nothing names it.

    Raises:
        InputError: nothing of that is found, a text file has no image, or the names of classes are wrong.

    >>> YoloSegDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: holds no YOLO labels; expected images/NAME.jpg and labels/NAME.txt
    """

    def __init__(self, root: str | os.PathLike[str], *, otherwise: LabelCoding | None = None) -> None:
        root = Path(root)
        files: dict[str, tuple[Path, Path]] = {}
        left_out: list[str] = []
        for images, labels, prefix in _places(root):
            _pair(images, labels, prefix, files, left_out)
        if not files:
            raise InputError(f"{root}: holds no YOLO labels; expected images/NAME.jpg and labels/NAME.txt")
        names = _names(root) or _numbered([path for _, path in files.values()])
        label_set = with_background(str(root), [(None, name, None) for name in names])
        if names == [_UNNAMED]:
            label_set = object_classes(otherwise)
        super().__init__(root, label_set, files, left_out)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        height, width = shape
        objects, unread = [], Counter[str]()
        path = self.label_path(id)
        for number, line in enumerate(_lines(path), start=1):
            words = line.split()
            if not words:
                continue
            where = f"{path}: line {number}"
            try:
                category, corners = int(words[0]), np.array([float(word) for word in words[1:]])
            except ValueError:
                raise InputError(f"{where} is {shown(line[:40])}; expected a class and corners, all numbers") from None
            if not 0 <= category < len(self.label_set) - 1:
                raise InputError(
                    f"{where} has class {category}; expected 0..{len(self.label_set) - 2}, as names has it"
                )
            if len(corners) in (4, 5):
                raise InputError(f"{where} is a box of detection; expected an outline of three corners or more")
            if len(corners) < 6 or len(corners) % 2:
                raise InputError(f"{where} has {len(corners)} numbers after the class; expected pairs, three or more")
            if not (np.abs(corners) <= 2).all():
                farthest = corners[np.argmax(np.abs(corners))]
                raise InputError(f"{where} has the corner {farthest:g}; expected fractions of width and height, 0..1")
            ring = check_corners(corners.reshape(-1, 2) * np.array([width, height]))
            unread[OUTSIDE] += reaches_out([ring], shape)
            objects.append(ObjectMask(category + 1, *fill_rings([ring], shape)))
        return objects, unread


def is_yolo_seg(root: Path) -> bool:
    """Is there `labels/` with text files beside `images/`, and an image called like one of them?

    >>> is_yolo_seg(Path("/no/such/folder"))
    False
    """
    for images, labels, _ in _places(root):
        for text in itertools.islice(labels.rglob("*.txt"), _LOOKED_AT):
            stem = str(images / text.relative_to(labels))[: -len(".txt")]
            if any(Path(stem + end).exists() for suffix in IMAGE_SUFFIXES for end in (suffix, suffix.upper())):
                return True
    return False


def _places(root: Path) -> list[tuple[Path, Path, str]]:
    """Folders of images, of their labels, and what their ids begin with."""
    if (root / _IMAGES).is_dir() and (root / _LABELS).is_dir():
        return [(root / _IMAGES, root / _LABELS, "")]
    try:
        inside = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []
    return [
        (child / _IMAGES, child / _LABELS, f"{child.name}/")
        for child in inside
        if (child / _IMAGES).is_dir() and (child / _LABELS).is_dir()
    ]


def _pair(images: Path, labels: Path, prefix: str, files: dict[str, tuple[Path, Path]], left_out: list[str]) -> None:
    texts = {
        composed(path.relative_to(labels).with_suffix("").as_posix()): path
        for path in sorted(labels.rglob("*.txt"))
        if not path.name.startswith(".") and path.name != _CLASSES
    }
    seen: dict[str, Path] = {}
    for path in sorted(images.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        name = composed(path.relative_to(images).with_suffix("").as_posix())
        if name in seen:
            raise InputError(f"{path}: has the same name as {seen[name].name}; rename or remove one")
        seen[name] = path
        if name in texts:
            files[prefix + name] = path, texts[name]
        else:
            left_out.append(prefix + name)
    for name in sorted(texts.keys() - seen.keys()):
        raise InputError(
            f"{texts[name]}: has no image; expected {name}.jpg (or png, bmp, tif) in {images}; add it, or move this "
            "file elsewhere"
        )


def _names(root: Path) -> list[str]:
    """The names of classes that a YAML or classes.txt in the folder says, in their order; none where there is none."""
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            data = load_yaml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: can't be read ({one_line(error)}); expected names of classes; mend it"
            ) from error
        if isinstance(data, dict) and "names" in data:
            return _checked(path, data["names"])
    for path in (root / _CLASSES, root / _LABELS / _CLASSES):
        if path.is_file():
            return [line.strip() for line in _lines(path) if line.strip()]
    return []


def _checked(path: Path, names: Any) -> list[str]:
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: names has the numbers {shown(sorted(names, key=str))}; expected 0, 1, 2, ...")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise InputError(f"{path}: names is {shown(names)}; expected a list of names, or 0: name, 1: name, ...")
    return [str(name) for name in names]


def _numbered(texts: list[Path]) -> list[str]:
    """Names for classes that nothing names: their numbers, up to the largest."""
    largest = 0
    for path in texts:
        try:
            words = [line.split(maxsplit=1)[0] for line in _lines(path) if line.strip()]
        except InputError:
            continue  # told of when the image is read
        largest = max([largest, *(int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 4)])
    return [_UNNAMED] if largest == 0 else [f"class {number}" for number in range(largest + 1)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; expected a line for every object") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({one_line(error)}); check the path and its permissions") from error

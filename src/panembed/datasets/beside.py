"""Pairs of an image and a file of labels that is called like it, beside it or in a folder of its own.

root/NAME.tif, root/NAME_rois.zip     or, one folder down, root/PLATE/NAME.tif, root/PLATE/NAME_rois.zip
root/images/NAME.tif, root/rois/NAME.zip
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from panembed.datasets.folder import composed
from panembed.datasets.splits import SPLIT_FILE
from panembed.errors import InputError
from panembed.io.image_files import images_in

Pairs = dict[str, tuple[Path, Path]]


def pairs_beside(root: Path, endings: Sequence[str], folder: str) -> tuple[Pairs, list[str]]:
    """Join images and files of labels by their names.

    Args:
        root: the data set.
        endings: of a file of labels after the image's name, such as `_rois.zip`; the longest that fits counts.
        folder: that may hold the labels, where the images are in `images/`.

    Returns:
        Image and file of labels by id, and the ids of images without one.

    Raises:
        InputError: a file of labels has no image, two files have the same name, or nothing is found.
    """
    pairs: Pairs = {}
    left_out: list[str] = []
    for image_folder, label_folder, prefix in places(root, endings, folder):
        images = _by_name(images_in(image_folder), None)
        labels = _by_name(label_files(label_folder, endings), endings)
        for name in sorted(labels.keys() - images.keys()):
            raise InputError(
                f"{labels[name]}: has no image; expected {name}.tif (or png, jpg, bmp) in {image_folder}; add it, or "
                "move this file elsewhere"
            )
        for name, image in images.items():
            if name in labels:
                pairs[prefix + name] = image, labels[name]
            else:
                left_out.append(prefix + name)
    return pairs, left_out


def places(root: Path, endings: Sequence[str], folder: str) -> list[tuple[Path, Path, str]]:
    """Folders of images, of their labels, and what their ids begin with, where there are such labels."""
    if (root / "images").is_dir() and label_files(root / folder, endings):
        return [(root / "images", root / folder, "")]
    if label_files(root, endings):
        return [(root, root, "")]
    if (root / "images").is_dir():
        # The images of another layout, perhaps with what its labels were made from beside them.
        return []
    try:
        inside = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []
    return [(child, child, f"{child.name}/") for child in inside if label_files(child, endings)]


def has_pairs(root: Path, endings: Sequence[str], folder: str) -> bool:
    """Is there an image with a file of labels that is called like it? See `pairs_beside` for the arguments.

    >>> has_pairs(Path("/no/such/folder"), [".zip"], "rois")
    False
    """
    for images, labels, _ in places(root, endings, folder):
        names = {composed(_without(path.name, endings)) for path in label_files(labels, endings)}
        if any(composed(path.stem) in names for path in images_in(images)):
            return True
    return False


def label_files(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Files directly in a folder with one of these endings, sorted, without hidden ones; perhaps none.

    >>> label_files(Path("/no/such/folder"), [".zip"])
    []
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    named = [p for p in inside if p.name.lower().endswith(tuple(endings)) and not p.name.startswith(".")]
    return [path for path in named if path.name != SPLIT_FILE]


def _by_name(files: Sequence[Path], endings: Sequence[str] | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        name = composed(path.stem if endings is None else _without(path.name, endings))
        if name in found:
            raise InputError(
                f"{path}: has the same name as {found[name].name}; expected one file for each name; rename or remove "
                "one"
            )
        found[name] = path
    return found


def _without(name: str, endings: Sequence[str]) -> str:
    """The name of the image: without the longest ending that fits."""
    ending = max((end for end in endings if name.lower().endswith(end)), key=len)
    return name[: -len(ending)]

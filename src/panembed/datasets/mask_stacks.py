"""Stacks of masks: a TIFF of several pages for each image, one page an object.

root/images/NAME.png
root/labels/NAME.tif       or masks/; each page 0, and one other number where the object is
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from panembed.datasets.beside import pairs_beside
from panembed.datasets.folder import LabelCoding
from panembed.datasets.mask_files import object_classes
from panembed.datasets.object_layers import LayeredDataset
from panembed.errors import InputError
from panembed.io.raster import MAX_PIXELS, check_size, one_line
from panembed.labels.object_masks import NOTHING, ObjectMask, Window

ENDINGS = (".tif", ".tiff")
_FOLDERS = ("labels", "masks")


class MaskStacksDataset(LayeredDataset):
    """Images with a page of a TIFF for every object.

    A page holds 0 and at most one other number, whichever: that is the object; where pages overlap, the smaller object
    lies on top, and an empty page is none. A page with several numbers is a label image, and a stack of these a volume
    or a film: which of them belongs to the image can't be told, so that is refused.

    Args:
        root: the folder with `images/`, and `labels/` or `masks/`.
        otherwise: whose classes name the objects, where it has one thing and one stuff class.

    Raises:
        InputError: nothing of that is found, a stack has no image, or two files share a name.

    >>> MaskStacksDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: holds no stacks of masks; expected images/NAME.png and labels/NAME.tif
    """

    def __init__(self, root: str | os.PathLike[str], *, otherwise: LabelCoding | None = None) -> None:
        root = Path(root)
        folder = _folder(root)
        if folder is None:
            raise InputError(f"{root}: holds no stacks of masks; expected images/NAME.png and labels/NAME.tif")
        files, left_out = pairs_beside(root, ENDINGS, folder)
        if not files:
            raise InputError(f"{root}: holds no images; expected images/NAME.png beside {folder}/")
        super().__init__(root, object_classes(otherwise), files, left_out)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        path = self.label_path(id)
        objects = []
        for number, page in enumerate(read_pages(path), start=1):
            if page.shape != shape:
                raise InputError(
                    f"{path}: page {number} is {page.shape[1]}x{page.shape[0]} pixels, but its image "
                    f"{self.image_path(id).name} is {shape[1]}x{shape[0]}; expected the same size"
                )
            window = _window(page, path, number)
            if window[0].size:
                objects.append(ObjectMask(1, *window))
        return objects, Counter()


def is_mask_stacks(root: Path) -> bool:
    """Is there `images/`, and in `labels/` or `masks/` a TIFF of several pages?

    >>> is_mask_stacks(Path("/no/such/folder"))
    False
    """
    return _folder(root) is not None


def _folder(root: Path) -> str | None:
    """The folder whose first TIFFs hold a stack: an image with one object has one page."""
    if not (root / "images").is_dir():
        return None
    for name in _FOLDERS:
        try:
            files = sorted(p for p in (root / name).iterdir() if p.suffix.lower() in ENDINGS and p.name[0] != ".")
        except OSError:
            continue
        if any(_num_pages(path) > 1 for path in files[:8]):
            return name
    return None


def _num_pages(path: Path) -> int:
    """Pages of a TIFF, ImageJ's stacks of one directory among them; 0 where it is none."""
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            planes = [size for axis, size in zip(series.axes, series.shape) if axis not in "YXS"]
            return max(len(tiff.pages), int(math.prod(planes)))
    except Exception:
        return 0


def read_pages(path: Path) -> Iterator[NDArray[np.integer]]:
    """The pages of a TIFF of whole numbers, HxW each, one by one: only one is in memory.

    Raises:
        InputError: the file is missing, damaged, too large, in colour, or holds pages of several kinds.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            yield from _pages(tiff, path)
    except InputError:
        raise
    # Damaged bytes give every exception there is.
    except Exception as error:
        raise InputError(f"{path}: is no whole TIFF ({one_line(error)}); expected a mask on each page") from error


def _pages(tiff: tifffile.TiffFile, path: Path) -> Iterator[NDArray[np.integer]]:
    series = tiff.series[0]
    # Pages that were appended one by one are series of their own.
    if len({(page.shape, page.dtype) for page in tiff.pages}) > 1:
        raise InputError(f"{path}: holds pages of several kinds; expected masks of the image's size")
    if "S" in series.axes or series.axes[-2:] != "YX":
        raise InputError(f"{path}: has pages in colour (axes {series.axes}); expected masks of one channel")
    if series.dtype is None or series.dtype.kind not in "uib":
        raise InputError(f"{path}: holds {series.dtype} values; expected whole numbers; save masks as integers")
    height, width = series.shape[-2:]
    check_size(path, width, height, MAX_PIXELS)
    planes = series.size // (height * width)
    # tifffile logs that pages are missing, and goes on with those that are there.
    promised = (tiff.imagej_metadata or {}).get("images", planes)
    if (len(tiff.series) == 1 and promised != planes) or _goes_on(tiff):
        raise InputError(f"{path}: is cut off; expected a whole TIFF; copy it here again")
    if len(tiff.pages) > 1:
        for place in range(len(tiff.pages)):
            yield tiff.asarray(key=place)
    else:
        # ImageJ keeps a stack behind a single page, which is as large as the file.
        yield from series.asarray().reshape(-1, height, width)


def _goes_on(tiff: tifffile.TiffFile) -> bool:
    """Does the last page that was found point to another?"""
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    return any(tiff.filehandle.read(8 if tiff.is_bigtiff else 4))


def _window(page: NDArray[np.integer], path: Path, number: int) -> Window:
    rows, columns = np.flatnonzero(page.any(axis=1)), np.flatnonzero(page.any(axis=0))
    if not len(rows):
        return NOTHING
    part = page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    values = np.unique(part[part != 0])
    if len(values) > 1:
        found = ", ".join(map(str, values[:3].tolist()))
        raise InputError(
            f"{path}: page {number} holds {len(values)} numbers beside 0 ({found}); expected one object a page; a "
            "stack of label images may be a volume or a film: save the page of this image as a file of one page"
        )
    return part != 0, int(rows[0]), int(columns[0])

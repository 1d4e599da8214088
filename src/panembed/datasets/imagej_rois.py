"""ImageJ and Fiji: regions of interest in a zip, or one in a `.roi`, beside each image.

root/NAME.tif, root/NAME_rois.zip       NAME.zip, NAME_RoiSet.zip and NAME.roi are found, too
root/images/NAME.tif, root/rois/NAME.zip
"""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from panembed.datasets.beside import has_pairs, pairs_beside
from panembed.datasets.folder import LabelCoding
from panembed.datasets.mask_files import object_classes
from panembed.datasets.object_layers import OUTSIDE, LayeredDataset
from panembed.errors import InputError
from panembed.io.polygon_fill import check_corners, fill_rings, reaches_out
from panembed.io.raster import one_line
from panembed.labels.object_masks import ObjectMask

ENDINGS = ("_rois.zip", "_roiset.zip", ".zip", ".roi")
FOLDER = "rois"

NO_AREA = "lines, points and texts"
GROUPS = "groups of regions: all are of one class"

MAX_BYTES = 2**28
"""Of all regions of an image, unpacked: a zip of some kilobytes may claim any size."""

# What it logs of odd files is for its developers; without a handler Python would print it.
logging.getLogger("roifile").addHandler(logging.NullHandler())

_OUTLINED = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_STEPS_OF_CURVE = 16

Rings = list[NDArray[np.float64]]


class ImagejRoisDataset(LayeredDataset):
    """Images with ImageJ's regions of interest.

    A region holds the pixels whose middle it encloses, as ImageJ fills it: coordinates are corners of pixels, (0, 0) is
    the image's top left corner. Polygons, freehand and traced regions, rectangles, ovals and composites are objects;
    lines, points and texts are left out and counted. Where regions overlap the smaller lies on top. All are of one
    class.

    Args:
        root: the folder.
        otherwise: whose classes name the objects, where it has one thing and one stuff class.

    Raises:
        InputError: nothing of that is found, a zip has no image, or two files share a name.

    >>> ImagejRoisDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: holds no regions; expected NAME_rois.zip or NAME.zip beside the images, or ...
    """

    def __init__(self, root: str | os.PathLike[str], *, otherwise: LabelCoding | None = None) -> None:
        root = Path(root)
        files, left_out = pairs_beside(root, ENDINGS, FOLDER)
        if not files:
            raise InputError(
                f"{root}: holds no regions; expected NAME_rois.zip or NAME.zip beside the images, or images/ and rois/"
            )
        super().__init__(root, object_classes(otherwise), files, left_out)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        objects, unread, groups = [], Counter[str](), set()
        path = self.label_path(id)
        for name, roi in read_rois(path):
            try:
                rings = outline(roi)
                if rings is None:
                    unread[NO_AREA] += 1
                    continue
                rings = [check_corners(ring) for ring in rings]
            except (ValueError, TypeError, IndexError) as error:
                raise InputError(f"{path}: region {name}: can't be read ({one_line(error)}); save it again") from error
            groups.add(roi.group)
            unread[OUTSIDE] += reaches_out(rings, shape)
            objects.append(ObjectMask(1, *fill_rings(rings, shape)))
        unread[GROUPS] = len(groups) if len(groups) > 1 else 0
        return objects, unread


def is_imagej_rois(root: Path) -> bool:
    """Are there files of regions beside images, or in `rois/`?

    >>> is_imagej_rois(Path("/no/such/folder"))
    False
    """
    return has_pairs(root, ENDINGS, FOLDER)


def read_rois(path: Path) -> list[tuple[str, ImagejRoi]]:
    """The regions of a zip or of a `.roi`, by their names in it.

    Raises:
        InputError: the file is missing, damaged, too large, or holds no regions.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({one_line(error)}); expected regions of ImageJ") from error
    if content[:4] == b"Iout":
        return [(path.stem, _roi(content, path, path.name))]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise InputError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes; expected regions of ImageJ")
            if not entries and archive.namelist():
                raise InputError(f"{path}: holds {archive.namelist()[0]} and no .roi; expected regions of ImageJ")
            return [(entry.filename, _roi(archive.read(entry), path, entry.filename)) for entry in entries]
    # zipfile meets damaged bytes with many exceptions, zlib.error and NotImplementedError among them.
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: is no whole zip of regions ({one_line(error)}); save it again") from error


def _roi(content: bytes, path: Path, name: str) -> ImagejRoi:
    try:
        return ImagejRoi.frombytes(content)
    except Exception as error:
        raise InputError(f"{path}: region {name} can't be read ({one_line(error)}); save it again") from error


def outline(roi: ImagejRoi) -> Rings | None:
    """Closed lines round a region, in pixels, corners being whole numbers; None where it has no area.

    >>> outline(ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=0, right=3, bottom=2))[0].tolist()
    [[1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0]]
    """
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE):
        return None
    if roi.multi_coordinates is not None:
        return _paths(np.asarray(roi.multi_coordinates, dtype=np.float64).tolist())
    if roi.roitype in _OUTLINED:
        return [np.asarray(roi.coordinates(), dtype=np.float64)]
    if roi.roitype not in ROI_TYPE.__members__.values() or roi.roitype == ROI_TYPE.UNKNOWN:
        raise ValueError("it is of a kind that ImageJ doesn't have")
    if roi.roitype not in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        return None
    if roi.subpixelrect:
        left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    else:
        left, top, width, height = roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top
    if roi.roitype == ROI_TYPE.OVAL:
        angle = np.linspace(0, 2 * np.pi, max(64, 4 * int(min(width + height, 10_000))), endpoint=False)
        unit = np.column_stack([np.cos(angle), np.sin(angle)])
    else:
        unit = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    size = np.array([width, height], dtype=np.float64)
    return [np.array([left, top]) + (unit + 1) * size / 2]


def _paths(numbers: list[float]) -> Rings:
    """Rings of a path of java.awt.geom: 0 begins, 1 is a line, 2 and 3 are curves, 4 closes."""
    rings: Rings = []
    points: list[tuple[float, float]] = []
    place = 0
    while place < len(numbers):
        step = int(numbers[place])
        if step not in (0, 1, 2, 3, 4):
            raise ValueError(f"a path has the step {step}")
        count = (2, 2, 4, 6, 0)[step]
        given = numbers[place + 1 : place + 1 + count]
        if len(given) < count or (step in (1, 2, 3) and not points):
            raise ValueError("a path is cut off")
        corners = list(zip(given[::2], given[1::2]))
        if step == 0:
            rings.append(np.array(points, dtype=np.float64).reshape(-1, 2))
            points = corners
        elif step:
            points += _curve([points[-1], *corners]) if step in (2, 3) else corners
        place += 1 + count
    rings.append(np.array(points, dtype=np.float64).reshape(-1, 2))
    return [ring for ring in rings if len(ring)]


def _curve(control: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points on a Bezier curve after its first, by de Casteljau."""
    points = []
    for share in np.linspace(0, 1, _STEPS_OF_CURVE + 1)[1:]:
        level = np.array(control)
        while len(level) > 1:
            level = level[:-1] + share * (level[1:] - level[:-1])
        points.append((float(level[0, 0]), float(level[0, 1])))
    return points

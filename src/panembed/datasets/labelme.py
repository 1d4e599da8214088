"""LabelMe: a JSON of shapes beside each image.

    root/NAME.jpg, root/NAME.json     here, or in sub-folders, or images/ and labelme/

The format of https://github.com/wkentaro/labelme.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panembed.datasets.beside import label_files, pairs_beside, places
from panembed.datasets.coco_json import kind, mentions, read_json
from panembed.datasets.object_layers import OUTSIDE, LayeredDataset, with_background
from panembed.errors import InputError, shown
from panembed.io.image_files import images_in
from panembed.io.polygon_fill import check_corners, reaches_out
from panembed.io.raster import MAX_PIXELS
from panembed.labels.object_masks import NOTHING, VOID, ObjectMask, Window

ENDINGS = (".json",)
FOLDER = "labelme"
NAMES_FILE = "labels.txt"

_BACKGROUND, _IGNORE = "_background_", "__ignore__"
_CORNERS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
_NO_AREA = ("point", "points", "line", "linestrip")

NO_AREA = "points and lines"
FLAGS = "shapes with flags or a description"


class LabelmeDataset(LayeredDataset):
    """Images with shapes drawn in LabelMe.

    Shapes are filled as LabelMe's own `shapes_to_label` does, pixel by pixel, by Pillow's polygon, rectangle and
    ellipse, whose outlines belong to the shape; and as there, a later shape lies on top. Shapes of one label and
    `group_id` are one object. Points and lines are left out. `_background_` is painted as background, `__ignore__` as
    void. Classes have ids from 1 in the order of `labels.txt`, if there is one in the folder, or of the alphabet.
    Images without a JSON are left out.

    Args:
        root: the folder.

    Raises:
        InputError: nothing of that is found, a JSON has no image, or two files share a name.

    >>> LabelmeDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: holds no LabelMe files; expected NAME.json with shapes beside the images
    """

    in_order = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        root = Path(root)
        files, left_out = pairs_beside(root, ENDINGS, FOLDER)
        if not files:
            raise InputError(f"{root}: holds no LabelMe files; expected NAME.json with shapes beside the images")
        names: set[str] = set()
        for _, path in files.values():
            try:
                names |= {shape["label"] for shape in shapes(path)[0] if shape["shape_type"] in _CORNERS}
            except InputError:
                continue  # told of when the image is read
        names -= {_BACKGROUND, _IGNORE}
        ordered = _ordered(root, names)
        label_set = with_background(str(root), [(None, name, None) for name in ordered or ["object"]])
        self._class_of = {name: place for place, name in enumerate(ordered, start=1)} | {_BACKGROUND: 0, _IGNORE: VOID}
        super().__init__(root, label_set, files, left_out)

    def _shape(self, id: str) -> tuple[int, int]:
        path = self.label_path(id)
        size = shapes(path)[1]
        return size or super()._shape(id)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        path = self.label_path(id)
        unread = Counter[str]()
        objects = []
        for number, row in enumerate(shapes(path)[0]):
            where = f"{path}: shapes[{number}]"
            unread[FLAGS] += bool(row.get("flags") or row.get("description"))
            if row["shape_type"] in _NO_AREA:
                unread[NO_AREA] += 1
                continue
            if row["label"] not in self._class_of:
                raise InputError(f"{where} has the label {kind(row['label'])}, which the data set lacks; open it again")
            try:
                window, outside = _fill(row, shape)
            except ValueError as error:
                raise InputError(f"{where} {error}; draw it again") from None
            unread[OUTSIDE] += outside
            category, group = self._class_of[row["label"]], row.get("group_id")
            key = None if group is None else (category, str(group))
            objects.append(ObjectMask(category, *window, is_object=category > 0, key=key))
        return objects, unread


def is_labelme(root: Path) -> bool:
    """Is there a JSON that speaks of `shapes` and `imagePath` beside images?

    >>> is_labelme(Path("/no/such/folder"))
    False
    """
    for images, labels, _ in places(root, ENDINGS, FOLDER):
        first = next(iter(label_files(labels, ENDINGS)), None)
        found = first is not None and mentions(first, ["shapes", "imagePath"])
        if found and len(found) == 2 and images_in(images):
            return True
    return False


def shapes(path: Path) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """The shapes of a LabelMe file, with label and type checked, and the image's height and width where it says them.

    Raises:
        InputError: it can't be read, or holds something else.
    """
    data = read_json(path, "a LabelMe file")
    rows = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise InputError(f"{path}: has no list of shapes; expected a LabelMe file; move it elsewhere, or save it again")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("label"), str) or not row["label"].strip():
            raise InputError(f"{path}: shapes[{number}] has no label; expected a text; give it one in LabelMe")
        row["shape_type"] = row.get("shape_type") or "polygon"
        if row["shape_type"] not in (*_CORNERS, *_NO_AREA):
            raise InputError(
                f"{path}: shapes[{number}] has shape_type {kind(row['shape_type'])}; expected one of "
                f"{', '.join((*_CORNERS, *_NO_AREA))}"
            )
    sides = [data.get("imageHeight"), data.get("imageWidth")]
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        return rows, None
    if sides[0] * sides[1] > MAX_PIXELS:
        raise InputError(f"{path}: is of {sides[1]}x{sides[0]} pixels; expected at most {MAX_PIXELS:,} in all")
    return rows, (sides[0], sides[1])


def _ordered(root: Path, names: set[str]) -> list[str]:
    try:
        listed = [line.strip() for line in (root / NAMES_FILE).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        listed = []
    first = [name for name in dict.fromkeys(listed) if name and name not in (_BACKGROUND, _IGNORE)]
    return first + sorted(names - set(first))


def _fill(row: dict[str, Any], shape: tuple[int, int]) -> tuple[Window, bool]:
    """As labelme.utils.shape_to_mask, in a window; and whether the shape reaches out of the image."""
    points, kind_of = row.get("points"), row["shape_type"]
    fine = isinstance(points, list) and all(isinstance(p, list) and all(_is_number(v) for v in p) for p in points)
    if not fine or not points:
        raise ValueError(f"has points {shown(points)}; expected a list of [x, y]")
    corners = check_corners(points)
    needed = _CORNERS[kind_of]
    if len(corners) < needed or (needed == 2 and len(corners) != 2):
        more = "" if needed == 2 else " or more"
        raise ValueError(f"is a {kind_of} of {len(corners)} points; expected {needed}{more}")
    if kind_of == "mask":
        return _stored_mask(row, corners, shape)
    if kind_of == "circle":
        (x, y), (at_x, at_y) = corners.tolist()
        radius = math.hypot(x - at_x, y - at_y)
        corners = np.array([[x - radius, y - radius], [x + radius, y + radius]])
    elif kind_of == "rectangle":
        corners = np.array([corners.min(0), corners.max(0)])
    height, width = shape
    # A margin, as Pillow's outlines are a pixel wide; whole numbers, so that nothing is rounded otherwise.
    left, top = (max(0, math.floor(bound) - 2) for bound in corners.min(0))
    right, bottom = (min(side, math.ceil(bound) + 3) for side, bound in zip((width, height), corners.max(0)))
    outside = reaches_out([corners], shape)
    if right <= left or bottom <= top:
        return NOTHING, outside
    canvas = Image.new("L", (right, bottom))
    draw = ImageDraw.Draw(canvas)
    xy = [(float(x), float(y)) for x, y in corners]
    if kind_of == "circle":
        draw.ellipse(xy, outline=1, fill=1)
    elif kind_of == "rectangle":
        draw.rectangle(xy, outline=1, fill=1)
    else:
        draw.polygon(xy, outline=1, fill=1)
    return (np.asarray(canvas)[top:, left:] > 0, top, left), outside


def _stored_mask(row: dict[str, Any], corners: NDArray[np.float64], shape: tuple[int, int]) -> tuple[Window, bool]:
    """A mask in a PNG in the JSON; its points are the first and the last pixel of the box that it fills."""
    (left, top), (right, bottom) = corners.astype(np.int64).tolist()
    try:
        with Image.open(io.BytesIO(base64.b64decode(row.get("mask") or "", validate=True)), formats=["PNG"]) as image:
            if image.size != (right - left + 1, bottom - top + 1):
                size = f"{image.width}x{image.height}"
                raise ValueError(f"has a mask of {size} pixels; expected {right - left + 1}x{bottom - top + 1}")
            if image.width * image.height > shape[0] * shape[1]:
                raise ValueError("has a mask that is larger than the image")
            pixels = np.asarray(image) > 0
    except (OSError, TypeError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError("has a mask that is no PNG") from error
    if pixels.ndim != 2:
        raise ValueError("has a mask of several channels; expected one")
    height, width = shape
    cut = pixels[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    return (cut, max(0, top), max(0, left)), cut.shape != pixels.shape


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

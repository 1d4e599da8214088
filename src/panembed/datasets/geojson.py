"""QuPath: outlines of objects as GeoJSON, beside each image.

root/NAME.tif, root/NAME.geojson        NAME_objects.geojson is found, too
root/images/NAME.tif, root/geojson/NAME.geojson
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.beside import has_pairs, pairs_beside
from panembed.datasets.coco_json import kind, read_json
from panembed.datasets.folder import LabelCoding
from panembed.datasets.mask_files import object_classes
from panembed.datasets.object_layers import BACKGROUND, NO_OUTLINE, OUTSIDE, Color, LayeredDataset, with_background
from panembed.errors import InputError
from panembed.io.polygon_fill import check_corners, fill_rings, reaches_out
from panembed.labels.object_masks import VOID, ObjectMask

ENDINGS = ("_objects.geojson", ".geojson")
FOLDER = "geojson"
UNCLASSIFIED = "object"
"""Class of what QuPath shows without one."""

NO_AREA = "lines and points"
MEASUREMENTS = "objects with measurements"


class GeoJsonDataset(LayeredDataset):
    """Images with QuPath's GeoJSON.

    Coordinates are corners of pixels at full resolution, (0, 0) is the image's top left corner; an object holds the
    pixels whose middle is inside its outline and not in its holes. Polygons and MultiPolygons are objects, of the class
    that `properties.classification.name` says, or "object". Classes have ids from 1 in the order of the alphabet.
    QuPath's class `Ignore*` is void. Where objects overlap, the smaller lies on top.

    Args:
        root: the folder.
        otherwise: whose classes name the objects, where no feature has a class.

    Raises:
        InputError: nothing of that is found, a GeoJSON has no image, can't be read, or is none.

    >>> GeoJsonDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: holds no GeoJSON; expected NAME.geojson beside the images, or images/ and ...
    """

    def __init__(self, root: str | os.PathLike[str], *, otherwise: LabelCoding | None = None) -> None:
        root = Path(root)
        files, left_out = pairs_beside(root, ENDINGS, FOLDER)
        if not files:
            raise InputError(
                f"{root}: holds no GeoJSON; expected NAME.geojson beside the images, or images/ and geojson/"
            )
        colors: dict[str, Color | None] = {}
        for _, path in files.values():
            try:
                rows = features(path)
            except InputError:
                continue  # told of when the image is read
            for row in rows:
                name, color = _class(row)
                if _rings(row) is not None and name not in (BACKGROUND, None):
                    colors[name] = colors.get(name) or color
        names = sorted(colors) or [UNCLASSIFIED]
        label_set = with_background(str(root), [(None, name, colors.get(name)) for name in names])
        if names == [UNCLASSIFIED]:
            label_set = object_classes(otherwise)
        self._class_of: dict[str | None, int] = {name: place for place, name in enumerate(names, start=1)}
        super().__init__(root, label_set, files, left_out)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        objects, unread = [], Counter[str]()
        path = self.label_path(id)
        for number, row in enumerate(features(path)):
            where = f"{path}: features[{number}]"
            pieces = _rings(row)
            if pieces is None:
                unread[NO_OUTLINE if row.get("geometry") is None else NO_AREA] += 1
                continue
            name, _ = _class(row)
            if name not in self._class_of and name not in (None, BACKGROUND):
                raise InputError(f"{where} has the class {kind(name)}, which the data set lacks; open it again")
            try:
                rings = [_corners(ring) for piece in pieces for ring in piece]
            except (ValueError, TypeError) as error:
                raise InputError(f"{where} has coordinates that are none ({error}); export it again") from None
            unread[OUTSIDE] += reaches_out(rings, shape)
            properties = row.get("properties")
            unread[MEASUREMENTS] += bool(isinstance(properties, dict) and properties.get("measurements"))
            window = fill_rings(rings, shape)
            if name is None or name == BACKGROUND:
                objects.append(ObjectMask(VOID if name is None else 0, *window, is_object=False))
            else:
                objects.append(ObjectMask(self._class_of[name], *window))
        return objects, unread


def is_geojson(root: Path) -> bool:
    """Are there GeoJSON files beside images, or in `geojson/`?

    >>> is_geojson(Path("/no/such/folder"))
    False
    """
    return has_pairs(root, ENDINGS, FOLDER)


def features(path: Path) -> list[dict[str, Any]]:
    """The features of a GeoJSON file: a collection, a list, or a single one.

    Raises:
        InputError: it can't be read, or holds something else.
    """
    data = read_json(path, "GeoJSON")
    if isinstance(data, dict) and data.get("type") == "Feature":
        data = [data]
    rows = data.get("features") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: holds no features; expected GeoJSON, as QuPath exports objects")
    return rows


def _class(row: dict[str, Any]) -> tuple[str | None, Color | None]:
    """Name and colour of a feature's class; None for QuPath's `Ignore*`."""
    properties = row.get("properties")
    found = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(found, str):
        found = {"name": found}
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str) or not name.strip():
        return UNCLASSIFIED, None
    if name == "Ignore*":
        return None, None
    if name.lower() == BACKGROUND:
        return BACKGROUND, None
    color = found.get("color") if isinstance(found, dict) else None
    fine = isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)
    return name, (color[0], color[1], color[2]) if fine and color else None


def _rings(row: dict[str, Any]) -> list[Any] | None:
    """The pieces of a feature, each a list of rings, unchecked; None where it has no area."""
    geometry = row.get("geometry")
    if not isinstance(geometry, dict):
        return None
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "Polygon":
        return [coordinates]
    if geometry.get("type") == "MultiPolygon":
        return coordinates if isinstance(coordinates, list) else [coordinates]
    return None


def _corners(ring: Any) -> NDArray[np.float64]:
    """Corners x, y of a ring; a third number, a height, is left out."""
    if not isinstance(ring, list) or not all(isinstance(point, list) and len(point) >= 2 for point in ring):
        raise ValueError("expected lists of points [x, y]")
    for point in ring:
        if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in point[:2]):
            raise ValueError("expected lists of points [x, y]")
    return check_corners([point[:2] for point in ring] or np.zeros((0, 2)))

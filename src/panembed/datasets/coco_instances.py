"""COCO instance data: one JSON with polygons or run-length codes of every object, and the photographs.

    root/
      instances_val2017.json       or any name; in root or in root/annotations
      val2017/NAME.jpg             or images/, or in root, or beside the JSON

The format of https://cocodataset.org/#format-data, as CVAT, Roboflow, Label Studio and others write it.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.coco_json import (
    JSON_FOLDERS,
    check_file_name,
    holds,
    image_key,
    inside,
    is_int,
    kind,
    mentions,
    photograph_folders,
    read_json,
    rows_of,
)
from panembed.datasets.object_layers import BACKGROUND, NO_OUTLINE, OUTSIDE, SCORES, LayeredDataset, with_background
from panembed.datasets.splits import SPLIT_FILE
from panembed.errors import InputError, shown
from panembed.io.coco_masks import decode_rle, polygon_mask
from panembed.io.images import read_image
from panembed.io.polygon_fill import reaches_out
from panembed.io.raster import MAX_PIXELS
from panembed.labels.categories import LabelSet
from panembed.labels.object_masks import ObjectMask, Window, union


class CocoInstancesDataset(LayeredDataset):
    """Images with COCO instance truth.

    Masks are those of pycocotools, pixel by pixel: see `panembed.io.coco_masks`. All categories are things, and pixels
    of no object are background. `iscrowd` makes a crowd; crowds lie below objects, and those of one class are one.
    Images without annotations have no objects. Ids are the images' `file_name` without suffix; a name that leads out of
    the folder is an error.

    Args:
        root: the folder.
        json_file: the JSON, relative to `root`; otherwise the only one in `root` or `root/annotations` with images,
            annotations and categories, of several the one called `instances*.json`.
        images: the folder of the photographs, relative to `root`.

    Raises:
        InputError: a file is missing, the JSON isn't COCO, has boxes only, or a name in it leads out of its folder.

    >>> CocoInstancesDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: no such folder; expected one with a COCO JSON
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        json_file: str | os.PathLike[str] | None = None,
        images: str | os.PathLike[str] | None = None,
    ) -> None:
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; expected one with a COCO JSON")
        self.json_path = root / json_file if json_file is not None else _only_json(root)
        data = read_json(self.json_path, "a COCO JSON")
        if not isinstance(data, dict):
            raise InputError(f"{self.json_path}: holds {kind(data)}; expected images, annotations and categories")
        rows = rows_of(self.json_path, data, "annotations")
        used = {row["category_id"] for row in rows if is_int(row.get("category_id"))}
        label_set, self._class_of = _classes(self.json_path, rows_of(self.json_path, data, "categories"), used)
        self._looked_in = photograph_folders(root, self.json_path, images, "instances_")
        files: dict[str, tuple[Path, Path]] = {}
        self.image_ids: dict[str, int | str] = {}
        self._rows: dict[str, tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]] = {}
        by_key: dict[str, str] = {}
        listed: dict[Path, set[str]] = {}
        for number, row in enumerate(rows_of(self.json_path, data, "images")):
            where = f"images[{number}]"
            key = image_key(self.json_path, where, "id", row)
            check_file_name(self.json_path, where, row)
            name = inside(self.json_path, row["file_name"])
            id = str(name.with_suffix(""))
            if key in by_key or id in files:
                what = f"id {key}" if key in by_key else f"name {id!r}"
                raise InputError(f"{self.json_path}: {where} has the {what} of another; expected every image once")
            _check_size(self.json_path, where, row)
            there = next((f for f in self._looked_in if holds(f / name, listed)), self._looked_in[0])
            by_key[key], files[id] = id, (there / name, self.json_path)
            self.image_ids[id], self._rows[id] = row["id"], (row, [])
        for number, row in enumerate(rows_of(self.json_path, data, "annotations")):
            key = image_key(self.json_path, f"annotations[{number}]", "image_id", row)
            if key not in by_key:
                raise InputError(
                    f"{self.json_path}: annotations[{number}].image_id {key} is not in images; expected an image for "
                    "every annotation"
                )
            self._rows[by_key[key]][1].append((number, row))
        drawn = [row.get("segmentation") for _, rows in self._rows.values() for _, row in rows]
        if drawn and not any(drawn):
            raise InputError(
                f"{self.json_path}: has boxes and no outlines; expected segmentation with polygons or run-length "
                "codes; export it for segmentation"
            )
        super().__init__(root, label_set, files)

    def read_image(self, id: str) -> NDArray[np.uint8]:
        """The photograph, HxWx3 uint8 RGB; InputError where it is missing or can't be read."""
        path = self.image_path(id)
        if not os.path.exists(path):
            places = ", ".join(str(folder) for folder in self._looked_in)
            raise InputError(f"{path.name}: the photograph was not found; looked in {places}; add it to one of them")
        return read_image(path, channel=self.channel)

    def _shape(self, id: str) -> tuple[int, int]:
        self._paths(id)
        row = self._rows[id][0]
        return (row["height"], row["width"]) if "height" in row and "width" in row else super()._shape(id)

    def _objects(self, id: str, shape: tuple[int, int]) -> tuple[list[ObjectMask], Counter[str]]:
        objects, unread = [], Counter[str]()
        for number, row in self._rows[id][1]:
            where = f"{self.json_path}: annotations[{number}] of {self._rows[id][0]['file_name']}"
            category = row.get("category_id")
            if not is_int(category) or category not in self._class_of:
                raise InputError(f"{where} has category_id {kind(category)}; expected an id from categories")
            crowd = row.get("iscrowd", 0)
            if crowd not in (0, 1):
                raise InputError(f"{where} has iscrowd {kind(crowd)}; expected 0 or 1")
            unread[SCORES] += "score" in row
            drawn = row.get("segmentation")
            if not drawn:
                unread[NO_OUTLINE] += 1
                continue
            try:
                window, outside = _mask(drawn, shape)
            except ValueError as error:
                raise InputError(f"{where}: its segmentation {error}") from None
            unread[OUTSIDE] += outside
            index = self._class_of[category]
            is_thing = self.label_set[index].is_thing
            objects.append(ObjectMask(index, *window, is_crowd=is_thing and bool(crowd), is_object=is_thing))
        return objects, unread


def is_coco_instances(root: Path) -> bool:
    """Does the folder, or `annotations` in it, hold a JSON with COCO's keys and no `segments_info`?

    >>> is_coco_instances(Path("/no/such/folder"))
    False
    """
    return bool(_json_files(root))


def is_instances_json(path: Path) -> bool:
    """Does a JSON speak of images, categories and annotations of objects, and not of panoptic segments?

    >>> is_instances_json(Path("/no/such/file.json"))
    False
    """
    keys = {"images", "annotations", "categories"}
    return mentions(path, [*keys, "segments_info"]) == keys


def _json_files(root: Path) -> list[Path]:
    found = [path for folder in JSON_FOLDERS for path in sorted((root / folder).glob("*.json"))]
    return [path for path in found if not path.name.startswith(".") and path.is_file() and is_instances_json(path)]


def _only_json(root: Path) -> Path:
    found = _json_files(root)
    called = [path for path in found if path.name.startswith("instances")]
    exact = [path for path in found if path.name == "instances.json"]
    for some in (found, called, exact):
        if len(some) == 1:
            return some[0]
    every = [path for name in JSON_FOLDERS for path in (root / name).glob("*.json") if path.name != SPLIT_FILE]
    if not found and len(every) == 1:
        return every[0]  # whoever says that it is COCO is told what is wrong with it
    if not found:
        raise InputError(
            f"{root}: holds no COCO JSON; expected a *.json with images, annotations and categories, here or in "
            "annotations/"
        )
    names = ", ".join(path.name for path in found)
    raise InputError(f"{root}: several JSON files fit ({names}); give the file that is meant instead of the folder")


def _classes(path: Path, rows: list[dict[str, Any]], used: Collection[Any]) -> tuple[LabelSet, dict[int, int]]:
    """The classes, and the class index of every category id.

    A category called background is that. Of two of one name, as Roboflow writes a project and its class, the one that
    no annotation has is left out.
    """
    names = Counter(str(row.get("name")) for row in rows)
    rows = [row for row in rows if names[str(row.get("name"))] == 1 or row.get("id") in used]
    things, ids = [], []
    background = []
    for number, row in enumerate(rows):
        where = f"{path}: categories[{number}]"
        id, name, color = row.get("id"), row.get("name"), row.get("color")
        if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id <= 65_534:
            raise InputError(f"{where}.id is {kind(id)}; expected a whole number 0..65534")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}.name is {kind(name)}; expected a text")
        if name.strip().lower() == BACKGROUND:
            background.append(id)
            continue
        rgb = isinstance(color, list) and len(color) == 3 and all(is_int(c) and 0 <= c <= 255 for c in color)
        things.append((id, name, (color[0], color[1], color[2]) if rgb and color else None))
        ids.append(id)
    if not things:
        raise InputError(f"{path}: categories names no objects; expected at least one")
    label_set = with_background(f"{path}: categories", things)
    return label_set, {id: place for place, id in enumerate(ids, start=1)} | dict.fromkeys(background, 0)


def _check_size(path: Path, where: str, row: dict[str, Any]) -> None:
    for side in ("height", "width"):
        if side in row and not (is_int(row[side]) and row[side] > 0):
            raise InputError(f"{path}: {where}.{side} is {kind(row[side])}; expected a whole number of pixels")
    if row.get("height", 1) * row.get("width", 1) > MAX_PIXELS:
        raise InputError(
            f"{path}: {where} is {row.get('width')}x{row.get('height')} pixels; expected at most {MAX_PIXELS:,} in all"
        )


def _mask(drawn: Any, shape: tuple[int, int]) -> tuple[Window, bool]:
    """Pixels of a segmentation, and whether it reaches out of the image; ValueError says what is wrong."""
    if isinstance(drawn, dict):
        size, counts = drawn.get("size"), drawn.get("counts")
        if size != list(shape):
            raise ValueError(f"is a run-length code of size {shown(size)}; expected {list(shape)}, as the image")
        if not isinstance(counts, str | list):
            raise ValueError(f"has counts {kind(counts)}; expected a run-length code")
        return decode_rle(counts, shape), False
    if not isinstance(drawn, list):
        raise ValueError(f"is {kind(drawn)}; expected a list of polygons, or a run-length code")
    windows, outside = [], False
    for polygon in drawn:
        if not isinstance(polygon, list) or not all(_is_number(value) for value in polygon):
            raise ValueError(f"holds {shown(polygon)}; expected lists of numbers x, y, x, y, ...")
        if len(polygon) < 6:
            raise ValueError(f"has a polygon of {len(polygon)} numbers; expected three corners or more")
        windows.append(polygon_mask(polygon, shape))
        corners = np.reshape(np.asarray(polygon, dtype=np.float64), (-1, 2))
        outside |= reaches_out([corners], shape)
    return union(windows), outside


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

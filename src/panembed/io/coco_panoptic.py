"""COCO panoptic files: a PNG of segment ids for every image, and one JSON that says what the segments are.

The format of https://cocodataset.org/#format-data, as panopticapi and hotcoco read it. A segment id is
R + 256 * G + 256**2 * B, and 0 is void. All numbers in the JSON are plain integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from panembed.errors import InputError, OutputError
from panembed.io.atomic import atomic_path, write_json
from panembed.io.images import PNG_EFFORT
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.labels.runs import Runs, color_run_starts, compact

MAX_SEGMENT_ID = 256**3 - 1


def encode_ids(segment_ids: ArrayLike) -> NDArray[np.uint8]:
    """Write HxW segment ids, 0..2**24 - 1, as an HxWx3 RGB image; ValueError for ids out of range.

    >>> encode_ids([[0, 1, 65536 + 2 * 256 + 3]]).tolist()
    [[[0, 0, 0], [1, 0, 0], [3, 2, 1]]]
    """
    ids = np.asarray(segment_ids)
    if ids.size and (ids.min() < 0 or ids.max() > MAX_SEGMENT_ID):
        raise ValueError(f"expected segment ids 0..{MAX_SEGMENT_ID}, found {ids.min()}..{ids.max()}")
    return np.stack([ids & 255, (ids >> 8) & 255, ids >> 16], axis=-1).astype(np.uint8)


def decode_ids(rgb: ArrayLike) -> NDArray[np.int32]:
    """Read HxWx3 uint8 as HxW int32 segment ids: the inverse of `encode_ids`; ValueError for another shape or type.

    >>> decode_ids(np.array([[[3, 2, 1]]], dtype=np.uint8)).tolist()
    [[66051]]
    """
    # Cast first: 256 * G doesn't fit uint8.
    wide = _check_rgb(np.asarray(rgb)).astype(np.int32)
    return wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16


def _check_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f"expected an HxWx3 uint8 RGB image, found {array.dtype} {array.shape}")
    return array


def categories(label_set: LabelSet) -> list[dict[str, Any]]:
    """Write the classes as the JSON's `categories`.

    >>> categories(LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1, "color": [0, 128, 0]}]))
    [{'id': 1, 'name': 'leaf', 'supercategory': 'leaf', 'isthing': 1, 'color': [0, 128, 0]}]
    """
    return [
        {"id": c.id, "name": c.name, "supercategory": c.name, "isthing": int(c.is_thing), "color": list(c.color)}
        for c in label_set
    ]


def annotation(
    panoptic: PanopticMap, label_set: LabelSet, image_id: int, file_name: str
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Write one map as its RGB image and its entry in the JSON's `annotations`.

    Segment ids are those of `PanopticMap.segments`, 1..S in order of class and instance.

    Args:
        panoptic: HxW map.
        label_set: its classes.
        image_id: number of the image in the JSON.
        file_name: name of the PNG that the RGB image will be written to.

    Returns:
        HxWx3 uint8, and `image_id`, `file_name` and `segments_info` with `id`, `category_id`, `area` (pixels), `bbox`
        (x, y, width, height in pixels) and `iscrowd` (0 or 1).

    >>> leaves = LabelSet.from_list([{"id": 5, "name": "leaf", "isthing": 1}])
    >>> rgb, entry = annotation(PanopticMap([[0, 0, 255]], [[9, 9, 0]]), leaves, 1, "plant.png")
    >>> rgb[..., 0].tolist(), entry["segments_info"]
    ([[1, 1, 0]], [{'id': 1, 'category_id': 5, 'area': 2, 'bbox': [0, 0, 2, 1], 'iscrowd': 0}])
    """
    segment_map, segments = panoptic.segments(label_set)
    segments_info = [
        {
            "id": s.id,
            "category_id": label_set[s.category].id,
            "area": s.area,
            "bbox": list(s.bbox),
            "iscrowd": int(s.is_crowd),
        }
        for s in segments
    ]
    return encode_ids(segment_map), {"image_id": image_id, "file_name": file_name, "segments_info": segments_info}


def panoptic_map(
    rgb: ArrayLike, segments_info: Iterable[Mapping[str, Any]], label_set: LabelSet, *, source: str = "segmentation"
) -> PanopticMap:
    """Read one RGB image of segment ids and its `segments_info`: the inverse of `annotation`.

    Objects get instance ids 1, 2, ... within their class in the order of `segments_info`. The first crowd of a class
    gets instance 0, further ones count on. A stuff class should be one segment; where a file has several, they are
    numbered from 0 and the class is in `split_stuff`, since panopticapi, too, scores each by itself. Missing `iscrowd`
    means 0; areas and boxes in the JSON are not used.

    Args:
        rgb: HxWx3 uint8.
        segments_info: `id`, `category_id` and perhaps `iscrowd` of every segment.
        label_set: the classes whose ids occur.
        source: name of the file, for error messages.

    Raises:
        InputError: not an RGB image, an id in the image without an entry, an entry without pixels, an entry with id 0,
            an id twice, or an unknown category.

    >>> leaves = LabelSet.from_list([{"id": 5, "name": "leaf", "isthing": 1}])
    >>> panoptic_map(encode_ids([[0, 300, 300]]), [{"id": 300, "category_id": 5}], leaves).instance.tolist()
    [[0, 1, 1]]
    """
    image = np.ascontiguousarray(rgb)
    try:
        starts = color_run_starts(_check_rgb(image))
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None
    height, width = image.shape[:2]
    present, place = compact(decode_ids(image.reshape(1, -1, 3)[:, starts])[0].astype(np.int64))
    place_of_id = {segment_id: number for number, segment_id in enumerate(present.tolist())}
    unexplained = place_of_id.keys() - {0}
    classes = np.full(len(present), IGNORE, dtype=np.uint8)
    instances = np.zeros(len(present), dtype=np.int32)
    crowd: set[tuple[int, int]] = set()
    num_objects, num_stuff = [0] * len(label_set), [0] * len(label_set)
    seen: set[int] = set()
    for entry in segments_info:
        try:
            segment_id, category_id, is_crowd = int(entry["id"]), int(entry["category_id"]), bool(entry.get("iscrowd"))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{source}: expected a segment with id and category_id, found {entry!r}") from None
        if segment_id in seen:
            raise InputError(f"{source}: segment id {segment_id} occurs twice in segments_info; each must be its own")
        if segment_id == 0:
            raise InputError(f"{source}: segments_info has a segment with id 0, which means void; use ids from 1")
        if segment_id not in unexplained:
            raise InputError(
                f"{source}: segment id {segment_id} is in segments_info but has no pixels; remove its entry"
            )
        try:
            index = label_set.index_of(category_id)
        except KeyError:
            known = ", ".join(f"{c.id} {c.name}" for c in label_set)
            raise InputError(
                f"{source}: segment {segment_id} has unknown category_id {category_id}; the label set has {known}"
            ) from None
        number = 0
        if not label_set[index].is_thing:
            number = num_stuff[index]
            num_stuff[index] += 1
        elif not is_crowd or (index, 0) in crowd:
            num_objects[index] += 1
            number = num_objects[index]
        seen.add(segment_id)
        unexplained.remove(segment_id)
        if is_crowd:
            crowd.add((index, number))
        classes[place_of_id[segment_id]], instances[place_of_id[segment_id]] = index, number
    if unexplained:
        raise InputError(
            f"{source}: segment id {min(unexplained)} is in the image but not in segments_info; add its entry or set "
            "its pixels to 0 (void)"
        )
    runs = Runs(starts, classes[place], instances[place], height * width)
    split_stuff = [index for index, number in enumerate(num_stuff) if number > 1]
    return PanopticMap.from_runs(runs, (height, width), crowd, split_stuff)


class CocoPanopticWriter:
    """Write maps to `folder/panoptic/NAME.png` one at a time, and `folder/panoptic.json` at the end.

    Use it in a `with` block. If the block raises, no JSON is written. Every file is written whole or not at all.

    Args:
        folder: created if it isn't there; a `panoptic.json` in it is replaced.
        label_set: the classes of all maps.
        ids_from_names: where all files are called by numbers, as COCO's are (000000142238.jpg), these are the images'
            ids in the JSON, which scoring programs join by.

    >>> import json, tempfile
    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with CocoPanopticWriter(folder, leaves) as writer:
    ...         path = writer.add("plant1.jpg", PanopticMap([[0]], [[1]]))
    ...     content = json.loads((Path(folder) / "panoptic.json").read_text())
    >>> path.name, content["images"], content["annotations"][0]["file_name"]
    ('plant1.png', [{'id': 1, 'file_name': 'plant1.jpg', 'width': 1, 'height': 1}], 'plant1.png')
    """

    def __init__(self, folder: str | os.PathLike[str], label_set: LabelSet, *, ids_from_names: bool = False) -> None:
        self.folder = Path(folder)
        self.label_set = label_set
        self.ids_from_names = ids_from_names
        self._images: dict[int, dict[str, Any]] = {}
        self._annotations: dict[str, dict[str, Any]] = {}

    def add(self, file_name: str, panoptic: PanopticMap, image_id: int | None = None) -> Path:
        """Write the PNG of one image and keep its JSON entry.

        Args:
            file_name: the image's own name, perhaps with folders in front, which are kept; the PNG differs in suffix.
            panoptic: its HxW map.
            image_id: its number where a JSON of the truth has one already; otherwise images count from 1.

        Returns:
            Path of the PNG.

        Raises:
            OutputError: two images have the same id or would give the same PNG, the name leads out of the folder, or
                the file can't be written.
        """
        name = PurePosixPath(file_name.replace(os.sep, "/")).with_suffix(".png")
        image_id = len(self._images) + 1 if image_id is None else int(image_id)
        if name.is_absolute() or ".." in name.parts:
            raise OutputError(f"{file_name}: expected a name inside the image folder, without '..'")
        if str(name) in self._annotations:
            raise OutputError(f"{file_name}: two images would be written to panoptic/{name}; rename one of them")
        if image_id in self._images:
            raise OutputError(f"{file_name}: image id {image_id} is taken by {self._images[image_id]['file_name']}")
        rgb, entry = annotation(panoptic, self.label_set, image_id, str(name))
        path = self.folder / "panoptic" / name
        _make_folder(path.parent)
        with atomic_path(path) as temporary:
            Image.fromarray(rgb).save(temporary, format="PNG", **PNG_EFFORT)
        height, width = panoptic.shape
        self._images[image_id] = {"id": image_id, "file_name": file_name, "width": width, "height": height}
        self._annotations[str(name)] = entry
        return path

    def close(self) -> Path:
        """Write `panoptic.json` and return its path; OutputError if it can't be written."""
        if self.ids_from_names:
            self._number_by_names()
        content = {
            "images": list(self._images.values()),
            "annotations": list(self._annotations.values()),
            "categories": categories(self.label_set),
        }
        path = self.folder / "panoptic.json"
        _make_folder(path.parent)
        write_json(path, content, indent=None)
        return path

    def _number_by_names(self) -> None:
        numbers = ids_from_names([image["file_name"] for image in self._images.values()])
        ids = dict(zip(self._images, numbers))
        for image in self._images.values():
            image["id"] = ids[image["id"]]
        for entry in self._annotations.values():
            entry["image_id"] = ids[entry["image_id"]]
        self._images = {image["id"]: image for image in self._images.values()}

    def __enter__(self) -> CocoPanopticWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


def ids_from_names(file_names: Sequence[str]) -> list[int]:
    """Ids of images: the numbers that all are called by, as COCO's are, else 1, 2, ...

    >>> ids_from_names(["000007.jpg", "3.png"]), ids_from_names(["a.jpg", "3.png"])
    ([7, 3], [1, 2])
    """
    names = [PurePosixPath(name).stem for name in file_names]
    ids = [int(name) for name in names if name.isascii() and name.isdigit()]
    return ids if len(set(ids)) == len(names) else list(range(1, len(names) + 1))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't make this folder ({error.strerror}); choose another place") from error

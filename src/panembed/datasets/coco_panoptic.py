"""COCO panoptic data: one JSON, a PNG of segment ids for every image, and the photographs.

    root/
      panoptic_val2017.json        or panoptic.json; in root or in root/annotations
      panoptic_val2017/NAME.png    beside the JSON, called like it, or panoptic/
      val2017/NAME.jpg             or images/, or in root; not needed for scoring

The format of https://cocodataset.org/#format-data, and panopticapi's 2-channel PNGs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.coco_json import (
    JSON_FOLDERS,
    categories_of,
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
from panembed.datasets.sample import FileDataset
from panembed.errors import InputError, SettingsError
from panembed.io.coco_panoptic import panoptic_map
from panembed.io.images import read_image, read_raster
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap

ENCODINGS = ("ids", "two-channel")

_CROWD_CHANNEL = 255


@dataclass(frozen=True, slots=True)
class PanopticJson:
    """What a COCO panoptic JSON says, checked.

    Attributes:
        label_set: its categories.
        images: entry of every image, by id as text.
        annotations: entry of every annotation, by image id as text.
    """

    label_set: LabelSet
    images: dict[str, dict[str, Any]]
    annotations: dict[str, dict[str, Any]]


class CocoPanopticDataset(FileDataset):
    """Images with COCO panoptic truth.

    Images and annotations are joined by image id, never by name (Cityscapes' JSON names images that don't exist); ids
    may be whole numbers or text. Ids of this data set are the images' `file_name` without suffix. Names in the JSON
    must stay inside their folders: one that is absolute or holds `..` is an error, and no such file is looked at.
    (Symbolic links in the folders are followed: whoever has the disk has put them there, not the JSON.)

    Photographs are looked for in `root`, `root/images`, `root/input_images`, in the folder that is called like the JSON
    without `panoptic_` (`val2017`), and beside the JSON. `read_truth`, all that scoring needs, works without them.

    Images without an annotation are left out, and their ids are in `left_out`.

    Args:
        root: the folder.
        json_file: the JSON, relative to `root`. Otherwise `panoptic.json`, or the only JSON in `root` or
            `root/annotations` with images, annotations and categories.
        segmentations: the folder of the PNGs, relative to `root`. Otherwise the one that is called like the JSON, or
            `panoptic`, beside the JSON.
        images: the folder of the photographs, relative to `root`.
        encoding: `ids`, R + 256 G + 65536 B is the segment; or `two-channel`, R is the category id and G the object,
            as in panopticapi's `2channels2panoptic_coco_format`: category 0 is void, G counts from 0 and means nothing
            on stuff, and 255 is a crowd (which panopticapi's converter doesn't know, but its sample files do). The JSON
            then needs no annotations: PNGs are called like the images.

    Attributes:
        image_ids: image id of every id, as the JSON has it: a whole number or text.
        left_out: ids of images without annotation.

    Raises:
        InputError: a file is missing, the JSON isn't COCO panoptic, or a name in it leads out of its folder.
        SettingsError: `encoding` is unknown.

    >>> CocoPanopticDataset("nowhere")
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere: no such folder; expected one with a COCO panoptic JSON
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        json_file: str | os.PathLike[str] | None = None,
        segmentations: str | os.PathLike[str] | None = None,
        images: str | os.PathLike[str] | None = None,
        encoding: str = "ids",
    ) -> None:
        if encoding not in ENCODINGS:
            raise SettingsError(f"encoding is {encoding!r}; expected {' or '.join(ENCODINGS)}")
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; expected one with a COCO panoptic JSON")
        self.encoding = encoding
        two_channel = encoding == "two-channel"
        if json_file is not None:
            self.json_path = root / json_file
            content = read_panoptic_json(self.json_path, annotated=not two_channel)
        else:
            self.json_path, content = _only_json(root, annotated=not two_channel)
        pngs = _segmentation_folder(root, self.json_path, segmentations)
        photographs = photograph_folders(root, self.json_path, images, "panoptic_", pngs)
        files: dict[str, tuple[Path, Path]] = {}
        left_out: list[str] = []
        self.image_ids: dict[str, int | str] = {}
        self._entries: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        listed: dict[Path, set[str]] = {}
        for key, image in content.images.items():
            name = inside(self.json_path, image["file_name"])
            id = str(name.with_suffix(""))
            annotation = content.annotations.get(key)
            if annotation is None and not two_channel:
                left_out.append(id)
                continue
            if id in files:
                raise InputError(
                    f"{self.json_path}: two images are called {id!r}; expected a name for each; rename one"
                )
            if annotation is not None and not two_channel:
                png, segments = inside(self.json_path, annotation["file_name"]), annotation["segments_info"]
            else:
                png, segments = name.with_suffix(".png"), []
            there = next((folder for folder in photographs if holds(folder / name, listed)), photographs[0])
            files[id] = (there / name, pngs / png)
            self.image_ids[id] = image["id"]
            self._entries[id] = (image, segments)
        if not files:
            raise InputError(f"{self.json_path}: lists no images with annotations; expected at least one")
        self.left_out = tuple(sorted(left_out))
        self._looked_in = photographs
        super().__init__(root, content.label_set, files)

    def read_image(self, id: str) -> NDArray[np.uint8]:
        """The photograph, HxWx3 uint8 RGB; InputError where it is missing or can't be read."""
        path = self.image_path(id)
        if not os.path.exists(path):
            places = ", ".join(str(folder) for folder in self._looked_in)
            raise InputError(f"{path.name}: the photograph was not found; looked in {places}; add it to one of them")
        return read_image(path, channel=self.channel)

    def read_truth(self, id: str) -> PanopticMap:
        """The PNG and its `segments_info` as a panoptic map, see `panembed.io.coco_panoptic.panoptic_map`.

        Raises:
            InputError: the PNG can't be read, isn't RGB of 8 bits, is not of the size in the JSON, or doesn't agree
                with its segments.
        """
        path = self.label_path(id)
        raster = read_raster(path)
        samples = raster.samples
        if samples.dtype != np.uint8 or samples.ndim != 3 or samples.shape[2] not in (3, 4) or raster.lossy:
            channels = 1 if samples.ndim == 2 else samples.shape[2]
            kind = f"{raster.format} of {channels} x {samples.dtype}"
            raise InputError(f"{path}: is a {kind}; expected a PNG, RGB of 8 bits; export it again")
        rgb = samples[..., :3]
        image, segments = self._entries[id]
        height, width = rgb.shape[:2]
        if (image.get("height", height), image.get("width", width)) != (height, width):
            raise InputError(
                f"{path}: is {width}x{height} pixels, but {self.json_path.name} says {image.get('width')}x"
                f"{image.get('height')}; expected the same size"
            )
        if self.encoding == "two-channel":
            return _two_channel_map(rgb, self.label_set, str(path))
        return panoptic_map(rgb, segments, self.label_set, source=str(path))


def is_coco_panoptic(root: Path) -> bool:
    """Does the folder, or `annotations` in it, hold a JSON with `segments_info`? The JSON is not parsed.

    >>> is_coco_panoptic(Path("/no/such/folder"))
    False
    """
    return bool(_json_files(root))


def _json_files(root: Path) -> list[Path]:
    found = [path for folder in JSON_FOLDERS for path in sorted((root / folder).glob("*.json"))]
    return [
        path for path in found if not path.name.startswith(".") and path.is_file() and mentions(path, ["segments_info"])
    ]


def _only_json(root: Path, *, annotated: bool) -> tuple[Path, PanopticJson]:
    """The JSON that is meant, where none is named."""
    candidates = _json_files(root)
    for name in JSON_FOLDERS:
        if root / name / "panoptic.json" in candidates:
            candidates = [root / name / "panoptic.json"]
    if not candidates:
        raise InputError(
            f"{root}: holds no COCO panoptic JSON; expected a *.json with images, annotations (with segments_info) and "
            "categories, here or in annotations/"
        )
    if len(candidates) == 1:
        return candidates[0], read_panoptic_json(candidates[0], annotated=annotated)
    fitting: list[tuple[Path, PanopticJson]] = []
    for path in candidates:
        try:
            fitting.append((path, read_panoptic_json(path, annotated=annotated)))
        except InputError:
            # Results lie beside truth at times; they lack images and categories.
            continue
    if len(fitting) != 1:
        names = ", ".join(path.name for path in candidates)
        how_many = "several" if fitting else "no"
        raise InputError(
            f"{root}: {how_many} JSON files fit ({names}); expected one with images, annotations and categories; call "
            "it panoptic.json, or give the file that is meant instead of the folder"
        )
    return fitting[0]


def _segmentation_folder(root: Path, json_path: Path, named: str | os.PathLike[str] | None) -> Path:
    tried = [root / named] if named is not None else [json_path.with_suffix(""), json_path.parent / "panoptic"]
    for folder in tried:
        if folder.is_dir():
            return folder
    places = " or ".join(f"{folder}/" for folder in dict.fromkeys(tried))
    raise InputError(f"{json_path}: its folder of PNGs was not found; expected {places}; move it there")


def read_panoptic_json(path: str | os.PathLike[str], *, annotated: bool = True) -> PanopticJson:
    """Read a COCO panoptic JSON, and check every entry.

    Args:
        path: the file.
        annotated: it must have `annotations`; otherwise they are left alone.

    Raises:
        InputError: it is missing, isn't JSON, lacks a key, or a value is of a wrong type, out of range or there twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.json"
    ...     _ = path.write_text('{"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [], "categories": '
    ...                         '[{"id": 1, "name": "leaf", "isthing": 1}]}')
    ...     content = read_panoptic_json(path)
    >>> content.label_set, list(content.images)
    (LabelSet(1=leaf*; * thing), ['7'])
    """
    path = Path(path)
    data = read_json(path, "a COCO panoptic JSON")
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds {kind(data)}; expected the keys images, annotations and categories")
    parts = ("images", "annotations", "categories") if annotated else ("images", "categories")
    rows = {part: rows_of(path, data, part) for part in parts}
    label_set = categories_of(path, rows["categories"])
    images: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows["images"]):
        where = f"images[{number}]"
        key = image_key(path, where, "id", row)
        check_file_name(path, where, row)
        for side in ("height", "width"):
            if side in row and not (is_int(row[side]) and row[side] > 0):
                raise InputError(f"{path}: {where}.{side} is {kind(row[side])}; expected a whole number of pixels")
        if key in images:
            raise InputError(f"{path}: {where}.id {key} occurs twice; expected every image once")
        images[key] = row
    annotations: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows.get("annotations", [])):
        where = f"annotations[{number}]"
        key = image_key(path, where, "image_id", row)
        check_file_name(path, where, row)
        _check_segments(path, where, row)
        if key not in images:
            raise InputError(f"{path}: {where}.image_id {key} is not in images; expected an image for every annotation")
        if key in annotations:
            raise InputError(f"{path}: {where}.image_id {key} has two annotations; expected one for every image")
        annotations[key] = row
    return PanopticJson(label_set, images, annotations)


def _check_segments(path: Path, where: str, row: Mapping[str, Any]) -> None:
    segments = row.get("segments_info")
    if not isinstance(segments, list):
        raise InputError(f"{path}: {where}.segments_info is {kind(segments)}; expected a list")
    for segment in segments:
        fine = isinstance(segment, dict) and is_int(segment.get("id")) and is_int(segment.get("category_id"))
        if not fine or segment.get("iscrowd", 0) not in (0, 1):
            raise InputError(
                f"{path}: {where} has the segment {str(segment)[:80]}; expected whole numbers id and category_id, and "
                "iscrowd 0 or 1"
            )


def _two_channel_map(rgb: NDArray[np.uint8], label_set: LabelSet, source: str) -> PanopticMap:
    """R the category id, 0 void; G the object, from 0, or 255 for a crowd."""
    category, number = rgb[..., 0], rgb[..., 1].astype(np.int32)
    classes = np.full(256, IGNORE, dtype=np.uint8)
    is_thing = np.zeros(256, dtype=bool)
    known = {0}
    for index, entry in enumerate(label_set):
        if 0 < entry.id < 256:
            classes[entry.id], is_thing[entry.id] = index, entry.is_thing
            known.add(entry.id)
    strange = [value for value in np.unique(category).tolist() if value not in known]
    if strange:
        raise InputError(
            f"{source}: holds the category id {strange[0]} in its first channel, which the JSON lacks; expected an id "
            "from categories, or 0 for void"
        )
    thing = is_thing[category]
    is_crowd = thing & (number == _CROWD_CHANNEL)
    instance = np.where(thing & ~is_crowd, number + 1, 0)
    semantic = classes[category]
    return PanopticMap(semantic, instance, [(index, 0) for index in np.unique(semantic[is_crowd]).tolist()])

"""COCO panoptic data: one JSON, a PNG of segment ids for every image, and the photographs.

    root/
      panoptic_val2017.json        or panoptic.json; in root or in root/annotations
      panoptic_val2017/NAME.png    beside the JSON, called like it, or panoptic/
      val2017/NAME.jpg             or images/, or in root; not needed for scoring

The format of https://cocodataset.org/#format-data, and panopticapi's 2-channel PNGs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.datasets.sample import FileDataset
from panembed.errors import InputError, SettingsError
from panembed.io.coco_panoptic import panoptic_map
from panembed.io.images import read_image, read_raster
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap

ENCODINGS = ("ids", "two-channel")

_JSON_FOLDERS = ("", "annotations")
_IMAGE_FOLDERS = ("", "images", "input_images")
_SNIFF_BYTES = 2**28
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
        photographs = _image_folders(root, self.json_path, images, pngs)
        files: dict[str, tuple[Path, Path]] = {}
        left_out: list[str] = []
        self.image_ids: dict[str, int | str] = {}
        self._entries: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        listed: dict[Path, set[str]] = {}
        for key, image in content.images.items():
            name = _inside(self.json_path, image["file_name"])
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
                png, segments = _inside(self.json_path, annotation["file_name"]), annotation["segments_info"]
            else:
                png, segments = name.with_suffix(".png"), []
            there = next((folder for folder in photographs if _holds(folder / name, listed)), photographs[0])
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
        return read_image(path)

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
    found = [path for folder in _JSON_FOLDERS for path in sorted((root / folder).glob("*.json"))]
    return [path for path in found if not path.name.startswith(".") and path.is_file() and _speaks_of_segments(path)]


def _speaks_of_segments(path: Path) -> bool:
    needle = b'"segments_info"'
    try:
        with open(path, "rb") as file:
            rest, read = b"", 0
            while read < _SNIFF_BYTES and (block := file.read(2**20)):
                if needle in rest + block:
                    return True
                rest, read = block[-len(needle) :], read + len(block)
    except OSError:
        pass
    return False


def _only_json(root: Path, *, annotated: bool) -> tuple[Path, PanopticJson]:
    """The JSON that is meant, where none is named."""
    candidates = _json_files(root)
    for name in _JSON_FOLDERS:
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


def _image_folders(root: Path, json_path: Path, named: str | os.PathLike[str] | None, pngs: Path) -> list[Path]:
    if named is not None:
        if not (root / named).is_dir():
            raise InputError(f"{root / named}: no such folder; expected the photographs in it")
        return [root / named]
    stem = json_path.stem.removeprefix("panoptic_")
    places = [*(root / name for name in (*_IMAGE_FOLDERS, stem)), json_path.parent]
    # Photographs that are PNGs have the names of their segmentations, which must not be taken for them.
    return [place for place in dict.fromkeys(places) if place != pngs]


def _holds(path: Path, listed: dict[Path, set[str]]) -> bool:
    """Is there such a file? A folder is listed once, since a data set may have 100,000 images."""
    folder = path.parent
    if folder not in listed:
        try:
            listed[folder] = {entry.name for entry in os.scandir(folder)}
        except (OSError, ValueError):
            listed[folder] = set()
    return path.name in listed[folder]


def _inside(source: Path, name: str) -> PurePosixPath:
    """A name from a JSON, if it can only lead into the folder that it is meant for.

    >>> _inside(Path("a.json"), "../secret.png")
    Traceback (most recent call last):
    panembed.errors.InputError: a.json: the file_name '../secret.png' leads out of the data; expected a name inside ...
    """
    path, foreign = PurePosixPath(name), PureWindowsPath(name)
    outside = path.is_absolute() or foreign.drive or foreign.root or ".." in path.parts or ".." in foreign.parts
    if outside or not path.name or any(ord(letter) < 32 for letter in name):
        raise InputError(
            f"{source}: the file_name {name[:80]!r} leads out of the data; expected a name inside the folder, without "
            "'..'; mend the JSON"
        )
    return path


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
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a COCO panoptic JSON; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is not valid JSON ({cause}); expected COCO panoptic; export it again") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds {_kind(data)}; expected the keys images, annotations and categories")
    parts = ("images", "annotations", "categories") if annotated else ("images", "categories")
    rows = {part: _rows(path, data, part) for part in parts}
    label_set = _label_set(path, rows["categories"])
    images: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows["images"]):
        where = f"images[{number}]"
        key = _image_key(path, where, "id", row)
        _text(path, where, row)
        for side in ("height", "width"):
            if side in row and not (_is_int(row[side]) and row[side] > 0):
                raise InputError(f"{path}: {where}.{side} is {_kind(row[side])}; expected a whole number of pixels")
        if key in images:
            raise InputError(f"{path}: {where}.id {key} occurs twice; expected every image once")
        images[key] = row
    annotations: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows.get("annotations", [])):
        where = f"annotations[{number}]"
        key = _image_key(path, where, "image_id", row)
        _text(path, where, row)
        _check_segments(path, where, row)
        if key not in images:
            raise InputError(f"{path}: {where}.image_id {key} is not in images; expected an image for every annotation")
        if key in annotations:
            raise InputError(f"{path}: {where}.image_id {key} has two annotations; expected one for every image")
        annotations[key] = row
    return PanopticJson(label_set, images, annotations)


def _rows(path: Path, data: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    if part not in data:
        raise InputError(f"{path}: has no {part}; expected the keys images, annotations and categories")
    rows = data[part]
    if not isinstance(rows, list):
        raise InputError(f"{path}: {part} is {_kind(rows)}; expected a list")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{path}: {part}[{number}] is {_kind(row)}; expected an object with keys")
    return rows


def _label_set(path: Path, rows: list[dict[str, Any]]) -> LabelSet:
    for number, row in enumerate(rows):
        where = f"categories[{number}]"
        for key in ("id", "name", "isthing"):
            if key not in row:
                raise InputError(f"{path}: {where} has no {key}; expected id, name, isthing and perhaps color")
        if not _is_int(row["id"]):
            raise InputError(f"{path}: {where}.id is {_kind(row['id'])}; expected a whole number 0..65534")
        if not isinstance(row["name"], str) or not row["name"]:
            raise InputError(f"{path}: {where}.name is {_kind(row['name'])}; expected a text")
        if row["isthing"] not in (0, 1):
            raise InputError(f"{path}: {where}.isthing is {_kind(row['isthing'])}; expected 0 or 1")
        color = row.get("color")
        if color is not None and not (
            isinstance(color, list) and len(color) == 3 and all(_is_int(c) and 0 <= c <= 255 for c in color)
        ):
            raise InputError(f"{path}: {where}.color is {_kind(color)}; expected [r, g, b], 0..255 each")
    try:
        return LabelSet.from_list(rows)
    except SettingsError as error:
        raise InputError(f"{path}: {error}") from error


def _image_key(path: Path, where: str, key: str, row: Mapping[str, Any]) -> str:
    value = row.get(key)
    if not (_is_int(value) or (isinstance(value, str) and value)):
        raise InputError(f"{path}: {where}.{key} is {_kind(value)}; expected a whole number or a text")
    return str(value)


def _text(path: Path, where: str, row: Mapping[str, Any]) -> None:
    if not isinstance(row.get("file_name"), str):
        raise InputError(f"{path}: {where}.file_name is {_kind(row.get('file_name'))}; expected a text")


def _check_segments(path: Path, where: str, row: Mapping[str, Any]) -> None:
    segments = row.get("segments_info")
    if not isinstance(segments, list):
        raise InputError(f"{path}: {where}.segments_info is {_kind(segments)}; expected a list")
    for segment in segments:
        fine = isinstance(segment, dict) and _is_int(segment.get("id")) and _is_int(segment.get("category_id"))
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


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return (
        "nothing" if value is None else f"{value!r:.60}" if isinstance(value, (str, int, float)) else str(type(value))
    )

"""Predictions in a COCO panoptic JSON with its PNGs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from panembed.errors import InputError
from panembed.io.coco_panoptic import panoptic_map
from panembed.io.images import read_raster
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap


class CocoPredictions:
    """Predictions in a COCO panoptic JSON with its PNGs.

    The PNGs are looked for in the folder that is called like the JSON, in `panoptic/` beside it, and beside it. Class
    ids must be the truth's; where the JSON lists its categories, their names must be the truth's, too. Several segments
    of one stuff class count one by one, as panopticapi counts them; marks of crowds count for nothing.

    Args:
        path: the JSON.
        label_set: the classes of the truth.

    Raises:
        InputError: it can't be read, is no COCO panoptic JSON, has no PNGs, or has other classes.

    >>> CocoPredictions("nowhere.json", LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}]))
    Traceback (most recent call last):
    panembed.errors.InputError: nowhere.json: can't be read (No such file or directory); check the path
    """

    format = "coco-panoptic"

    def __init__(self, path: str | os.PathLike[str], label_set: LabelSet) -> None:
        self.source = Path(path)
        self._label_set = label_set
        content = read_json(self.source)
        if not is_coco_panoptic(content):
            raise InputError(
                f"{path}: is no COCO panoptic JSON; expected annotations with file_name and segments_info for each "
                "image"
            )
        _check_categories(self.source, content.get("categories"), label_set)
        self._annotations: list[Mapping[str, Any]] = content["annotations"]
        for number, entry in enumerate(self._annotations):
            if not isinstance(entry.get("file_name"), str):
                raise InputError(f"{path}: annotation {number} has no file_name; expected the name of its PNG")
            if PurePosixPath(entry["file_name"]).is_absolute() or ".." in PurePosixPath(entry["file_name"]).parts:
                raise InputError(
                    f"{path}: annotation {number} has the file_name {entry['file_name']!r}; expected a name inside the "
                    "PNG folder, without '..'"
                )
        images = content.get("images")
        file_names = {
            row.get("id"): row.get("file_name")
            for row in (images if isinstance(images, list) else [])
            if isinstance(row, dict)
        }
        self.names = [_coco_names(entry, file_names.get(entry.get("image_id"))) for entry in self._annotations]
        self._folder = self._png_folder()

    def _png_folder(self) -> Path:
        folders = [self.source.with_suffix(""), self.source.with_name("panoptic"), self.source.parent]
        names = [entry["file_name"] for entry in self._annotations]
        for folder in folders:
            if folder.is_dir() and (not names or any((folder / name).is_file() for name in names)):
                return folder
        raise InputError(
            f"{self.source}: its PNGs, such as {names[0]}, are missing; expected them in {folders[0]}, in {folders[1]} "
            "or beside the JSON"
        )

    def path(self, index: int) -> Path:
        """The PNG at a place in `names`."""
        return self._folder / str(self._annotations[index]["file_name"])

    def read(self, index: int) -> PanopticMap:
        """The map at a place in `names`; InputError where PNG and JSON don't fit together."""
        path = self.path(index)
        samples = read_raster(path).samples
        if samples.ndim == 3 and samples.shape[2] == 4:
            samples = samples[..., :3]
        segments = [
            entry | {"iscrowd": 0} if isinstance(entry, dict) else entry
            for entry in self._annotations[index]["segments_info"]
        ]
        return panoptic_map(samples, segments, self._label_set, source=str(path))


def read_json(path: Path) -> Any:
    """Content of a JSON file; InputError where it can't be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text("[1, 2]")
    ...     read_json(Path(folder) / "a.json")
    [1, 2]
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({str(error)[:160]}); write it again") from error


def is_coco_panoptic(content: Any) -> bool:
    """Does the content of a JSON hold panoptic annotations?

    >>> is_coco_panoptic({"annotations": [{"file_name": "a.png", "segments_info": []}]}), is_coco_panoptic([])
    (True, False)
    """
    entries = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("segments_info"), list) for entry in entries
    )


def _check_categories(path: Path, rows: Any, label_set: LabelSet) -> None:
    """Classes that share an id must share the name: else the ids are of another list."""
    names = {category.id: category.name for category in label_set}
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        own, name = names.get(row.get("id", -1)), row.get("name")
        if own is not None and name is not None and _plain(str(name)) != _plain(own):
            raise InputError(
                f"{path}: category {row['id']} is {str(name)!r}, but {own!r} in the truth; expected the truth's "
                "categories; if it is the same class, call it so in the JSON or the truth's labels.yaml, else renumber "
                "the predictions"
            )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _coco_names(entry: Mapping[str, Any], image_file: Any) -> tuple[str, ...]:
    """The image's own name, that of its PNG, and its id; a number (`#7`) only where the JSON names no image."""
    files = [PurePosixPath(name) for name in (image_file, entry["file_name"]) if isinstance(name, str)]
    names = [str(file.with_suffix("")) for file in files if file.name]
    image_id = entry.get("image_id")
    if isinstance(image_id, str) and image_id:
        names.append(image_id)
    elif isinstance(image_id, int) and image_file is None:
        names.append(f"#{image_id}")
    return tuple(dict.fromkeys(names))

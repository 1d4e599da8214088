"""Find out how the predictions in a folder are stored, and open them."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Protocol

from panembed.errors import InputError, SettingsError
from panembed.evaluation.predictions.coco import CocoPredictions, is_coco_panoptic, read_json
from panembed.evaluation.predictions.label_images import LabelImagePredictions
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap

FORMATS = ("coco-panoptic", "instances", "class-instance")
"""How predictions may be stored."""


class Predictions(Protocol):
    """Panoptic maps in files.

    Attributes:
        format: one of `FORMATS`.
        source: the file or folder that they were opened from.
        names: of every prediction all names that it may go by, the best first: paths without suffix.
    """

    format: str
    source: Path
    names: list[tuple[str, ...]]

    def path(self, index: int) -> Path:
        """The file that holds the map at a place in `names`."""
        ...

    def read(self, index: int) -> PanopticMap:
        """That map, HxW; InputError where it can't be read."""
        ...


def open_predictions(path: str | os.PathLike[str], label_set: LabelSet, format: str = "auto") -> Predictions:
    """Find the predictions in a folder or a JSON file.

    How auto recognises the format:

    1. a JSON file, a folder with `panoptic.json`, a folder whose only JSON is a COCO panoptic one, or the PNG folder
       beside a JSON of its name: `coco-panoptic`;
    2. files called `NAME_instances`, or a `NAME_semantic` beside `NAME`: `instances`;
    3. label images of data with several thing classes or none: `class-instance`;
    4. with one thing class the numbers decide: `class-instance` if all numbers of an image fit it and one is 1000 or
       more; `instances` if one doesn't fit it, or if no image decides.

    Args:
        path: a folder, perhaps with sub-folders (as A1/plant001.png), or a JSON file.
        label_set: the classes of the truth; the predictions' class ids must be theirs.
        format: one of `FORMATS` if auto guesses wrong.

    Returns:
        The predictions; listed, not yet read.

    Raises:
        InputError: there is nothing of the kind, or its classes aren't those of the truth.
        SettingsError: `format` is unknown, or can't hold such classes.

    >>> import tempfile
    >>> import numpy as np
    >>> from panembed.io.images import write_png
    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "plant.png", np.array([[0, 1000, 1001]], dtype=np.uint16))
    ...     found = open_predictions(folder, leaves)
    ...     found.format, found.names, found.read(0).num_instances
    ('class-instance', [('plant',)], 2)
    """
    path = Path(path)
    if format not in ("auto", *FORMATS):
        near = difflib.get_close_matches(format, FORMATS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"prediction format {format!r} is unknown; expected auto, {', '.join(FORMATS)}{hint}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected predictions; check the path")
    if path.is_file() and (format not in ("auto", "coco-panoptic") or path.suffix.lower() != ".json"):
        raise InputError(f"{path}: is a file; expected a COCO panoptic JSON, or a folder of label images")
    if format in ("auto", "coco-panoptic"):
        file = path if path.is_file() else _find_json(path)
        if file is not None:
            return CocoPredictions(file, label_set)
        if format == "coco-panoptic":
            raise InputError(f"{path}: holds no COCO panoptic JSON; expected panoptic.json, or give the file itself")
    return LabelImagePredictions(path, label_set, format)


def _find_json(folder: Path) -> Path | None:
    """The COCO panoptic JSON that a folder means."""
    if (folder / "panoptic.json").is_file():
        return folder / "panoptic.json"
    inside = sorted(p for p in folder.glob("*.json") if p.is_file() and not p.name.startswith("."))
    with_pngs = [p for p in inside if p.with_suffix("").is_dir()] or inside[:2]
    if len(with_pngs) == 1 and is_coco_panoptic(read_json(with_pngs[0])):
        return with_pngs[0]
    if len(with_pngs) > 1 and all(p.with_suffix("").is_dir() for p in with_pngs):
        raise InputError(
            f"{folder}: holds {with_pngs[0].name} and {with_pngs[1].name}, each with a folder; give the JSON that is "
            "meant instead of the folder"
        )
    beside = folder.parent / f"{folder.resolve().name}.json"
    return beside if beside.is_file() and is_coco_panoptic(read_json(beside)) else None

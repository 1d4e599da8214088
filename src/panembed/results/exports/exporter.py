"""What every export has in common, and the list of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panembed.errors import OutputError, SettingsError
from panembed.labels.categories import LabelSet
from panembed.results.result import PanopticResult


@dataclass(frozen=True, slots=True)
class Format:
    """A format and its files.

    Attributes:
        exporter: module in this folder, and class.
        each: the file of one image below the output folder, with {} for its name; "" where there is none.
        all: the file that tells of all images; "" where there is none.
    """

    exporter: str
    each: str = ""
    all: str = ""


FORMATS: dict[str, Format] = {
    "rois": Format("imagej.RoiExporter", each="{}_rois.zip"),
    "geojson": Format("geojson.GeoJsonExporter", each="{}_objects.geojson"),
    "coco": Format("coco_instances.PolygonExporter", all="instances.json"),
    "coco-rle": Format("coco_instances.RleExporter", all="instances_rle.json"),
    "labels": Format("label_tiff.LabelTiffExporter", each="{}_labels.tif"),
    "colors": Format("color_png.ColorPngExporter", each="{}_colors.png"),
    "yolo": Format("yolo.YoloExporter", each="yolo/labels/{}.txt", all="yolo/data.yaml"),
    "cvppp": Format("cvppp_submission.SubmissionExporter", all="submission.h5"),
}
"""What `predict --write` takes, and what comes out."""

ALL = tuple(name for name in FORMATS if name != "cvppp")
"""What `--write all` stands for: the submission is for the challenge's images only, and needs a package more."""


class Exporter:
    """Writes results in one format into a folder: the base of all.

    Args:
        folder: that exists.
        label_set: the classes.
        format: its files.
    """

    def __init__(self, folder: Path, label_set: LabelSet, format: Format) -> None:
        self.folder = folder
        self.label_set = label_set
        self.format = format

    def check(self, path: Path, result: PanopticResult) -> None:
        """Find out whether the format can hold an image, before anything of it is written.

        Raises:
            InputError: it can't.
        """

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in one image.

        Args:
            path: of the image, as it was given.
            result: what was found in it.
            rows: measurements of its objects, in the order of `PanopticResult.objects`.

        Raises:
            OutputError: a file can't be written.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Write what tells of all images."""

    def path_of(self, result: PanopticResult) -> Path:
        """The file of one image; its folder is made where it is missing."""
        path = self.folder / self.format.each.format(result.name)
        make_folder(path.parent)
        return path


def open_exporter(name: str, folder: Path, label_set: LabelSet) -> Exporter:
    """Begin to write in a format; the packages that it needs are imported now.

    Args:
        name: one of `FORMATS`.
        folder: that exists.
        label_set: the classes.

    Raises:
        MissingExtraError: a package is not installed.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> open_exporter("rois", Path(), SyntheticDataset(1).label_set).format.each
    '{}_rois.zip'
    """
    format = FORMATS[name]
    module, _, attribute = format.exporter.partition(".")
    exporter: type[Exporter] = getattr(importlib.import_module(f"panembed.results.exports.{module}"), attribute)
    return exporter(folder, label_set, format)


def parse_formats(given: Iterable[str]) -> tuple[str, ...]:
    """Names of formats from what --write was given, each once.

    Args:
        given: texts that hold one name, or several with commas between them; "all" stands for `ALL`.

    Raises:
        SettingsError: an unknown or an empty name.

    >>> parse_formats(["rois,coco", "rois"])
    ('rois', 'coco')
    """
    names: dict[str, None] = {}
    for name in (name.strip() for text in given for name in text.split(",")):
        if name != "all" and name not in FORMATS:
            raise SettingsError(f"--write {name!r} is unknown; expected {', '.join(FORMATS)} or all")
        names |= dict.fromkeys(ALL if name == "all" else (name,))
    return tuple(names)


def make_folder(folder: Path) -> Path:
    """The folder, made where it is missing; OutputError if it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't make this folder ({error.strerror}); choose another place") from error
    return folder

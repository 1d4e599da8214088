"""YOLO's segmentation labels, as Ultralytics reads them: a text file for every image, a line for every object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panembed.io.atomic import write_text
from panembed.labels.outlines import joined
from panembed.results.exports.exporter import Exporter, make_folder
from panembed.results.result import PanopticResult


def lines(result: PanopticResult) -> list[str]:
    """One line an object: its class, counted among things from 0, and the corners of its outline.

    Corners are fractions of the image's width and height, with so many digits that they can be brought back to whole
    pixels. YOLO has one outline an object: where there are several pieces or holes, it runs from one to the other and
    back.

    Args:
        result: of one image.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> plants = SyntheticDataset(1, size=64)
    >>> sample = plants.load(plants.ids[0])
    >>> lines(PanopticResult(sample.truth, plants.label_set, sample.image))[0].split()[0]
    '0'
    """
    height, width = result.panoptic.shape
    found = result.outlines()
    place = {index: number for number, index in enumerate(result.label_set.things)}
    texts = []
    for number, segment in zip(result.numbers, result.objects, strict=True):
        ring = joined([ring for polygon in found[number] for ring in polygon.rings])
        corners = (f"{x / width:.7g} {y / height:.7g}" for x, y in ring.tolist())
        texts.append(f"{place[segment.category]} {' '.join(corners)}")
    return texts


class YoloExporter(Exporter):
    """yolo/labels/NAME.txt, and yolo/data.yaml with the classes; photographs belong into yolo/images."""

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of one image; an empty file where nothing was found."""
        write_text(self.path_of(result), "".join(f"{line}\n" for line in lines(result)))

    def close(self) -> None:
        """Write the classes."""
        names = [self.label_set[index].name for index in self.label_set.things]
        # Text in JSON's quotes is YAML.
        classes = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
        path = self.folder / self.format.all
        make_folder(path.parent)
        write_text(path, f"path: .\ntrain: images\nval: images\nnames:\n{classes}")

"""COCO instance JSON, with polygons or with run-length codes, as pycocotools, CVAT, FiftyOne and Detectron2 read it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from panembed.io.atomic import atomic_path
from panembed.io.coco_masks import encode_rle
from panembed.io.coco_panoptic import ids_from_names
from panembed.labels.categories import LabelSet
from panembed.labels.outlines import joined
from panembed.results.exports.exporter import Exporter, Format
from panembed.results.result import PanopticResult

Coding = Literal["polygons", "rle"]


def instance_annotations(result: PanopticResult, coding: Coding = "polygons") -> list[dict[str, Any]]:
    """One COCO annotation an object, without `id` and `image_id`.

    Polygons run along the edges of pixels, a list of one for each piece. COCO's polygons have no holes: where there are
    some, the outline runs to each hole, round it and back, and pycocotools fills exactly the object's pixels. The
    score, where there is one, and the number of the object (`instance_id`) are there, too.

    Args:
        result: of one image.
        coding: polygons, or compressed run-length codes.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> plants = SyntheticDataset(1, size=64)
    >>> sample = plants.load(plants.ids[0])
    >>> found = instance_annotations(PanopticResult(sample.truth, plants.label_set, sample.image), "rle")
    >>> found[0]["segmentation"]["size"], found[0]["instance_id"]
    ([64, 64], 1)
    """
    found = result.outlines() if coding == "polygons" else {}
    ids, scores = result.instance_ids(), result.scores
    rows = []
    for place, (number, segment) in enumerate(zip(result.numbers, result.objects, strict=True)):
        row: dict[str, Any] = {
            "category_id": result.label_set[segment.category].id,
            "segmentation": [joined(polygon.rings).ravel().tolist() for polygon in found[number]]
            if coding == "polygons"
            else encode_rle(ids, number, segment.bbox),
            "area": segment.area,
            "bbox": list(segment.bbox),
            "iscrowd": 0,
            "instance_id": number,
        }
        if scores is not None and not math.isnan(scores[place]):
            row["score"] = round(float(scores[place]), 4)
        rows.append(row)
    return rows


class CocoExporter(Exporter):
    """One JSON for all images; its image ids are those of panoptic.json."""

    coding: ClassVar[Coding]

    def __init__(self, folder: Path, label_set: LabelSet, format: Format) -> None:
        super().__init__(folder, label_set, format)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[tuple[int, str]] = []  # as text, which takes a tenth of the memory of lists

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the annotations of one image."""
        height, width = result.panoptic.shape
        self._images.append({"id": len(self._images) + 1, "file_name": path.name, "width": width, "height": height})
        for row in instance_annotations(result, self.coding):
            self._annotations.append((len(self._images) - 1, json.dumps(row, separators=(",", ":"), allow_nan=False)))

    def close(self) -> None:
        """Write the JSON."""
        for image, id in zip(self._images, ids_from_names([image["file_name"] for image in self._images])):
            image["id"] = id
        things = [self.label_set[index] for index in self.label_set.things]
        categories = [{"id": c.id, "name": c.name, "supercategory": c.name} for c in things]
        with atomic_path(self.folder / self.format.all) as temporary, temporary.open("w", encoding="utf-8") as file:
            head = {"info": {"description": "objects found by panembed"}, "licenses": [], "categories": categories}
            file.write(json.dumps(head | {"images": self._images}, ensure_ascii=False)[:-1] + ', "annotations": [')
            for number, (place, text) in enumerate(self._annotations, start=1):
                image_id = self._images[place]["id"]
                file.write(f'{"," if number > 1 else ""}\n{{"id":{number},"image_id":{image_id},{text[1:]}')
            file.write("]}\n")


class PolygonExporter(CocoExporter):
    """instances.json."""

    coding = "polygons"


class RleExporter(CocoExporter):
    """instances_rle.json."""

    coding = "rle"

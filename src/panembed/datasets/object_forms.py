"""Writers of the layouts that draw each object by itself, for `panembed.datasets.convert`.

They say which pixels are an object and of which thing class. Stuff is what is left, and is called background when it is
read again; what else a map may hold is refused: see `objects_of`.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image
from roifile import roiwrite

from panembed.datasets.labelme import NAMES_FILE
from panembed.datasets.sample import Dataset
from panembed.errors import OutputError
from panembed.io.atomic import atomic_path, write_text
from panembed.io.coco_masks import encode_rle
from panembed.io.geojson_geometry import geometry
from panembed.io.imagej_region import region
from panembed.io.images import write_png
from panembed.labels.categories import LabelSet
from panembed.labels.outlines import joined, outlines
from panembed.labels.panoptic_map import PanopticMap, Segment

INSTEAD = "write coco-panoptic instead"


def objects_of(
    truth: PanopticMap, label_set: LabelSet, *, crowds: bool = False, void: bool = False, classes: bool = True
) -> tuple[NDArray[np.int32], list[Segment]]:
    """The objects of a map: an HxW map of their numbers, 0 for none, and the table of them.

    Args:
        truth: HxW.
        label_set: its classes.
        crowds: the format has groups of objects.
        void: the format has pixels without a class.
        classes: the format has several classes of things.

    Raises:
        OutputError: the map holds what the format hasn't, or has several stuff classes.
    """
    if len(label_set.stuff) > 1:
        raise OutputError(
            f"the data has {len(label_set.stuff)} stuff classes; expected one, as a background; {INSTEAD}"
        )
    if len(label_set.things) > 1 and not classes:
        raise OutputError(
            f"the data has {len(label_set.things)} thing classes; expected one, as this layout; {INSTEAD}"
        )
    segment_map, table = truth.segments(label_set)
    num_void = np.count_nonzero(segment_map == 0)
    if num_void and not void:
        raise OutputError(f"{num_void:,} pixels have no class, which this layout can't say; {INSTEAD}")
    objects = [segment for segment in table if label_set[segment.category].is_thing]
    if any(segment.is_crowd for segment in objects) and not crowds:
        raise OutputError(f"has a group of objects not told apart, which this layout can't say; {INSTEAD}")
    if any(segment.is_crowd for segment in table if segment not in objects):
        raise OutputError(f"has stuff that is marked as a crowd, which this layout can't say; {INSTEAD}")
    number = np.zeros(len(table) + 1, dtype=np.int32)
    number[[segment.id for segment in objects]] = [segment.id for segment in objects]
    return number[segment_map], objects


class ObjectForm:
    """One of these layouts: see `panembed.datasets.convert`.

    Args:
        root: the folder to write to.
        dataset: what is written.
    """

    png_only = False
    image_folder: ClassVar[str] = "images"
    label_folder: ClassVar[str]
    ending: ClassVar[str]
    keeps: ClassVar[dict[str, bool]] = {}
    """What the format has, as keyword arguments of `objects_of`."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.label_set = root, dataset.label_set

    def new_id(self, id: str) -> str:
        """What the image is called in the new layout."""
        return id.replace("/", "_")

    def image_target(self, id: str) -> Path:
        """Path of the photograph, without suffix."""
        return self.root / self.image_folder / self.new_id(id)

    def label_target(self, id: str) -> Path:
        """Path of the truth, without suffix."""
        return self.root / self.label_folder / self.new_id(id)

    def owns(self, path: Path) -> bool:
        """Is a picture one of those that the truths are made of?"""
        return False

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        """Write one truth; OutputError where the layout can't say it."""
        numbers, objects = objects_of(truth, self.label_set, **self.keeps)
        path = self.label_target(id)
        path = path.with_name(path.name + self.ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(path, numbers, objects, truth, image)

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the file of one image."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what belongs to all."""


def _window(numbers: NDArray[np.int32], segment: Segment) -> NDArray[np.bool_]:
    x, y, width, height = segment.bbox
    pixels: NDArray[np.bool_] = numbers[y : y + height, x : x + width] == segment.id
    return pixels


class Coco(ObjectForm):
    """COCO instance JSON: polygons along the edges of pixels, and run-length codes of crowds."""

    ending = ""
    keeps: ClassVar = {"crowds": True}

    def __init__(self, root: Path, dataset: Dataset) -> None:
        super().__init__(root, dataset)
        ids = getattr(dataset, "image_ids", {})
        self._ids: dict[str, int] = ids if ids and all(isinstance(value, int) for value in ids.values()) else {}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def new_id(self, id: str) -> str:
        """The same, as file_name may have folders."""
        return id

    def label_target(self, id: str) -> Path:
        """The JSON of all."""
        return self.root / "instances"

    def add(self, id: str, truth: PanopticMap, image: Path) -> None:
        """Keep the annotations of one image."""
        numbers, objects = objects_of(truth, self.label_set, **self.keeps)
        image_id = self._ids.get(id, len(self._images) + 1)
        height, width = truth.shape
        self._images.append({"id": image_id, "file_name": f"{id}{image.suffix}", "height": height, "width": width})
        drawn = outlines(numbers)
        for segment in objects:
            polygons = [joined(polygon.rings).ravel().tolist() for polygon in drawn[segment.id]]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": self.label_set[segment.category].id,
                    "segmentation": encode_rle(numbers, segment.id, segment.bbox) if segment.is_crowd else polygons,
                    "area": segment.area,
                    "bbox": list(segment.bbox),
                    "iscrowd": int(segment.is_crowd),
                }
            )

    def close(self) -> None:
        """Write instances.json."""
        things = [self.label_set[index] for index in self.label_set.things]
        categories = [{"id": c.id, "name": c.name, "supercategory": c.name, "color": list(c.color)} for c in things]
        data = {"images": self._images, "annotations": self._annotations, "categories": categories}
        self.root.mkdir(parents=True, exist_ok=True)
        write_text(self.root / "instances.json", json.dumps(data, ensure_ascii=False, separators=(",", ":")))


class MaskFiles(ObjectForm):
    """ID/images/ID.png and ID/masks/0001.png, ..., as the Data Science Bowl 2018 has it."""

    ending = ""
    keeps: ClassVar = {"classes": False}

    def image_target(self, id: str) -> Path:
        """Path of the photograph, without suffix."""
        return self.root / self.new_id(id) / "images" / self.new_id(id)

    def label_target(self, id: str) -> Path:
        """The folder of the masks."""
        return self.root / self.new_id(id) / "masks"

    def owns(self, path: Path) -> bool:
        """Is a picture a mask of ours?"""
        return path.parent.name == "masks" and path.stem.isdigit()

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the masks of one image; those that were there before are removed."""
        path.mkdir(exist_ok=True)
        for old in filter(self.owns, path.glob("*.png")):
            old.unlink()
        for place, segment in enumerate(objects, start=1):
            write_png(path / f"{place:04}.png", (numbers == segment.id).astype(np.uint8) * np.uint8(255))


class MaskStacks(ObjectForm):
    """images/NAME.png and labels/NAME.tif, a page for each object."""

    label_folder, ending = "labels", ".tif"
    keeps: ClassVar = {"classes": False}

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the pages, and an empty one where there are fewer than two: one page is a label image."""
        count = max(len(objects), 2)
        with atomic_path(path) as temporary, tifffile.TiffWriter(temporary) as file:
            for place in range(count):
                shown = numbers == objects[place].id if place < len(objects) else np.zeros(numbers.shape, dtype=bool)
                file.write(shown.astype(np.uint8), photometric="minisblack", compression="zlib", metadata=None)


class Labelme(ObjectForm):
    """NAME.jpg and NAME.json, with masks, as LabelMe's polygons would be a pixel too wide."""

    image_folder, label_folder, ending = "", "", ".json"
    keeps: ClassVar = {"void": True}

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the shapes of one image."""
        shapes = [
            _mask_shape(self.label_set[segment.category].name, _window(numbers, segment), segment.bbox)
            for segment in objects
        ]
        if (void := truth.segments(self.label_set)[0] == 0).any():
            shapes.append(_mask_shape("__ignore__", void, (0, 0, void.shape[1], void.shape[0])))
        height, width = truth.shape
        head: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes}
        of_image = {"imagePath": image.name, "imageData": None, "imageHeight": height, "imageWidth": width}
        write_text(path, json.dumps(head | of_image, ensure_ascii=False, indent=1))

    def close(self) -> None:
        """Write labels.txt, which keeps the order of classes."""
        names = ["__ignore__", "_background_", *(self.label_set[index].name for index in self.label_set.things)]
        write_text(self.root / NAMES_FILE, "\n".join(names) + "\n")


def _mask_shape(label: str, pixels: NDArray[np.bool_], bbox: tuple[int, int, int, int]) -> dict[str, Any]:
    x, y, width, height = bbox
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    points = [[x, y], [x + width - 1, y + height - 1]]
    mask = base64.b64encode(file.getvalue()).decode("ascii")
    return {"label": label, "points": points, "group_id": None, "shape_type": "mask", "flags": {}, "mask": mask}


class YoloSeg(ObjectForm):
    """images/, labels/ and data.yaml; holes and pieces by an outline that runs there and back."""

    label_folder, ending = "labels", ".txt"

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the lines of one image."""
        write_text(path, "".join(f"{line}\n" for line in self._lines(numbers, objects)))

    def _lines(self, numbers: NDArray[np.int32], objects: list[Segment]) -> Iterator[str]:
        height, width = numbers.shape
        drawn = outlines(numbers)
        for segment in objects:
            ring = joined([ring for polygon in drawn[segment.id] for ring in polygon.rings])
            corners = " ".join(f"{x / width:.9g} {y / height:.9g}" for x, y in ring.tolist())
            yield f"{self.label_set.things.index(segment.category)} {corners}"

    def close(self) -> None:
        """Write data.yaml."""
        names = {number: self.label_set[index].name for number, index in enumerate(self.label_set.things)}
        data = {"path": ".", "train": "images", "val": "images", "names": names}
        write_text(self.root / "data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


class Rois(ObjectForm):
    """images/ and rois/NAME.zip, regions named by their numbers."""

    label_folder, ending = "rois", ".zip"
    keeps: ClassVar = {"classes": False}

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the zip of one image; an empty one where there is no object."""
        regions = []
        for place, (_, polygons) in enumerate(outlines(numbers).items(), start=1):
            regions.append(region(polygons))
            regions[-1].name = f"{place:04}"
        with atomic_path(path) as temporary:
            if regions:
                roiwrite(temporary, regions, mode="w")
            else:
                temporary.write_bytes(b"PK\5\6" + bytes(18))  # what a zip without a file is


class GeoJson(ObjectForm):
    """images/ and geojson/NAME.geojson, as QuPath reads it."""

    label_folder, ending = "geojson", ".geojson"
    keeps: ClassVar = {"void": True}

    def write(
        self, path: Path, numbers: NDArray[np.int32], objects: list[Segment], truth: PanopticMap, image: Path
    ) -> None:
        """Write the features of one image."""
        drawn = outlines(numbers)
        rows = []
        for segment in objects:
            category = self.label_set[segment.category]
            classification = {"name": category.name, "color": list(category.color)}
            rows.append(_feature(geometry(drawn[segment.id]), classification))
        if (void := truth.segments(self.label_set)[0] == 0).any():
            rows.append(_feature(geometry(outlines(void.astype(np.int32))[1]), {"name": "Ignore*"}))
        write_text(path, json.dumps({"type": "FeatureCollection", "features": rows}, ensure_ascii=False) + "\n")


def _feature(shape: dict[str, Any], classification: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": shape,
        "properties": {"objectType": "annotation", "classification": classification},
    }


OBJECT_FORMS: dict[str, type[ObjectForm]] = {
    "coco": Coco,
    "masks": MaskFiles,
    "stacks": MaskStacks,
    "labelme": Labelme,
    "yolo-seg": YoloSeg,
    "rois": Rois,
    "geojson": GeoJson,
}
"""Layouts of objects that can be written, called as they are when read."""

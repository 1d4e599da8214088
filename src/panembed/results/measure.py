"""Measurements of every object in a panoptic map: how many, how large, where, what shape, how bright.

docs/results.md has a table of all columns with units and definitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray

from panembed.io.measured_channels import Channels
from panembed.io.pixel_size import PixelSize
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.intensity import intensities
from panembed.results.shape import Pixels, hulls, moments, perimeters
from panembed.results.skeleton import skeleton_size

COLUMNS = (
    *("segment_id", "class", "instance", "score", "area", "centroid_x", "centroid_y"),
    *("bbox_x", "bbox_y", "bbox_width", "bbox_height", "perimeter", "eccentricity", "touches_border"),
    *("major_axis", "minor_axis", "orientation", "convex_area", "solidity", "equivalent_diameter", "feret_diameter"),
    *("skeleton_length", "skeleton_width"),
)
"""What `measure_objects` tells of an object where neither a pixel size nor channels are given."""

AREAS = ("area", "convex_area")
LENGTHS = (
    *("perimeter", "major_axis", "minor_axis", "equivalent_diameter", "feret_diameter"),
    *("skeleton_length", "skeleton_width"),
)
"""Columns that a pixel size gives in its unit, too."""


def physical_columns(unit: str) -> tuple[str, ...]:
    """What a pixel size of that unit adds.

    >>> physical_columns("um")[:3], physical_columns("")[:2]
    (('area_um2', 'convex_area_um2', 'perimeter_um'), ('area_physical', 'convex_area_physical'))
    """
    return (
        *(physical_column(name, unit, is_area=True) for name in AREAS),
        *(physical_column(name, unit) for name in LENGTHS),
    )


def physical_column(name: str, unit: str, *, is_area: bool = False) -> str:
    """What a column is called in that unit, or in one that nobody told.

    >>> physical_column("area", "mm", is_area=True), physical_column("perimeter", "mm")
    ('area_mm2', 'perimeter_mm')
    """
    if not unit:
        return f"{name}_physical"
    return f"{name}_{unit}2" if is_area else f"{name}_{unit}"


PHYSICAL_COLUMNS = physical_columns("")
"""What a pixel size without a unit adds."""


def measure_objects(
    panoptic: PanopticMap,
    label_set: LabelSet,
    *,
    pixel_size: float | PixelSize | None = None,
    scores: NDArray[np.floating] | None = None,
    channels: Channels | None = None,
) -> list[dict[str, Any]]:
    """Measure each object (segment of a thing class), one row per object in the order of segment ids.

    Stuff has no objects, and crowds are groups of objects not told apart: neither gets a row. An object of several
    components is one row.

    Args:
        panoptic: HxW map.
        label_set: its classes.
        pixel_size: side of a pixel (pixels are square); adds the columns of `physical_columns`: of 0.25 um area_um2,
            perimeter_um and so on, of a plain number area_physical, perimeter_physical, ...
        scores: how sure each object is, in the order of class and instance; None or NaN where nobody knows.
        channels: of the original file; adds mean, sum, std, min and max of each.

    Returns:
        Rows of plain Python values:

        - `segment_id`: as in `PanopticMap.segments`, hence in a COCO panoptic file written from the same map
        - `class`: name; `instance`: instance id, which counts within the class
        - `score`: 0..1, or None
        - `area`: pixels
        - `centroid_x`, `centroid_y`: pixels, from the centre of the top left pixel, x to the right, y down
        - `bbox_x`, `bbox_y`, `bbox_width`, `bbox_height`: pixels; x and y are the first column and row inside
        - `perimeter`: pixels, of the outline through the centres of the border pixels (scikit-image's estimate; 5 % too
          long for a disc, far too short for objects one or two pixels wide, 0 for a single pixel)
        - `eccentricity`: of the ellipse with the same second moments, 0 (circle) to 1 (line)
        - `touches_border`: whether it reaches the image's edge, so that it may be cut off
        - `major_axis`, `minor_axis`: of that ellipse, pixels
        - `orientation`: radians from the direction down the rows to the major axis, counter-clockwise, -pi/2 to pi/2
        - `convex_area`: pixels in the convex hull; `solidity`: area / convex_area
        - `equivalent_diameter`: of the disc with the same area; `feret_diameter`: the greatest, pixels
        - `skeleton_length`, `skeleton_width`: see `panembed.results.skeleton.skeleton_size`
        - of each channel, `mean_NAME`, `sum_NAME`, `std_NAME`, `min_NAME`, `max_NAME`, in the file's own numbers

    Raises:
        ValueError: `pixel_size` is not positive, the map holds a class index that the label set lacks, or scores or
            channels don't fit the map.

    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> rows = measure_objects(PanopticMap([[0, 1, 1], [0, 0, 0]], [[0, 4, 4], [0, 0, 0]]), leaves, pixel_size=0.5)
    >>> rows[0]["class"], rows[0]["area"], rows[0]["area_physical"], rows[0]["centroid_x"], rows[0]["touches_border"]
    ('leaf', 2, 0.5, 1.5, True)
    """
    if pixel_size is not None and not isinstance(pixel_size, PixelSize):
        if not 0 < pixel_size < math.inf:
            raise ValueError(f"pixel_size is {pixel_size}; expected a length above 0")
        pixel_size = PixelSize(pixel_size)
    segment_map, segments = panoptic.segments(label_set)
    objects = [s for s in segments if label_set[s.category].is_thing and not s.is_crowd]
    count = len(objects)
    if scores is not None and len(scores) != count:
        raise ValueError(f"scores: expected one for each of {count} objects, found {len(scores)}")
    if channels is not None and channels.samples.shape[:2] != panoptic.shape:
        raise ValueError(f"channels are {channels.samples.shape[:2]}, the map {panoptic.shape}; expected one size")
    if not objects:
        return []
    number = np.zeros(len(segments) + 1, dtype=np.int32)
    number[[s.id for s in objects]] = np.arange(1, count + 1)
    ids = number[segment_map]
    pixels = Pixels.of(ids, count)
    form, outline = moments(pixels), perimeters(ids, count)
    convex_area, feret = hulls(pixels)
    boxes = scipy.ndimage.find_objects(ids)
    skeletons = [skeleton_size(ids[box] == place) for place, box in enumerate(boxes, start=1)]
    bright = intensities(channels, pixels) if channels is not None else [{}] * count
    height, width = panoptic.shape
    rows = []
    for place, segment in enumerate(objects):
        x, y, box_width, box_height = segment.bbox
        row: dict[str, Any] = {
            "segment_id": segment.id,
            "class": label_set[segment.category].name,
            "instance": segment.instance,
            "score": _plain_score(scores, place),
            "area": segment.area,
            "centroid_x": float(form.x[place]),
            "centroid_y": float(form.y[place]),
            "bbox_x": x,
            "bbox_y": y,
            "bbox_width": box_width,
            "bbox_height": box_height,
            "perimeter": float(outline[place]),
            "eccentricity": float(form.eccentricity[place]),
            "touches_border": x == 0 or y == 0 or x + box_width == width or y + box_height == height,
            "major_axis": float(form.major_axis[place]),
            "minor_axis": float(form.minor_axis[place]),
            "orientation": float(form.orientation[place]),
            "convex_area": int(convex_area[place]),
            "solidity": segment.area / int(convex_area[place]),
            "equivalent_diameter": math.sqrt(4 * segment.area / math.pi),
            "feret_diameter": float(feret[place]),
            "skeleton_length": skeletons[place][0],
            "skeleton_width": skeletons[place][1],
        }
        if pixel_size is not None:
            length, unit = pixel_size.length, pixel_size.unit
            row |= {physical_column(name, unit, is_area=True): row[name] * length**2 for name in AREAS}
            row |= {physical_column(name, unit): row[name] * length for name in LENGTHS}
        rows.append(row | bright[place])
    return rows


def _plain_score(scores: NDArray[np.floating] | None, place: int) -> float | None:
    if scores is None or math.isnan(scores[place]):
        return None
    return round(float(scores[place]), 4)


def measure_image(
    panoptic: PanopticMap,
    label_set: LabelSet,
    rows: Sequence[dict[str, Any]],
    *,
    pixel_size: PixelSize | None = None,
    channels: Channels | None = None,
) -> dict[str, Any]:
    """Measure all objects of an image together, as a plant whose leaves they are.

    Args:
        panoptic: HxW map.
        label_set: its classes.
        rows: what `measure_objects` gave for it.
        pixel_size: side of a pixel; adds areas in its unit.
        channels: of the original file.

    Returns:
        `object_area`, `mean_object_area` (pixels; None without objects), `hull_area`: pixels in the convex hull of all
        objects together; with a pixel size these in its unit, too; with channels `mean_NAME`, over the pixels of all
        objects, and `greenness` of red, green and blue: green / (red + green + blue) of these means, a third for grey;
        None without objects, and where all is black.

    >>> leaves = LabelSet.from_list([{"id": 1, "name": "leaf", "isthing": 1}])
    >>> panoptic = PanopticMap([[0, 0, 0, 0]], [[1, 0, 0, 2]])
    >>> measure_image(panoptic, leaves, measure_objects(panoptic, leaves))
    {'object_area': 2, 'mean_object_area': 1.0, 'hull_area': 4}
    """
    total = sum(row["area"] for row in rows)
    figures: dict[str, Any] = {
        "object_area": total,
        "mean_object_area": total / len(rows) if rows else None,
        "hull_area": 0,
    }
    is_object = np.zeros(panoptic.shape, dtype=np.int32)
    if rows:
        segment_map, _ = panoptic.segments(label_set)
        is_object = np.isin(segment_map, [row["segment_id"] for row in rows]).astype(np.int32)
        figures["hull_area"] = int(hulls(Pixels.of(is_object, 1))[0][0])
    if pixel_size is not None:
        for name in tuple(figures):
            value, column = figures[name], physical_column(name, pixel_size.unit, is_area=True)
            figures[column] = None if value is None else value * pixel_size.length**2
    if channels is not None:
        inside = is_object > 0
        means = [
            float(channels.samples[..., place][inside].mean(dtype=np.float64)) if rows else None
            for place in range(len(channels.names))
        ]
        figures |= {f"mean_{name}": mean for name, mean in zip(channels.names, means)}
        if channels.has_colors:
            bright = sum(mean or 0 for mean in means)
            figures["greenness"] = (means[1] or 0) / bright if bright else None
    return figures

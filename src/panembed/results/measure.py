"""Measurements of every object in a panoptic map: how many, how large, where, what shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap

COLUMNS = (
    *("segment_id", "class", "instance", "score", "area", "centroid_x", "centroid_y"),
    *("bbox_x", "bbox_y", "bbox_width", "bbox_height", "perimeter", "eccentricity", "touches_border"),
)
"""What `measure_objects` tells of an object where no pixel size is given."""

PHYSICAL_COLUMNS = ("area_physical", "perimeter_physical")
"""What a pixel size adds."""


def measure_objects(
    panoptic: PanopticMap,
    label_set: LabelSet,
    *,
    pixel_size: float | None = None,
    scores: NDArray[np.floating] | None = None,
) -> list[dict[str, Any]]:
    """Measure each object (segment of a thing class), one row per object in the order of segment ids.

    Stuff has no objects, and crowds are groups of objects not told apart: neither gets a row. An object of several
    components is one row.

    Args:
        panoptic: HxW map.
        label_set: its classes.
        pixel_size: side of a pixel in the user's unit of length (pixels are square), say 0.25 for micrometres. Adds
            `area_physical` (unit squared) and `perimeter_physical` (unit).
        scores: how sure each object is, in the order of class and instance; None where nobody knows.

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

    Raises:
        ValueError: `pixel_size` is not positive, or the map holds a class index that the label set lacks.

    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> rows = measure_objects(PanopticMap([[0, 1, 1], [0, 0, 0]], [[0, 4, 4], [0, 0, 0]]), leaves, pixel_size=0.5)
    >>> rows[0]["class"], rows[0]["area"], rows[0]["area_physical"], rows[0]["centroid_x"], rows[0]["touches_border"]
    ('leaf', 2, 0.5, 1.5, True)
    """
    if pixel_size is not None and not 0 < pixel_size < float("inf"):
        raise ValueError(f"pixel_size is {pixel_size}; expected a length above 0")
    segment_map, segments = panoptic.segments(label_set)
    objects = [s for s in segments if label_set[s.category].is_thing and not s.is_crowd]
    if scores is not None and len(scores) != len(objects):
        raise ValueError(f"scores: expected one for each of {len(objects)} objects, found {len(scores)}")
    if not objects:
        return []
    # Slow to import, and prediction alone doesn't need it.
    from skimage.measure import regionprops

    height, width = panoptic.shape
    regions = {region.label: region for region in regionprops(segment_map)}
    # Moments of all objects in one pass; object by object they take longer than all the rest.
    centroids, eccentricities = _moments(segment_map, [s.id for s in objects])
    rows = []
    told: list[float | None] = [None] * len(objects)
    if scores is not None:
        told = [None if np.isnan(score) else round(float(score), 4) for score in scores]
    for segment, score, (centroid_x, centroid_y), eccentricity in zip(
        objects, told, centroids.tolist(), eccentricities.tolist()
    ):
        perimeter = float(regions[segment.id].perimeter)
        x, y, box_width, box_height = segment.bbox
        row: dict[str, Any] = {
            "segment_id": segment.id,
            "class": label_set[segment.category].name,
            "instance": segment.instance,
            "score": score,
            "area": segment.area,
            "centroid_x": centroid_x,
            "centroid_y": centroid_y,
            "bbox_x": x,
            "bbox_y": y,
            "bbox_width": box_width,
            "bbox_height": box_height,
            "perimeter": perimeter,
            "eccentricity": eccentricity,
            "touches_border": x == 0 or y == 0 or x + box_width == width or y + box_height == height,
        }
        if pixel_size is not None:
            row["area_physical"] = segment.area * pixel_size**2
            row["perimeter_physical"] = perimeter * pixel_size
        rows.append(row)
    return rows


def _moments(segment_map: NDArray[np.int32], ids: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroids (x, y) and eccentricities of the segments with these ids."""
    number = np.full(int(segment_map.max()) + 1, -1)
    number[ids] = np.arange(len(ids))
    owner = number[segment_map]
    y, x = np.nonzero(owner >= 0)
    owner = owner[y, x]
    area = np.bincount(owner)

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(owner, values) / area)

    centre_x, centre_y = mean(x), mean(y)
    dx, dy = x - centre_x[owner], y - centre_y[owner]
    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    # Eigenvalues of the covariance: half its trace plus and minus this.
    spread = np.hypot((xx - yy) / 2, xy)
    longest = (xx + yy) / 2 + spread
    eccentricity = np.sqrt(2 * spread / np.where(longest > 0, longest, 1))
    return np.column_stack([centre_x, centre_y]), np.minimum(eccentricity, 1)

"""ImageJ and Fiji: a zip of regions of interest for every image, to open with the ROI Manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi, roiwrite

from panembed.io.atomic import atomic_path
from panembed.results.exports.exporter import Exporter
from panembed.results.outlines import Polygon
from panembed.results.result import PanopticResult

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
"""Steps of a path, as java.awt.geom.PathIterator numbers them."""


def rois(result: PanopticResult) -> list[ImagejRoi]:
    """One region an object, named by its number (`instance_id`), with the class's number as group.

    An object of one piece without holes is a traced polygon as ImageJ's wand gives it, any other a composite of paths.
    Filled in ImageJ, a region has exactly the object's pixels.

    Args:
        result: at most 65,535 pixels wide and high for ImageJ to read it.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> plants = SyntheticDataset(1, size=64)
    >>> sample = plants.load(plants.ids[0])
    >>> [roi.name for roi in rois(PanopticResult(sample.truth, plants.label_set, sample.image))][:2]
    ['1', '2']
    """
    found = result.outlines()
    regions = []
    for number, segment in zip(result.numbers, result.objects, strict=True):
        region = _region(found[number])
        region.name = str(number)
        region.group = min(segment.category, 255)
        regions.append(region)
    return regions


def _region(polygons: list[Polygon]) -> ImagejRoi:
    corners = np.concatenate([polygon.outer for polygon in polygons])
    if len(polygons) == 1 and not polygons[0].holes:
        region = ImagejRoi.frompoints(corners)
        region.roitype = ROI_TYPE.TRACED
        # The box of a polygon ends at its last corner; frompoints counts corners as pixels.
        region.right, region.bottom = (int(end) for end in corners.max(0))
        return region
    region = ImagejRoi()
    region.roitype = ROI_TYPE.RECT
    region.left, region.top = (int(end) for end in corners.min(0))
    region.right, region.bottom = (int(end) for end in corners.max(0))
    path = np.concatenate([_path(ring) for polygon in polygons for ring in polygon.rings])
    region.multi_coordinates, region.shape_roi_size = path, len(path)
    return region


def _path(ring: NDArray[np.int32]) -> NDArray[np.float32]:
    steps = np.empty((len(ring), 3), np.float32)
    steps[:, 0], steps[:, 1:] = _LINE, ring
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), np.float32(_CLOSE))


class RoiExporter(Exporter):
    """NAME_rois.zip."""

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the zip of one image."""
        with atomic_path(self.path_of(result)) as temporary:
            roiwrite(temporary, rois(result), mode="w")

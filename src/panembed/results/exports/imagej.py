"""ImageJ and Fiji: a zip of regions of interest for every image, to open with the ROI Manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roifile import ImagejRoi, roiwrite

from panembed.io.atomic import atomic_path
from panembed.io.imagej_region import region as region_of
from panembed.results.exports.exporter import Exporter
from panembed.results.result import PanopticResult


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
        region = region_of(found[number])
        region.name = str(number)
        region.group = min(segment.category, 255)
        regions.append(region)
    return regions


class RoiExporter(Exporter):
    """NAME_rois.zip."""

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the zip of one image."""
        with atomic_path(self.path_of(result)) as temporary:
            roiwrite(temporary, rois(result), mode="w")

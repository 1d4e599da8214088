"""ROI zips, read by roifile and filled by scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from export_contract import ExportContract, torn
from numpy.typing import NDArray
from roifile import ImagejRoi
from skimage.draw import polygon2mask

from panembed.results.result import PanopticResult


def read(path: Path) -> list[ImagejRoi]:
    found = ImagejRoi.fromfile(path)
    return found if isinstance(found, list) else [found]


class TestRois(ExportContract):
    format = "rois"

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        masks = []
        regions = read(folder / f"{result.name}_rois.zip")
        assert [region.name for region in regions] == [str(n) for n in range(1, len(regions) + 1)]
        for region in regions:
            mask = np.zeros(result.panoptic.shape, bool)
            # Filled by the even-odd rule where the middle of a pixel is inside.
            for ring in region.coordinates(multi=True):
                mask ^= polygon2mask(mask.shape, ring[:, ::-1] - 0.5)
            masks.append(mask)
        return masks


def test_boxes_are_those_of_the_objects() -> None:
    for result in map(torn, range(20)):
        for region, segment in zip(result.to_imagej(), result.objects, strict=True):
            box = (region.left, region.top, region.right - region.left, region.bottom - region.top)
            assert box == segment.bbox

"""Label TIFFs, read by tifffile as ImageJ's or OME's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from export_contract import ExportContract, torn
from numpy.typing import NDArray

from panembed.io.pixel_size import PixelSize, read_pixel_size
from panembed.results.result import PanopticResult


class TestLabelTiff(ExportContract):
    format = "labels"

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        labels = tifffile.imread(folder / f"{result.name}_labels.tif")
        assert labels.dtype == np.uint16
        return [labels == number for number in range(1, int(labels.max(initial=0)) + 1)]

    @pytest.mark.parametrize("size", [PixelSize(0.25, "um"), PixelSize(0.1, "mm"), None])
    def test_the_scale_is_imagejs(self, tmp_path: Path, size: PixelSize | None) -> None:
        self.write(tmp_path, torn(3, "plant003", size))
        path = tmp_path / "plant003_labels.tif"
        assert read_pixel_size(path).pixel_size == size
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_imagej
            assert (tiff.imagej_metadata or {}).get("unit") == (size.unit if size else None)
            numerator, denominator = tiff.pages[0].tags["XResolution"].value
            assert numerator / denominator == pytest.approx(1 / size.length if size else 1)

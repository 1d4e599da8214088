"""Label pictures with a palette, read back by Pillow, tifffile and scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from export_contract import ExportContract
from numpy.typing import NDArray
from PIL import Image

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.exports.exporter import open_exporter
from panembed.results.result import PanopticResult


class TestColors(ExportContract):
    format = "colors"

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        with Image.open(folder / f"{result.name}_colors.png") as picture:
            assert picture.mode == "P"
            numbers = np.asarray(picture)
        return [numbers == number for number in range(1, int(numbers.max(initial=0)) + 1)]


def row_of(count: int) -> PanopticResult:
    leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    instance = np.arange(count + 1)[None].repeat(2, 0)
    return PanopticResult(PanopticMap(instance > 0, instance), leaves, np.zeros((2, count + 1, 3), np.uint8), "many")


def write(tmp_path: Path, format: str, count: int) -> Path:
    result = row_of(count)
    exporter = open_exporter(format, tmp_path, result.label_set)
    exporter.add(Path("many.jpg"), result, result.measure())
    return exporter.path_of(result)


def test_every_number_of_a_palette_has_a_color_of_its_own(tmp_path: Path) -> None:
    with Image.open(write(tmp_path, "colors", 255)) as picture:
        assert np.asarray(picture)[0].tolist() == list(range(256))
        shown = np.asarray(picture.convert("RGB"))[0].astype(int)
    assert shown[0].tolist() == [0, 0, 0]
    assert len(np.unique(shown, axis=0)) == 256
    assert shown[1:].max(1).min() > 60  # seen on black


def test_beyond_the_palette_colors_are_still_shown(tmp_path: Path) -> None:
    with Image.open(write(tmp_path, "colors", 600)) as picture:
        assert picture.mode == "RGB"
        shown = np.asarray(picture)[0].astype(int)
    assert not shown[0].any()
    assert (shown[1:].max(1) > 60).all()
    assert (shown[1:-1] != shown[2:]).any(1).all()


def test_imagej_has_a_color_table(tmp_path: Path) -> None:
    with tifffile.TiffFile(write(tmp_path, "labels", 300)) as file:
        metadata = file.imagej_metadata
        assert file.asarray().max() == 300
    assert metadata is not None
    assert np.shape(metadata["LUTs"]) == (3, 256)
    assert (metadata["min"], metadata["max"]) == (0.0, 300.0)

"""What must be true of every export: its test class inherits from `ExportContract`, and reads with other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from panembed.io.pixel_size import PixelSize
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.exports.exporter import FORMATS, open_exporter
from panembed.results.result import PanopticResult

FIELD = LabelSet(
    [
        Category(0, "soil", False),
        Category(3, "crop", True, (0, 90, 200)),
        Category(7, "Blätter: 'alt'", True, (200, 0, 9)),
    ]
)

NUM_MAPS = 200


def torn_labels(seed: int) -> NDArray[np.int64]:
    """Objects with holes, islands in holes, single pixels, corners that touch, pieces apart; up to the borders."""
    rng = np.random.default_rng(seed)
    height, width, coarseness = *rng.integers(1, 24, 2), rng.integers(1, 4)
    labels = rng.integers(0, rng.integers(2, 9), (height, width)) * (rng.random((height, width)) < rng.uniform(0.3, 1))
    labels = labels.repeat(coarseness, 0).repeat(coarseness, 1)
    speckled = rng.random(labels.shape) < 0.05
    labels[speckled] = rng.integers(0, 9, np.count_nonzero(speckled))
    return labels


def torn(seed: int, name: str | None = None, pixel_size: PixelSize | None = None) -> PanopticResult:
    labels = torn_labels(seed)
    panoptic = PanopticMap(np.where(labels > 0, 1 + labels % 2, 0), labels)
    num_objects = panoptic.num_instances
    return PanopticResult(
        panoptic,
        FIELD,
        np.zeros((*labels.shape, 3), np.uint8),
        name or f"torn {seed}",
        scores=np.linspace(0.1, 0.9, num_objects),
        pixel_size=pixel_size,
    )


class ExportContract:
    """Fill in `format` and `masks`."""

    format: str

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        """The HxW mask of each object, in the order of its numbers, as another program reads it from the files."""
        raise NotImplementedError

    def write(self, folder: Path, *results: PanopticResult) -> None:
        exporter = open_exporter(self.format, folder, FIELD)
        for result in results:
            path = Path("A1") / f"{result.name}.png"
            exporter.check(path, result)
            exporter.add(path, result, result.measure())
        exporter.close()

    @pytest.mark.slow
    def test_masks_come_back_pixel_by_pixel(self, tmp_path: Path) -> None:
        results = [torn(seed, f"plant{seed:03}") for seed in range(NUM_MAPS)]
        self.write(tmp_path, *results)
        for result in results:
            ids, masks = result.instance_ids(), self.masks(tmp_path, result)
            assert len(masks) == len(result.objects) == ids.max()
            for number, mask in enumerate(masks, start=1):
                assert np.array_equal(mask, ids == number), (result.name, number)

    def test_an_image_without_objects(self, tmp_path: Path) -> None:
        nothing = PanopticMap(np.zeros((3, 4), int), np.zeros((3, 4), int))
        result = PanopticResult(nothing, FIELD, np.zeros((3, 4, 3), np.uint8), "plant001")
        self.write(tmp_path, result)
        assert self.masks(tmp_path, result) == []

    def test_no_images(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        written = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()]
        assert written == ([FORMATS[self.format].all] if FORMATS[self.format].all else [])

    def test_the_same_result_gives_the_same_bytes(self, tmp_path: Path, files_of) -> None:  # type: ignore[no-untyped-def]
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            self.write(tmp_path / name, torn(3, "plant003"), torn(4, "plant004"))
        assert files_of(tmp_path / "one") == files_of(tmp_path / "two")

    def test_its_files_are_those_that_are_said(self, tmp_path: Path) -> None:
        self.write(tmp_path, torn(3, "plant003"))
        format = FORMATS[self.format]
        said = {name.format("plant003") for name in (format.each, format.all) if name}
        assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == said

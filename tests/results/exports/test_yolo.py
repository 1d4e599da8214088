"""YOLO's text files, filled by pycocotools and by scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from export_contract import ExportContract, torn
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from skimage.draw import polygon2mask

from panembed.results.result import PanopticResult


class TestYolo(ExportContract):
    format = "yolo"

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        height, width = result.panoptic.shape
        masks = []
        for line, segment in zip(
            (folder / "yolo/labels" / f"{result.name}.txt").read_text().splitlines(), result.objects, strict=True
        ):
            number, *corners = line.split()
            assert int(number) == segment.category - 1  # the first class is no thing
            ring = np.array(corners, float).reshape(-1, 2) * (width, height)
            code = coco_mask.merge(coco_mask.frPyObjects([ring.ravel().tolist()], height, width))
            filled = polygon2mask((height, width), ring[:, ::-1] - 0.5)
            assert np.array_equal(coco_mask.decode(code), filled)
            masks.append(filled)
        return masks

    def test_classes_are_named(self, tmp_path: Path) -> None:
        self.write(tmp_path, torn(3, "plant003"))
        content = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8"))
        assert content["names"] == {0: "crop", 1: "Blätter: 'alt'"}

"""COCO instance JSON, read by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from export_contract import FIELD, ExportContract, torn
from hotcoco import COCO as HotCoco
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from panembed.io.coco_masks import encode_rle
from panembed.results.exports.exporter import open_exporter
from panembed.results.result import PanopticResult


def open_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


class CocoContract(ExportContract):
    file: str

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        path = folder / self.file
        self.opened: tuple[Path, COCO]
        if getattr(self, "opened", (None,))[0] != path:
            self.opened = path, open_coco(path)
        coco = self.opened[1]
        (image,) = (image for image in coco.dataset["images"] if image["file_name"] == f"{result.name}.png")
        assert (image["height"], image["width"]) == result.panoptic.shape
        rows = coco.imgToAnns[image["id"]]
        for row, segment, score in zip(rows, result.objects, result.scores if rows else (), strict=True):
            assert row["area"] == segment.area
            assert row["bbox"] == list(segment.bbox)
            assert row["category_id"] == FIELD[segment.category].id
            assert row["score"] == round(float(score), 4)
        return [coco.annToMask(row).astype(bool) for row in rows]


class TestPolygons(CocoContract):
    format, file = "coco", "instances.json"


class TestRunLengths(CocoContract):
    format, file = "coco-rle", "instances_rle.json"


def test_run_lengths_are_pycocotools_own() -> None:
    for seed in range(30):
        result = torn(seed)
        ids = result.instance_ids()
        for number, segment in enumerate(result.objects, start=1):
            theirs = coco_mask.encode(np.asfortranarray(ids == number, dtype=np.uint8))
            ours = encode_rle(ids, number, segment.bbox)
            assert (ours["size"], ours["counts"]) == (list(theirs["size"]), theirs["counts"].decode())


def test_images_are_numbered_as_their_names_are(tmp_path: Path) -> None:
    exporter = open_exporter("coco", tmp_path, FIELD)
    for name in ("000042", "7"):
        exporter.add(Path(f"{name}.jpg"), torn(3, name), [])
    exporter.close()
    content = json.loads((tmp_path / "instances.json").read_text())
    assert [image["id"] for image in content["images"]] == [42, 7]
    assert {row["image_id"] for row in content["annotations"]} == {42, 7}
    assert len({row["id"] for row in content["annotations"]}) == len(content["annotations"])
    assert HotCoco(str(tmp_path / "instances.json")).get_img_ids() == [7, 42]

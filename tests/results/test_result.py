"""What a prediction gives, read back with other programs' readers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from panembed.errors import OutputError
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.result import PanopticResult

STREET = LabelSet(
    [
        Category(7, "road", False),
        Category(26, "car", True),
        Category(24, "person", True),
        Category(31, "train", True),
    ]
)


def result(label_set: LabelSet = STREET) -> PanopticResult:
    semantic = np.array([[0, 1, 1, 1, 2, 2, IGNORE, 1]] * 4)
    instance = np.array([[0, 5, 5, 2, 2, 7, 3, 0]] * 4)
    image = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    return PanopticResult(PanopticMap(semantic, instance), label_set, image, "street.1")


def test_counts_objects_of_every_thing_class() -> None:
    assert result().counts() == {"car": 2, "person": 2, "train": 0}
    assert "street.1" in repr(result())


def test_instance_ids_are_unique_over_classes() -> None:
    found = result()
    ids = found.instance_ids()
    assert ids[0].tolist() == [0, 2, 2, 1, 3, 4, 0, 0]
    assert np.unique(ids[ids > 0]).size == sum(found.counts().values()) == len(found.measure())


def test_measure_agrees_with_the_instance_ids() -> None:
    found = result()
    ids = found.instance_ids()
    assert [row["area"] for row in found.measure()] == [np.count_nonzero(ids == n) for n in (1, 2, 3, 4)]


def test_save_writes_three_pictures(tmp_path: Path) -> None:
    found = result()
    paths = found.save(tmp_path)
    assert [p.name for p in paths] == ["street.1_instances.png", "street.1_semantic.png", "street.1_overlay.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    with Image.open(paths[0]) as instances, Image.open(paths[1]) as semantic, Image.open(paths[2]) as picture:
        assert instances.mode == "I;16"
        assert np.array_equal(np.asarray(instances), found.instance_ids())
        assert semantic.mode == "L"
        assert np.asarray(semantic)[0].tolist() == [7, 26, 26, 26, 24, 24, 255, 26]
        assert np.array_equal(np.asarray(picture), found.overlay())


def test_class_ids_above_8_bits(tmp_path: Path) -> None:
    label_set = LabelSet([Category(0, "road", False), Category(255, "car", True), Category(4000, "person", True)])
    paths = result(label_set).save(tmp_path)
    with Image.open(paths[1]) as semantic:
        assert np.asarray(semantic)[0].tolist() == [0, 255, 255, 255, 4000, 4000, 65535, 255]


@pytest.mark.slow
def test_seventy_thousand_objects_become_a_tiff(tmp_path: Path) -> None:
    instance = np.arange(1, 70_001).reshape(250, 280)
    label_set = LabelSet([Category(1, "cell", True)])
    panoptic = PanopticMap(np.zeros((250, 280), int), instance[::-1])
    paths = PanopticResult(panoptic, label_set, np.zeros((250, 280, 3), np.uint8), "many").save(tmp_path)
    assert paths[0].name == "many_instances.tif"
    assert paths[0].is_file()
    stored = tifffile.imread(paths[0])
    assert stored.dtype == np.uint32
    assert np.array_equal(stored, instance[::-1])
    # The same image with fewer objects: one answer stays, not both.
    few = PanopticResult(
        PanopticMap(np.zeros((2, 2), int), np.eye(2, dtype=int)), label_set, np.zeros((2, 2, 3), np.uint8)
    )
    few.name = "many"
    few.save(tmp_path)
    assert [path.name for path in tmp_path.glob("many_instances.*")] == ["many_instances.png"]


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc/x", "..", "", "a\0b"])
def test_names_that_no_file_can_have(name: str) -> None:
    panoptic = PanopticMap(np.zeros((2, 2), int), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="expected the name of a file"):
        PanopticResult(panoptic, STREET, np.zeros((2, 2, 3), np.uint8), name)


def test_nothing_found(tmp_path: Path) -> None:
    panoptic = PanopticMap(np.full((4, 4), IGNORE), np.zeros((4, 4), int))
    empty = PanopticResult(panoptic, STREET, np.zeros((4, 4, 3), np.uint8))
    assert empty.counts() == {"car": 0, "person": 0, "train": 0}
    assert empty.measure() == []
    assert not empty.instance_ids().any()
    assert all(path.is_file() for path in empty.save(tmp_path))


def test_save_makes_the_folder(tmp_path: Path) -> None:
    assert all(path.is_file() for path in result().save(tmp_path / "new" / "folder"))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of this path is a file"):
        result().save(tmp_path / "file" / "folder")


def test_notebooks_show_the_overlay() -> None:
    with Image.open(io.BytesIO(result()._repr_png_())) as picture:
        assert np.array_equal(np.asarray(picture), result().overlay())


def test_to_coco_names_every_segment() -> None:
    picture, annotation = result().to_coco(image_id=12)
    assert annotation["image_id"] == 12
    assert annotation["file_name"] == "street.1.png"
    ids = picture.astype(np.int64) @ [1, 256, 65536]
    assert {s["id"]: s["area"] for s in annotation["segments_info"]} == {
        int(n): int(np.count_nonzero(ids == n)) for n in np.unique(ids) if n
    }

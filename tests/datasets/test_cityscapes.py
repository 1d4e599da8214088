"""Cityscapes: made-up files in the official folders, and the real ones where there are any."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.cityscapes import CITYSCAPES, CityscapesDataset, is_cityscapes, official_split
from panembed.datasets.layout import open_dataset
from panembed.datasets.part import choose_ids, has_test
from panembed.datasets.splits import Split
from panembed.errors import InputError, OutputError
from panembed.io.cityscapes import IGNORED_IDS, decode_instance_ids, encode_instance_ids
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality

NUMBERS = np.array(
    [[7, 8, 23, 0, 3], [24, 24005, 26000, 26999, 18], [29, 29003, 30001, 4, 17], [33, 33, 33007, 9, 16]], np.uint16
)


def add(root: Path, id: str, numbers=NUMBERS, *, labels=True) -> None:
    image, truth = root / "leftImg8bit" / f"{id}_leftImg8bit.png", root / "gtFine" / f"{id}_gtFine_instanceIds.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*NUMBERS.shape, 3), np.uint8)).save(image)
    if numbers is None:
        return
    truth.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers).save(truth)
    if labels:
        classes = np.where(numbers >= 1000, numbers // 1000, numbers).astype(np.uint8)
        Image.fromarray(classes).save(str(truth).replace("instanceIds", "labelIds"))


@pytest.fixture
def root(tmp_path):
    add(tmp_path / "c", "train/aachen/aachen_000000_000019")
    return tmp_path / "c"


def test_classes_are_the_official_ones():
    assert len(CITYSCAPES) == 19
    assert [CITYSCAPES[i].id for i in CITYSCAPES.things] == [24, 25, 26, 27, 28, 31, 32, 33]
    assert [c.id for c in CITYSCAPES] == sorted(set(range(34)) - set(IGNORED_IDS))
    by_name = {c.name: c for c in CITYSCAPES}
    assert by_name["car"].color == (0, 0, 142)
    assert by_name["traffic light"].id == 19


def test_ids_sniffing_and_numbers(root):
    assert is_cityscapes(root)
    dataset = open_dataset(root)
    assert type(dataset) is CityscapesDataset
    assert dataset.ids == ["train/aachen/aachen_000000_000019"]
    truth = dataset.load(dataset.ids[0]).truth
    dataset.verify(dataset.ids[0])
    person, car, bicycle = (CITYSCAPES.index_of(id) for id in (24, 26, 33))
    assert truth.semantic[0].tolist() == [0, 1, CITYSCAPES.index_of(23), IGNORE, IGNORE]
    # A group is a crowd; polegroup is a class that is ignored; caravans and trailers are void.
    assert truth.semantic[1].tolist() == [person, person, car, car, IGNORE]
    assert truth.instance[1].tolist() == [0, 6, 1, 1000, 0]
    assert truth.semantic[2].tolist() == [IGNORE, IGNORE, IGNORE, IGNORE, CITYSCAPES.index_of(17)]
    assert truth.crowd == {(person, 0), (bicycle, 0)}
    assert not truth.instance[truth.semantic == IGNORE].any()


def test_license_plate_is_void():
    numbers = np.array([[-1, 7], [65535, 7]], np.int32)
    assert decode_instance_ids(numbers).semantic.tolist() == [[IGNORE, 0], [IGNORE, 0]]


@pytest.mark.parametrize("value", [34, 255, 999, 7001, 34_000, 27_000_000, -2])
def test_a_number_that_stands_for_nothing(value):
    with pytest.raises(InputError, match=f"x.png: holds {value} "):
        decode_instance_ids(np.array([[7, value]], np.int32), source="x.png")


def test_encode_and_decode():
    truth = decode_instance_ids(NUMBERS.astype(np.int32))
    again = decode_instance_ids(encode_instance_ids(truth).astype(np.int32))
    (map_a, table_a), (map_b, table_b) = truth.segments(CITYSCAPES), again.segments(CITYSCAPES)
    assert np.array_equal(map_a, map_b)
    assert [(s.category, s.is_crowd, s.area) for s in table_a] == [(s.category, s.is_crowd, s.area) for s in table_b]


def test_things_without_object_become_void_not_a_crowd():
    car = CITYSCAPES.index_of(26)
    assert encode_instance_ids(PanopticMap([[car, 0]], [[0, 0]])).tolist() == [[0, 7]]
    assert encode_instance_ids(PanopticMap([[car, 0]], [[0, 0]], [(car, 0)])).tolist() == [[26, 7]]


def test_other_classes_can_not_be_written():
    leaves = LabelSet.from_list([{"id": 26, "name": "leaf", "isthing": 1}])
    with pytest.raises(OutputError, match=r"'leaf' is not one of Cityscapes' 19 \(there it is 26 car\)"):
        encode_instance_ids(PanopticMap([[0]], [[1]]), leaves)
    many = np.arange(1, 1002)[None]
    with pytest.raises(OutputError, match="'car' has 1001 objects"):
        encode_instance_ids(PanopticMap(np.full(many.shape, CITYSCAPES.index_of(26)), many))


def test_image_without_annotation_and_the_other_way_round(root):
    add(root, "train/aachen/aachen_000001_000019", None)
    with pytest.raises(InputError, match=r"aachen_000001_000019_leftImg8bit.png: has no annotation"):
        CityscapesDataset(root)
    add(root, "train/aachen/aachen_000001_000019")
    (root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(InputError, match=r"aachen_000000_000019_gtFine_instanceIds.png: has no image"):
        CityscapesDataset(root)


def test_split_without_any_annotation_is_left_out(root):
    add(root, "test/berlin/berlin_000000_000019", None)
    dataset = CityscapesDataset(root)
    assert dataset.left_out == ("test/berlin/berlin_000000_000019",)
    assert dataset.ids == ["train/aachen/aachen_000000_000019"]
    shutil.rmtree(root / "gtFine/train")
    with pytest.raises(InputError, match="found 2 images, none of them annotated"):
        CityscapesDataset(root)


def test_dummy_test_annotations_are_void(root):
    add(root, "test/berlin/berlin_000000_000019", np.full(NUMBERS.shape, 3, np.uint16))
    truth = CityscapesDataset(root).read_truth("test/berlin/berlin_000000_000019")
    assert (truth.semantic == IGNORE).all()
    assert not truth.crowd


def test_missing_folders(tmp_path):
    (tmp_path / "leftImg8bit").mkdir()
    with pytest.raises(InputError, match="has no folder gtFine/"):
        CityscapesDataset(tmp_path)
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(InputError, match="found no images"):
        CityscapesDataset(tmp_path)


def test_verify_finds_another_class(root):
    path = root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    with Image.open(path) as image:
        labels = np.array(image)
    labels[0, 0] = 8
    Image.fromarray(labels).save(path)
    with pytest.raises(InputError, match="1 pixels are of another class"):
        CityscapesDataset(root).verify("train/aachen/aachen_000000_000019")


def test_official_split(root):
    for number in range(1, 10):
        add(root, f"train/aachen/aachen_{number:06}_000019", labels=False)
    only_train = official_split(CityscapesDataset(root), seed=3)
    assert (len(only_train.train), len(only_train.val), only_train.test) == (8, 2, ())
    add(root, "val/ulm/ulm_000000_000019")
    add(root, "test/berlin/berlin_000000_000019")
    dataset = CityscapesDataset(root)
    split = dataset.official_split(3)
    split.check(dataset.ids)
    assert (split.train, split.val) == (only_train.train, only_train.val)
    assert split.test == ("val/ulm/ulm_000000_000019",)
    assert split != official_split(dataset, seed=4)
    assert "test/berlin/berlin_000000_000019" in dataset.ids


def test_official_split_needs_three(root):
    with pytest.raises(InputError, match="holds 1 annotated images"):
        official_split(CityscapesDataset(root))


@pytest.fixture(scope="module")
def real():
    folder = os.environ.get("PANEMBED_DATA")
    if not folder:
        pytest.skip("PANEMBED_DATA is not set")
    if not is_cityscapes(Path(folder) / "cityscapes"):
        pytest.skip("PANEMBED_DATA has no cityscapes")
    return CityscapesDataset(Path(folder) / "cityscapes")


@pytest.mark.data
@pytest.mark.slow
def test_real_targets_agree_with_label_ids(real):
    assert len(real) > 0
    quality = PanopticQuality(CITYSCAPES)
    class_of = {c.id: i for i, c in enumerate(CITYSCAPES)}
    lookup = np.array([class_of.get(id, IGNORE) for id in range(256)], np.uint8)
    num_crowds = 0
    for id in real.ids:
        path = real.label_path(id)
        with Image.open(str(path).replace("instanceIds", "labelIds")) as image:
            labels = np.asarray(image)
        with Image.open(path) as image:
            numbers = np.asarray(image).astype(np.int64)
        truth = real.read_truth(id)
        assert truth.shape == (1024, 2048)
        assert np.array_equal(truth.semantic, lookup[labels])
        kept = np.isin(numbers // 1000, [CITYSCAPES[i].id for i in CITYSCAPES.things])
        assert truth.num_instances == len(np.unique(numbers[kept]))
        num_crowds += len(truth.crowd)
        quality.update(truth, truth)
    result = quality.compute()
    assert num_crowds > 0
    assert (result.all.pq, result.things.pq, result.stuff.pq) == (1.0, 1.0, 1.0)
    assert result.all.fp == result.all.fn == 0


def test_the_official_split_chooses_what_is_scored(root):
    """Where there is no split.json; one of the user's own counts more."""
    dataset = CityscapesDataset(root)
    assert not has_test(dataset)
    with pytest.raises(InputError, match="holds 1 annotated images; the official split needs 3 or more"):
        choose_ids(dataset, "train")
    with pytest.raises(InputError, match="its official split has no image for test; take another --split"):
        choose_ids(dataset, "test")
    add(root, "val/ulm/ulm_000000_000019")
    assert choose_ids(CityscapesDataset(root), "test") == ("val/ulm/ulm_000000_000019",)
    for number in range(1, 6):
        add(root, f"train/aachen/aachen_{number:06}_000019")
    dataset = CityscapesDataset(root)
    assert has_test(dataset)
    assert choose_ids(dataset, "test") == ("val/ulm/ulm_000000_000019",)
    assert choose_ids(dataset, "train") == dataset.official_split().train
    Split(tuple(dataset.ids[1:]), (), tuple(dataset.ids[:1])).write(root / "split.json")
    assert choose_ids(dataset, "test") == tuple(dataset.ids[:1])

"""COCO panoptic folders: made-up ones, and panopticapi's sample where it is there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panembed.datasets.coco_panoptic import CocoPanopticDataset, is_coco_panoptic, read_panoptic_json
from panembed.datasets.layout import open_dataset
from panembed.errors import InputError, SettingsError
from panembed.io.coco_panoptic import CocoPanopticWriter, encode_ids
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality

FIELD = LabelSet([Category(3, "crop", True), Category(9, "soil", False), Category(200, "weed", True)])
IDS = np.array([[0, 5, 5, 70_000], [9, 9, 600, 600]])
SEGMENTS = [
    {"id": 5, "category_id": 3, "iscrowd": 0, "area": 2, "bbox": [1, 0, 2, 1]},
    {"id": 70_000, "category_id": 3, "iscrowd": 1},
    {"id": 9, "category_id": 9},
    {"id": 600, "category_id": 200},
]


def content(image_id: int | str = 17, name: str = "a.jpg", png: str = "a.png") -> dict:
    return {
        "images": [{"id": image_id, "file_name": name, "height": 2, "width": 4}],
        "annotations": [{"image_id": image_id, "file_name": png, "segments_info": [dict(s) for s in SEGMENTS]}],
        "categories": [{"id": c.id, "name": c.name, "isthing": int(c.is_thing)} for c in FIELD],
    }


def make(
    root: Path, data: dict | None = None, *, stem="panoptic", pngs="panoptic", images="images", json_in="."
) -> Path:
    (root / json_in).mkdir(parents=True, exist_ok=True)
    (root / json_in / pngs).mkdir()
    (root / json_in / f"{stem}.json").write_text(json.dumps(content() if data is None else data))
    Image.fromarray(encode_ids(IDS)).save(root / json_in / pngs / "a.png")
    if images is not None:
        (root / images).mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 4, 3), 90, np.uint8)).save(root / images / "a.jpg")
    return root


def check(dataset: CocoPanopticDataset) -> None:
    truth = dataset.read_truth("a")
    assert truth.semantic.tolist() == [[IGNORE, 0, 0, 0], [1, 1, 2, 2]]
    assert truth.instance.tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert truth.crowd == {(0, 0)}


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"images": "."},
        {"stem": "panoptic_val2017", "pngs": "panoptic_val2017", "images": "val2017", "json_in": "annotations"},
        {"stem": "truth", "pngs": "panoptic"},
        {"json_in": "annotations", "images": "annotations"},
        {"images": "input_images"},
    ],
)
def test_where_files_may_lie(places, tmp_path):
    root = make(tmp_path / "d", **places)
    assert is_coco_panoptic(root)
    dataset = open_dataset(root)
    assert type(dataset) is CocoPanopticDataset
    assert dataset.ids == ["a"]
    assert [c.id for c in dataset.label_set] == [3, 9, 200]
    check(dataset)
    assert dataset.load("a").image.shape == (2, 4, 3)


def test_folders_named_by_options(tmp_path):
    root = make(tmp_path / "d", stem="x", pngs="truth", images="photographs")
    with pytest.raises(InputError, match=r"folder of PNGs was not found; expected .*panoptic/; move it there"):
        open_dataset(root)
    dataset = open_dataset(root, json_file="x.json", segmentations="truth", images="photographs")
    check(dataset)
    assert dataset.load("a").size == (2, 4)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        open_dataset(root, segmentations="truth", images="nowhere")


def test_photographs_are_not_needed_for_truth(tmp_path):
    dataset = open_dataset(make(tmp_path / "d", images=None))
    check(dataset)
    with pytest.raises(InputError, match=r"a.jpg: the photograph was not found; looked in .*images"):
        dataset.load("a")


@pytest.mark.parametrize("image_id", [17, "aachen_000000"])
def test_joined_by_image_id(image_id, tmp_path):
    """Cityscapes' JSON has text for ids, and names images that don't exist."""
    data = content(image_id, "b_gtFine_leftImg8bit.png")
    data["images"].insert(0, {"id": 99, "file_name": "a.png"})
    dataset = open_dataset(make(tmp_path / "d", data))
    assert dataset.ids == ["b_gtFine_leftImg8bit"]
    assert dataset.left_out == ("a",)
    assert dataset.image_ids == {"b_gtFine_leftImg8bit": image_id}
    assert dataset.read_truth("b_gtFine_leftImg8bit").num_instances == 2


def test_several_json(tmp_path):
    root = make(tmp_path / "d", stem="truth")
    # Results have no images and categories, detection format has no segments_info.
    (root / "results.json").write_text(json.dumps({"annotations": content()["annotations"]}))
    (root / "instances.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    check(open_dataset(root))
    (root / "other.json").write_text(json.dumps(content()))
    with pytest.raises(InputError, match=r"several JSON files fit \(other.json, results.json, truth.json\)"):
        open_dataset(root)
    check(open_dataset(root, json_file="other.json"))
    (root / "panoptic.json").write_text(json.dumps(content()))
    check(open_dataset(root))


def test_a_folder_of_coco_is_not_taken_for_label_images(tmp_path):
    root = make(tmp_path / "d")
    assert type(open_dataset(root)) is CocoPanopticDataset
    (root / "labels.yaml").write_text("classes: []")
    with pytest.raises(InputError, match="could be coco-panoptic or folder"):
        open_dataset(root)


def test_our_own_writer(tmp_path):
    panoptic = PanopticMap([[0, 0, 1], [2, IGNORE, 2]], [[4, 7, 0], [1, 0, 2]], [(2, 2)])
    with CocoPanopticWriter(tmp_path, FIELD) as writer:
        writer.add("far/plant.1.jpg", panoptic)
        writer.add("near.png", panoptic)
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ["far/plant.1", "near"]
    quality = PanopticQuality(FIELD)
    for id in dataset.ids:
        quality.update(dataset.read_truth(id), panoptic)
    result = quality.compute()
    assert (result.all.pq, result.all.fp, result.all.fn) == (1.0, 0, 0)


def test_two_channels(tmp_path):
    data = {key: content()[key] for key in ("images", "categories")}
    root = make(tmp_path / "d", data, stem="info", pngs="two")
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, :, 0], pixels[1, :, 0] = [3, 3, 3, 0], [9, 200, 200, 0]
    pixels[0, :, 1], pixels[1, :, 1] = [0, 1, 255, 8], [4, 254, 254, 255]
    Image.fromarray(pixels).save(root / "two/a.png")
    dataset = open_dataset(root, "coco-panoptic", json_file="info.json", segmentations="two", encoding="two-channel")
    truth = dataset.read_truth("a")
    assert truth.semantic.tolist() == [[0, 0, 0, IGNORE], [1, 2, 2, IGNORE]]
    assert truth.instance.tolist() == [[1, 2, 0, 0], [0, 255, 255, 0]]
    assert truth.crowd == {(0, 0)}
    pixels[0, 0, 0] = 4
    Image.fromarray(pixels).save(root / "two/a.png")
    with pytest.raises(InputError, match=r"a\.png: holds the category id 4 in its first channel"):
        dataset.read_truth("a")
    with pytest.raises(SettingsError, match="encoding is '2ch'; expected ids or two-channel"):
        open_dataset(root, "coco-panoptic", encoding="2ch")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("images", None, "images is nothing"),
        ("annotations", {}, "annotations is"),
        ("categories", [], "needs 1 to 255 classes, found 0"),
        ("categories", [{"id": 1, "name": "a"}], r"categories\[0\] has no isthing"),
        ("categories", [{"id": 1, "name": "a", "isthing": 1, "color": [1, 2, 300]}], "color"),
        ("categories", [{"id": 70_000, "name": "a", "isthing": 1}], "expected 0..65534"),
        ("images", [{"id": 1.5, "file_name": "a.jpg"}], r"images\[0\].id is 1.5"),
        ("images", [{"id": 17, "file_name": 3}], r"images\[0\].file_name is 3"),
        ("images", [{"id": 17, "file_name": "a.jpg", "height": "2"}], "height is '2'"),
        ("images", [{"id": 17, "file_name": "a.jpg"}] * 2, "17 occurs twice"),
        ("images", [{"id": 18, "file_name": "a.jpg"}], "17 is not in images"),
        ("annotations", content()["annotations"] * 2, "has two annotations"),
        ("annotations", [{"image_id": 17, "file_name": "a.png"}], "segments_info is nothing"),
        ("annotations", [{"image_id": 17, "file_name": "a.png", "segments_info": [{"id": 1}]}], "has the segment"),
    ],
)
def test_wrong_json(key, value, said, tmp_path):
    data = content()
    data[key] = value
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(make(tmp_path / "d", data), "coco-panoptic", json_file="panoptic.json")
    assert "panoptic.json: " in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[1", "3", '{"images": 1e999}', "[" * 100_000, "\udcff", '{"a": "segments_info"}']
)
def test_not_json(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"a\.json: "):
        read_panoptic_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/hostname", "x/../../secret.png", "C:\\secret.png", "..\\secret.png", "", ".", "a\0b"],
)
@pytest.mark.parametrize("where", ["images", "annotations"])
def test_names_that_lead_out_are_refused(name, where, tmp_path, monkeypatch):
    Image.fromarray(encode_ids(IDS)).save(tmp_path / "secret.png")
    data = content()
    data[where][0]["file_name"] = name
    root = make(tmp_path / "d", data)
    monkeypatch.setattr("panembed.datasets.coco_panoptic.read_raster", lambda *_: pytest.fail("a file was read"))
    with pytest.raises(InputError, match="leads out of the data"):
        open_dataset(root, "coco-panoptic").read_truth("a")


@pytest.mark.parametrize("name", ["x" * 5000 + ".jpg", "a.jpg/x.jpg", "a b\u00a0c.jpg"])
def test_strange_names_are_files_that_are_missing(name, tmp_path):
    data = content(name=name)
    dataset = open_dataset(make(tmp_path / "d", data))
    assert dataset.read_truth(dataset.ids[0]).num_instances == 2
    with pytest.raises(InputError, match="the photograph was not found"):
        dataset.load(dataset.ids[0])


def test_a_name_that_no_table_can_hold(tmp_path):
    with pytest.raises(InputError, match=r"the name of .ud800/x is not UTF-8"):
        open_dataset(make(tmp_path / "d", content(name="\ud800/x.jpg")))


def test_pixels_that_do_not_fit(tmp_path):
    dataset = open_dataset(make(tmp_path / "d"))
    path = tmp_path / "d/panoptic/a.png"
    for array, said in (
        (np.zeros((2, 4), np.uint8), "is a PNG of 1 x uint8; expected a PNG, RGB of 8 bits"),
        (encode_ids(IDS[:1]), "is 4x1 pixels, but panoptic.json says 4x2"),
        (encode_ids(IDS + (IDS == 5)), "segment id 5 is in segments_info but has no pixels"),
    ):
        Image.fromarray(array).save(path)
        with pytest.raises(InputError, match=said):
            dataset.read_truth("a")
    path.unlink()
    with pytest.raises(InputError, match=r"a\.png: no such file"):
        dataset.read_truth("a")


@pytest.fixture(scope="module")
def sample():
    folder = os.environ.get("PANEMBED_DATA")
    if not folder:
        pytest.skip("PANEMBED_DATA is not set")
    if not (Path(folder) / "coco_panoptic_sample").is_dir():
        pytest.skip("PANEMBED_DATA has no coco_panoptic_sample")
    return Path(folder) / "coco_panoptic_sample"


@pytest.mark.data
def test_real_sample(sample):
    dataset = open_dataset(sample)
    assert dataset.json_path.name == "panoptic_examples.json"
    assert dataset.image_ids == {"000000142238": 142_238, "000000439180": 439_180}
    assert len(dataset.label_set) == 133
    assert dataset.load("000000142238").size == (427, 640)
    areas = {
        (a["image_id"], s["category_id"], s["iscrowd"], s["area"])
        for a in json.loads((sample / "panoptic_examples.json").read_text())["annotations"]
        for s in a["segments_info"]
    }
    found = {
        (dataset.image_ids[id], dataset.label_set[s.category].id, int(s.is_crowd), s.area)
        for id in dataset.ids
        for s in dataset.read_truth(id).segments(dataset.label_set)[1]
    }
    assert found == areas


@pytest.mark.data
def test_real_sample_in_two_channels_is_the_same(sample):
    dataset = open_dataset(sample)
    other = open_dataset(
        sample,
        json_file="images_info_examples.json",
        segmentations="panoptic_examples_2ch_format",
        encoding="two-channel",
    )
    for id in dataset.ids:
        assert other.read_truth(id) == dataset.read_truth(id)


@pytest.mark.data
def test_real_sample_against_its_run_lengths(sample):
    """The same segments in detection format, decoded by hotcoco."""
    from hotcoco import mask

    dataset = open_dataset(sample)
    names = {image_id: id for id, image_id in dataset.image_ids.items()}
    annotations = json.loads((sample / "panoptic_coco_detection_format.json").read_text())["annotations"]
    maps = {id: dataset.read_truth(id).segments(dataset.label_set) for id in dataset.ids}
    assert len(annotations) == sum(len(table) for _, table in maps.values())
    for annotation in annotations:
        segment_map, table = maps[names[annotation["image_id"]]]
        inside = np.asarray(mask.decode(annotation["segmentation"])).astype(bool)
        (segment_id,) = np.unique(segment_map[inside])
        segment = table[segment_id - 1]
        assert np.array_equal(segment_map == segment_id, inside)
        assert dataset.label_set[segment.category].id == annotation["category_id"]
        assert segment.is_crowd == bool(annotation["iscrowd"])

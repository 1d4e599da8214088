"""Predictions in files: every format, how it is told from the others, and what is said of files that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hotcoco.panoptic import PanopticEval

from panembed.datasets.layout import open_dataset
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError, SettingsError
from panembed.evaluation.predictions.matching import match_predictions
from panembed.evaluation.predictions.stored import open_predictions
from panembed.evaluation.scores import Evaluation, evaluate_predictions
from panembed.io.cityscapes import CITYSCAPES
from panembed.io.coco_panoptic import CocoPanopticWriter
from panembed.io.images import write_png
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.packing import pack
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.result import PanopticResult

LEAVES = LabelSet([Category(0, "background", False), Category(1, "leaf", True)])
FIELD = LabelSet([Category(0, "soil", False), Category(1, "crop", True), Category(2, "weed", True)])
CITY = LabelSet([Category(7, "road", False), Category(11, "wall", False), Category(26, "car", True)])


class Truths:
    """A data set in memory, whose image files are only names."""

    def __init__(self, label_set, maps, ending="_rgb.png"):
        self.label_set, self.maps, self.root = label_set, maps, Path("truth")
        self.ids = sorted(maps)
        self.ending = ending

    def __len__(self):
        return len(self.ids)

    def image_path(self, id):
        return self.root / (id + self.ending)

    def read_truth(self, id):
        return self.maps[id]


def blocks(label_set, seed=0, void=True):
    """A map of random blocks of every class, with objects of every thing class."""
    rng = np.random.default_rng(seed)
    semantic = np.kron(rng.integers(0, len(label_set), (5, 6)), np.ones((4, 4), int))
    numbers = np.kron(rng.integers(1, 5, (5, 6)), np.ones((4, 4), int))
    instance = np.where(np.isin(semantic, label_set.things), numbers, 0)
    if void:
        semantic[:3, :3], instance[:3, :3] = IGNORE, 0
    return PanopticMap(semantic, instance)


def worse(panoptic, seed):
    """The map moved by a pixel, with one object split and one gone."""
    rng = np.random.default_rng(seed)
    semantic = np.roll(panoptic.semantic, 1, axis=1)
    instance = np.roll(panoptic.instance, 1, axis=1)
    instance[(instance == 2) & (rng.random(instance.shape) < 0.4)] += 7
    semantic[semantic == IGNORE] = 0
    return PanopticMap(semantic, instance)


def truths(label_set, count=3, names="A1/plant{:03}", **options):
    return Truths(label_set, {names.format(k): blocks(label_set, k, **options) for k in range(count)})


def write_coco(folder, dataset, maps=None):
    with CocoPanopticWriter(folder, dataset.label_set) as writer:
        for id in dataset.ids:
            writer.add(id + dataset.ending, (maps or dataset.maps)[id])


def write_predict(folder, dataset):
    """As `panembed predict` does, with its flat names."""
    folder.mkdir(exist_ok=True)
    for id in dataset.ids:
        panoptic = dataset.maps[id]
        image = np.zeros((*panoptic.shape, 3), np.uint8)
        PanopticResult(panoptic, dataset.label_set, image, Path(id + dataset.ending).stem).save(folder)


def write_packed(folder, dataset):
    for id in dataset.ids:
        packed = pack(dataset.maps[id], dataset.label_set)
        packed[packed < 0] = 65_535
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        write_png(folder / f"{id}.png", packed.astype(np.uint16))


def write_ids(folder, dataset, ending=".tif"):
    for id in dataset.ids:
        panoptic = dataset.maps[id]
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{id}{ending}", np.where(panoptic.semantic == 1, panoptic.instance, 0))


def score(path, dataset, format="auto", **options):
    stored = open_predictions(path, dataset.label_set, format)
    matched = match_predictions(stored, dataset, dataset.ids, **options)
    return stored, evaluate_predictions(matched, dataset, dataset.ids).metrics()


WRITERS = {
    "coco-panoptic": (write_coco, True),
    "instances": (write_predict, True),
    "class-instance": (write_packed, True),
    "ids": (write_ids, False),
}


@pytest.mark.parametrize("label_set", [LEAVES, FIELD, CITY], ids=["leaves", "field", "city"])
@pytest.mark.parametrize("name", WRITERS)
def test_truth_against_itself(tmp_path, name, label_set):
    write, multi_class = WRITERS[name]
    if not multi_class and label_set is not LEAVES:
        pytest.skip("object numbers alone are for one thing and one stuff class")
    dataset = truths(label_set, void=multi_class)
    write(tmp_path / "predictions", dataset)
    stored, metrics = score(tmp_path / "predictions", dataset)
    assert stored.format == {"ids": "instances"}.get(name, name)
    for group in ("all", "things", "stuff"):
        assert (metrics[group]["pq"], metrics[group]["sq"], metrics[group]["rq"]) == (1.0, 1.0, 1.0)
    assert (metrics["ap"], metrics["ap50"], metrics["miou"]) == (1.0, 1.0, 1.0)
    assert all(entry["pq"] == entry["iou"] == 1.0 for entry in metrics["per_class"].values())


@pytest.mark.parametrize("label_set", [LEAVES, FIELD, CITY], ids=["leaves", "field", "city"])
def test_all_formats_give_what_hotcoco_gives(tmp_path, label_set):
    dataset = truths(label_set)
    maps = {id: worse(dataset.maps[id], k) for k, id in enumerate(dataset.ids)}
    predicted = Truths(label_set, maps)
    write_coco(tmp_path / "truth", dataset)
    write_coco(tmp_path / "coco-panoptic", dataset, maps)
    write_predict(tmp_path / "instances", predicted)
    write_packed(tmp_path / "class-instance", predicted)
    theirs = PanopticEval(str(tmp_path / "truth/panoptic.json"), str(tmp_path / "coco-panoptic/panoptic.json"))
    theirs.evaluate()
    direct = Evaluation(label_set)
    for id in dataset.ids:
        direct.add(id, maps[id], dataset.maps[id])
    for format in ("coco-panoptic", "instances", "class-instance"):
        stored, metrics = score(tmp_path / format, dataset)
        assert stored.format == format
        for name, group in (("All", "all"), ("Things", "things"), ("Stuff", "stuff")):
            for figure in ("pq", "sq", "rq"):
                assert metrics[group][figure] == pytest.approx(theirs.results()[name][figure], abs=1e-9)
        assert 0 < metrics["things"]["pq"] < 1
        assert metrics == direct.metrics()


# COCO panoptic files of other tools.


def rewrite(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


@pytest.fixture
def coco(tmp_path):
    dataset = truths(FIELD)
    write_coco(tmp_path / "found", dataset)
    return dataset, tmp_path / "found" / "panoptic.json"


def test_results_as_panopticapi_wants_them(coco, tmp_path):
    """Annotations only; names of PNGs that say nothing but with text ids; JSON and folder of another name."""
    dataset, path = coco

    def change(content):
        for number, entry in enumerate(content["annotations"]):
            os.rename(path.parent / "panoptic" / entry["file_name"], path.parent / "panoptic" / f"{number}.png")
            entry.update(image_id=dataset.ids[number], file_name=f"{number}.png")
        return {"annotations": content["annotations"]}

    rewrite(path, change)
    assert score(path, dataset)[1]["all"]["pq"] == 1.0
    path.rename(path.with_name("results.json"))
    (path.parent / "panoptic").rename(path.with_name("results"))
    for given in (path.with_name("results.json"), path.parent, path.with_name("results")):
        stored, metrics = score(given, dataset)
        assert stored.format == "coco-panoptic"
        assert metrics["all"]["pq"] == 1.0


def test_integer_ids_join_json_with_json(coco, tmp_path):
    _, path = coco
    (tmp_path / "truth").mkdir()
    write_coco(tmp_path / "truth", truths(FIELD))
    truth = open_dataset(tmp_path / "truth", "coco-panoptic")

    def change(content):
        for entry in content["annotations"]:
            new = f"{entry['image_id']}_out.png"
            os.rename(path.parent / "panoptic" / entry["file_name"], path.parent / "panoptic" / new)
            entry["file_name"] = new
        del content["images"]

    rewrite(path, change)
    stored = open_predictions(path, truth.label_set)
    matched = match_predictions(stored, truth, truth.ids)
    assert evaluate_predictions(matched, truth, truth.ids).metrics()["all"]["pq"] == 1.0


def test_names_of_categories_are_compared(coco):
    dataset, path = coco
    rewrite(path, lambda c: c["categories"][1].update(name="CROP "))
    assert score(path, dataset)[1]["all"]["pq"] == 1.0
    rewrite(path, lambda c: c["categories"][1].update(name="weed"))
    with pytest.raises(InputError, match="category 1 is 'weed', but 'crop' in the truth"):
        open_predictions(path, dataset.label_set)
    rewrite(path, lambda c: c["categories"][1].pop("name") and None)
    assert score(path, dataset)[1]["all"]["pq"] == 1.0


def test_unknown_category(coco):
    dataset, path = coco
    rewrite(path, lambda c: c["annotations"][0]["segments_info"][-1].update(category_id=99))
    with pytest.raises(InputError, match=r"unknown category_id 99; the label set has 0 soil, 1 crop, 2 weed"):
        score(path, dataset)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "is no COCO panoptic JSON"),
        ('{"annotations": [{"bbox": []}]}', "is no COCO panoptic JSON"),
        ('{"annotations": [{"segments_info": []}]}', "annotation 0 has no file_name"),
        ('{"annotations": [{"segments_info": [], "file_name": "../a.png"}]}', "expected a name inside the PNG folder"),
        ('{"annotations": [{"segments_info": [], "file_name": "/a.png"}]}', "expected a name inside the PNG folder"),
        ('{"annotations": [{"segments_info": [], "file_name": "a.png"}]}', "its PNGs, such as a.png, are missing"),
    ],
)
def test_json_that_is_none(tmp_path, content, message):
    (tmp_path / "panoptic.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_predictions(tmp_path, LEAVES)


def test_png_that_went_missing(coco):
    dataset, path = coco
    next((path.parent / "panoptic").rglob("*001*.png")).unlink()
    with pytest.raises(InputError, match=r"plant001_rgb\.png: "):
        score(path, dataset)


# Label images.


@pytest.mark.parametrize(
    ("numbers", "label_set", "format"),
    [
        ([0, 1, 2, 3], LEAVES, "instances"),
        ([0, 1], LEAVES, "instances"),
        ([0, 0], LEAVES, "instances"),
        ([0, 1000, 1001], LEAVES, "class-instance"),
        ([0, 1000, 1001, 65535], LEAVES, "class-instance"),
        ([0, 2, 1000, 1001], LEAVES, "instances"),
        ([0, 2000], LEAVES, "instances"),
        ([7, 11, 26000], CITY, "class-instance"),
        ([0, 1, 2], FIELD, "class-instance"),
    ],
)
def test_recognised_by_its_numbers(tmp_path, numbers, label_set, format):
    write_png(tmp_path / "a.png", np.array([numbers], np.uint16))
    assert open_predictions(tmp_path, label_set).format == format


def test_cityscapes_own_files_hold_ignored_classes(tmp_path):
    """Caravans, polegroups, what is out of the region of interest: void, as in the truth; a group is no object."""
    numbers = np.array([[7, 1, 18, 29, 29003, 26, 26004, 26004, 65535, 4]], np.uint16)
    write_png(tmp_path / "a_gtFine_instanceIds.png", numbers)
    panoptic = open_predictions(tmp_path, CITYSCAPES).read(0)
    car = CITYSCAPES.index_of(26)
    assert panoptic.semantic.tolist() == [[0, 255, 255, 255, 255, car, car, car, 255, 255]]
    assert [number > 0 for number in panoptic.instance[0].tolist()] == [False] * 6 + [True] * 2 + [False] * 2
    assert panoptic.crowd == frozenset()


def test_first_image_that_decides(tmp_path):
    write_png(tmp_path / "a.png", np.array([[0, 0]], np.uint16))
    write_png(tmp_path / "b.png", np.array([[0, 1003]], np.uint16))
    assert open_predictions(tmp_path, LEAVES).format == "class-instance"
    assert open_predictions(tmp_path, LEAVES, "instances").format == "instances"


def test_format_overrules(tmp_path):
    """One object with the number 1000, beside a number that would be a class of its own."""
    write_png(tmp_path / "a.png", np.array([[0, 1, 1000]], np.uint16))
    guessed, said = open_predictions(tmp_path, LEAVES).read(0), open_predictions(tmp_path, LEAVES, "instances").read(0)
    assert guessed.instance.tolist() == [[0, 0, 1]]  # class 1 without an object, and its first object
    assert guessed.crowd == frozenset()
    assert said.instance.tolist() == [[0, 1, 1000]]


def test_label_images_beside_coco(tmp_path):
    """What `predict` writes holds both; the format says which counts."""
    dataset = truths(FIELD, names="plant{:03}")
    write_predict(tmp_path, dataset)
    write_coco(tmp_path, dataset)
    write_png(tmp_path / "legend.png", np.zeros((9, 9, 3), np.uint8))
    assert score(tmp_path, dataset)[0].format == "coco-panoptic"
    stored, metrics = score(tmp_path, dataset, "instances")
    assert stored.format == "instances"
    assert len(stored.names) == 3
    assert metrics["all"]["pq"] == 1.0


def test_objects_without_classes(tmp_path):
    write_png(tmp_path / "a_instances.png", np.array([[0, 1]], np.uint16))
    with pytest.raises(SettingsError, match=r"which of the 2 thing classes.*expected a_semantic\.png beside it"):
        open_predictions(tmp_path, FIELD)
    # With several stuff classes the rest is void, so that objects can be scored alone.
    assert open_predictions(tmp_path, CITY).read(0).semantic.tolist() == [[IGNORE, 2]]


def test_name_and_name_semantic(tmp_path):
    write_png(tmp_path / "a.png", np.array([[0, 5, 5, 6]], np.uint16))
    write_png(tmp_path / "a_semantic.png", np.array([[0, 1, 1, 2]], np.uint8))
    write_png(tmp_path / "a_overlay.png", np.zeros((1, 4, 3), np.uint8))
    stored = open_predictions(tmp_path, FIELD)
    assert (stored.format, len(stored.names)) == ("instances", 1)
    assert stored.read(0) == PanopticMap([[0, 1, 1, 2]], [[0, 5, 5, 6]])


@pytest.mark.parametrize(
    ("files", "label_set", "message"),
    [
        ({"a": [0, 255, 255]}, LEAVES, "is a black and white mask"),
        ({"a": [0, 5000]}, FIELD, "unknown class id 5"),
        ({"a": [0, 3]}, FIELD, "say so with the format instances"),
        ({"a_instances": [0, 1], "a_semantic": [0, 9]}, FIELD, "a_semantic.png: holds the unknown class id 9"),
        ({"a_instances": [0, 1], "a_semantic": [0]}, FIELD, "is 1x1 pixels, but a_instances.png is 2x1"),
    ],
)
def test_numbers_that_mean_nothing(tmp_path, files, label_set, message):
    for name, numbers in files.items():
        write_png(tmp_path / f"{name}.png", np.array([numbers], np.uint16))
    with pytest.raises(InputError, match=message):
        open_predictions(tmp_path, label_set).read(0)


def test_negative_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-1, 2]], np.int32))
    with pytest.raises(InputError, match="holds the number -1"):
        open_predictions(tmp_path, LEAVES, "instances").read(0)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_predictions(tmp_path / "no", LEAVES)
    with pytest.raises(InputError, match="holds no label images"):
        open_predictions(tmp_path, LEAVES)
    with pytest.raises(InputError, match="holds no COCO panoptic JSON"):
        open_predictions(tmp_path, LEAVES, "coco-panoptic")
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="is a file; expected"):
        open_predictions(tmp_path / "a.png", LEAVES)
    with pytest.raises(SettingsError, match="did you mean 'instances'"):
        open_predictions(tmp_path, LEAVES, "instance")


def test_synthetic_plants(tmp_path):
    """A data set that has no files at all: only ids and maps are asked for."""
    dataset = SyntheticDataset(2, size=64)
    truth = Truths(dataset.label_set, {id: dataset.read_truth(id) for id in dataset.ids})
    write_ids(tmp_path, truth)
    assert score(tmp_path, truth)[1]["all"]["pq"] == 1.0


# Real data.


def real(name):
    root = os.environ.get("PANEMBED_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"PANEMBED_DATA doesn't name a folder with {name}")
    return Path(root) / name


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["cvppp", "cwfid", "nuclei", "cityscapes"])
def test_real_truth_against_itself(tmp_path, name):
    # CWFID comes without a description of its labels.
    options = {"label_set": FIELD, "encoding": "class-instance", "ignore": (65_535,)} if name == "cwfid" else {}
    dataset = open_dataset(real(name), **options)
    ids = dataset.ids[:2]
    maps = Truths(dataset.label_set, {id: dataset.read_truth(id) for id in ids})
    maps.ending = dataset.image_path(ids[0]).stem.removeprefix(Path(ids[0]).name) + ".png"
    write_coco(tmp_path / "coco", maps)
    write_predict(tmp_path / "instances", maps)
    write_packed(tmp_path / "packed", maps)
    for folder in ("coco", "instances", "packed"):
        stored = open_predictions(tmp_path / folder, dataset.label_set)
        metrics = evaluate_predictions(match_predictions(stored, dataset, ids), dataset, ids).metrics()
        assert (metrics["all"]["pq"], metrics["ap"], metrics["miou"]) == (1.0, 1.0, 1.0), folder


@pytest.mark.data
def test_sample_of_panopticapi():
    """Truth and prediction are the same files, two images of COCO with crowds and void."""
    root = real("coco_panoptic_sample")
    dataset = open_dataset(root)
    stored = open_predictions(root / "panoptic_examples.json", dataset.label_set)
    metrics = evaluate_predictions(match_predictions(stored, dataset, dataset.ids), dataset, dataset.ids).metrics()
    assert (metrics["all"]["pq"], metrics["ap"], metrics["miou"]) == (1.0, 1.0, 1.0)


def test_marks_of_crowds_count_for_nothing(coco):
    dataset, path = coco
    before = score(path, dataset)[1]

    def change(content):
        for entry in content["annotations"]:
            for segment in entry["segments_info"]:
                segment["iscrowd"] = 1

    assert before["objects_predicted"] > 0
    rewrite(path, change)
    assert score(path, dataset)[1] == before

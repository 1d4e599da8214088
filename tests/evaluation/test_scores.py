"""Scores of predictions that are right, wrong by a known amount, or of other classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from panembed.datasets.cvppp import LEAVES
from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError, ModelError
from panembed.evaluation.scores import Evaluation, default_min_area, evaluate_model, evaluate_predictions
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.mean_iou import MeanIoU
from panembed.metrics.panoptic_quality import PanopticQuality

PLANTS = SyntheticDataset(3, seed=5, size=64)


class Knows:
    """A model that knows the truth by the picture, and forgets what `forget` says."""

    def __init__(self, label_set: LabelSet = LEAVES, forget: int = 0) -> None:
        self.label_set = label_set
        self.forget = forget
        self.known = {PLANTS.load(id).image.tobytes(): PLANTS.load(id).truth for id in PLANTS.ids}

    def segment(self, image: np.ndarray) -> PanopticMap:
        truth = self.known[image.tobytes()]
        lost = (truth.instance > 0) & (truth.instance <= self.forget)
        return PanopticMap(np.where(lost, 0, truth.semantic), np.where(lost, 0, truth.instance))


def test_a_perfect_model_scores_1() -> None:
    seen: dict[str, PanopticMap] = {}
    metrics = evaluate_model(Knows(), PLANTS, PLANTS.ids, seen.__setitem__).metrics()
    for part in ("all", "things", "stuff"):
        assert metrics[part]["pq"] == metrics[part]["sq"] == metrics[part]["rq"] == 1.0
    assert (metrics["sbd"], metrics["abs_dic"], metrics["images"]) == (1.0, 0.0, 3)
    assert metrics["objects_predicted"] == metrics["objects_true"] > 10
    assert list(seen) == PLANTS.ids
    assert all(seen[id] == PLANTS.read_truth(id) for id in PLANTS.ids)


def test_a_forgotten_leaf_costs_what_the_definition_says() -> None:
    evaluation = evaluate_model(Knows(forget=1), PLANTS, PLANTS.ids)
    metrics = evaluation.metrics()
    true = sum(PLANTS.read_truth(id).num_instances for id in PLANTS.ids)
    # All others are matched with IoU 1; each image lacks one.
    assert metrics["things"]["pq"] == pytest.approx((true - 3) / (true - 3 / 2))
    assert metrics["things"]["sq"] == pytest.approx(1.0)
    assert metrics["abs_dic"] == 1.0
    assert metrics["objects_true"] - metrics["objects_predicted"] == 3
    by_image = {row["id"]: row["pq_things"] for row in evaluation.rows}
    for id in PLANTS.ids:
        leaves = PLANTS.read_truth(id).num_instances
        assert by_image[id] == pytest.approx((leaves - 1) / (leaves - 0.5))
    assert evaluation.ranked() == sorted(PLANTS.ids, key=by_image.__getitem__)


@pytest.mark.parametrize("num_kept", [0, 1, 2, 3, 9])
def test_the_worst_predictions_are_kept(num_kept: int) -> None:
    seen: dict[str, PanopticMap] = {}
    evaluation = evaluate_model(Knows(forget=1), PLANTS, PLANTS.ids, seen.__setitem__, num_kept=num_kept)
    worst = evaluation.worst()
    assert list(worst) == evaluation.ranked()[:num_kept]
    assert all(worst[id] == seen[id] for id in worst)


class Known:
    """Predictions in store, all of them right."""

    def read(self, id: str, shape: tuple[int, int]) -> PanopticMap:
        return PLANTS.read_truth(id)


@pytest.mark.parametrize(("evaluate", "of"), [(evaluate_model, Knows), (evaluate_predictions, Known)])
def test_what_is_asked_for_reaches_the_evaluation(evaluate, of) -> None:
    evaluation = evaluate(of(), PLANTS, PLANTS.ids, ap_min_area=64 * 64, num_kept=2)
    assert evaluation.metrics()["ap"] is None  # no leaf is so large
    assert len(evaluation.worst()) == 2


def test_only_the_ids_asked_for() -> None:
    evaluation = evaluate_model(Knows(), PLANTS, PLANTS.ids[1:2])
    assert [row["id"] for row in evaluation.rows] == PLANTS.ids[1:2]


@pytest.mark.parametrize(
    "categories",
    [
        [Category(0, "background", False)],
        [Category(0, "background", False), Category(1, "nucleus", True)],
        [Category(1, "leaf", True), Category(0, "background", False)],
        [Category(0, "background", False), Category(1, "leaf", False)],
    ],
)
def test_a_model_of_other_classes_is_refused(categories: list[Category]) -> None:
    with pytest.raises(InputError, match=r"synthetic: the data has classes background.*leaf.*but the model"):
        evaluate_model(Knows(LabelSet(categories)), PLANTS, PLANTS.ids)


def test_other_ids_and_colors_do_not_matter() -> None:
    label_set = LabelSet([Category(3, "background", False), Category(9, "leaf", True, (1, 2, 3))])
    assert evaluate_model(Knows(label_set), PLANTS, PLANTS.ids).metrics()["all"]["pq"] == 1.0


def test_files(tmp_path: Path) -> None:
    evaluation = evaluate_model(Knows(forget=1), PLANTS, PLANTS.ids)
    evaluation.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(evaluation.metrics()))
    with (tmp_path / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert next(iter(rows[0])) == "id"
    assert [row["id"] for row in rows] == PLANTS.ids
    assert [float(row["pq_things"]) for row in rows] == [row["pq_things"] for row in evaluation.rows]


def test_leaf_measures_need_a_single_thing_class() -> None:
    label_set = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])
    evaluation = Evaluation(label_set)
    panoptic = PanopticMap([[0, 1, 2]], [[0, 1, 1]])
    evaluation.add("a", panoptic, panoptic)
    assert "sbd" not in evaluation.metrics()
    assert evaluation.metrics()["all"]["pq"] == 1.0
    assert evaluation.metrics()["objects_true"] == 2


def test_images_without_things_come_last_and_crowds_are_no_objects(tmp_path: Path) -> None:
    evaluation = Evaluation(LEAVES)
    empty = PanopticMap(np.zeros((4, 4), int), np.zeros((4, 4), int))
    half = PanopticMap(np.repeat([[0, 1]], 4, 0), np.repeat([[0, 1]], 4, 0))
    crowd = PanopticMap(half.semantic, np.zeros((4, 2), int), [(1, 0)])
    evaluation.add("empty", empty, empty)
    evaluation.add("good", half, half)
    evaluation.add("bad", PanopticMap(half.semantic * 0, half.instance * 0), half)
    evaluation.add("crowd", PanopticMap(crowd.semantic * 0, crowd.instance), crowd)
    assert evaluation.ranked()[:2] == ["bad", "good"]
    assert evaluation.worst() == {}
    assert [row["objects_true"] for row in evaluation.rows] == [0, 1, 1, 0]
    evaluation.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["images"] == 4


@pytest.mark.parametrize("number", [0, 7])
@pytest.mark.parametrize("found", [0, 5])
def test_counts_leave_out_what_is_no_object(number: int, found: int) -> None:
    """A leaf found, and objects told apart, or none, in a crowd of leaves and where nothing is labelled."""
    semantic, instance = np.ones((6, 12), int), np.zeros((6, 12), int)
    semantic[:, :2], instance[:, 2:4], instance[:, 4:8] = 0, 1, number
    semantic[:, 8:] = IGNORE
    truth = PanopticMap(semantic, instance * (semantic == 1), [(1, number)])
    predicted = np.where(instance == 1, 1, 0)
    if found:
        predicted[:, 4:9] = np.arange(10, 15)
        predicted[:, 9:] = 90
    evaluation = Evaluation(LEAVES)
    evaluation.add("a", PanopticMap(np.where(predicted > 0, 1, 0), predicted), truth)
    metrics = evaluation.metrics()
    assert metrics["things"]["pq"] == 1.0
    assert (metrics["sbd"], metrics["dic"], metrics["abs_dic"], metrics["objects_true"]) == (1.0, 0.0, 0.0, 1)


def test_a_network_of_no_numbers_and_a_lack_of_memory_are_told() -> None:
    class Broken(Knows):
        def segment(self, image: np.ndarray) -> PanopticMap:
            raise self.error

    broken = Broken()
    for error, kind, told in (
        (ModelError("the network gives NaN"), ModelError, "the network gives NaN"),
        (MemoryError("Unable to allocate 3 GiB"), InputError, r"could not be segmented \(MemoryError: Unable to"),
    ):
        broken.error = error
        with pytest.raises(kind, match=rf"{PLANTS.ids[0]}: {told}"):
            evaluate_model(broken, PLANTS, PLANTS.ids)


def test_nothing_evaluated(tmp_path: Path) -> None:
    Evaluation(LEAVES).write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["images"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_scores_from_one_count_are_those_of_each_measure(seed: int) -> None:
    """IoU and counts of objects come from the overlaps of segments; here from the pixels."""
    rng = np.random.default_rng(seed)
    label_set = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])
    truth, prediction = (
        PanopticMap(
            rng.choice([0, 1, 2, 255], size=(9, 11)), rng.integers(0, 4, size=(9, 11)), [(1, 0), (2, int(seed % 3))]
        )
        for _ in range(2)
    )
    evaluation, iou = Evaluation(label_set), MeanIoU(label_set)
    evaluation.add("a", prediction, truth)
    iou.update(prediction.semantic, truth.semantic)
    metrics = evaluation.metrics()
    assert metrics["miou"] == iou.compute().miou
    assert {name: part["iou"] for name, part in metrics["per_class"].items()} == iou.compute().per_class
    found, true = ([s for s in panoptic.segments(label_set)[1] if s.category > 0] for panoptic in (prediction, truth))
    assert any(segment.is_crowd for segment in found + true)
    assert metrics["objects_predicted"] == len(found)
    assert metrics["objects_true"] == sum(not segment.is_crowd for segment in true)


def test_several_images_have_rows_of_their_own_and_scores_of_all() -> None:
    rng = np.random.default_rng(0)
    classes = [("soil", False), ("leaf", True), ("weed", True), ("road", False)]
    label_set = LabelSet([Category(id, *kind) for id, kind in enumerate(classes)])
    evaluation, quality, iou = Evaluation(label_set), PanopticQuality(label_set), MeanIoU(label_set)
    for name in "abc":
        truth = PanopticMap(rng.choice([0, 1, 2, 3, 255], (19, 11)), rng.integers(0, 3, (19, 11)))
        lost = (rng.random((19, 11)) < 0.2) | ((truth.semantic == 1) & (truth.instance == 1))
        prediction = PanopticMap(
            np.where(lost, rng.choice([0, 255], lost.shape), truth.semantic), np.where(lost, 0, truth.instance)
        )
        evaluation.add(name, prediction, truth)
        iou.update(prediction.semantic, truth.semantic)
        image, row = quality.update(prediction, truth), evaluation.rows[-1]
        assert (row["id"], row["pq"], row["pq_stuff"]) == (name, image.all.pq, image.stuff.pq)
        assert [row[f"{figure}_things"] for figure in ("pq", "sq", "rq")] == [
            image.things.pq,
            image.things.sq,
            image.things.rq,
        ]
        assert len({image.all.pq, image.stuff.pq, image.things.pq, image.things.sq, image.things.rq}) == 5
    metrics = evaluation.metrics()
    assert metrics["all"] == quality.compute().all.to_dict()
    assert metrics["miou"] == pytest.approx(iou.compute().miou)
    for name in ("objects_predicted", "objects_true"):
        assert metrics[name] == sum(row[name] for row in evaluation.rows) > evaluation.rows[0][name] > 0


def test_sizes_must_agree() -> None:
    panoptic = PanopticMap([[0, 1]], [[0, 1]])
    with pytest.raises(ValueError, match=r"\(1, 2\)|1x2"):
        Evaluation(LEAVES).add("a", panoptic, PanopticMap([[0], [1]], [[0], [1]]))


def test_least_area_of_objects() -> None:
    names = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    city = LabelSet([Category(0, "road", False), *(Category(24 + k, name, True) for k, name in enumerate(names))])
    assert default_min_area(city) == 100
    assert default_min_area(LEAVES) == 0
    assert Evaluation(city).metrics()["ap_min_area"] == 100
    assert Evaluation(city, ap_min_area=7).metrics()["ap_min_area"] == 7
    assert "ap" not in Evaluation(LabelSet([Category(0, "sky", False)])).metrics()


def test_classes_that_differ_by_name_alone() -> None:
    plants = LabelSet([Category(0, "soil", False), Category(1, "plant", True)])
    with pytest.raises(InputError, match=r"classes background, leaf, but the model soil, plant; .*labels.yaml"):
        evaluate_model(Knows(plants), PLANTS, PLANTS.ids)
    stuff = LabelSet([Category(0, "background", False), Category(1, "leaf", False)])
    with pytest.raises(InputError, match=r"leaf \(thing\), but the model .*leaf \(stuff\)"):
        evaluate_model(Knows(stuff), PLANTS, PLANTS.ids)

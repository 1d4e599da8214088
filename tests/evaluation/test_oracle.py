"""The oracle ablation: on outputs of which we know what is wrong, exactly the rows that mend it are right."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError, ModelError
from panembed.evaluation.oracle import VARIANTS, evaluate_oracles, oracle_maps, write_oracles
from panembed.evaluation.scores import Evaluation, evaluate_model
from panembed.inference.grouping import Grouping
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.labels.categories import IGNORE, Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.tuning.grouping_tuner import GroupingTuner

PLANTS = SyntheticDataset(3, seed=5, size=64)
CLASSES = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])
NATIVE = Preparation((64, 64), "native")


def outputs(truth: PanopticMap, num_classes: int = 2, gap: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """What a perfect network would give: classes without doubt, objects `gap` apart on a line."""
    classes = np.where(truth.semantic == IGNORE, 0, truth.semantic)
    scores = np.where(np.arange(num_classes)[:, None, None] == classes, 9.0, 0.0).astype(np.float32)
    embeddings = np.stack([gap * truth.instance, 0 * truth.instance]).astype(np.float32)
    return scores, embeddings


def spoiled(truth: PanopticMap, classes: bool, centres: bool) -> tuple[np.ndarray, np.ndarray]:
    scores, embeddings = outputs(truth, gap=0.5 if centres else 4.0)
    if classes:
        scores[:, :, ::2] = 0
        scores[0, :, ::2] = 9
    return scores, embeddings


def maps_of(scores, embeddings, truth, label_set=PLANTS.label_set, preparation=NATIVE, grouping=None):
    return oracle_maps(scores, embeddings, truth, label_set, grouping or Grouping(min_area=2), preparation)


def quality(panoptic: PanopticMap, truth: PanopticMap, label_set: LabelSet = PLANTS.label_set) -> float:
    evaluation = Evaluation(label_set)
    evaluation.add("a", panoptic, truth)
    return evaluation.metrics()["things"]["pq"]


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("centres", [False, True])
def test_each_oracle_mends_what_it_knows(classes: bool, centres: bool) -> None:
    truth = PLANTS.read_truth(PLANTS.ids[0])
    maps = maps_of(*spoiled(truth, classes, centres), truth)
    perfect = {name: quality(maps[name], truth) == 1.0 for name in VARIANTS}
    assert perfect == {
        "predicted": not classes and not centres,
        "true_classes": not centres,
        "true_centres": not classes,
        "true_classes_and_centres": True,
    }


STRETCHING = [
    Preparation((32, 64)),
    Preparation((96, 128)),
    Preparation((64, 64), "native", scale=1.5),
    Preparation((64, 64), "native", scale=0.97),
]


def size_of(preparation: Preparation, shape: tuple[int, int]) -> tuple[int, int]:
    """Of the network's outputs for an image of this shape."""
    height, width = preparation.stretched(*shape)
    return height + -height % 32, width + -width % 32


@pytest.mark.parametrize("preparation", STRETCHING)
def test_true_classes_are_the_truths_own_at_every_size(preparation: Preparation) -> None:
    rng = np.random.default_rng(0)
    size = size_of(preparation, (77, 77))
    truth = SyntheticDataset(1, size=77).read_truth("plant0000")
    scores, embeddings = rng.standard_normal((2, *size)).astype(np.float32), np.zeros((4, *size), np.float32)
    maps = maps_of(scores, embeddings, truth, preparation=preparation)
    for name in ("true_classes", "true_classes_and_centres"):
        assert maps[name].shape == (77, 77)
        assert (maps[name].semantic == truth.semantic).all()
    assert (maps["predicted"].semantic != truth.semantic).any()


@pytest.mark.parametrize("preparation", STRETCHING)
def test_the_row_as_predicted_is_what_the_model_predicts(preparation: Preparation) -> None:
    rng = np.random.default_rng(1)
    truth = PLANTS.read_truth(PLANTS.ids[1])
    size = size_of(preparation, truth.shape)
    scores, embeddings = (rng.standard_normal((k, *size)).astype(np.float32) for k in (2, 3))
    grouping = Grouping(bandwidth=1.0, min_area=9)
    ours = maps_of(scores, embeddings, truth, preparation=preparation, grouping=grouping)["predicted"]
    theirs = grouping.group(scores, embeddings, (1,), preparation, truth.shape)
    assert (ours.instance == theirs.instance).all()
    assert (ours.semantic == theirs.semantic).all()


@pytest.mark.parametrize("name", ["true_centres", "true_classes_and_centres"])
def test_true_centres_against_scikit_learn(name: str) -> None:
    rng = np.random.default_rng(2)
    truth = PLANTS.read_truth(PLANTS.ids[2])
    scores = rng.standard_normal((2, 64, 64)).astype(np.float32)
    embeddings = outputs(truth, gap=0.7)[1] + rng.standard_normal((2, 64, 64)).astype(np.float32)
    panoptic = maps_of(scores, embeddings, truth)[name]
    leaf = truth.semantic == 1
    theirs = NearestCentroid().fit(embeddings[:, leaf].T, truth.instance[leaf])
    mask = leaf if name != "true_centres" else scores.argmax(0) == 1
    expected = theirs.predict(embeddings[:, mask].T)
    assert (panoptic.semantic == mask).all()
    ids, ours = np.unique(panoptic.instance[mask], return_inverse=True)
    groups = set(zip(ours.tolist(), expected.tolist()))
    assert len(groups) == len(ids) == len(set(expected.tolist()))


def test_centres_are_taken_at_the_networks_resolution() -> None:
    rng = np.random.default_rng(3)
    truth, size = PLANTS.read_truth(PLANTS.ids[0]), (32, 32)
    embeddings = rng.standard_normal((3, *size)).astype(np.float32)
    preparation = Preparation(size)
    scores = np.stack([np.zeros(size), np.ones(size)]).astype(np.float32)
    maps = maps_of(scores, embeddings, truth, preparation=preparation)
    small = resize_nearest(truth.instance.astype(np.int64), size)
    theirs = NearestCentroid().fit(embeddings[:, small > 0].T, small[small > 0])
    expected = theirs.predict(preparation.restore(embeddings, truth.shape).reshape(3, -1).T)
    groups = set(zip(maps["true_centres"].instance.ravel().tolist(), expected.tolist()))
    assert len(groups) == len(set(expected.tolist()))


def test_void_keeps_its_class_and_gives_no_centre() -> None:
    semantic = np.repeat([[1] * 6 + [IGNORE] * 4 + [0] * 6], 8, axis=0)
    instance = np.where(np.arange(16) < 6, 1, 0) * np.ones((8, 1), int)
    truth = PanopticMap(semantic, instance)
    scores, embeddings = outputs(truth)
    scores[:, :, 6:10] = np.array([0, 9])[:, None, None]
    maps = maps_of(scores, embeddings, truth)
    for name in ("predicted", "true_classes"):
        assert (maps[name].semantic[:, 6:10] == 1).all(), name
    for name in ("true_centres", "true_classes_and_centres"):
        assert (maps[name].semantic[:, 6:10] == IGNORE).all(), name
        assert maps[name].num_instances == 1
    assert all(quality(maps[name], truth) == 1.0 for name in VARIANTS if name != "predicted")


def test_a_crowd_has_no_centre() -> None:
    semantic = np.ones((8, 16), int)
    instance = np.repeat([[1] * 8 + [2] * 8], 8, axis=0)
    truth = PanopticMap(semantic, instance, [(1, 2)])
    scores, embeddings = outputs(truth)
    embeddings[:, 0, 0] = embeddings[:, 0, 8]  # a pixel of the object that looks like the crowd
    maps = maps_of(scores, embeddings, truth)
    assert maps["predicted"].num_instances == 2
    for name in ("true_centres", "true_classes_and_centres"):
        assert maps[name].num_instances == 1
        assert (maps[name].semantic[:, 8:] == IGNORE).all()
        assert quality(maps[name], truth) == 1.0


def test_a_crowd_takes_no_centre_from_another_class() -> None:
    semantic = np.repeat([[1] * 8 + [2] * 8], 8, axis=0)
    truth = PanopticMap(semantic, np.full((8, 16), 4), [(1, 4)])
    for name in ("true_centres", "true_classes_and_centres"):
        panoptic = maps_of(*outputs(truth, 3), truth, CLASSES)[name]
        assert np.array_equal(panoptic.semantic, np.where(semantic == 1, IGNORE, 2)), name
        assert panoptic.num_instances == 1


def test_a_class_without_an_object_becomes_void() -> None:
    truth = PanopticMap(np.zeros((8, 8), int), np.zeros((8, 8), int))
    scores = np.zeros((3, 8, 8), np.float32)
    scores[2, :, :4] = 9
    scores[0, :, 4:] = 9
    maps = maps_of(scores, np.zeros((2, 8, 8), np.float32), truth, CLASSES)
    assert maps["predicted"].num_instances == 1
    assert (maps["true_centres"].semantic[:, :4] == IGNORE).all()
    assert (maps["true_classes"].semantic == 0).all()


def test_an_object_too_small_for_the_network_is_missed() -> None:
    instance = np.zeros((128, 128), int)
    instance[:100, :100], instance[120, 120] = 1, 2
    truth = PanopticMap(np.minimum(instance, 1), instance)
    preparation = Preparation((32, 32))
    rng = np.random.default_rng(0)
    scores, embeddings = rng.standard_normal((2, 32, 32)), rng.standard_normal((2, 32, 32))
    maps = maps_of(scores.astype(np.float32), embeddings.astype(np.float32), truth, preparation=preparation)
    assert maps["true_classes_and_centres"].num_instances == 1


def test_farthest_distance_holds_for_centres_too() -> None:
    truth = PLANTS.read_truth(PLANTS.ids[0])
    scores, embeddings = outputs(truth)
    largest = np.bincount(truth.instance[truth.semantic == 1]).argmax()
    y, x = np.argwhere(truth.instance == largest)[20]
    embeddings[1, y, x] = 50.0
    near, far = (
        maps_of(scores, embeddings, truth, grouping=Grouping(min_area=2, max_distance=d)) for d in (60.0, 30.0)
    )
    for name in ("true_centres", "true_classes_and_centres"):
        assert near[name].semantic[y, x] == 1
        assert far[name].semantic[y, x] == IGNORE
        assert np.count_nonzero(far[name].semantic == IGNORE) == 1


def test_pixels_vote_with_true_centres_as_they_do_without() -> None:
    """Perfect embeddings; a third of the leaf is taken for weed, which a vote mends whatever the centres."""
    semantic, instance = np.zeros((32, 32), int), np.zeros((32, 32), int)
    semantic[4:16, 4:28], instance[4:16, 4:28] = 1, 1
    semantic[18:28, 4:28], instance[18:28, 4:28] = 2, 2
    truth = PanopticMap(semantic, instance)
    scores, embeddings = outputs(truth, 3)
    scores[:, 4:8, 4:28] = np.array([0, 0, 9])[:, None, None]
    pq = {
        vote: {
            name: quality(panoptic, truth, CLASSES)
            for name, panoptic in maps_of(
                scores, embeddings, truth, CLASSES, grouping=Grouping(min_area=2, vote=vote)
            ).items()
        }
        for vote in (False, True)
    }
    assert pq[True] == dict.fromkeys(VARIANTS, 1.0)
    assert pq[False]["true_centres"] < 1 == pq[False]["true_classes_and_centres"]


def test_what_grouping_leaves_out_is_left_out_of_all_four() -> None:
    semantic, instance = np.zeros((32, 32), int), np.zeros((32, 32), int)
    for number, place in enumerate(((slice(0, 8), slice(4, 12)), (slice(14, 26), slice(10, 20))), 1):
        semantic[place], instance[place] = 1, number
    truth = PanopticMap(semantic, instance)
    for clear, found in ((False, 2), (True, 1)):
        maps = maps_of(*outputs(truth), truth, grouping=Grouping(min_area=2, clear_border=clear))
        assert {name: panoptic.num_instances for name, panoptic in maps.items()} == dict.fromkeys(VARIANTS, found)


def test_the_rules_of_a_class_hold_in_all_four() -> None:
    semantic, instance = np.zeros((32, 32), int), np.zeros((32, 32), int)
    for number, (y, x) in enumerate(((0, 2), (12, 2), (0, 20), (12, 20)), 1):
        semantic[y : y + 8, x : x + 8], instance[y : y + 8, x : x + 8] = 1 + (x > 10), number
    truth = PanopticMap(semantic, instance)
    scores, embeddings = outputs(truth, 3)
    embeddings[1, 15, [5, 23]] = 50  # a pixel of the second object of each class
    own = Grouping(min_area=2, max_distance=30.0, clear_border=True)
    maps = maps_of(scores, embeddings, truth, CLASSES, grouping=Grouping(min_area=2, by_class={2: own}))
    lost = (instance == 3) | ((embeddings[1] > 0) & (semantic == 2))
    for name in VARIANTS:
        assert np.array_equal(maps[name].semantic, np.where(lost, IGNORE, semantic)), name


class Counting:
    """A network that knows the truth by the picture, and counts its runs."""

    num_workers = 1

    def __init__(self) -> None:
        self.runs = 0
        self.known = {
            NATIVE.prepare(PLANTS.load(id).image).tobytes(): spoiled(PLANTS.read_truth(id), True, True)
            for id in PLANTS.ids
        }

    def start_worker(self) -> None:
        pass

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.runs += 1
        scores, embeddings = self.known[images[0].tobytes()]
        return scores[None], embeddings[None]


@pytest.mark.parametrize("vote", [False, True])
def test_classes_without_a_thing_among_them(vote: bool) -> None:
    land = LabelSet([Category(0, "soil", False), Category(1, "road", False)])
    truth = PanopticMap(np.tile([0, 1], (64, 32)), np.zeros((64, 64), int))
    maps = maps_of(*outputs(truth), truth, land, grouping=Grouping(vote=vote))
    assert all(found == truth for found in maps.values())


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ModelError("the network gives NaN"), ModelError, "the network gives NaN"),
        (
            RuntimeError("not enough memory: you tried"),
            InputError,
            r"could not be segmented \(RuntimeError: not enough",
        ),
    ],
)
def test_a_failure_names_its_image(error: Exception, kind: type[Exception], told: str) -> None:
    class Failing(Counting):
        def __call__(self, images):
            if self.runs == 1:
                raise error
            return super().__call__(images)

    model = PanopticModel(Failing(), PLANTS.label_set, NATIVE, Grouping(min_area=2))
    with pytest.raises(kind, match=f"^{PLANTS.ids[1]}: {told}"):
        evaluate_oracles(model, PLANTS, PLANTS.ids)
    model.backend.runs = 0
    with pytest.raises(kind, match=f"^{PLANTS.ids[1]}: {told}"):
        GroupingTuner(model, PLANTS, PLANTS.ids)


def test_over_a_data_set(tmp_path) -> None:
    model = PanopticModel(Counting(), PLANTS.label_set, NATIVE, Grouping(min_area=2))
    seen: dict[str, PanopticMap] = {}
    evaluation, table = evaluate_oracles(model, PLANTS, PLANTS.ids, seen.__setitem__)
    assert model.backend.runs == 3
    assert list(seen) == PLANTS.ids
    usual = evaluate_model(model, PLANTS, PLANTS.ids)
    assert evaluation.metrics() == usual.metrics()
    assert evaluation.rows == usual.rows
    assert list(table) == list(VARIANTS)
    for mine, theirs in (("pq_things", "pq"), ("sq_things", "sq"), ("rq_things", "rq")):
        assert table["predicted"][mine] == usual.metrics()["things"][theirs]
    assert table["predicted"]["sbd"] == usual.metrics()["sbd"]
    assert table["true_classes_and_centres"] == {
        "pq_things": 1.0, "sq_things": 1.0, "rq_things": 1.0, "pq": 1.0, "sbd": 1.0, "abs_dic": 0.0,
    }  # fmt: skip
    write_oracles(tmp_path, table)
    assert json.loads((tmp_path / "oracle.json").read_text()) == table
    assert (tmp_path / "oracle.md").read_text().splitlines()[
        -1
    ] == "| both | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 0.00 |"


class Seeded(Counting):
    """The same with seeds so sharp that they tell all objects apart."""

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        scores, embeddings = super().__call__(images)
        seeds = np.full((1, 2, *scores.shape[2:]), np.log(np.log(2) / 0.2**2), np.float32)
        seeds[:, 1] = 3
        return scores, embeddings, seeds


def test_seeds_are_heard_with_true_classes_too() -> None:
    model = PanopticModel(Seeded(), PLANTS.label_set, NATIVE, Grouping("seed_map", min_area=2))
    evaluation, table = evaluate_oracles(model, PLANTS, PLANTS.ids, ap_min_area=64 * 64, num_kept=2)
    assert evaluation.metrics()["ap"] is None  # no leaf is so large
    assert len(evaluation.worst()) == 2
    assert evaluation.rows == evaluate_model(model, PLANTS, PLANTS.ids).rows
    assert table["predicted"]["pq_things"] < 0.9
    assert table["true_classes"]["pq_things"] == 1.0


def test_no_image_and_other_classes(tmp_path) -> None:
    model = PanopticModel(Counting(), PLANTS.label_set, NATIVE)
    _, table = evaluate_oracles(model, PLANTS, [])
    assert table["predicted"]["pq_things"] is None
    write_oracles(tmp_path, table)
    assert "| as predicted | - |" in (tmp_path / "oracle.md").read_text()
    with pytest.raises(InputError, match="but the model"):
        evaluate_oracles(PanopticModel(Counting(), CLASSES, NATIVE), PLANTS, PLANTS.ids)

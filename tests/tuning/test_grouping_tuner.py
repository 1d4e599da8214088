"""Scores of grouping settings, against those of `evaluate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError, SettingsError
from panembed.evaluation.scores import evaluate_model
from panembed.inference.grouping import Grouping
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import Preparation
from panembed.labels.categories import Category, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.tuning.grouping_tuner import GroupingTuner
from panembed.tuning.search import coordinate_search, ladders

pytestmark = pytest.mark.slow  # each scores a network many times

PLANTS = SyntheticDataset(4, seed=2, size=64)
NATIVE = Preparation((64, 64), "native")


class Noisy:
    """A network that puts objects 1 apart, so that a bandwidth of 1.5 is too wide; and counts its runs."""

    num_workers = 2

    def __init__(self) -> None:
        self.runs = 0
        self.known = {}
        for number, id in enumerate(PLANTS.ids):
            truth, rng = PLANTS.read_truth(id), np.random.default_rng(number)
            scores = np.stack([9.0 * (truth.semantic == 0), 9.0 * (truth.semantic == 1)])
            spread = 0.1 * rng.standard_normal((2, 64, 64))
            embeddings = np.stack([truth.instance % 4, truth.instance // 4]) + spread
            self.known[NATIVE.prepare(PLANTS.read_image(id)).tobytes()] = scores, embeddings

    def start_worker(self) -> None:
        pass

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.runs += 1
        scores, embeddings = self.known[images[0].tobytes()]
        return scores[None].astype(np.float32), embeddings[None].astype(np.float32)


def model(**grouping: float | None) -> PanopticModel:
    return PanopticModel(Noisy(), PLANTS.label_set, NATIVE, Grouping(**{"min_area": 4, **grouping}))


class Seeded(Noisy):
    """The same with a seed head that has a good centre in nine of ten pixels, outside objects too."""

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        scores, embeddings = super().__call__(images)
        seeds = np.zeros((1, 2, *scores.shape[2:]), np.float32)
        seeds[:, 0], seeds[:, 1] = np.log(4.0), np.random.default_rng(0).normal(1.3, 1, seeds.shape[2:])
        return scores, embeddings, seeds


def test_what_seed_map_heeds_can_be_tuned() -> None:
    tuned = PanopticModel(Seeded(), PLANTS.label_set, NATIVE, Grouping("seed_map", min_area=80, least_seed=0.9))
    with GroupingTuner(tuned, PLANTS, PLANTS.ids) as tuner:
        trials = coordinate_search(tuner.score, tuner.start, ladders(tuner.start, "seed_map"))
        best = [trial for trial in trials if trial.kept][-1]
        tuned.grouping = replace(tuned.grouping, **best.values)
        metrics = evaluate_model(tuned, PLANTS, PLANTS.ids).metrics()
    assert best.score == pytest.approx(metrics["things"]["pq"])
    assert best.score > trials[0].score + 0.1
    assert best.values["min_area"] < 80
    assert {trial.values["least_seed"] for trial in trials} > {0.2, 0.5, 0.9}
    assert {trial.values["bandwidth"] for trial in trials} == {tuner.start["bandwidth"]}


class Dense(Seeded):
    """The same, and it says how many objects there are, a quarter too many."""

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        scores, embeddings, seeds = super().__call__(images)
        count = len({tuple(place) for place in np.round(embeddings[0][:, scores[0, 1] > 0]).T})
        density = np.full((1, 1, *scores.shape[2:]), np.log(1.25 * count / (scores[0, 1] > 0).sum()), np.float32)
        return scores, embeddings, np.concatenate([seeds, density], axis=1)


def test_counts_are_made_right_by_the_density() -> None:
    """A seed map of low scores finds pieces; the density, once it is scaled, says how many are true."""
    grouping = Grouping("seed_map", min_area=4, least_seed=0.2, own_share=0.95, recount=1.0)
    tuned = PanopticModel(Dense(), PLANTS.label_set, NATIVE, grouping)
    with GroupingTuner(tuned, PLANTS, PLANTS.ids, criterion="counts") as tuner:
        assert tuner.has_density
        steps = {"recount": ladders(tuner.start, "seed_map", density=True)["recount"][:-1]}  # without None
        trials = coordinate_search(tuner.score, tuner.start, steps)
        best = [trial for trial in trials if trial.kept][-1]
        tuned.grouping = replace(tuned.grouping, **best.values)
        metrics = evaluate_model(tuned, PLANTS, PLANTS.ids).metrics()
    assert best.score > trials[0].score
    assert best.values["recount"] == 0.8
    assert best.score == pytest.approx(1 - len(PLANTS) * metrics["abs_dic"] / metrics["objects_true"])


def test_seeds_as_wide_as_the_bandwidth_are_no_seeds_of_their_own() -> None:
    """Allowed, and not heeded by seed_map."""
    tuned = PanopticModel(
        Seeded(),
        PLANTS.label_set,
        NATIVE,
        Grouping("seed_map", bandwidth=1.5, seed_bandwidth=1.5, min_area=80, least_seed=0.9),
    )
    with GroupingTuner(tuned, PLANTS, PLANTS.ids) as tuner:
        trials = coordinate_search(tuner.score, tuner.start, ladders(tuner.start, "seed_map"), max_trials=30)
    assert [trial for trial in trials if trial.kept][-1].score > trials[0].score


@pytest.mark.parametrize("max_bytes", [2 << 30, 150_000, 0], ids=["all", "some", "none"])
def test_figures_are_those_of_evaluate(max_bytes: int) -> None:
    tuned = model()
    with GroupingTuner(tuned, PLANTS, PLANTS.ids, max_bytes=max_bytes) as tuner:
        assert tuner.num_kept == {0: 0, 150_000: 2}.get(max_bytes, 4)
        for values in (tuner.start, tuner.start | {"bandwidth": 0.6, "min_area": 1, "min_confidence": 0.9}):
            value = tuner.score(values)
            other = model(**values)
            metrics = evaluate_model(other, PLANTS, PLANTS.ids).metrics()
            figures = tuner.figures_of(values)
            assert value == figures["pq_things"] == pytest.approx(metrics["things"]["pq"])
            assert figures["pq"] == pytest.approx(metrics["all"]["pq"])
            assert figures["sq_things"] == pytest.approx(metrics["things"]["sq"])
            assert figures["rq_things"] == pytest.approx(metrics["things"]["rq"])
            assert (figures["sbd"], figures["abs_dic"]) == pytest.approx((metrics["sbd"], metrics["abs_dic"]))
            off = len(PLANTS) * metrics["abs_dic"] / metrics["objects_true"]
            assert figures["counts"] == pytest.approx(1 - off)
    if max_bytes > 1 << 30:
        assert tuned.backend.runs == len(PLANTS.ids)


def test_outputs_beyond_memory_have_their_seeds_too() -> None:
    rules = Grouping("seed_map", min_area=4, least_seed=0.2, own_share=0.95, recount=0.8)
    tuned, scores = PanopticModel(Dense(), PLANTS.label_set, NATIVE, rules), []
    for max_bytes in (2 << 30, 0):
        with GroupingTuner(tuned, PLANTS, PLANTS.ids, max_bytes=max_bytes) as tuner:
            assert tuner.has_density
            scores.append(tuner.score(tuner.start))
    assert scores[0] == scores[1] > 0


def test_a_bandwidth_too_wide_is_mended() -> None:
    with GroupingTuner(model(), PLANTS, PLANTS.ids) as tuner:
        trials = coordinate_search(tuner.score, tuner.start, ladders(tuner.start))
        best = [t for t in trials if t.kept][-1]
        gain, error = tuner.gain(best.values)
    assert trials[0].score < 0.5
    assert best.score > 0.95
    assert gain == pytest.approx(best.score - trials[0].score)
    assert 0 <= error < gain


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    with GroupingTuner(model(), PLANTS, PLANTS.ids, criterion="sbd") as tuner:
        other = tuner.start | {"bandwidth": 0.9}
        tuner.score(tuner.start)
        tuner.score(other)
        gain, error = tuner.gain(other)
    scored = [
        [row["sbd"] for row in evaluate_model(m, PLANTS, PLANTS.ids).rows] for m in (model(), model(bandwidth=0.9))
    ]
    differences = np.subtract(scored[1], scored[0])
    assert gain == pytest.approx(differences.mean())
    assert error == pytest.approx(differences.std(ddof=1) / 2)
    assert error > 0
    with GroupingTuner(model(), PLANTS, PLANTS.ids[:1]) as tuner:
        tuner.score(tuner.start)
        assert np.isnan(tuner.gain(tuner.start)[1])


class Bare:
    """The plants, but only those named have leaves."""

    def __init__(self, with_leaves: list[str], label_set: LabelSet = PLANTS.label_set) -> None:
        self.with_leaves, self.label_set, self.root = with_leaves, label_set, PLANTS.root

    def load(self, id: str):
        sample = PLANTS.load(id)
        nothing = np.zeros(sample.truth.shape, int)
        return sample if id in self.with_leaves else replace(sample, truth=PanopticMap(nothing, nothing))


def test_some_images_may_be_without_objects_but_not_all() -> None:
    with pytest.raises(InputError, match="no object in the 4 images to tune on"):
        GroupingTuner(model(), Bare([]), PLANTS.ids)
    with GroupingTuner(model(), Bare(PLANTS.ids[:1]), PLANTS.ids[:2], criterion="counts") as tuner:
        assert tuner.score(tuner.start) < 1
        assert tuner.gain(tuner.start) == (0, 0)  # also without the only image that has objects


def test_what_cannot_be_tuned() -> None:
    with pytest.raises(SettingsError, match="can't maximize 'ap'; expected pq_things, sbd, pq, counts"):
        GroupingTuner(model(), PLANTS, PLANTS.ids, criterion="ap")
    with pytest.raises(InputError, match="no images to tune on"):
        GroupingTuner(model(), PLANTS, [])
    others = PanopticModel(Noisy(), LabelSet([Category(0, "soil", False)]), NATIVE)
    with pytest.raises(InputError, match="but the model"):
        GroupingTuner(others, PLANTS, PLANTS.ids)
    by_class = PanopticModel(Noisy(), PLANTS.label_set, NATIVE, Grouping(by_class={1: Grouping(bandwidth=1.0)}))
    with pytest.raises(SettingsError, match="by_class"):
        GroupingTuner(by_class, PLANTS, PLANTS.ids)


@pytest.mark.parametrize("criterion", ["sbd", "counts"])
def test_measures_of_one_thing_need_one(criterion: str) -> None:
    classes = LabelSet([Category(0, "soil", False), Category(1, "leaf", True), Category(2, "weed", True)])
    tuned = PanopticModel(Noisy(), classes, NATIVE)
    with pytest.raises(SettingsError, match=f"can't maximize {criterion}: it needs exactly one thing class"):
        GroupingTuner(tuned, Bare([], classes), PLANTS.ids, criterion=criterion)

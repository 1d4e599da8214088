"""Calibration of scores: probabilities that generated the matches come back, and few errors don't make it sure."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from panembed.datasets.synthetic import SyntheticDataset
from panembed.errors import InputError
from panembed.inference.object_scores import FALLING, FEATURES, RISING
from panembed.metrics.scored_precision import reliability
from panembed.tuning.calibration import calibrate, fit


def made(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.random((count, len(FEATURES)))
    signs = np.array([(name in RISING) - (name in FALLING) for name in FEATURES])
    logit = 4 * (features - 0.5) @ (signs * np.arange(len(FEATURES)) / 5)
    return features, rng.random(count) < 1 / (1 + np.exp(-logit))


def test_scores_are_probabilities_on_new_objects() -> None:
    calibration = fit(*made(0, 3000), {})
    features, matches = made(1, 3000)
    assert reliability(calibration.score(features), matches).error < 0.03
    theirs = LogisticRegression(C=1e6).fit(*made(0, 3000)).predict_proba(features)[:, 1]
    assert np.abs(calibration.score(features) - theirs).mean() < 0.02


def test_weights_keep_their_signs_against_the_data() -> None:
    features, matches = made(0, 500)
    calibration = fit(features, ~matches, {})
    assert all(calibration.weights[name] >= 0 for name in RISING)
    assert all(calibration.weights[name] <= 0 for name in FALLING)


@pytest.mark.parametrize("matches", [np.ones(4, bool), np.zeros(4, bool)])
def test_a_few_objects_of_one_kind_leave_doubt(matches: np.ndarray) -> None:
    scores = fit(np.random.default_rng(0).random((4, len(FEATURES))), matches, {}).score(
        np.full((1, len(FEATURES)), 0.5)
    )
    assert 0.1 < scores[0] < 0.9
    assert (scores[0] > 0.5) == matches[0]


def test_features_that_never_vary_have_no_weight() -> None:
    features, matches = made(0, 300)
    features[:, 0] = 0.7
    assert fit(features, matches, {}).weights[FEATURES[0]] == 0


class Sees:
    """A model that gives the truth, or another map."""

    def __init__(self, dataset: SyntheticDataset, wrong: bool) -> None:
        self.label_set, self.dataset, self.wrong = dataset.label_set, dataset, wrong
        self.turn = 0

    def features(self, image):
        panoptic = self.dataset.load(self.dataset.ids[self.turn]).truth
        self.turn += 1
        features = np.full((panoptic.num_instances, len(FEATURES)), 0.5)
        if self.wrong:
            panoptic = type(panoptic)(panoptic.semantic * 0, panoptic.instance)
            features = features[:0]
        return panoptic, features


def test_images_are_told() -> None:
    plants = SyntheticDataset(3, size=64)
    found = calibrate(Sees(plants, wrong=False), [(plants, plants.ids)])
    assert found.found_on is not None
    assert found.found_on["images"] == 3
    assert found.found_on["objects"] == found.found_on["matched"] > 20


def test_nothing_found_at_all() -> None:
    plants = SyntheticDataset(2, size=64)
    with pytest.raises(InputError, match="no object is found in the 2 images"):
        calibrate(Sees(plants, wrong=True), [(plants, plants.ids)])

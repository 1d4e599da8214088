"""Learn what makes an object's score the probability of a match (`panembed.inference.object_scores`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from panembed.datasets.sample import Dataset
from panembed.errors import InputError, segmenting
from panembed.inference.object_scores import FALLING, FEATURES, RISING, Calibration
from panembed.inference.predictor import PanopticModel
from panembed.metrics.scored_precision import match_to_truth

_PRIOR = 1.0
"""Weight, in objects, of each half of a prior: one object that matches and one that doesn't, both of average features.
With few errors to learn from it keeps scores away from 0 and 1."""

_RIDGE = 1.0
"""Pull of weights, for features of variance 1, towards 0."""


def calibrate(
    model: PanopticModel, data: Iterable[tuple[Dataset, Iterable[str]]], each: Callable[[], None] | None = None
) -> Calibration:
    """Learn a calibration from images with truth.

    Args:
        model: whose scores they are; a calibration that it has is not used.
        data: data sets with the ids of their images; the model should not have learned from them, else the scores will
            be somewhat too high.
        each: called after every image.

    Raises:
        InputError: there is no object that counts.
    """
    all_features, all_matches, images = [], [], 0
    for dataset, ids in data:
        for id in ids:
            sample = dataset.load(id)
            with segmenting(id):
                panoptic, features = model.features(sample.image)
            matched, counts = match_to_truth(panoptic, sample.truth, model.label_set)
            all_features.append(features[counts])
            all_matches.append(matched[counts])
            images += 1
            if each is not None:
                each()
    if not all_features or not sum(map(len, all_matches)):
        raise InputError(f"no object is found in the {images} images, so scores can't be calibrated; take other images")
    features, matches = np.concatenate(all_features), np.concatenate(all_matches)
    found_on = {"images": images, "objects": len(matches), "matched": int(matches.sum())}
    return fit(features, matches, found_on)


def fit(features: NDArray[np.float64], matches: NDArray[np.bool_], found_on: dict[str, Any]) -> Calibration:
    """The logistic model that makes the matches most probable.

    Weights of `RISING` are not below 0, those of `FALLING` not above.

    Args:
        features: NxF.
        matches: N, whether each object has a match.
        found_on: kept with it.

    >>> rng = np.random.default_rng(0)
    >>> features = rng.random((500, len(FEATURES)))
    >>> found = fit(features, features[:, 1] > rng.random(500), {})
    >>> found.weights["seed"] > 2, found.weights["rival"] <= 0
    (True, True)
    """
    from scipy.optimize import minimize  # slow to import

    centre, spread = features.mean(0), features.std(0)
    usable = spread > 1e-9
    scaled = np.where(usable, (features - centre) / np.where(usable, spread, 1), 0)
    design = np.vstack([scaled, np.zeros((2, len(FEATURES)))])
    target = np.append(matches, [True, False]).astype(float)
    weight = np.append(np.ones(len(matches)), [_PRIOR, _PRIOR])

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = design @ parameters[:-1] + parameters[-1]
        error = weight * (expit(logit) - target)
        value = np.dot(weight, np.logaddexp(0, logit) - target * logit) + _RIDGE / 2 * np.square(parameters[:-1]).sum()
        gradient = np.append(design.T @ error + _RIDGE * parameters[:-1], error.sum())
        return float(value), gradient

    bounds = [(0 if name in RISING else None, 0 if name in FALLING else None) for name in FEATURES]
    best = minimize(loss, np.zeros(len(FEATURES) + 1), jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)]).x
    weights = np.where(usable, best[:-1] / np.where(usable, spread, 1), 0)
    intercept = float(best[-1] - weights @ centre)
    rounded = {name: float(f"{value:.6g}") for name, value in zip(FEATURES, weights.tolist())}
    return Calibration(rounded, float(f"{intercept:.6g}"), found_on)

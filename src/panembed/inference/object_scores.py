"""How sure each object is: what the network's outputs say of it, and one score of 0 to 1 made of that.

What is looked at, for every object, at the network's resolution:

- `class_probability`: mean probability of its class over its pixels
- `seed`: mean score of its pixels as centres (Neven et al. 2019), 1 for networks without a seed head
- `membership`: how far its pixels lie from its centre in embedding space: the mean of exp(-w * squared distance), where
  w is the object's mean sharpness; without a seed head, membership is 1/2 at the bandwidth
- `rival`: the same, but to the other object of its class that each pixel is in most, of the four with the nearest
  centres
- `density`: sum of the network's density, 1 for a whole object (`panembed.losses.density`), no more than 1; 1 without
- `contact`: share of its outermost pixels that touch another object
- `roughness`: (outermost pixels)^2 / (4 pi * pixels): high for objects that are long or have a ragged outline
- `fullness`: its pixels divided by the area of the ellipse with the same second moments: 1 for an ellipse, less for
  objects that are bent, torn or made of two
- `smallness`, `largeness`: log of how many times smaller, or larger, it is than the median object of its class in the
  picture; 0 for objects on the other side of the median

A `Calibration`, learned on images with truth, makes of these the probability that the object matches a true one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray

from panembed.clustering.seed_map import MAX_LOG_SHARPNESS
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap

FEATURES = (
    "class_probability",
    "seed",
    "membership",
    "rival",
    "density",
    "contact",
    "roughness",
    "fullness",
    "smallness",
    "largeness",
)
"""What an object's score is made of."""

RISING = ("class_probability", "seed", "membership", "density", "fullness")
FALLING = ("rival", "contact", "roughness", "smallness", "largeness")
"""With more of these a score can only rise, or only fall."""

_RIVALS = 4
_WITH_DENSITY = 3


@dataclass(frozen=True, slots=True)
class Calibration:
    """The probability that an object matches a true one, IoU above 0.5, from its features: a logistic model.

    Attributes:
        weights: of each of `FEATURES`.
        intercept: added to the weighted sum.
        found_on: plain data on the images that it was learned on.

    >>> even = Calibration(dict.fromkeys(FEATURES, 0.0), 0.0)
    >>> even.score(np.zeros((2, len(FEATURES)))).tolist()
    [0.5, 0.5]
    """

    weights: Mapping[str, float]
    intercept: float
    found_on: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if set(self.weights) != set(FEATURES) or not all(map(math.isfinite, (*self.weights.values(), self.intercept))):
            raise ValueError(f"calibration: expected finite weights of {', '.join(FEATURES)}")

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores 0..1 from KxF features."""
        return np.asarray(
            scipy.special.expit(features @ np.array([self.weights[name] for name in FEATURES]) + self.intercept)
        )

    def to_plain(self) -> dict[str, Any]:
        """Plain data for config.json; `from_plain` reads it back."""
        return {
            "weights": dict(self.weights),
            "intercept": self.intercept,
            **({"found_on": dict(self.found_on)} if self.found_on else {}),
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what `to_plain` gave; ValueError for anything else."""
        try:
            weights = {str(name): float(value) for name, value in data["weights"].items()}
            return cls(weights, float(data["intercept"]), data.get("found_on"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("calibration: expected weights and an intercept") from error


def uncalibrated_score(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores 0..1 without a calibration: class probability times seed times membership, geometric mean.

    They put objects in order; 0.8 doesn't mean that eight of ten such objects match.
    """
    first = features[:, [FEATURES.index(name) for name in RISING[:3]]]
    return np.asarray(np.cbrt(np.clip(first, 0, 1).prod(1)))


def object_features(
    panoptic: PanopticMap,
    label_set: LabelSet,
    scores: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    seeds: NDArray[np.float32] | None,
    preparation: Preparation,
    bandwidth: float,
) -> NDArray[np.float64]:
    """What the outputs say of every object; see the module.

    Args:
        panoptic: HxW, what became of the outputs.
        label_set: C classes.
        scores: Cxhxw class scores before softmax, as the network gives them.
        embeddings: Exhxw.
        seeds: of a seed head, or None.
        preparation: what made the network's input from the image.
        bandwidth: in embedding units, for networks without a seed head.

    Returns:
        KxF, for the objects in the order of class and instance, `FEATURES` of each. An object too small for the
        network's resolution has the probability of none: 0 of what makes scores rise.
    """
    segment_map, segments = panoptic.segments(label_set)
    objects = [s for s in segments if label_set[s.category].is_thing and not s.is_crowd]
    count = len(objects)
    features = np.zeros((count, len(FEATURES)))
    if not count:
        return features
    scores, embeddings = (preparation.cut(maps, panoptic.shape) for maps in (scores, embeddings))
    seeds = None if seeds is None else preparation.cut(seeds, panoptic.shape)
    number = np.zeros(len(segments) + 1, dtype=np.int64)
    number[[s.id for s in objects]] = np.arange(1, count + 1)
    ids = resize_nearest(number[segment_map], (scores.shape[1], scores.shape[2]))
    inside = ids > 0
    owner = ids[inside] - 1
    area = np.bincount(owner, minlength=count)
    divisor = np.maximum(area, 1)

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(owner, values, minlength=count) / divisor)

    class_of = np.array([s.category for s in objects])
    inside_scores = scores[:, inside]
    inside_scores = inside_scores - inside_scores.max(0)
    own = np.take_along_axis(inside_scores, class_of[owner][None], 0)[0]
    columns = embeddings[:, inside].astype(np.float64)
    centres = np.stack([mean(column) for column in columns], axis=1)
    sharpness = np.full(count, math.log(2) / bandwidth**2)
    found = dict.fromkeys(FEATURES, np.ones(count))
    if seeds is not None:
        sharpness = mean(np.exp(np.clip(seeds[0][inside], -80, MAX_LOG_SHARPNESS)))
        found["seed"] = mean(scipy.special.expit(seeds[1][inside]))
        if len(seeds) >= _WITH_DENSITY:
            density = np.bincount(owner, np.exp(np.minimum(seeds[2][inside], 0)), minlength=count)
            found["density"] = np.minimum(density, 1)
    found["class_probability"] = mean(np.exp(own) / np.exp(inside_scores).sum(0))
    found["membership"] = mean(np.exp(-sharpness[owner] * np.square(columns - centres[owner].T).sum(0)))
    found["rival"] = mean(_rival(columns, owner, centres, sharpness, class_of))
    found["fullness"] = _fullness(inside, owner, divisor)
    relative = np.zeros(count)
    for index in np.unique(class_of):
        members = class_of == index
        relative[members] = np.log(divisor[members] / np.median(divisor[members]))
    found["smallness"], found["largeness"] = np.maximum(-relative, 0), np.maximum(relative, 0)
    rim, contact = _rim(ids)
    outermost = np.bincount(ids[rim] - 1, minlength=count)
    found["contact"] = np.bincount(ids[contact] - 1, minlength=count) / np.maximum(outermost, 1)
    found["roughness"] = outermost**2 / divisor / (4 * math.pi)
    for place, name in enumerate(FEATURES):
        features[:, place] = found[name]
    features[np.ix_(area == 0, [FEATURES.index(name) for name in RISING])] = 0
    return features


def _rival(
    columns: NDArray[np.float64],
    owner: NDArray[np.int64],
    centres: NDArray[np.float64],
    sharpness: NDArray[np.float64],
    class_of: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Of every pixel the membership in the other object of its class that it is in most; 0 where there is none."""
    best = np.zeros(len(owner))
    for index in np.unique(class_of):
        members = np.flatnonzero(class_of == index)
        if len(members) < 2:
            continue
        nearest = _nearest(centres[members], min(_RIVALS, len(members) - 1))
        place = np.full(len(class_of), -1)
        place[members] = np.arange(len(members))
        pixels = np.flatnonzero(place[owner] >= 0)
        for rank in range(nearest.shape[1]):
            other = members[nearest[place[owner[pixels]], rank]]
            squared = np.square(columns[:, pixels] - centres[other].T).sum(0)
            best[pixels] = np.maximum(best[pixels], np.exp(-sharpness[other] * squared))
    return best


def _nearest(points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """For each of K points the places of the nearest others, Kxcount."""
    from scipy.spatial import KDTree  # slow to import

    places = np.asarray(KDTree(points).query(points, k=count + 1)[1]).astype(np.int64)
    own = np.arange(len(points))[:, None]
    # A point is the nearest to itself, unless another lies on the same spot.
    own_last = np.argsort(places == own, axis=1, kind="stable")
    return np.take_along_axis(places, own_last, 1)[:, :count]


def _fullness(inside: NDArray[np.bool_], owner: NDArray[np.int64], area: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels of each object divided by the area of the ellipse with the same second moments."""
    y, x = (place.astype(np.float64) for place in np.nonzero(inside))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(owner, values, minlength=len(area)) / area)

    dx, dy = x - mean(x)[owner], y - mean(y)[owner]
    # A pixel is a square, whose own second moment is 1/12.
    xx, yy, xy = mean(dx * dx) + 1 / 12, mean(dy * dy) + 1 / 12, mean(dx * dy)
    return np.asarray(np.minimum(area / (4 * math.pi * np.sqrt(xx * yy - xy * xy)), 1))


def _rim(ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """HxW: pixels of objects with a side on something else or the image's border; and those with one on an object."""
    padded = np.pad(ids, 1)
    rim, contact = np.zeros((2, *ids.shape), dtype=bool)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        differs = neighbour != ids
        rim |= differs
        contact |= differs & (neighbour > 0)
    return rim & (ids > 0), contact & (ids > 0)

"""Nuclei without learning, as a rival: threshold, distance transform, watershed, all by scikit-image.

    python -m benchmarks.classical_nuclei --data DIR --output DIR [--model RUN | --split-file FILE] [--usual]

Settings are chosen for grey and for coloured images apart, by Panoptic Quality of things on the training and validation
images; with --usual they are what one starts from: Otsu's threshold of the smoothed image, nothing chosen by labels.
The figures are those of the test images at their own size.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import threshold_li, threshold_local, threshold_otsu
from skimage.morphology import opening
from skimage.segmentation import watershed

from panembed.assembly.build import split_for_training
from panembed.assembly.trained_model import split_of
from panembed.datasets.layout import open_dataset
from panembed.datasets.sample import Sample
from panembed.datasets.splits import Split
from panembed.evaluation.scores import Evaluation
from panembed.io.atomic import write_json
from panembed.io.label_images import write_instances
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.panoptic_quality import PanopticQuality
from panembed.settings.schema import Settings

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Recipe:
    """How an image becomes objects.

    Attributes:
        channel: grey, red, or hematoxylin (stained tissue, by colour deconvolution).
        sigma: of the Gaussian that smooths it, pixels.
        threshold: li, or a number of times Otsu's.
        local: by how much of the difference of the surroundings' mean to the image's mean the threshold rises.
        opening: radius of the square that opens the foreground, pixels; 0 doesn't.
        spacing: least distance of two seeds, in typical radii of the image's objects.
        smooth_distance: sigma of the Gaussian that smooths the distance transform, in typical radii.
        own_level: an object's pixels must reach this fraction of its own brightness above the background.
        min_area: smaller objects are dropped, pixels.
    """

    channel: str = "grey"
    sigma: float = 0.0
    threshold: str | float = 0.8
    local: float = 0.0
    opening: int = 0
    spacing: float = 0.5
    smooth_distance: float = 0.1
    own_level: float = 0.4
    min_area: int = 20


USUAL = Recipe(sigma=1.0, threshold=1.0, own_level=0.0)

GRID: dict[str, tuple[Any, ...]] = {
    "channel": ("grey", "red", "hematoxylin"),
    "local": (0.0, 0.25, 0.5, 0.75, 1.0),
    "threshold": ("li", 0.8, 0.9, 1.0, 1.1),
    "sigma": (0.0, 1.0, 2.0, 3.0),
    "own_level": (0.0, 0.4, 0.6),
    "spacing": (0.5, 0.65, 0.8, 1.0),
    "opening": (0, 1, 2),
    "smooth_distance": (0.1, 0.2),
    "min_area": (20, 40, 80),
}


def is_coloured(image: NDArray[np.uint8]) -> bool:
    """Stained tissue rather than fluorescence, whose channels are equal.

    >>> is_coloured(np.full((4, 4, 3), 90, np.uint8)), is_coloured(np.full((4, 4, 3), [90, 40, 90], np.uint8))
    (False, True)
    """
    return float((image.max(2) - image.min(2)).mean()) > 5


def intensity(image: NDArray[np.uint8], channel: str) -> Floats:
    """HxW from 0 to 1, high in nuclei: dark ones are turned bright, told by their being the smaller part of the image."""
    if channel == "hematoxylin":
        value = rgb2hed(image)[..., 0]
    else:
        value = rgb2gray(image) if channel == "grey" else image[..., 0].astype(float)
        if value.max() > value.min() and (value > threshold_otsu(value)).mean() > 0.5:
            value = -value
    low, high = np.percentile(value, [0.1, 99.9])
    return np.clip((value - low) / max(high - low, 1e-12), 0, 1)


def foreground(value: Floats, threshold: str | float, local: float) -> NDArray[np.bool_]:
    """Pixels above the threshold, holes filled; see `Recipe`."""
    level: Any = threshold_li(value) if threshold == "li" else float(threshold) * threshold_otsu(value)
    if local:
        level = level + local * (threshold_local(value, 101, "mean") - value.mean())
    return ndimage.binary_fill_holes(value > level)


def segment(value: Floats, recipe: Recipe) -> NDArray[np.int32]:
    """Objects of an intensity image, HxW from 1; 0 is background.

    >>> y, x = np.mgrid[:40, :60]
    >>> touching = np.minimum(np.hypot(y - 20, x - 20), np.hypot(y - 20, x - 39)) < 11
    >>> sorted(np.unique(segment(touching.astype(float), Recipe())).tolist())
    [0, 1, 2]
    """
    if value.max() == value.min():
        return np.zeros(value.shape, np.int32)
    smooth = ndimage.gaussian_filter(value, recipe.sigma) if recipe.sigma else value
    mask = foreground(smooth, recipe.threshold, recipe.local)
    if recipe.opening:
        mask = opening(mask, np.ones((2 * recipe.opening + 1,) * 2))
    components, num = ndimage.label(mask)
    if num == 0:
        return np.zeros(value.shape, np.int32)
    distance = ndimage.distance_transform_edt(mask)
    depths = ndimage.maximum(distance, components, np.arange(1, num + 1))
    areas = np.bincount(components.ravel(), minlength=num + 1)[1:]
    # Weighted by area, so that specks don't set the scale.
    order = np.argsort(depths)
    radius = float(depths[order][np.searchsorted(areas[order].cumsum(), areas.sum() / 2)])
    if recipe.smooth_distance:
        distance = ndimage.gaussian_filter(distance, recipe.smooth_distance * radius) * mask
    peaks = peak_local_max(distance, min_distance=max(1, round(recipe.spacing * radius)), exclude_border=False)
    seeds = np.zeros(value.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    # A small component beside a large one has lost its peak to it.
    seeded = np.zeros(num + 1, bool)
    seeded[components[tuple(peaks.T)]] = True
    lost = ~seeded[components] & mask
    seeds[lost] = components[lost] + len(peaks)
    objects = watershed(-distance, seeds, mask=mask)
    if recipe.own_level:
        dark = float(np.median(smooth[~mask])) if not mask.all() else 0.0
        areas = np.bincount(objects.ravel())
        means = np.bincount(objects.ravel(), smooth.ravel()) / np.maximum(areas, 1)
        level = dark + recipe.own_level * (means - dark)
        level[0] = 0.0
        objects = np.where(smooth >= level[objects], objects, 0)
    areas = np.bincount(objects.ravel())
    kept = areas >= recipe.min_area
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[objects].astype(np.int32)


def as_map(objects: NDArray[np.int32], label_set: LabelSet) -> PanopticMap:
    (thing,), (stuff,) = label_set.things, label_set.stuff
    return PanopticMap(np.where(objects > 0, thing, stuff), objects)


class Tuning:
    """Coordinate descent over `GRID` on given images, in two rounds."""

    def __init__(self, samples: list[Sample], label_set: LabelSet) -> None:
        self.samples, self.label_set = samples, label_set
        self._values: dict[tuple[str, str], Floats] = {}
        self._scores: dict[Recipe, float] = {}

    def score(self, recipe: Recipe) -> float:
        if recipe not in self._scores:
            quality = PanopticQuality(self.label_set)
            for sample in self.samples:
                key = sample.id, recipe.channel
                if key not in self._values:
                    self._values[key] = intensity(sample.image, recipe.channel)
                quality.update(as_map(segment(self._values[key], recipe), self.label_set), sample.truth)
            self._scores[recipe] = quality.compute().things.pq or 0.0
        return self._scores[recipe]

    def best(self, start: Recipe, channels: tuple[str, ...]) -> Recipe:
        found = start
        for _ in range(2):
            for name, options in (GRID | {"channel": channels}).items():
                found = max((replace(found, **{name: option}) for option in options), key=self.score)
                print(f"  {name} {getattr(found, name)}: things PQ {self.score(found):.4f}", flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--split-file", type=Path, help="default: the split that preset nuclei trains with")
    source.add_argument("--model", type=Path, help="run whose split to take")
    parser.add_argument("--tune-images", type=int, help="tune on at most this many images of each kind")
    parser.add_argument("--usual", action="store_true", help="choose nothing by labels")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    if arguments.split_file is not None:
        split = Split.read(arguments.split_file)
    elif arguments.model is not None:
        split = split_of(arguments.model)
    else:
        split = split_for_training(dataset, Settings.load("nuclei"))
    if arguments.usual:
        report(arguments.output, dataset, split.test, {False: USUAL, True: USUAL})
        return
    samples = [dataset.load(id) for id in (*split.train, *split.val)]
    recipes: dict[bool, Recipe] = {}
    for coloured, channels in ((False, ("grey",)), (True, ("grey", "red", "hematoxylin"))):
        chosen = [sample for sample in samples if is_coloured(sample.image) == coloured]
        if arguments.tune_images:
            chosen = chosen[:: math.ceil(len(chosen) / arguments.tune_images)]
        print(f"tuning on {len(chosen)} {'coloured' if coloured else 'grey'} images", flush=True)
        start = Recipe(channel=channels[-1])
        recipes[coloured] = Tuning(chosen, dataset.label_set).best(start, channels) if chosen else start
    report(arguments.output, dataset, split.test, recipes)


def report(output: Path, dataset: Any, ids: tuple[str, ...], recipes: Mapping[bool, Recipe]) -> None:
    """Write label images, metrics.json, per_image.csv and settings.json, and print the figures."""
    evaluation = Evaluation(dataset.label_set)
    for id in ids:
        sample = dataset.load(id)
        recipe = recipes[is_coloured(sample.image)]
        objects = segment(intensity(sample.image, recipe.channel), recipe)
        (output / id).parent.mkdir(parents=True, exist_ok=True)
        write_instances(output / f"{id}_instances", objects)
        evaluation.add(id, as_map(objects, dataset.label_set), sample.truth)
    evaluation.write(output)
    write_json(output / "settings.json", {("coloured" if key else "grey"): asdict(r) for key, r in recipes.items()})
    print(json.dumps({("coloured" if key else "grey"): asdict(r) for key, r in recipes.items()}, indent=1))
    metrics = evaluation.metrics()
    print(f"{len(ids)} test images: things PQ {metrics['things']['pq']:.4f}, AP50 {metrics['ap50']:.4f}")


if __name__ == "__main__":
    main()

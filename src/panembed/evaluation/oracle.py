"""Where the quality is lost: the same network outputs scored as they are, with true classes, with true centres, both.

De Brabandere et al. 2017, "Semantic Instance Segmentation with a Discriminative Loss Function", report such an ablation
for Cityscapes. The gap between two rows is about what a better class mask or better found modes could win; no bound, as
objects found in another class mask are others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.clustering.mean_shift import assign
from panembed.datasets.sample import Dataset
from panembed.errors import segmenting
from panembed.evaluation.scores import Evaluation, evaluate_model
from panembed.inference.fusion import class_mask, fuse, majority
from panembed.inference.grouping import Grouping
from panembed.inference.predictor import PanopticModel
from panembed.inference.preparation import Preparation, resize_nearest
from panembed.io.atomic import write_json, write_text
from panembed.labels.categories import IGNORE, LabelSet
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.leaf import LeafScores
from panembed.metrics.overlaps import count_overlaps
from panembed.metrics.panoptic_quality import PanopticQuality

Floats = NDArray[np.float32]

VARIANTS = {
    "predicted": "as predicted",
    "true_classes": "true classes",
    "true_centres": "true centres",
    "true_classes_and_centres": "both",
}
"""Names in files, and for people."""

_SURE = 50.0
"""Score of the true class above the others: a probability of 1 in float32, for grouping by confidence."""


def oracle_maps(
    scores: Floats,
    embeddings: Floats,
    truth: PanopticMap,
    label_set: LabelSet,
    grouping: Grouping,
    preparation: Preparation,
    seeds: Floats | None = None,
) -> dict[str, PanopticMap]:
    """One image's panoptic map in each of the four ways.

    - True classes: the truth's classes stand for the predicted ones, at the network's resolution where modes are
      sought, and at the image's own size; pixels that the truth gives no class keep theirs.
    - True centres: instead of the modes, the means of the true objects' embeddings at the network's resolution. Every
      pixel of the class goes to the nearest; its distance must be within `grouping.max_distance`, if there is one.
      An object too small to have a pixel at that resolution has no centre. Thing pixels become void where the truth has
      void or a crowd, since no centre is theirs, and where the image has no object of their class.

    Args:
        scores: Cxhxw class scores before softmax, as the network gives them.
        embeddings: Exhxw.
        truth: of the image, at its own size.
        label_set: C classes.
        grouping: how embeddings become objects.
        preparation: what made the network's input from the image.
        seeds: 2xhxw of a seed head.

    Returns:
        Maps of the truth's size by the names of `VARIANTS`.
    """
    shape = truth.shape
    scores, embeddings = preparation.cut(scores, shape), preparation.cut(embeddings, shape)
    small = scores.shape[1:]
    small_semantic, small_instance = (
        array if small == shape else resize_nearest(array.astype(np.int64), (small[0], small[1]))
        for array in (truth.semantic, truth.instance)
    )
    full_scores = preparation.restore(scores, shape)
    sure_scores = _sure_of(scores, small_semantic)
    told = _KnownClasses(
        preparation.size,
        preparation.fit,
        preparation.normalization,
        preparation.scale,
        given=sure_scores,
        told=_sure_of(full_scores, truth.semantic),
    )
    semantic = class_mask(full_scores)
    true_semantic = np.where(truth.semantic == IGNORE, semantic, truth.semantic)
    centres = {
        index: _centres(embeddings, small_semantic == index, small_instance, _crowds(truth, index))
        for index in label_set.things
    }
    full_embeddings = preparation.restore(embeddings, shape)
    return {
        "predicted": grouping.group(scores, embeddings, label_set.things, preparation, shape, seeds),
        "true_classes": grouping.group(sure_scores, embeddings, label_set.things, told, shape, seeds),
        "true_centres": _assign_to(centres, semantic, full_embeddings, truth, grouping),
        "true_classes_and_centres": _assign_to(centres, true_semantic, full_embeddings, truth, grouping),
    }


def evaluate_oracles(
    model: PanopticModel,
    dataset: Dataset,
    ids: Iterable[str],
    each: Callable[[str, PanopticMap], None] | None = None,
    *,
    ap_min_area: int | None = None,
    num_kept: int = 0,
) -> tuple[Evaluation, dict[str, dict[str, float | None]]]:
    """Predict images of a data set once and score them in the four ways.

    Args:
        model: its classes must be the data set's.
        dataset: images with truth.
        ids: which of them.
        each: called with every id and what was predicted for it.
        ap_min_area: see `Evaluation`.
        num_kept: see `Evaluation`.

    Returns:
        The evaluation of the predictions as they are, and by the names of `VARIANTS`: `pq_things`, `sq_things`,
        `rq_things`, `pq`, and for one thing class `sbd` and `abs_dic`; None where nothing could be scored.

    Raises:
        InputError: the classes differ, or an image can't be read, or is too large for memory.
        ModelError: the network's outputs are no numbers.
    """
    evaluation = evaluate_model(model, dataset, (), ap_min_area=ap_min_area, num_kept=num_kept)
    label_set = dataset.label_set
    quality = {name: PanopticQuality(label_set) for name in VARIANTS}
    leaf = {name: LeafScores() for name in VARIANTS} if len(label_set.things) == 1 else {}
    for id in ids:
        sample = dataset.load(id)
        with segmenting(id):
            outputs = (output[0] for output in model.backend(model.preparation.prepare(sample.image)[None]))
            scores, embeddings, *seeds = outputs
            maps = oracle_maps(scores, embeddings, sample.truth, label_set, model.grouping, model.preparation, *seeds)
        for name, panoptic in maps.items():
            overlaps = count_overlaps(panoptic, sample.truth, label_set)
            quality[name].add(overlaps)
            if leaf:
                leaf[name].add(overlaps, len(label_set), label_set.things[0])
        sure = model.score(maps["predicted"], scores, embeddings, *seeds)
        evaluation.add(id, maps["predicted"], sample.truth, sure)
        if each is not None:
            each(id, maps["predicted"])
    table: dict[str, dict[str, float | None]] = {}
    for name in VARIANTS:
        result = quality[name].compute()
        things = result.things
        table[name] = {"pq_things": things.pq, "sq_things": things.sq, "rq_things": things.rq, "pq": result.all.pq}
        if leaf:
            means = leaf[name].compute()
            table[name] |= {"sbd": means["sbd"], "abs_dic": means["abs_dic"]}
    return evaluation, table


def write_oracles(folder: Path, table: dict[str, dict[str, float | None]]) -> None:
    """Write oracle.json (fractions) and oracle.md (percent).

    Raises:
        OutputError: the folder can't be written.
    """
    write_json(folder / "oracle.json", table)
    columns = list(next(iter(table.values())))
    heads = " | ".join(["", *(COLUMNS[name] for name in columns)])
    lines = [f"|{heads} |", "|---|" + "---:|" * len(columns)]
    for name, row in table.items():
        lines.append(f"| {VARIANTS[name]} | " + " | ".join(shown(column, row[column]) for column in columns) + " |")
    write_text(folder / "oracle.md", "\n".join(lines) + "\n")


COLUMNS = {
    "pq_things": "things PQ",
    "sq_things": "things SQ",
    "rq_things": "things RQ",
    "pq": "PQ",
    "sbd": "SBD",
    "abs_dic": "abs. DiC",
    "counts": "counts",
}
"""Headings of the figures."""


def shown(column: str, value: float | None) -> str:
    """A figure for people: percent with one decimal; leaves, for `abs_dic`, with two.

    >>> shown("sbd", 0.8391), shown("abs_dic", 1.25), shown("pq", None)
    ('83.9', '1.25', '-')
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if column == "abs_dic" else f"{100 * value:.1f}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _KnownClasses(Preparation):
    """Gives the true classes at the image's own size, where stretching those of the network's would blur edges."""

    given: Floats
    told: Floats

    def restore(self, maps: Floats, shape: tuple[int, int]) -> Floats:
        return self.told if maps is self.given else Preparation.restore(self, maps, shape)


def _sure_of(scores: Floats, semantic: NDArray[Any]) -> Floats:
    """Scores that leave no doubt about the given classes; those of pixels without a class stay."""
    classes = np.arange(len(scores))[:, None, None]
    sure = np.where(classes == semantic, np.float32(_SURE), np.float32(0))
    return np.where(semantic == IGNORE, scores, sure).astype(np.float32)


def _crowds(truth: PanopticMap, index: int) -> list[int]:
    return [0, *(number for category, number in truth.crowd if category == index)]


def _centres(embeddings: Floats, mask: NDArray[np.bool_], instance: NDArray[Any], no_objects: list[int]) -> Floats:
    """KxE means of the embeddings of each object."""
    mask = mask & ~np.isin(instance, no_objects)
    ids, inverse = np.unique(instance[mask], return_inverse=True)
    sums = [np.bincount(inverse, weights=channel[mask], minlength=len(ids)) for channel in embeddings]
    return np.asarray(np.stack(sums, axis=1) / np.bincount(inverse, minlength=len(ids))[:, None], dtype=np.float32)


def _assign_to(
    centres: dict[int, Floats],
    semantic: NDArray[np.uint8],
    embeddings: Floats,
    truth: PanopticMap,
    grouping: Grouping,
) -> PanopticMap:
    """Give every thing pixel to the nearest centre of its class; with `Grouping.vote` of any, and pixels vote."""
    nobodys = truth.semantic == IGNORE
    for index in centres:
        nobodys |= (truth.semantic == index) & np.isin(truth.instance, _crowds(truth, index))
    clusters: dict[int, NDArray[np.int32]] = {}
    parts: list[tuple[tuple[int, ...], Floats]] = [((index,), points) for index, points in centres.items()]
    if grouping.vote and centres:
        parts = [(tuple(centres), np.concatenate(list(centres.values())))]
        semantic = semantic.copy()
    for classes, centres_ke in parts:
        rule, mask = grouping.by_class.get(classes[0], grouping), np.isin(semantic, classes)
        labels = np.full(np.count_nonzero(mask), -1, dtype=np.int32)
        if len(centres_ke) and len(labels):
            labels, squared = assign(np.ascontiguousarray(embeddings[:, mask].T), centres_ke)
            if rule.max_distance is not None:
                labels[squared > rule.max_distance**2] = -1
            labels[nobodys[mask]] = -1
        labels = rule.tidied(mask, labels)
        if grouping.vote:
            semantic[mask] = majority(semantic[mask], labels)
        clusters |= {index: labels[semantic[mask] == index] for index in classes}
    return fuse(semantic, clusters)

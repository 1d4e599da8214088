"""Class scores and clusters become one panoptic map (Zachow 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from panembed.labels.panoptic_map import PanopticMap


def class_mask(
    scores: NDArray[np.floating],
) -> NDArray[np.uint8]:
    """Give each pixel the class of the highest score.

    Args:
        scores: CxHxW floats, C <= 255; softmax or not makes no difference.

    Returns:
        HxW uint8 class indices.

    >>> class_mask(np.array([[[0.2, 0.9]], [[0.8, 0.1]]])).tolist()
    [[1, 0]]
    """
    best, best_score = np.zeros(scores.shape[1:], dtype=np.uint8), scores[0].copy()
    for index in range(1, len(scores)):
        # Class by class is several times faster than argmax over the first axis.
        better = scores[index] > best_score
        best[better] = index
        np.copyto(best_score, scores[index], where=better)
    return best


def confidence(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Softmax probability of the highest score.

    Args:
        scores: CxHxW floats before softmax.

    Returns:
        HxW float32 in [1 / C, 1].

    >>> confidence(np.zeros((4, 1, 1))).item()
    0.25
    """
    top = scores.max(0)
    return np.asarray(1.0 / np.exp(scores - top).sum(0), dtype=np.float32)


def majority(classes: NDArray[np.uint8], labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Give all pixels of a cluster the class that most of them have.

    Args:
        classes: class indices of N pixels.
        labels: their clusters 0..K-1, or -1 for none.

    Returns:
        N uint8 class indices; the lowest where two are as frequent. Pixels of no cluster keep theirs.

    >>> majority(np.array([1, 2, 2, 1], dtype=np.uint8), np.array([0, 0, 0, -1], dtype=np.int32)).tolist()
    [2, 2, 2, 1]
    """
    held = labels >= 0
    count = np.bincount(labels[held] * 256 + classes[held])
    count = np.pad(count, (0, -len(count) % 256)).reshape(-1, 256)
    voted = classes.copy()
    voted[held] = count.argmax(1)[labels[held]] if len(count) else voted[held]
    return voted


def fuse(semantic: NDArray[np.uint8], clusters: Mapping[int, NDArray[np.int32]]) -> PanopticMap:
    """Put the clusters of each thing class into the class mask.

    Args:
        semantic: HxW class indices.
        clusters: for each thing class, a cluster 0..K-1 (or -1 for none) of each of its pixels, in row-major order.

    Returns:
        A map whose instances count from 1 within a class; pixels of cluster -1 become void.

    >>> fuse(np.array([[0, 1, 1, 1]], dtype=np.uint8), {1: np.array([0, 1, -1], dtype=np.int32)}).instance.tolist()
    [[0, 1, 2, 0]]
    """
    semantic, instance = semantic.copy(), np.zeros(semantic.shape, dtype=np.int32)
    for index, labels in clusters.items():
        mask = semantic == index
        if np.count_nonzero(mask) != len(labels):
            raise ValueError(f"class {index}: {np.count_nonzero(mask)} pixels but {len(labels)} cluster labels")
        _, dense = np.unique(labels, return_inverse=True)
        has_outliers = bool((labels < 0).any())
        instance[mask] = dense.astype(np.int32) + (0 if has_outliers else 1)
        semantic[mask] = np.where(labels < 0, 255, index)
    return PanopticMap(semantic, instance)

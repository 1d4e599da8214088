"""One colour for a true object and for the predicted one that overlaps it most."""

from __future__ import annotations

import numpy as np

from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap


def match_colors(prediction: PanopticMap, truth: PanopticMap, label_set: LabelSet) -> PanopticMap:
    """Renumber predicted objects by the true object of their class that each overlaps most, largest overlap first.

    Objects left over get numbers that truth doesn't have.

    >>> leaves = LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}])
    >>> truth = PanopticMap([[1, 1, 1]], [[4, 4, 9]])
    >>> match_colors(PanopticMap([[1, 1, 1]], [[1, 1, 2]]), truth, leaves).instance.tolist()
    [[4, 4, 9]]
    """
    instance = np.zeros_like(prediction.instance)
    for thing in label_set.things:
        predicted = np.where(prediction.semantic == thing, prediction.instance, 0)
        true = np.where(truth.semantic == thing, truth.instance, 0)
        ids, inverse = np.unique(predicted, return_inverse=True)
        true_ids, true_inverse = np.unique(true, return_inverse=True)
        pairs = np.bincount(inverse.ravel() * len(true_ids) + true_inverse.ravel(), minlength=len(ids) * len(true_ids))
        overlap = pairs.reshape(len(ids), len(true_ids))
        names = np.zeros(len(ids), dtype=np.int32)
        used: set[int] = set()
        for flat in np.argsort(-overlap, axis=None, kind="stable"):
            p, t = divmod(int(flat), len(true_ids))
            if overlap[p, t] == 0:
                break
            if ids[p] and true_ids[t] and not names[p] and t not in used:
                names[p] = true_ids[t]
                used.add(t)
        spare = int(true_ids.max()) + 1
        for p, id in enumerate(ids):
            if id and not names[p]:
                names[p], spare = spare, spare + 1
        instance += names[inverse].reshape(instance.shape)
    return PanopticMap(prediction.semantic, instance, prediction.crowd)

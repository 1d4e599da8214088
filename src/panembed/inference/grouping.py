"""From the network's outputs to a panoptic map at the image's own size (Zachow 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panembed.clustering.mean_shift import assign, find_modes
from panembed.errors import SettingsError
from panembed.fusion import class_mask, confidence, fuse, majority
from panembed.inference.preparation import Preparation
from panembed.labels import PanopticMap


@dataclass(frozen=True, slots=True)
class Grouping:
    """How embeddings become objects.

    Modes are sought at the network's resolution among confident pixels; then every pixel of the class, at the image's
    own size, goes to its nearest mode. So pixels of doubtful class can't make objects of their own.

    Attributes:
        bandwidth: of mean shift, in embedding units; the thesis takes delta_dist.
        seed_bandwidth: radius of the kernel that climbs to the modes; None for `bandwidth`, as in the thesis.
        min_area: objects with fewer pixels, at the network's resolution, go to their neighbours in embedding space.
        min_confidence: class probability from which on a pixel helps to find modes; 0 takes all, as in the thesis.
        max_distance: pixels farther than this from every mode, in embedding units, become void; None keeps all.
        by_class: thing classes, by index, that are grouped by other rules than these.
        vote: cluster the pixels of all thing classes together, then give each object the class that most of its pixels
            have; so an object is whole where the class mask wavers. For embeddings trained with
            `PanopticLoss(per_class=False)`, else objects of two classes may lie on one spot.
    """

    bandwidth: float = 1.5
    seed_bandwidth: float | None = None
    min_area: int = 20
    min_confidence: float = 0.0
    max_distance: float | None = None
    by_class: Mapping[int, Grouping] = field(default_factory=dict)
    vote: bool = False

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise SettingsError(f"grouping.bandwidth: expected more than 0, found {self.bandwidth}")
        if self.seed_bandwidth is not None and not 0 < self.seed_bandwidth <= self.bandwidth:
            raise SettingsError(
                f"grouping.seed_bandwidth: expected more than 0 and at most bandwidth {self.bandwidth}, "
                f"found {self.seed_bandwidth}"
            )
        if self.vote and self.by_class:
            raise SettingsError("grouping.by_class has no effect with vote, which takes all classes together")

    def group(
        self,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32],
        thing_ids: tuple[int, ...],
        preparation: Preparation,
        shape: tuple[int, int],
    ) -> PanopticMap:
        """Cluster and fuse.

        Args:
            scores: Cxhxw class scores before softmax, as the network gives them.
            embeddings: Exhxw.
            thing_ids: class indices of things.
            preparation: what made the network's input from the image.
            shape: height and width of the image.
        """
        if preparation.fit == "native":
            # Padding must not make objects.
            scores, embeddings = preparation.restore(scores, shape), preparation.restore(embeddings, shape)
        coarse = class_mask(scores)
        sure = confidence(scores)
        full_scores = preparation.restore(scores, shape)
        semantic = class_mask(full_scores) if full_scores is not scores else coarse.copy()
        full_embeddings: NDArray[np.float32] | None = None
        clusters: dict[int, NDArray[np.int32]] = {}
        for classes, rule in self._parts(thing_ids):
            mask = _any_of(semantic, classes)
            if not mask.any():
                continue
            inside = _any_of(coarse, classes)
            seeds = inside & (sure >= rule.min_confidence)
            if np.count_nonzero(seeds) < rule.min_area:
                seeds = inside
            modes = find_modes(
                embeddings[:, seeds].T,
                bandwidth=rule.bandwidth,
                seed_bandwidth=rule.seed_bandwidth,
                min_cluster_size=rule.min_area,
            )
            if len(modes):
                if full_embeddings is None:
                    full_embeddings = preparation.restore(embeddings, shape)
                labels, squared = assign(np.ascontiguousarray(full_embeddings[:, mask].T), modes)
                if rule.max_distance is not None:
                    labels[squared > rule.max_distance**2] = -1
            else:
                # Too few pixels for one object.
                labels = np.full(np.count_nonzero(mask), -1, dtype=np.int32)
            if self.vote:
                semantic[mask] = majority(semantic[mask], labels)
            clusters |= {index: labels[semantic[mask] == index] for index in classes}
        return fuse(semantic, clusters)

    def _parts(self, thing_ids: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Grouping]]:
        """Classes that are clustered together, and by which rules."""
        if self.vote:
            yield thing_ids, self
        else:
            yield from (((index,), self.by_class.get(index, self)) for index in thing_ids)


def _any_of(semantic: NDArray[np.uint8], classes: tuple[int, ...]) -> NDArray[np.bool_]:
    if len(classes) == 1:
        return np.asarray(semantic == classes[0])
    wanted = np.zeros(256, dtype=np.bool_)
    wanted[list(classes)] = True
    return wanted[semantic]

"""From the network's outputs to a panoptic map at the image's own size (Zachow 2022, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panembed.clustering.mean_shift import assign, find_modes
from panembed.errors import SettingsError
from panembed.fusion import class_mask, confidence, fuse
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
    """

    bandwidth: float = 1.5
    seed_bandwidth: float | None = None
    min_area: int = 20
    min_confidence: float = 0.0
    max_distance: float | None = None

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise SettingsError(f"grouping.bandwidth: expected more than 0, found {self.bandwidth}")
        if self.seed_bandwidth is not None and not 0 < self.seed_bandwidth <= self.bandwidth:
            raise SettingsError(
                f"grouping.seed_bandwidth: expected more than 0 and at most bandwidth {self.bandwidth}, "
                f"found {self.seed_bandwidth}"
            )

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
        sure = confidence(scores) >= self.min_confidence if self.min_confidence > 0 else None
        full_scores = preparation.restore(scores, shape)
        semantic = class_mask(full_scores) if full_scores is not scores else coarse
        full_embeddings: NDArray[np.float32] | None = None
        clusters = {}
        for index in thing_ids:
            mask = semantic == index
            if not mask.any():
                continue
            inside = coarse == index
            seeds = inside & sure if sure is not None else inside
            if np.count_nonzero(seeds) < self.min_area:
                seeds = inside
            modes = find_modes(
                embeddings[:, seeds].T,
                bandwidth=self.bandwidth,
                seed_bandwidth=self.seed_bandwidth,
                min_cluster_size=self.min_area,
            )
            if len(modes) == 0:
                # Too few pixels for one object.
                clusters[index] = np.full(np.count_nonzero(mask), -1, dtype=np.int32)
                continue
            if full_embeddings is None:
                full_embeddings = preparation.restore(embeddings, shape)
            labels, squared = assign(np.ascontiguousarray(full_embeddings[:, mask].T), modes)
            if self.max_distance is not None:
                labels[squared > self.max_distance**2] = -1
            clusters[index] = labels
        return fuse(semantic, clusters)

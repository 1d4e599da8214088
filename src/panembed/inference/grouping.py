"""From the network's outputs to a panoptic map at the image's own size (Zachow 2022, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray

from panembed.clustering.components import clear_border, connected_components, largest_parts
from panembed.clustering.hdbscan import find_centres
from panembed.clustering.mean_shift import assign, find_modes
from panembed.clustering.recount import recount
from panembed.clustering.second_look import look_again
from panembed.clustering.seed_map import assign_scaled, find_candidates
from panembed.errors import ModelError, SettingsError
from panembed.inference.fusion import class_mask, confidence, fuse, majority
from panembed.inference.preparation import Preparation
from panembed.labels.panoptic_map import PanopticMap

_CHANNELS_WITH_DENSITY = 3
"""Of what a seed head gives."""

Method = Literal["mean_shift", "hdbscan", "components", "seed_map"]

_ALWAYS = ("min_area", "clear_border", "by_class", "vote")
_IN_EMBEDDINGS = (*_ALWAYS, "min_confidence", "max_distance", "one_piece")
HEEDED: dict[Method, tuple[str, ...]] = {
    "mean_shift": (*_IN_EMBEDDINGS, "bandwidth", "seed_bandwidth", "second_look"),
    "hdbscan": _IN_EMBEDDINGS,
    "components": _ALWAYS,
    "seed_map": (*_IN_EMBEDDINGS, "least_seed", "own_share", "recount"),
}
"""The settings of `Grouping` that a method heeds; the others have no effect with it."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """How embeddings become objects.

    Modes are sought at the network's resolution among confident pixels; then every pixel of the class, at the image's
    own size, goes to its nearest mode. So pixels of doubtful class can't make objects of their own.

    Attributes:
        method: mean_shift; hdbscan, which needs no bandwidth, but a larger `min_area`, and scikit-learn, and many times
            as long, and which may split an image's only object; components, the connected components of the class
            mask, which leaves embeddings aside (those of fewer than `min_area` pixels become void); or seed_map, for
            networks with a seed head (Neven et al. 2019), where bandwidths are learned. What else each heeds: `HEEDED`.
        bandwidth: of mean shift, in embedding units; the thesis takes delta_dist.
        seed_bandwidth: radius of the kernel that climbs to the modes; None for `bandwidth`, as in the thesis.
        min_area: objects with fewer pixels, at the network's resolution, go to their neighbours in embedding space.
        min_confidence: class probability from which on a pixel helps to find modes; 0 takes all, as in the thesis.
        second_look: look again for objects whose modes are at least this far from others, less than `bandwidth`, and
            whose pixels make a patch of their own (`panembed.clustering.second_look`); None doesn't.
        least_seed: score from which on a pixel may be a centre, with seed_map.
        own_share: of the pixels that a centre reaches, more than this share must not be in objects found before it;
            else it is a piece of their rim. With seed_map.
        recount: make as many objects as this factor times the sum of the network's density: split those that hold two,
            give pieces to their neighbours (`panembed.clustering.recount`). 1 takes the sum as it is; the factor that
            makes it right on average on training images is the better one. None leaves the count as it is. With
            seed_map.
        max_distance: pixels farther than this from every mode, in embedding units, become void; None keeps all.
        one_piece: pixels apart from the largest connected piece of their object become void. For objects that nothing
            hides in part, such as nuclei.
        clear_border: connected parts of objects that touch the image's border become void, for counting and measuring
            what is seen whole.
        by_class: thing classes, by index, that are grouped by other rules than these.
        vote: cluster the pixels of all thing classes together, then give each object the class that most of its pixels
            have; so an object is whole where the class mask wavers. For embeddings trained with
            `PanopticLoss(per_class=False)`, else objects of two classes may lie on one spot.
    """

    method: Method = "mean_shift"
    bandwidth: float = 1.5
    seed_bandwidth: float | None = None
    min_area: int = 20
    min_confidence: float = 0.0
    second_look: float | None = None
    least_seed: float = 0.5
    own_share: float = 0.7
    recount: float | None = None
    max_distance: float | None = None
    one_piece: bool = False
    clear_border: bool = False
    by_class: Mapping[int, Grouping] = field(default_factory=dict)
    vote: bool = False

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise SettingsError(f"grouping.method is {self.method!r}; expected {' or '.join(get_args(Method))}")
        if not 0 < self.bandwidth < math.inf:
            raise SettingsError(f"grouping.bandwidth: expected a number above 0, found {self.bandwidth}")
        if self.seed_bandwidth is not None and not 0 < self.seed_bandwidth <= self.bandwidth:
            raise SettingsError(
                f"grouping.seed_bandwidth: expected more than 0 and at most bandwidth {self.bandwidth}, "
                f"found {self.seed_bandwidth}"
            )
        if not 0 <= self.own_share < 1:
            raise SettingsError(f"grouping.own_share: expected a share of 0 to below 1, found {self.own_share}")
        if self.second_look is not None and not 0 < self.second_look < self.bandwidth:
            raise SettingsError(
                f"grouping.second_look: expected more than 0 and less than bandwidth {self.bandwidth}, "
                f"found {self.second_look}"
            )
        if self.second_look is not None and self.method != "mean_shift":
            raise SettingsError(f"grouping.second_look has no effect with method {self.method}; leave it out")
        if self.recount is not None and not 0 < self.recount < math.inf:
            raise SettingsError(f"grouping.recount: expected a factor above 0, found {self.recount}")
        if self.vote and self.by_class:
            raise SettingsError("grouping.by_class has no effect with vote, which takes all classes together")

    def group(
        self,
        scores: NDArray[np.float32],
        embeddings: NDArray[np.float32],
        thing_ids: tuple[int, ...],
        preparation: Preparation,
        shape: tuple[int, int],
        seeds: NDArray[np.float32] | None = None,
    ) -> PanopticMap:
        """Cluster and fuse.

        Args:
            scores: Cxhxw class scores before softmax, as the network gives them.
            embeddings: Exhxw.
            thing_ids: class indices of things.
            preparation: what made the network's input from the image.
            shape: height and width of the image.
            seeds: 2xhxw of a seed head: log of the sharpness, and score before the sigmoid; 3xhxw with the log of the
                density.

        Raises:
            SettingsError: method seed_map without seeds, or recount without a density.
            ModelError: outputs that are NaN or infinite.
        """
        if not all(map(_finite, (scores, embeddings, *(() if seeds is None else (seeds,))))):
            raise ModelError(
                "the network gives NaN or infinite numbers, so there is nothing to group; its weights are broken, or "
                "learned at too high a training.learning_rate: take another model, or train it anew"
            )
        # Padding must not make objects.
        scores, embeddings = preparation.cut(scores, shape), preparation.cut(embeddings, shape)
        seeds = None if seeds is None else preparation.cut(seeds, shape)
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
            if rule.method == "components":
                scale = mask.size / coarse.size
                labels = connected_components(mask, min_area=round(rule.min_area * scale))
            else:
                inside = _any_of(coarse, classes)
                modes, sharpness = rule.centres(embeddings, inside, sure, seeds)
                if full_embeddings is None:
                    full_embeddings = preparation.restore(embeddings, shape)
                labels = rule.members(full_embeddings, mask, modes, sharpness)
            labels = rule.tidied(mask, labels)
            if self.vote:
                semantic[mask] = majority(semantic[mask], labels)
            clusters |= {index: labels[semantic[mask] == index] for index in classes}
        return fuse(semantic, clusters)

    def centres(
        self,
        embeddings: NDArray[np.float32],
        inside: NDArray[np.bool_],
        sure: NDArray[np.float32],
        seeds: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The centres of objects in embedding space, and with seed_map their sharpness; arguments as in `modes`."""
        if self.method != "seed_map":
            return self.modes(embeddings, inside, sure), None
        if seeds is None:
            raise SettingsError(
                "grouping.method seed_map needs a network with a seed head; train one with model.seed_head, or take "
                "mean_shift"
            )
        among = self._confident(inside, sure)
        points, seed_points = np.ascontiguousarray(embeddings[:, among].T), seeds[:, among]
        scores = scipy.special.expit(seed_points[1])
        found = find_candidates(
            points,
            seed_points[0],
            scores,
            least_score=self.least_seed,
            min_cluster_size=self.min_area,
            own_share=self.own_share,
            spare_size=None if self.recount is None else self.min_area // 2,
        )
        taken, spare = found.taken, ~found.taken
        centres, sharpness = found.centres[taken], found.sharpness[taken]
        if self.recount is None:
            return centres, sharpness
        if not gives_density((seeds,)):
            raise SettingsError(
                "grouping.recount needs a network with a density; train one with model.density, or leave recount out"
            )
        points = np.ascontiguousarray(embeddings[:, inside].T)
        density = np.float32(self.recount) * np.exp(np.minimum(seeds[2, inside], 0))
        return recount(points, density, centres, sharpness, found.centres[spare], found.sharpness[spare])

    def modes(
        self, embeddings: NDArray[np.float32], inside: NDArray[np.bool_], sure: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The centres of objects in embedding space.

        Args:
            embeddings: Exhxw.
            inside: hxw, the pixels of the class.
            sure: hxw, probability of every pixel's class.

        Returns:
            KxE.
        """
        seeds = self._confident(inside, sure)
        points = np.ascontiguousarray(embeddings[:, seeds].T)
        if self.method == "hdbscan":
            return find_centres(points, min_cluster_size=max(2, self.min_area))
        modes = find_modes(
            points, bandwidth=self.bandwidth, seed_bandwidth=self.seed_bandwidth, min_cluster_size=self.min_area
        )
        if self.second_look is not None:
            modes = look_again(points, seeds, modes, separation=self.second_look, min_area=self.min_area)
        return modes

    def _confident(self, inside: NDArray[np.bool_], sure: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The pixels of a class that help to find its objects."""
        confident = inside & (sure >= self.min_confidence)
        return confident if np.count_nonzero(confident) >= self.min_area else inside

    def members(
        self,
        embeddings: NDArray[np.float32],
        mask: NDArray[np.bool_],
        modes: NDArray[np.float32],
        sharpness: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int32]:
        """Give the pixels of a class to the nearest of the K modes.

        Args:
            embeddings: ExHxW.
            mask: HxW, the pixels.
            modes: KxE.
            sharpness: K; distances count that much more. None: all alike.

        Returns:
            N int32 for the N pixels in row-major order, -1 for none.
        """
        if len(modes) == 0:
            # Too few pixels for one object.
            return np.full(np.count_nonzero(mask), -1, dtype=np.int32)
        points = np.ascontiguousarray(embeddings[:, mask].T)
        if sharpness is None:
            labels, squared = assign(points, modes)
        else:
            labels, scaled = assign_scaled(points, modes, sharpness)
            squared = scaled / sharpness[labels]
        if self.max_distance is not None:
            labels[squared > self.max_distance**2] = -1
        return labels

    def tidied(self, mask: NDArray[np.bool_], labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Leave out what `one_piece` and `clear_border` ask to.

        Args:
            mask: HxW with N true pixels.
            labels: cluster of each, in row-major order, or -1 for none.

        Returns:
            N int32, with more of -1.
        """
        if self.one_piece and self.method != "components":
            labels = largest_parts(mask, labels)
        return clear_border(mask, labels) if self.clear_border else labels

    def _parts(self, thing_ids: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Grouping]]:
        """Classes that are clustered together, and by which rules."""
        if self.vote:
            yield thing_ids, self
        else:
            yield from (((index,), self.by_class.get(index, self)) for index in thing_ids)


def _finite(numbers: NDArray[np.float32]) -> bool:
    # A sum is finite only if each of its terms is; far cheaper than testing each.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(numbers.sum())) or bool(np.isfinite(numbers).all())


def gives_density(seeds: Sequence[NDArray[np.float32]]) -> bool:
    """Whether what a network gives besides scores and embeddings, nothing or one array, has a density."""
    return any(len(channels) >= _CHANNELS_WITH_DENSITY for channels in seeds)


def _any_of(semantic: NDArray[np.uint8], classes: tuple[int, ...]) -> NDArray[np.bool_]:
    if len(classes) == 1:
        return np.asarray(semantic == classes[0])
    wanted = np.zeros(256, dtype=np.bool_)
    wanted[list(classes)] = True
    return wanted[semantic]

"""Scores of grouping settings for a trained network, from outputs that it gave once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from panembed.datasets.sample import Dataset
from panembed.errors import InputError, SettingsError, segmenting
from panembed.evaluation.scores import evaluate_model
from panembed.inference.grouping import Grouping, gives_density
from panembed.inference.predictor import PanopticModel
from panembed.labels.panoptic_map import PanopticMap
from panembed.metrics.leaf import LeafScores
from panembed.metrics.overlaps import count_overlaps
from panembed.metrics.panoptic_quality import MatchCounts, match_overlaps, summarize
from panembed.tuning.search import TUNED, Values, key, together

Figures = dict[str, float | None]
"""Scores by name: fractions, and objects for `abs_dic`."""

CRITERIA = ("pq_things", "sbd", "pq", "counts")
"""What can be made as high as possible. `counts` is 1 - (sum of miscounts) / (number of true objects)."""

_OF_ONE_THING = ("sbd", "counts")


class GroupingTuner:
    """Scores grouping settings on a network's outputs. Use as a context manager.

    Args:
        model: its classes must be the data set's; its grouping is where a search starts.
        dataset: images with truth.
        ids: which of them; at least one, with at least one object.
        criterion: one of `CRITERIA`.
        max_bytes: of outputs to keep in memory. Images beyond that go through the network again in every trial.
        each: called whenever the network is done with an image for the first time.

    Attributes:
        num_kept: images whose outputs are in memory.
        has_density: whether the network says how much of an object each pixel is.

    Raises:
        InputError: the classes differ, no image or no object, or an image can't be read.
        SettingsError: a criterion that the data don't have, or a model that groups by class.
    """

    def __init__(
        self,
        model: PanopticModel,
        dataset: Dataset,
        ids: Iterable[str],
        *,
        criterion: str = "pq_things",
        max_bytes: int = 2 << 30,
        each: Callable[[], None] | None = None,
    ) -> None:
        evaluate_model(model, dataset, ())
        self.model, self.dataset, self.ids, self.criterion = model, dataset, list(ids), criterion
        self.label_set = dataset.label_set
        self.has_leaf_scores = len(self.label_set.things) == 1
        if criterion not in CRITERIA:
            raise SettingsError(f"can't maximize {criterion!r}; expected {', '.join(CRITERIA)}")
        if criterion in _OF_ONE_THING and not self.has_leaf_scores:
            raise SettingsError(f"can't maximize {criterion}: it needs exactly one thing class; take pq_things")
        if model.grouping.by_class:
            raise SettingsError("tune changes settings of all classes alike, but the model has grouping.by_class")
        if not self.ids:
            raise InputError(f"{dataset.root}: no images to tune on; the split has none in this part")
        self._tried: dict[tuple[Any, ...], tuple[Values, Figures]] = {}
        self._truths: list[PanopticMap] = []
        self._outputs: list[tuple[NDArray[np.float32], ...]] = []
        self.has_density = False
        used = 0
        for id in self.ids:
            sample = dataset.load(id)
            self._truths.append(sample.truth)
            if used <= max_bytes:
                outputs = self._run(id, sample.image)
                self.has_density = gives_density(outputs[2:])
                used += sum(array.nbytes for array in outputs)
                if used <= max_bytes:
                    self._outputs.append(outputs)
            if each is not None:
                each()
        self.num_kept = len(self._outputs)
        if not any((truth.instance > 0).any() for truth in self._truths):
            raise InputError(f"{dataset.root}: no object in the {len(self.ids)} images to tune on; take other images")
        workers = model.backend.num_workers
        # Side by side, threads that each use every core for their matrix products would wait for one another.
        self._limits = threadpool_limits(1, user_api="blas") if workers > 1 else nullcontext()
        self._pool = ThreadPoolExecutor(workers, "tune", initializer=model.backend.start_worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._limits.__exit__(None, None, None)

    @property
    def start(self) -> Values:
        """The model's present settings, those of `TUNED`."""
        return together({name: getattr(self.model.grouping, name) for name in TUNED})

    def score(self, values: Values) -> float:
        """The criterion with these settings, all others as they are."""
        figures = self._summarize(self._count(values))
        self._tried[key(values)] = values, figures
        return figures[self.criterion] or 0.0

    def figures_of(self, values: Values) -> Figures:
        """All scores of settings that `score` was called for.

        pq_things, sq_things, rq_things, pq; with a single thing class sbd, abs_dic and counts, too.
        """
        return self._tried[key(values)][1]

    def rows(self) -> list[dict[str, float | int | None]]:
        """A row per trial so far, in order: its number, the settings, all scores."""
        return [{"trial": number, **values, **figures} for number, (values, figures) in enumerate(self._tried.values())]

    def gain(self, values: Values) -> tuple[float, float]:
        """Gain in the criterion over the present settings, and its standard error.

        The error is the jackknife's over images (Efron and Stein 1981), paired: both settings see the same images. NaN
        for a single image. It says nothing of having picked the best of many. Takes as long as two trials.
        """
        before, after = self._count(self.start), self._count(values)

        def difference(without: int | None) -> float:
            old, new = (
                self._summarize([c for place, c in enumerate(counts) if place != without])[self.criterion] or 0.0
                for counts in (before, after)
            )
            return new - old

        number = len(self.ids)
        if number < 2:
            return difference(None), float("nan")
        left_out = np.array([difference(place) for place in range(number)])
        return difference(None), float(np.sqrt((number - 1) * np.mean((left_out - left_out.mean()) ** 2)))

    def _count(self, values: Values) -> list[tuple[MatchCounts, dict[str, float]]]:
        """Of every image, the matches and the leaf scores with these settings."""
        grouping = replace(self.model.grouping, **values)  # type: ignore[arg-type]
        return list(self._pool.map(lambda place: self._score_image(place, grouping), range(len(self.ids))))

    def _run(self, id: str, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        with segmenting(id):
            return tuple(output[0] for output in self.model.backend(self.model.preparation.prepare(image)[None]))

    def _score_image(self, place: int, grouping: Grouping) -> tuple[MatchCounts, dict[str, float]]:
        id, truth = self.ids[place], self._truths[place]
        if place < self.num_kept:
            scores, embeddings, *seeds = self._outputs[place]
        else:
            scores, embeddings, *seeds = self._run(id, self.dataset.read_image(id))
        with segmenting(id):
            panoptic = grouping.group(
                scores, embeddings, self.label_set.things, self.model.preparation, truth.shape, *seeds
            )
        pairs = count_overlaps(panoptic, truth, self.label_set)
        counts = match_overlaps(pairs, self.label_set)
        leaf: dict[str, float] = {}
        if self.has_leaf_scores:
            thing = self.label_set.things[0]
            leaf = LeafScores().add(pairs, len(self.label_set), thing)
            leaf["objects"] = float(counts.tp[thing] + counts.fn[thing])
        return counts, leaf

    def _summarize(self, counts: list[tuple[MatchCounts, dict[str, float]]]) -> Figures:
        total = sum((c for c, _ in counts), MatchCounts.zero(len(self.label_set)))
        result = summarize(total, self.label_set)
        figures: Figures = {"pq_things": result.things.pq, "sq_things": result.things.sq, "rq_things": result.things.rq}
        figures["pq"] = result.all.pq
        if self.has_leaf_scores:
            figures |= {name: float(np.mean([leaf[name] for _, leaf in counts])) for name in ("sbd", "abs_dic")}
            off, objects = (sum(leaf[name] for _, leaf in counts) for name in ("abs_dic", "objects"))
            figures["counts"] = 1 - off / objects if objects else None
        return figures

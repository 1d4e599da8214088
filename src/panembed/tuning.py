"""Better grouping settings for a trained network, found on validation images.

The network runs once; then settings are tried on its outputs, one at a time (coordinate search): every value on the
ladder of one setting, then of the next, until a whole round changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from panembed.datasets.sample import Dataset
from panembed.errors import InputError, SettingsError, segmenting
from panembed.evaluation import evaluate_model
from panembed.inference.grouping import HEEDED, Grouping, Method, gives_density
from panembed.inference.predictor import PanopticModel
from panembed.labels import PanopticMap
from panembed.metrics.leaf import LeafScores
from panembed.metrics.overlaps import count_overlaps
from panembed.metrics.panoptic_quality import MatchCounts, match_overlaps, summarize

Values = dict[str, float | int | None]
"""Grouping settings by name."""

Figures = dict[str, float | None]
"""Scores by name: fractions, and objects for `abs_dic`."""

TUNED = ("seed_bandwidth", "bandwidth", "min_area", "min_confidence", "least_seed", "own_share", "recount")
"""The settings that are tried, in this order."""

CRITERIA = ("pq_things", "sbd", "pq", "counts")
"""What can be made as high as possible. `counts` is 1 - (sum of miscounts) / (number of true objects)."""

_OF_ONE_THING = ("sbd", "counts")

LEAST_GAIN = 0.001
"""Settings change for more than this only, a tenth of a point: less is noise."""

_BANDWIDTH_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
_SEED_FACTORS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)
_AREA_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_LEAST_SEEDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_OWN_SHARES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
_RECOUNTS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 1.0, 1.03, 1.06, 1.1)
_CONFIDENCES = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True, slots=True)
class Trial:
    """One try.

    Attributes:
        values: the settings tried.
        score: the criterion's value, 0..1.
        kept: whether the search went on from here; the last one kept is the best.
    """

    values: Values
    score: float
    kept: bool


def ladders(
    current: Mapping[str, float | int | None],
    method: Method = "mean_shift",
    second_look: float | None = None,
    *,
    density: bool = False,
) -> dict[str, tuple[float | int | None, ...]]:
    """The values to try for each of `TUNED`, ascending, with the present one among them.

    Bandwidths and areas are multiples of the present ones; None as the seed bandwidth is the bandwidth itself. What has
    no effect with the grouping method, or needs a density where there is none, keeps its present value.

    >>> present = {"seed_bandwidth": None, "bandwidth": 1.5, "min_area": 20, "min_confidence": 0.0}
    >>> present |= {"least_seed": 0.5, "own_share": 0.7, "recount": None}
    >>> ladders(present)["min_area"]
    (5, 10, 20, 40, 80, 160)
    """
    bandwidth, area = current["bandwidth"], current["min_area"]
    assert bandwidth is not None
    assert area is not None

    def with_present(name: str, values: Iterable[float]) -> list[float]:
        present = current[name]
        return sorted({*values, *(() if present is None else (present,))})

    bandwidths = [round(bandwidth * f, 4) for f in _BANDWIDTH_FACTORS]
    least = second_look or 0.0
    every: dict[str, tuple[float | int | None, ...]] = {
        "seed_bandwidth": (*with_present("seed_bandwidth", (round(bandwidth * f, 4) for f in _SEED_FACTORS)), None),
        "bandwidth": tuple(with_present("bandwidth", (b for b in bandwidths if b > least))),
        "min_area": tuple(sorted({max(1, round(area * f)) for f in _AREA_FACTORS} | {int(area)})),
        "min_confidence": tuple(with_present("min_confidence", _CONFIDENCES)),
        "least_seed": tuple(with_present("least_seed", _LEAST_SEEDS)),
        "own_share": tuple(with_present("own_share", _OWN_SHARES)),
        "recount": (*with_present("recount", _RECOUNTS), None),
    }
    heeded = {*HEEDED[method]} - (set() if density else {"recount"})
    return {name: steps if name in heeded else (current[name],) for name, steps in every.items()}


def coordinate_search(
    score: Callable[[Values], float],
    start: Values,
    steps: Mapping[str, tuple[float | int | None, ...]],
    *,
    max_trials: int = 200,
    least_gain: float = LEAST_GAIN,
) -> list[Trial]:
    """Change one setting at a time to its best value, until no change is worth it.

    Of values that score alike, the nearest on the ladder wins, the lower of two; the same call gives the same trials.

    Args:
        score: to be made as high as possible; called once for any settings.
        start: present settings, each on its ladder.
        steps: ladders by setting, in the order in which to search.
        max_trials: of them, the present settings count as one.
        least_gain: a change must gain more than this.

    Returns:
        All trials in order, the present settings first.

    >>> trials = coordinate_search(lambda v: -((v["x"] - 3) ** 2), {"x": 1}, {"x": (1, 2, 3, 4)})
    >>> [(t.values["x"], t.kept) for t in trials]
    [(1, True), (2, False), (3, True), (4, False)]
    """
    best, best_score = dict(start), score(start)
    trials, seen = [Trial(best, best_score, True)], {_key(best)}
    settled = 0
    for name in itertools.cycle(steps):
        ladder = steps[name]
        place = ladder.index(best[name])
        tried: list[tuple[float, int, int]] = []
        for rung, value in enumerate(ladder):
            values = _together(best | {name: value})
            if _key(values) in seen or len(trials) == max_trials:
                continue
            seen.add(_key(values))
            trials.append(Trial(values, score(values), False))
            tried.append((-trials[-1].score, abs(rung - place), len(trials) - 1))
        settled += 1
        if tried and -min(tried)[0] > best_score + least_gain:
            number = min(tried)[2]
            trials[number] = replace(trials[number], kept=True)
            best, best_score, settled = trials[number].values, trials[number].score, 1
        if settled == len(steps) or len(trials) == max_trials:
            return trials
    raise ValueError("there are no settings to search")


def grid_search(
    score: Callable[[Values], float],
    start: Values,
    steps: Mapping[str, tuple[float | int | None, ...]],
    *,
    max_trials: int | None = None,
    least_gain: float = LEAST_GAIN,
) -> list[Trial]:
    """Try every combination of values; arguments and result as for `coordinate_search`."""
    combinations = (dict(zip(steps, values)) for values in itertools.product(*steps.values()))
    others = (values for values in combinations if values != start and _together(values) == values)
    trials = [Trial(dict(start), score(start), True)]
    trials += [
        Trial(v, score(v), False) for v in itertools.islice(others, None if max_trials is None else max_trials - 1)
    ]
    best = max(range(len(trials)), key=lambda number: (trials[number].score, -number))
    if trials[best].score > trials[0].score + least_gain:
        trials[best] = replace(trials[best], kept=True)
    return trials


def _key(values: Values) -> tuple[float | int | None, ...]:
    return tuple(values.values())


def _together(values: Values) -> Values:
    """The same, with seeds that climb with the bandwidth, which None stands for, where their own would be as wide."""
    seed, bandwidth = values.get("seed_bandwidth"), values.get("bandwidth")
    if seed is None or bandwidth is None or seed < bandwidth:
        return values
    return values | {"seed_bandwidth": None}


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
        self._figures: dict[tuple[Any, ...], Figures] = {}
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
        return _together({name: getattr(self.model.grouping, name) for name in TUNED})

    def score(self, values: Values) -> float:
        """The criterion with these settings, all others as they are."""
        figures = self._figures[_key(values)] = self._summarize(self._count(values))
        return figures[self.criterion] or 0.0

    def figures_of(self, values: Values) -> Figures:
        """All scores of settings that `score` was called for.

        pq_things, sq_things, rq_things, pq; with a single thing class sbd, abs_dic and counts, too.
        """
        return self._figures[_key(values)]

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

"""The search for better settings: what to try, one setting at a time or every combination."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from panembed.inference.grouping import HEEDED, Method

Values = dict[str, float | int | None]
"""Grouping settings by name."""

TUNED = ("seed_bandwidth", "bandwidth", "min_area", "min_confidence", "least_seed", "own_share", "recount")
"""The settings that are tried, in this order."""

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
    trials, seen = [Trial(best, best_score, True)], {key(best)}
    settled = 0
    for name in itertools.cycle(steps):
        ladder = steps[name]
        place = ladder.index(best[name])
        tried: list[tuple[float, int, int]] = []
        for rung, value in enumerate(ladder):
            values = together(best | {name: value})
            if key(values) in seen or len(trials) == max_trials:
                continue
            seen.add(key(values))
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
    others = (values for values in combinations if values != start and together(values) == values)
    trials = [Trial(dict(start), score(start), True)]
    trials += [
        Trial(v, score(v), False) for v in itertools.islice(others, None if max_trials is None else max_trials - 1)
    ]
    best = max(range(len(trials)), key=lambda number: (trials[number].score, -number))
    if trials[best].score > trials[0].score + least_gain:
        trials[best] = replace(trials[best], kept=True)
    return trials


def key(values: Values) -> tuple[float | int | None, ...]:
    """What tells settings apart; hashable."""
    return tuple(values.values())


def together(values: Values) -> Values:
    """The same, with seeds that climb with the bandwidth, which None stands for, where their own would be as wide."""
    seed, bandwidth = values.get("seed_bandwidth"), values.get("bandwidth")
    if seed is None or bandwidth is None or seed < bandwidth:
        return values
    return values | {"seed_bandwidth": None}

"""The search for settings, against exhaustive search."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panembed.inference.grouping import Grouping
from panembed.tuning.search import TUNED, coordinate_search, grid_search, ladders

STEPS = {"a": (0, 1, 2, 3), "b": (0, 1, 2), "c": (None, 1.0)}


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=9, max_size=9), st.tuples(*(st.sampled_from(s) for s in STEPS.values())))
def test_of_independent_settings_the_best_is_found(terms, start) -> None:
    left = iter(terms)
    tables = [dict(zip(values, left)) for values in STEPS.values()]

    def score(values):
        return float(sum(table[value] for table, value in zip(tables, values.values())))

    present = dict(zip(STEPS, start))
    best = max(score(dict(zip(STEPS, v))) for v in itertools.product(*STEPS.values()))
    for trials in (coordinate_search(score, present, STEPS), grid_search(score, present, STEPS)):
        kept = [trial for trial in trials if trial.kept]
        assert kept[-1].score == best
        assert all(trial.score == score(trial.values) for trial in trials)
        assert len({tuple(t.values.values()) for t in trials}) == len(trials)
        assert [t.score for t in kept] == sorted({t.score for t in kept})
        assert trials[0].values == present
        assert trials[0].kept


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=24, max_size=24), st.integers(1, 24))
def test_ends_where_no_single_change_helps(scores, max_trials) -> None:
    table = dict(zip(itertools.product(*STEPS.values()), scores))

    def score(values):
        return table[tuple(values.values())]

    present = {"a": 0, "b": 0, "c": None}
    trials = coordinate_search(score, present, STEPS, least_gain=0.05)
    best = [t for t in trials if t.kept][-1]
    for name, ladder in STEPS.items():
        assert all(score(best.values | {name: value}) <= best.score + 0.05 for value in ladder)
    assert coordinate_search(score, present, STEPS, least_gain=0.05) == trials
    few = coordinate_search(score, present, STEPS, least_gain=0.05, max_trials=max_trials)
    assert len(few) == min(max_trials, len(trials))
    assert [t.values for t in few] == [t.values for t in trials[: len(few)]]
    grid = grid_search(score, present, STEPS, max_trials=max_trials)
    assert len(grid) == max_trials
    assert len(grid_search(score, present, STEPS)) == 24


@pytest.mark.parametrize("search", [coordinate_search, grid_search])
@pytest.mark.parametrize(("gain", "moves"), [(0.0, False), (0.001, False), (0.0011, True)])
def test_noise_and_ties_move_nothing(search, gain: float, moves: bool) -> None:
    trials = search(lambda v: gain * (v["x"] == 2), {"x": 1}, {"x": (0, 1, 2)})
    assert ([t.values["x"] for t in trials if t.kept][-1] == 2) is moves


def test_of_equal_values_the_nearest_wins() -> None:
    trials = coordinate_search(lambda v: float(v["x"] != 3), {"x": 3}, {"x": (0, 1, 2, 3, 4, 5)})
    assert [t.values["x"] for t in trials if t.kept] == [3, 2]


def test_seeds_never_climb_wider_than_the_bandwidth() -> None:
    present = {"seed_bandwidth": 0.6, "bandwidth": 1.5, "min_area": 20, "min_confidence": 0.0}
    present |= {"least_seed": 0.5, "own_share": 0.7, "recount": None}
    tried = grid_search(lambda values: 0.0, present, ladders(present))
    assert len(tried) > 1000
    for trial in tried:
        replace(Grouping(), **trial.values)  # raises where they don't go together
    assert any(t.values["seed_bandwidth"] is None for t in tried)


@settings(deadline=None)
@given(
    st.none() | st.floats(0.01, 2), st.floats(0.1, 5), st.integers(1, 1000), st.floats(0, 0.99), st.floats(0, 0.99),
    st.floats(0, 0.99), st.none() | st.floats(0.01, 3),
)  # fmt: skip
def test_ladders_hold_the_present_settings_once_and_ascend(seed, bandwidth, area, confidence, least, own, factor):
    present = {
        "seed_bandwidth": None if seed is None else min(seed, bandwidth),
        "bandwidth": bandwidth,
        "min_area": area,
        "min_confidence": confidence,
        "least_seed": least,
        "own_share": own,
        "recount": factor,
    }
    steps = ladders(present)
    assert tuple(steps) == TUNED
    of_seeds = ("least_seed", "own_share", "recount")
    assert [steps[name] for name in of_seeds] == [(least,), (own,), (factor,)]
    steps |= {name: ladders(present, "seed_map", density=True)[name] for name in of_seeds}
    for name, ladder in steps.items():
        numbers = [value for value in ladder if value is not None]
        assert ladder.count(present[name]) == 1
        assert numbers == sorted(set(numbers))
        assert all(number > 0 or name in ("min_confidence", "least_seed", "own_share") for number in numbers)
    assert all(isinstance(value, int) and value >= 1 for value in steps["min_area"])
    assert max(steps["min_confidence"]) < 1
    # A trial of what a method doesn't heed would be the same trial again.
    for method, heeded in (
        ("seed_map", {"min_area", "min_confidence", "least_seed", "own_share"}),
        ("components", {"min_area"}),
    ):
        fewer = ladders(present, method)
        assert all(fewer[name] == (steps[name] if name in heeded else (present[name],)) for name in TUNED)


@pytest.mark.parametrize("second_look", [1.0, 0.9])
def test_bandwidths_stay_above_the_second_look(second_look: float) -> None:
    present = {"seed_bandwidth": None, "bandwidth": 1.5, "min_area": 20, "min_confidence": 0.0}
    present |= {"least_seed": 0.5, "own_share": 0.7, "recount": None}
    steps = ladders(present, "mean_shift", second_look)
    assert min(steps["bandwidth"]) < 1.2
    for bandwidth in steps["bandwidth"]:
        Grouping(bandwidth=bandwidth, second_look=second_look)  # raises where they don't go together

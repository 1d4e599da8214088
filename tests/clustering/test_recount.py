"""Recounting against its definition and planted objects, and what must not change."""

from __future__ import annotations

import numpy as np
import pytest

from panembed.clustering.recount import recount

NONE = np.zeros((0, 2), np.float32), np.zeros(0, np.float32)


def planted(places, sizes, seed=0):
    """Points about K places, their object, and a density that sums to 1 over each."""
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.normal(p, 0.1, (n, 2)) for p, n in zip(places, sizes)]).astype(np.float32)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return points, truth, (1 / np.asarray(sizes, np.float32))[truth]


PLACES = np.array([[0, 0], [1, 0], [5, 5], [9, 0]], np.float32)
SIZES = [400, 60, 200, 90]


def test_right_counts_change_nothing():
    points, _, density = planted(PLACES, SIZES)
    sharpness = np.full(4, 4, np.float32)
    spare = np.array([[0.1, 0.1], [5.2, 5.0]], np.float32), np.full(2, 4, np.float32)
    centres, of_each = recount(points, density, PLACES, sharpness, *spare)
    assert np.array_equal(centres, PLACES)
    assert np.array_equal(of_each, sharpness)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_a_lost_object_is_found_among_spare_centres(order):
    points, truth, density = planted(PLACES, SIZES)
    found = np.array([[0.13, 0.0], [5, 5], [9, 0]], np.float32)  # the second was merged into the first
    spare = np.array([[0.05, 0.1], [1, 0], [5.1, 4.9]], np.float32)[order]
    centres, _ = recount(points, density, found, np.ones(3, np.float32), spare, np.ones(3, np.float32))
    assert np.array_equal(centres[:3], found)
    assert centres[3:].tolist() == [[1, 0]]
    nearest = np.square(points[:, None] - centres).sum(2).argmin(1)
    assert (nearest[truth == 1] == 3).all()


def plain(points, density, centres, sharpness, spares, spare_sharpness):
    """The places taken, by the docstring: after each all points are assigned anew, and all products found anew."""
    taken = []
    while len(taken) < min(len(spares), round(float(density.sum())) - len(centres)):
        chosen = np.concatenate([centres, spares[taken]]), np.concatenate([sharpness, spare_sharpness[taken]])
        own_kn = chosen[1][:, None] * np.square(points - chosen[0][:, None]).sum(2)
        products = []
        for place, weight in zip(spares, spare_sharpness):
            lost_n = weight * np.square(points - place).sum(1) < own_kn.min(0)
            lost_k = np.array([density[lost_n & (own_kn.argmin(0) == k)].sum() for k in range(len(own_kn))])
            products.append(lost_k.sum() * density[~lost_n & (own_kn.argmin(0) == lost_k.argmax())].sum())
        if max(products) < 0.3:
            break
        taken.append(int(np.argmax(products)))
    return spares[taken]


@pytest.mark.parametrize("seed", range(6))
def test_spare_centres_join_as_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 9, (12, 2)).astype(np.float32)
    points, truth, density = planted(places, rng.integers(10, 80, 12), seed)
    density = (density * rng.uniform(0.9, 1.6, 12)[truth]).astype(np.float32)  # no two alike
    sharpness, of_spares = rng.uniform(0.5, 4, 4).astype(np.float32), rng.uniform(0.5, 4, 16).astype(np.float32)
    spares = np.concatenate([places[4:], places[4:] + rng.normal(0, 0.1, (8, 2))]).astype(np.float32)
    given = points, density, places[:4], sharpness, spares, of_spares
    expected = plain(*given)
    assert recount(*given)[0][4:].tolist() == expected.tolist()
    assert len(expected) > 3


@pytest.mark.parametrize(("factor", "found"), [(0.35, 1), (0.4, 2), (0.6, 2), (0.64, 3)])
def test_as_many_as_the_sum_is_nearest_to(factor, found):
    points, _, density = planted(PLACES, SIZES)
    of_each = np.ones(4, np.float32)
    centres, _ = recount(points, np.float32(factor) * density, PLACES, of_each, *NONE)
    assert len(centres) == found


def test_a_piece_is_given_up():
    points, _, density = planted(PLACES, SIZES)
    piece = np.concatenate([PLACES[:2], [[5.3, 5.0]], PLACES[2:]]).astype(np.float32)
    sharpness = np.arange(1, 6, dtype=np.float32)
    centres, of_each = recount(points, density, piece, sharpness, *NONE)
    assert np.array_equal(centres, PLACES)
    assert of_each.tolist() == [1, 2, 4, 5]


def test_whole_objects_are_never_given_up_nor_split_where_a_part_would_hold_little():
    points, _, density = planted(PLACES, SIZES)
    sharpness = np.ones(4, np.float32)
    # Each counts 0.8, so one is too many; and 1.25, so one is missing, but no spare centre takes a third of any.
    spares = np.array([[50, 50], [5.25, 5.25], [9.3, 0.1]], np.float32), np.ones(3, np.float32)
    for factor, spare in ((0.8, NONE), (1.25, spares)):
        centres, _ = recount(points, np.float32(factor) * density, PLACES, sharpness, *spare)
        assert np.array_equal(centres, PLACES)


def test_where_all_are_spare_those_that_hold_an_object_are_taken():
    """As of a plant whose leaves are all smaller than the least area."""
    points, _, density = planted(PLACES, SIZES)
    wide, pieces = np.full(4, 4, np.float32), np.full(4, 900, np.float32)
    centres, _ = recount(points, density, *NONE, PLACES, wide)
    assert sorted(centres.tolist()) == PLACES[[0, 1, 2, 3]].tolist()
    assert len(recount(points, density / 9, *NONE, PLACES, wide)[0]) == 0
    assert len(recount(points, density, *NONE, PLACES, pieces)[0]) == 0


def test_centres_that_join_keep_their_own_sharpness():
    """Where the first of all is a spare one, too."""
    points, _, density = planted(PLACES, SIZES)
    sharpness = np.array([4, 5, 6, 7], np.float32)
    centres, of_each = recount(points, density, *NONE, PLACES, sharpness)
    order = [PLACES.tolist().index(centre) for centre in centres.tolist()]
    assert sorted(order) == [0, 1, 2, 3]
    assert of_each.tolist() == sharpness[order].tolist()


def test_no_centres_stay_none_and_one_stays():
    points, _, density = planted(PLACES, SIZES)
    assert len(recount(points, density, *NONE, *NONE)[0]) == 0
    assert len(recount(points, 0 * density, PLACES[:1], np.ones(1, np.float32), *NONE)[0]) == 1


@pytest.mark.parametrize("value", [np.inf, np.nan, 1.0])
def test_a_density_of_anything_ends(value):
    """As of a network that has learned nothing: thousands of objects, or no number."""
    points, _, density = planted(PLACES, SIZES)
    spare = np.random.default_rng(0).normal(3, 4, (500, 2)).astype(np.float32)
    centres, _ = recount(
        points, np.full_like(density, value), PLACES, np.ones(4, np.float32), spare, np.ones(500, np.float32)
    )
    assert 4 <= len(centres) <= 54

"""Objects from seeds and learned bandwidths."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from panembed.clustering.seed_map import assign_scaled, find_candidates


def find_seeded(*arguments, **settings):
    """Centres and sharpness of what is taken, which is all without a spare size."""
    found = find_candidates(*arguments, **settings)
    assert found.taken.all()
    return found.centres, found.sharpness


def balls(seed, sizes, radii):
    """Uniform balls on a line, a gap of a third of a radius apart; scores fall from 1 at the centre."""
    rng = np.random.default_rng(seed)
    points, truth, log_w, score, x = [], [], [], [], 0.0
    for index, (size, radius) in enumerate(zip(sizes, radii)):
        x += radius
        direction = rng.normal(size=(size, 3))
        distance = radius * rng.uniform(size=(size, 1)) ** (1 / 3)
        points.append(distance * direction / np.linalg.norm(direction, axis=1, keepdims=True) + [x, 0, 0])
        truth += [index] * size
        log_w += [np.log(np.log(2) / (1.1 * radius) ** 2)] * size
        score.append(1 - distance[:, 0] / radius / 2)
        x += 1.3 * radius
    arrays = np.concatenate(points), np.array(log_w), np.concatenate(score)
    return *(a.astype(np.float32) for a in arrays), np.array(truth)


def test_finds_balls_of_very_different_size():
    for seed in range(5):
        points, log_w, score, truth = balls(seed, [800, 60, 300, 40], [3.0, 0.4, 1.5, 0.3])
        centres, sharpness = find_seeded(points, log_w, score)
        assert len(centres) == 4
        labels, scaled = assign_scaled(points, centres, sharpness)
        assert adjusted_rand_score(truth, labels) > 0.99
        distance = ((points[:, None] - centres) ** 2).sum(2) * sharpness
        assert np.array_equal(labels, distance.argmin(1))
        np.testing.assert_allclose(scaled, distance.min(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("num_centres", "spread"), [(200, 300), (200, 3), (40, 300)])
def test_points_near_some_of_many_centres_and_near_none(num_centres, spread):
    """However the points and centres lie, and whichever are compared."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, [spread, spread / 9], (num_centres, 2)).astype(np.float32)
    sharpness = np.exp(rng.normal(0, 1, num_centres)).astype(np.float32)
    sharpness[3] = 0
    near = centres[rng.integers(0, num_centres, 3000)] + rng.normal(0, 1, (3000, 2))
    points = np.concatenate([near, rng.uniform(-spread, 2 * spread, (500, 2))]).astype(np.float32)
    for weights in (sharpness, np.delete(sharpness, 3)):
        of = centres if len(weights) == num_centres else np.delete(centres, 3, 0)
        labels, scaled = assign_scaled(points, of, weights)
        distance = np.square(points[:, None].astype(float) - of).sum(2) * weights
        np.testing.assert_allclose(scaled, distance.min(1), rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(distance[np.arange(len(points)), labels], distance.min(1), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("num_dims", [4, 5, 16])
@pytest.mark.parametrize("num_centres", [3, 90])
def test_assignment_in_any_number_of_dimensions_is_brute_force(num_dims, num_centres):
    rng = np.random.default_rng(0)
    centres = (100 + rng.normal(0, 3, (num_centres, num_dims))).astype(np.float32)
    sharpness = np.exp(rng.normal(0, 1, num_centres)).astype(np.float32)
    points = np.concatenate([100 + rng.normal(0, 3, (100_000, num_dims)), centres]).astype(np.float32)
    labels, scaled = assign_scaled(points, centres, sharpness)
    some = np.r_[0:300, len(points) - 300 : len(points)]
    distance = np.square(points[some, None].astype(float) - centres).sum(2) * sharpness
    np.testing.assert_allclose(scaled[some], distance.min(1), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(distance[np.arange(600), labels[some]], distance.min(1), rtol=1e-3, atol=1e-2)
    assert scaled.min() >= 0


def test_objects_far_from_each_other_lose_no_precision():
    """As in a wide image, whose positions are in the embeddings: 900 objects on a line, 1 apart and 0.1 wide."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(900), 30)
    points = (np.stack([8 * truth, np.zeros(len(truth))], 1) + rng.normal(0, 0.05, (len(truth), 2))).astype(np.float32)
    scores = rng.uniform(0.5, 1, len(truth)).astype(np.float32)
    centres, sharpness = find_seeded(points, np.full(len(truth), np.log(8.0), np.float32), scores)
    assert len(centres) == 900
    labels, _ = assign_scaled(points, centres, sharpness)
    assert adjusted_rand_score(truth, labels) == 1


def test_order_of_points_does_not_matter():
    points, log_w, score, _ = balls(0, [200, 100], [1.0, 0.5])
    mixed = np.random.default_rng(1).permutation(len(points))
    first, second = (
        assign_scaled(points, *find_seeded(points[o], log_w[o], score[o]))[0] for o in (np.arange(len(points)), mixed)
    )
    assert np.array_equal(first, second)


def test_place_does_not_matter():
    """Squared distances are differences of large numbers far from the origin."""
    points, log_w, score, _ = balls(0, [800, 60, 300, 40], [3.0, 0.4, 1.5, 0.3])
    far = points + np.float32(512)
    near_k, far_k = (find_seeded(at, log_w, score)[0] for at in (far - np.float32(512), far))
    np.testing.assert_allclose(far_k - 512, near_k, atol=1e-2)


def test_weak_seeds_and_small_objects_are_none():
    points, log_w, score, _ = balls(0, [200, 15], [1.0, 0.5])
    assert len(find_seeded(points, log_w, score, min_cluster_size=20)[0]) == 1
    assert len(find_seeded(points, log_w, score * 0.4, min_cluster_size=20)[0]) == 0
    assert find_seeded(points[:0], log_w[:0], score[:0])[0].shape == (0, 3)


def test_a_score_of_the_least_is_enough_and_the_bluntest_point_reaches_all():
    points, scores = np.arange(30, dtype=np.float32)[:, None], np.full(30, 0.5, np.float32)
    centres, sharpness = find_seeded(points, np.full(30, -1000, np.float32), scores, least_score=0.5)
    assert centres.tolist() == [[14.5]]
    assert np.isfinite(sharpness).all()


def test_a_rim_is_no_object():
    """A second good seed at the rim reaches mostly what the first has."""
    points, log_w, score, _ = balls(0, [400], [1.0])
    score[score.argmax()], score[points[:, 0].argmax()] = 1.0, 0.99
    assert len(find_seeded(points, log_w, score)[0]) == 1


def two_in_reach(of_second=1.0):
    """Two good centres that reach 1.1 far; the second reaches 30 points of its own and 30 of the first: half.

    Returns points, log of the sharpness, times `of_second` where the second's own are, and scores.
    """
    places = np.repeat([0.0, 1.0, 2.0], [60, 30, 30])
    points = np.stack([places, np.linspace(0, 0.01, 120)], axis=1).astype(np.float32)
    w = np.where(places < 2, 1, of_second) * np.log(2) / 1.1**2
    score = np.where(places == 0, 0.9, np.where(places == 2, 0.8, 0.1)).astype(np.float32)
    return points, np.log(w).astype(np.float32), score


def test_how_much_must_be_its_own():
    shares = (0.45, 0.5, 0.55)
    assert [len(find_seeded(*two_in_reach(), own_share=share)[0]) for share in shares] == [2, 1, 1]


def test_a_centre_is_as_sharp_as_the_points_it_has_to_itself():
    """The second is half as sharp, and reaches points of the first; but they are none of its own."""
    points, log_w, score = two_in_reach(of_second=0.5)
    _, sharpness = find_seeded(points, log_w, score, own_share=0.1)
    assert sharpness == pytest.approx(np.exp(log_w[[0, -1]]), rel=1e-5)


def test_spare_centres_are_those_not_taken():
    """The second is none, but might be."""
    for spare_size, expected in ((None, [True]), (31, [True]), (30, [True, False])):
        found = find_candidates(*two_in_reach(), own_share=0.55, spare_size=spare_size)
        assert found.taken.tolist() == expected
    assert found.centres[1, 0] == pytest.approx(2)
    assert len(found.sharpness) == 2


@pytest.mark.parametrize(("lone", "found"), [(800, 1), (6000, 0)])
def test_gives_up_after_many_seeds_that_are_none(lone, found):
    """A network that has learned nothing would have one in every pixel, and the search would take for ever."""
    far = np.arange(lone, dtype=np.float32)[:, None] * 2 + 100
    points = np.concatenate([far, np.zeros((50, 1), np.float32)])
    scores = np.where(np.arange(len(points)) < lone, 0.9, 0.6).astype(np.float32)
    assert len(find_seeded(points, np.zeros(len(points), np.float32), scores)[0]) == found


@pytest.mark.parametrize(("most", "found"), [(10**9, 50), (40, 19)])
def test_debris_hides_no_objects(monkeypatch, most, found):
    """More seeds are none than would end the search at once, but objects lie between them; yet there is an end."""
    # By score: two lone points, an object, two lone points, ...
    places = np.concatenate([np.arange(100.0), np.repeat(1000 + 10 * np.arange(50.0), 30)])[:, None]
    rank = np.concatenate([3 * (np.arange(100) // 2) + np.arange(100) % 2, np.repeat(3 * np.arange(50) + 2, 30)])
    scores = (0.99 - 0.001 * rank).astype(np.float32)
    sharp = np.full(len(places), 3, np.float32)
    for name, value in (("_REJECTED", 5), ("_POINTS_IN_A_ROW", 0), ("_POINTS_IN_ALL", most * len(places))):
        monkeypatch.setattr(f"panembed.clustering.seed_map.{name}", value)
    assert len(find_seeded(places.astype(np.float32), sharp, scores)[0]) == found

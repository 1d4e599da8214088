"""The density loss against PyTorch's Poisson likelihood, and what must not matter to it."""

from __future__ import annotations

import pytest
import torch

from panembed.losses.density import density_loss
from panembed.losses.panoptic import PanopticLoss


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """12x12: two objects of 9 and 4 pixels inside, one that touches the border, a group, pixels to ignore."""
    instance, semantic = torch.zeros(1, 12, 12, dtype=torch.int64), torch.zeros(1, 12, 12, dtype=torch.int64)
    for number, (rows, columns) in enumerate(
        [(slice(2, 5), slice(2, 5)), (slice(7, 9), slice(7, 9)), (slice(4, 8), slice(10, 12))], start=1
    ):
        instance[0, rows, columns] = number
        semantic[0, rows, columns] = 1
    semantic[0, 9:11, 1:3] = 1  # a group: a thing without a number
    semantic[0, 0, :3] = 255
    return instance, semantic


def test_equals_poisson_likelihood_beyond_the_best() -> None:
    instance, semantic = scene()
    log_density = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0)) - 3
    loss = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])

    truth = torch.zeros(12, 12, dtype=torch.float64)
    truth[2:5, 2:5], truth[7:9, 7:9] = 1 / 9, 1 / 4
    taking_part = truth > 0
    z, y = log_density[0].double()[taking_part], truth[taking_part]
    likelihood = torch.nn.functional.poisson_nll_loss(z, y, reduction="sum")
    best = torch.nn.functional.poisson_nll_loss(y.log(), y, reduction="sum")
    count = z.exp().sum()
    of_count = 2 * (2 / count).log() - 2 + count
    expected = (likelihood - best) / 2 + of_count
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_only_objects_seen_whole_take_part() -> None:
    instance, semantic = scene()
    log_density = torch.full((1, 12, 12), -3.0, requires_grad=True)
    density_loss(log_density, instance, semantic=semantic, thing_ids=[1]).backward()
    assert log_density.grad is not None
    assert torch.equal(log_density.grad[0] != 0, (instance[0] == 1) | (instance[0] == 2))


@pytest.mark.parametrize("turns", range(4))
def test_all_four_borders_are_alike(turns: int) -> None:
    instance, semantic = scene()
    log_density = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0)) - 3
    expected = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])
    log_density, instance, semantic = (torch.rot90(a, turns, (1, 2)) for a in (log_density, instance, semantic))
    turned = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])
    assert float(turned) == pytest.approx(float(expected))


def test_background_that_objects_enclose_is_no_object() -> None:
    instance = torch.ones(1, 12, 12, dtype=torch.int64)
    instance[0, 2:10, 2:10], instance[0, 4:7, 4:7] = 0, 2
    log_density = torch.full((1, 12, 12), -3.0, requires_grad=True)
    density_loss(log_density, instance).backward()
    assert log_density.grad is not None
    assert torch.equal(log_density.grad != 0, instance == 2)


def test_descends_to_one_over_area() -> None:
    instance, semantic = scene()
    log_density = torch.full((1, 12, 12), -3.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_density], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])
        loss.backward()
        return loss

    optimizer.step(closure)
    density = log_density.detach()[0].exp()
    assert density[2:5, 2:5].sum() == pytest.approx(1, abs=0.02)
    assert density[7:9, 7:9].sum() == pytest.approx(1, abs=0.02)


def test_images_without_whole_objects_count_as_0() -> None:
    instance, semantic = scene()
    log_density = torch.full((1, 12, 12), -1.0)
    alone = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])
    both = density_loss(
        log_density.repeat(2, 1, 1),
        torch.cat([instance, instance * (instance == 3)]),
        semantic=semantic.repeat(2, 1, 1),
        thing_ids=[1],
    )
    assert float(both) == pytest.approx(float(alone) / 2)
    log_density.requires_grad_()
    density_loss(log_density, 0 * instance).backward()
    assert log_density.grad is not None
    assert not log_density.grad.any()


def test_objects_of_other_classes_do_not_count() -> None:
    instance, semantic = scene()
    log_density = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(2)) - 2
    without = torch.where(instance == 2, 0, instance)
    semantic = torch.where(instance == 2, 2, semantic)
    of_class_1 = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])
    assert float(of_class_1) == pytest.approx(float(density_loss(log_density, without)))


def test_is_a_part_of_the_whole_loss_by_its_factor() -> None:
    instance, semantic = scene()
    generator = torch.Generator().manual_seed(1)
    logits, embeddings, seeds = (torch.randn(1, n, 12, 12, generator=generator) for n in (2, 2, 3))
    told = {"alpha": 0, "beta": 0, "gamma": 0, "soft_mask": 1.0, "instance_weight": 0.5}
    without = PanopticLoss([1], **told)(logits, embeddings, semantic, instance, seeds[:, :2])
    with_it = PanopticLoss([1], **told, density=0.2)(logits, embeddings, semantic, instance, seeds)
    alone = density_loss(seeds[:, 2], instance, semantic=semantic, thing_ids=[1])
    assert float(with_it.total - without.total) == pytest.approx(0.5 * 0.2 * float(alone), rel=1e-4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="instance: expected BxHxW"):
        density_loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="go together"):
        density_loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), thing_ids=[1])


@pytest.mark.parametrize("log_value", [-20.0, -50.0, -100.0, -1e4])
def test_a_density_far_below_float32_keeps_its_loss_and_gradient(log_value: float) -> None:
    instance, semantic = scene()
    log_density = torch.full((1, 12, 12), log_value, requires_grad=True)
    loss = density_loss(log_density, instance, semantic=semantic, thing_ids=[1])
    loss.backward()
    # Two objects, of 9 and 4 pixels: with d = exp(v) all but 0 the loss is linear in v, by hand.
    truth = torch.tensor([1 / 9] * 9 + [1 / 4] * 4, dtype=torch.float64)
    deviance = (truth * (truth.log() - log_value) - truth).sum() / 2
    of_count = 2 * (torch.tensor(2 / 13, dtype=torch.float64).log() - log_value) - 2
    assert float(loss.detach()) == pytest.approx(float(deviance + of_count), rel=1e-5)
    assert log_density.grad is not None
    expected = -truth[:9].mean() / 2 - 2 / 13
    assert float(log_density.grad[0, 3, 3]) == pytest.approx(float(expected), rel=1e-3)  # float32 near 1e4


def test_a_pixel_is_one_object_at_most() -> None:
    instance, _ = scene()
    one = density_loss(torch.zeros(1, 12, 12), instance)
    assert float(density_loss(torch.full((1, 12, 12), 200.0), instance)) == float(one)

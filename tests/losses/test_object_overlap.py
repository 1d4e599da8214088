"""Soft masks that meet only the pixels near them, against a matrix of all pixels and all objects in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from panembed.losses import object_overlap as module
from panembed.losses.object_overlap import object_overlap


def in_one_matrix(x_ne: Tensor, group_n: Tensor, w_k: Tensor, overlap: str) -> tuple[Tensor, Tensor]:
    """The definition, as this project computed it at first: autograd through a sorted NxK matrix."""
    own_nk = torch.nn.functional.one_hot(group_n, len(w_k)).to(x_ne.dtype)
    count_k = own_nk.sum(0)
    mean_ke = own_nk.T @ x_ne / count_k[:, None]
    phi_nk = torch.exp(-(x_ne[:, None] - mean_ke).square().sum(2) * w_k)
    if overlap == "dice":
        losses_k = 1 - 2 * (phi_nk * own_nk).sum(0) / (phi_nk.square().sum(0) + count_k)
    else:
        error_nk, order_nk = torch.sort(1 - (2 * phi_nk - 1) * (2 * own_nk - 1), dim=0, descending=True)
        true_nk = own_nk.gather(0, order_nk)
        jaccard_nk = 1 - (count_k - true_nk.cumsum(0)) / (count_k + (1 - true_nk).cumsum(0))
        gain_nk = torch.diff(jaccard_nk, dim=0, prepend=jaccard_nk.new_zeros(1, len(w_k)))
        losses_k = (error_nk.relu() * gain_nk).sum(0)
    return losses_k.mean(), phi_nk.gather(1, group_n[:, None])[:, 0]


def scattered(
    num_objects: int, pixels: int, dims: int, spread: float, seed: int, torn: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels about the centres of their objects, a share of them anywhere."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(num_objects), rng.integers(0, num_objects, pixels)])
    centres = rng.uniform(0, 4 * num_objects**0.5, (num_objects, dims))
    x = centres[group] + spread * rng.normal(size=(len(group), dims))
    anywhere = rng.random(len(group)) < torn
    x[anywhere] = rng.uniform(0, 4 * num_objects**0.5, (anywhere.sum(), dims))
    order = rng.permutation(len(group))
    return torch.tensor(x[order]), torch.tensor(group[order]), torch.tensor(rng.uniform(0.3, 4, num_objects))


def compared(x_ne: Tensor, group_n: Tensor, w_k: Tensor, overlap: str) -> None:
    """Value, phi and gradients in float32 are those of the matrix in float64."""
    exact, found = [], []
    for function, dtype, kept in ((in_one_matrix, torch.float64, exact), (object_overlap, torch.float32, found)):
        x, w = x_ne.to(dtype, copy=True).requires_grad_(), w_k.to(dtype, copy=True).requires_grad_()
        loss, own_n = function(x, group_n, w, overlap)
        loss.backward()
        kept += [loss.detach().double(), own_n.detach().double(), x.grad.double(), w.grad.double()]
    assert abs(float(exact[0] - found[0])) < 1e-5
    assert torch.allclose(exact[1], found[1], atol=1e-5)
    for true, ours in zip(exact[2:], found[2:]):
        assert float((true - ours).norm()) <= 2e-3 * float(true.norm()) + 1e-6


@pytest.mark.parametrize("overlap", ["dice", "lovasz"])
@pytest.mark.parametrize(
    "given",
    [
        scattered(1, 40, 2, 0.5, 0),
        scattered(5, 300, 1, 0.3, 1),
        scattered(15, 2000, 2, 0.4, 2),
        scattered(40, 2000, 2, 0.4, 3),
        scattered(90, 3000, 3, 0.8, 4, torn=0.2),
        scattered(70, 1500, 16, 0.2, 5, torn=0.05),
        scattered(50, 0, 2, 0.4, 6),  # one pixel each
    ],
)
def test_equals_the_matrix(given: tuple[Tensor, Tensor, Tensor], overlap: str) -> None:
    compared(*given, overlap)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 60), st.integers(0, 400), st.integers(1, 6), st.floats(0.01, 3), st.integers(0, 99), st.floats(0, 1)
)
def test_equals_the_matrix_for_any_pixels(num_objects, pixels, dims, spread, seed, torn) -> None:
    compared(*scattered(num_objects, pixels, dims, spread, seed, torn), "lovasz")


@pytest.mark.parametrize("pairs", [1, 1000, 20_000])
def test_boxes_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(module, "_FEW_PAIRS", pairs)
    monkeypatch.setattr(module, "_MOST_PAIRS", 2 * pairs)
    compared(*scattered(70, 1500, 2, 0.4, 7, torn=0.1), "lovasz")


@pytest.mark.parametrize("seed", range(4))
def test_at_once_is_in_turn(seed: int) -> None:
    """The way of a GPU and that of a CPU."""
    x_ne, group_n, w_k = scattered(20, 900, 2, 0.5, seed, torn=0.1)
    count_k = torch.bincount(group_n).double()
    mean_ke = torch.zeros(20, 2, dtype=torch.double).index_add_(0, group_n, x_ne) / count_k[:, None]
    phi_cn = torch.exp(-(mean_ke[:, None] - x_ne).square().sum(2) * w_k[:, None])
    arguments = (phi_cn, group_n == torch.arange(20)[:, None], count_k, torch.full((20,), 1e-3, dtype=torch.double))
    for one, other in zip(module._lovasz_at_once(*arguments), module._lovasz_in_turn(*arguments)):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("overlap", ["dice", "lovasz"])
def test_the_closed_gradient_is_that_of_differences(overlap: str) -> None:
    x_ne, group_n, w_k = scattered(4, 40, 3, 0.6, 8)
    x_ne.requires_grad_(), w_k.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: object_overlap(x, group_n, w, overlap)[0], (x_ne, w_k), eps=1e-7, atol=1e-5
    )


def test_coinciding_pixels_have_finite_gradients() -> None:
    x = torch.zeros(6, 2, requires_grad=True)
    w = torch.ones(2, requires_grad=True)
    for overlap in ("dice", "lovasz"):
        loss, _ = object_overlap(x, torch.tensor([0, 0, 0, 1, 1, 1]), w, overlap)
        loss.backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(w.grad).all()


@pytest.mark.slow
def test_pairs_are_few_where_objects_are_many() -> None:
    """Of 400 objects on a lattice, each meets a box: no matrix of all pixels and objects is made."""
    side, step = 400, 20
    y, x = np.mgrid[:side, :side]
    group = torch.from_numpy(((y // step) * (side // step) + x // step).ravel())
    place = torch.tensor(np.stack([y.ravel(), x.ravel()], 1) / 8.0, dtype=torch.float32, requires_grad=True)
    met = []
    original = module._squared_distances

    def counting(a: Tensor, b: Tensor) -> Tensor:
        met.append(len(a) * len(b))
        return original(a, b)

    module._squared_distances = counting
    tracemalloc.start()
    try:
        object_overlap(place, group, torch.ones(400), "lovasz")[0].backward()
    finally:
        module._squared_distances = original
        tracemalloc.stop()
    assert max(met) <= module._MOST_PAIRS
    assert sum(met) < 0.2 * 400 * side**2

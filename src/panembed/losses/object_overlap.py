"""How well soft masks fit their objects, in time and memory that grow with the labelled pixels, not pixels x objects.

Far from an object its soft mask is nothing. So each object meets its own pixels and those near it in embedding space,
which are found in boxes. What is left out changes a loss by less than 2 * `_NOTHING`, and mostly not at all: in the
Lovasz hinge a pixel outside the object counts only if its error is larger than the least of the object's own.

Shape suffixes: N pixels, E embedding dimensions, K objects; C objects of one box with n pixels, M pairs of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Overlap = Literal["dice", "lovasz"]

_NOTHING = 5e-7
"""A degree below which a pixel isn't in an object at all."""

_FEW_PAIRS, _MOST_PAIRS = 100_000, 4_000_000
"""Pairs of pixels and objects that are met at once without a further look, and at most."""

_WORTH_HALVING = 0.85
"""A box is halved if the halves together have at most this share of its pairs."""

_FEW_DIMS = 4
"""Embedding dimensions up to which a pass for each is faster than a general distance."""

_ERROR_BITS, _PAIR_BITS = 25, 27
"""Of a sort key; the other 11 of 63 are for the object in its box, and a box of 4 million pairs has at most 2,000."""

_MOST_PLACE_BITS = 15
"""Of a sort key of 32 bits; the others compare errors to 1 in 100,000, which changes a loss by far less."""


def object_overlap(x_ne: Tensor, group_n: Tensor, w_k: Tensor, overlap: Overlap) -> tuple[Tensor, Tensor]:
    r"""The mean over objects of 1 minus the overlap of their soft masks with their pixels.

    The degree to which pixel i is in object k, with mean mu_k, is phi = exp(-w_k |x_i - mu_k|^2) (Neven et al. 2019,
    Eq. 5). The overlap is Dice with squares in its denominator (Milletari et al. 2016), or the Lovasz hinge of
    2 phi - 1 (Berman et al. 2018, algorithm 1). The gradient has a closed form and is computed along with the loss.

    Args:
        x_ne: NxE float embeddings of the pixels of all objects.
        group_n: N integers 0..K-1, the object of each; each has at least one pixel.
        w_k: K sharpnesses, above 0.
        overlap: dice or lovasz.

    Returns:
        Scalar, differentiable in `x_ne` and `w_k`; and N floats, phi of each pixel in its own object, detached.

    >>> x_ne, group_n = torch.tensor([[0.0], [0.1], [5.0]]), torch.tensor([0, 0, 1])
    >>> loss, own_n = object_overlap(x_ne, group_n, torch.ones(2), "dice")
    >>> bool(loss < 0.01), [round(value, 2) for value in own_n.tolist()]
    (True, [1.0, 1.0, 1.0])
    """
    loss, own_n = _ObjectOverlap.apply(x_ne, group_n, w_k, overlap)
    return loss, own_n


class _ObjectOverlap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ne: Tensor, group_n: Tensor, w_k: Tensor, overlap: Overlap) -> tuple[Tensor, Tensor]:
        count_k = torch.bincount(group_n, minlength=len(w_k)).to(x_ne.dtype)
        mean_ke = x_ne.new_zeros(len(w_k), x_ne.shape[1]).index_add_(0, group_n, x_ne) / count_k[:, None]
        away_ne = x_ne - mean_ke[group_n]
        exponent_n = away_ne.square().sum(1) * w_k[group_n]
        own_n = torch.exp(-exponent_n)
        # 2 - 2 phi without cancellation.
        error_n = -2 * torch.expm1(-exponent_n)
        least_k = torch.full_like(w_k, 2).scatter_reduce_(0, group_n, error_n, "amin") / 2
        least_k = least_k.clamp_min(_NOTHING) if overlap == "lovasz" else torch.full_like(w_k, _NOTHING)
        total = x_ne.new_zeros(())
        by_x_ne, by_mean_ke, by_w_k = torch.zeros_like(x_ne), torch.zeros_like(mean_ke), torch.zeros_like(w_k)
        for pixels_n, objects_c in _boxes(x_ne, group_n, mean_ke, (-least_k.log() / w_k).sqrt()):
            part_ne, part_ce = x_ne[pixels_n], mean_ke[objects_c]
            squared_cn = _squared_distances(part_ce, part_ne)
            phi_cn = torch.exp(-squared_cn * w_k[objects_c, None])
            own_cn = group_n[pixels_n] == objects_c[:, None]
            measure = _lovasz_hinge if overlap == "lovasz" else _dice
            losses_c, by_phi_cn = measure(phi_cn, own_cn, count_k[objects_c], least_k[objects_c])
            total += losses_c.sum()
            by_squared_cn = by_phi_cn.mul_(phi_cn).neg_()  # per unit of w
            by_w_k[objects_c] = (by_squared_cn * squared_cn).sum(1)
            pull_cn = by_squared_cn.mul_(2 * w_k[objects_c, None])
            # pull * (x - mean), summed over objects for each pixel, over pixels for each object
            by_x_ne[pixels_n] += pull_cn.sum(0)[:, None] * part_ne - pull_cn.T @ part_ce
            by_mean_ke[objects_c] = pull_cn.sum(1)[:, None] * part_ce - pull_cn @ part_ne
        by_x_ne += (by_mean_ke / count_k[:, None])[group_n]
        ctx.save_for_backward(by_x_ne / len(w_k), by_w_k / len(w_k))
        ctx.mark_non_differentiable(own_n)
        return total / len(w_k), own_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, None]:
        by_x_ne, by_w_k = ctx.saved_tensors
        return by_x_ne * grads[0], None, by_w_k * grads[0], None


def _boxes(x_ne: Tensor, group_n: Tensor, mean_ke: Tensor, reach_k: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels and objects that may meet: boxes in embedding space, halved as long as that leaves out many pixels.

    Args:
        x_ne: NxE.
        group_n: the object of each pixel.
        mean_ke: KxE.
        reach_k: the distance from its mean from which on a pixel is in an object to no degree.

    Yields:
        Indices of pixels and of objects. Each object comes once, with all of its own pixels and all within its reach.
    """
    device = x_ne.device
    waiting = [(torch.arange(len(x_ne), device=device), torch.arange(len(mean_ke), device=device))]
    while waiting:
        pixels_n, objects_c = waiting.pop()
        pairs = len(pixels_n) * len(objects_c)
        if pairs <= _FEW_PAIRS or len(objects_c) == 1:
            yield pixels_n, objects_c
            continue
        means_ce = mean_ke[objects_c]
        along = int(means_ce.var(0, correction=0).argmax())
        place_n, own_n = x_ne[pixels_n, along], group_n[pixels_n]
        halves = []
        for half in objects_c[torch.argsort(means_ce[:, along])].tensor_split(2):
            low, high = ((mean_ke[half, along] + side * reach_k[half]) for side in (-1, 1))
            is_in_half = torch.zeros(len(mean_ke), dtype=torch.bool, device=device).index_fill_(0, half, True)
            near = (place_n >= low.min()) & (place_n <= high.max()) | is_in_half[own_n]
            halves.append((pixels_n[near], half))
        if pairs <= _MOST_PAIRS and sum(len(p) * len(o) for p, o in halves) > _WORTH_HALVING * pairs:
            yield pixels_n, objects_c
        else:
            waiting += halves


def _squared_distances(a_ce: Tensor, b_ne: Tensor) -> Tensor:
    """CxN squared distances, from differences: those of matrix products lose digits where embeddings lie far from 0."""
    if a_ce.shape[1] > _FEW_DIMS:
        return torch.cdist(a_ce, b_ne, compute_mode="donot_use_mm_for_euclid_dist").square_()
    squared_cn = (a_ce[:, 0, None] - b_ne[:, 0]).square_()
    for index in range(1, a_ce.shape[1]):
        squared_cn += (a_ce[:, index, None] - b_ne[:, index]).square_()
    return squared_cn


def _dice(phi_cn: Tensor, own_cn: Tensor, count_c: Tensor, least_c: Tensor) -> tuple[Tensor, Tensor]:
    """1 minus the Dice coefficient of each object, and its derivative by phi."""
    both_c = (phi_cn * own_cn).sum(1)
    size_c = phi_cn.square().sum(1) + count_c
    by_phi_cn = phi_cn * (4 * both_c / size_c.square())[:, None]
    by_phi_cn -= own_cn * (2 / size_c)[:, None]
    return 1 - 2 * both_c / size_c, by_phi_cn


def _lovasz_hinge(phi_cn: Tensor, own_cn: Tensor, count_c: Tensor, least_c: Tensor) -> tuple[Tensor, Tensor]:
    """The Lovasz hinge of each object, and its derivative by phi.

    Errors are 2 - 2 phi of the object's own pixels, 2 phi of others. From the largest on, after t own and f others of
    P own pixels, an own pixel adds 1 / (P + f) to the Jaccard loss, another (P - t) / ((P + f - 1) (P + f)), which is
    nothing once all own pixels have come.
    """
    in_turn = phi_cn.device.type == "cpu"
    return (_lovasz_in_turn if in_turn else _lovasz_at_once)(phi_cn, own_cn, count_c, least_c)


def _lovasz_at_once(phi_cn: Tensor, own_cn: Tensor, count_c: Tensor, least_c: Tensor) -> tuple[Tensor, Tensor]:
    """As `_lovasz_hinge`, all objects of a box in one sort."""
    pair_m = (own_cn | (phi_cn > least_c[:, None])).flatten().nonzero()[:, 0]
    object_m = torch.div(pair_m, phi_cn.shape[1], rounding_mode="floor")
    own_m = own_cn.flatten()[pair_m]
    phi_m = phi_cn.flatten()[pair_m]
    error_m = torch.where(own_m, 2 - 2 * phi_m, 2 * phi_m)
    highest = 2**_ERROR_BITS - 1
    small_m = highest - (error_m.double() * (highest / 2)).long().clamp_(0, highest)
    place_m = torch.arange(len(pair_m), device=pair_m.device)
    key_m = (((object_m << _ERROR_BITS) | small_m) << _PAIR_BITS) | place_m
    order_m = torch.sort(key_m).values & (2**_PAIR_BITS - 1)
    pair_m, own_m, error_m = pair_m[order_m], own_m[order_m], error_m[order_m]
    pairs_c = torch.bincount(object_m, minlength=len(count_c))
    begin_c = pairs_c.cumsum(0) - pairs_c
    come_m = own_m.cumsum(0)
    come_m -= torch.cat([come_m.new_zeros(1), come_m])[begin_c][object_m]
    size_m = count_c[object_m]
    union_m = size_m + (place_m + 1 - begin_c[object_m] - come_m)
    gain_m = torch.where(own_m, 1 / union_m, (size_m - come_m) / ((union_m - 1).clamp_min(1) * union_m))
    by_phi_cn = torch.zeros_like(phi_cn)
    by_phi_cn.view(-1)[pair_m] = torch.where(own_m, -2 * gain_m, 2 * gain_m)
    return torch.zeros_like(count_c).index_add_(0, object_m, error_m * gain_m), by_phi_cn


def _lovasz_in_turn(phi_cn: Tensor, own_cn: Tensor, count_c: Tensor, least_c: Tensor) -> tuple[Tensor, Tensor]:
    """As `_lovasz_hinge`, object by object in NumPy: what is sorted stays in a CPU's cache, and it sorts faster."""
    losses_c, by_phi_cn = torch.zeros_like(count_c), torch.zeros_like(phi_cn)
    losses, by_phi, least = losses_c.numpy(), by_phi_cn.numpy(), least_c.numpy()
    phis, owns, sizes = phi_cn.numpy(), own_cn.numpy(), count_c.numpy()
    for index, (phi_n, own_n, size) in enumerate(zip(phis, owns, sizes)):
        pair_m = np.flatnonzero((phi_n > least[index]) | own_n)
        phi_m, own_m = phi_n[pair_m], own_n[pair_m]
        error_m = 2 * np.where(own_m, 1 - phi_m, phi_m)
        order_m = _by_error(error_m)
        own_m = own_m[order_m]
        come_m = np.cumsum(own_m)
        union_m = np.arange(1, len(own_m) + 1, dtype=phi_n.dtype) + size - come_m
        gain_m = np.where(own_m, 1, (size - come_m) / np.maximum(union_m - 1, 1)) / union_m
        losses[index] = error_m[order_m] @ gain_m
        by_phi[index, pair_m[order_m]] = np.where(own_m, -2, 2) * gain_m
    return losses_c, by_phi_cn


def _by_error(error_m: NDArray[np.floating]) -> NDArray[np.intp]:
    """The order from the largest error, 2 at most, to the least.

    The place rides along with the error in one number: sorting numbers takes a fifth of the time of sorting indices.
    """
    bits = max(1, (len(error_m) - 1).bit_length())
    width, dtype = (32, np.uint32) if bits <= _MOST_PLACE_BITS else (64, np.uint64)
    highest = 2 ** min(width - bits, _ERROR_BITS) - 1
    key_m = (highest - error_m.astype(np.float64) * (highest / 2)).astype(dtype)
    key_m <<= bits
    key_m |= np.arange(len(key_m), dtype=dtype)
    key_m.sort()
    order_m: NDArray[np.intp] = (key_m & dtype(2**bits - 1)).astype(np.intp)
    return order_m

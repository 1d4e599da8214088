"""A loss on a density of objects: a map that sums to 1 over every object (Lempitsky and Zisserman 2010).

Grouping asks which pixels belong together; a density asks how much of an object each pixel is. So what the grouping
found can be checked: an object's pixels that sum to 2 are two objects in one, those that sum to a quarter are a piece.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MAX_LOG_DENSITY = 0.0
"""A pixel is at most one object; the exponential of a larger value could overflow."""


def density_loss(
    log_density: Tensor,
    instance: Tensor,
    *,
    semantic: Tensor | None = None,
    thing_ids: Sequence[int] | None = None,
) -> Tensor:
    r"""Compare a density with that which spreads each object evenly over its pixels.

    With the true density y_i = 1 / area of the object of pixel i, the predicted one d_i, and half of the deviance of
    Poisson counts

    .. math::
        D(y, d) = y \log\frac{y}{d} - y + d

    the loss over all pixels of an image's K objects is

    .. math::
        \frac{1}{K} \sum_i D(y_i, d_i) + D\left(K, \sum_i d_i\right)

    Both are least at the expected density, so that sums are unbiased counts, whatever the network is unsure of; the
    second part is of the image's count alone. Pixels of no object take no part, as the class mask tells them apart; nor
    do objects that touch the border: how large they are is not seen. Images without others count as 0.

    Args:
        log_density: BxHxW floats, log of d. Computed in float32.
        instance: BxHxW integers, 0 for none; counted over all classes of an image.
        semantic: BxHxW integers, class of every pixel; objects are those of `thing_ids`. None: all objects count.
        thing_ids: the classes of `semantic` that have objects.

    Returns:
        Scalar float32, differentiable: the mean over images.

    Raises:
        ValueError: shapes do not fit, or `thing_ids` without `semantic` or the other way round.

    >>> instance = torch.zeros(1, 4, 4, dtype=torch.int64)
    >>> instance[0, 1:3, 1:3] = 1
    >>> perfect = torch.full((1, 4, 4), 0.25).log()
    >>> float(density_loss(perfect, instance)) < 1e-6, float(density_loss(perfect + 1, instance)) > 1
    (True, True)
    """
    for name, labels in (("instance", instance), ("semantic", semantic)):
        if labels is not None and labels.shape != log_density.shape:
            raise ValueError(
                f"{name}: expected BxHxW = {tuple(log_density.shape)} as the density, found {tuple(labels.shape)}"
            )
    if (thing_ids is None) != (semantic is None):
        raise ValueError("semantic and thing_ids go together; give both, or neither")
    # 0 that depends on the density, which distributed training asks of every output.
    total = log_density[..., :0].float().sum()
    for index in range(len(log_density)):
        ids = instance[index]
        if semantic is not None and thing_ids is not None:
            ids = ids * torch.isin(semantic[index], semantic.new_tensor(tuple(thing_ids)))
        found, group, areas = torch.unique(ids, return_inverse=True, return_counts=True)
        whole = ~torch.isin(found, _on_border(ids)) & (found != 0)
        inside = whole[group]
        if not inside.any():
            continue
        log_d = log_density[index][inside].float().clamp_max(_MAX_LOG_DENSITY)
        log_y = -areas.float().log()[group[inside]]
        # The sum's log by itself: a density too small for float32 still has one, and a gradient.
        count, density, log_sum = whole.sum().float(), log_d.exp().sum(), log_d.logsumexp(0)
        deviance = (log_y.exp() * (log_y - log_d)).sum() - count + density
        of_count = count * (count.log() - log_sum) - count + density
        total = total + deviance / count + of_count
    return total / max(1, len(log_density))


def _on_border(ids: Tensor) -> Tensor:
    found: Tensor = torch.unique(torch.cat([ids[0], ids[-1], ids[:, 0], ids[:, -1]]))
    return found

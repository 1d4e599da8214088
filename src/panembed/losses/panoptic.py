"""The sum of both losses, Zachow (2022), Eq. 3.1 and 3.6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from panembed.labels import IGNORE
from panembed.losses.discriminative import discriminative_loss


@dataclass(frozen=True, slots=True)
class PanopticLossTerms:
    """The scalar to minimise and its two parts, L_total = L_sem + L_inst (Eq. 3.6)."""

    total: Tensor
    semantic: Tensor
    instance: Tensor


class PanopticLoss(nn.Module):
    """Cross-entropy of classes (Eq. 3.1) plus discriminative loss of embeddings (Eq. 3.5).

    Args:
        thing_ids: class indices that have objects.
        delta_var: see `discriminative_loss`.
        delta_dist: see `discriminative_loss`.
        alpha: see `discriminative_loss`.
        beta: see `discriminative_loss`.
        gamma: see `discriminative_loss`; 0 for position-anchored embeddings, whose means are not near the origin.
        instance_weight: factor of the discriminative loss in the sum; 1 in the thesis.
        per_class: objects of one class are pushed apart, as in the thesis; False pushes all things apart, whatever
            their class, for `Grouping(vote=True)`.
        class_weights: C weights of the classes' pixels in the cross-entropy, which becomes a weighted mean; None
            weighs all pixels alike, as in the thesis.

    >>> loss = PanopticLoss(thing_ids=[1])
    >>> labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    >>> terms = loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 4, 4), labels, labels)
    >>> round(float(terms.semantic), 4), float(terms.instance)  # log 2 for two equal scores; no objects
    (0.6931, 0.0)
    """

    def __init__(
        self,
        thing_ids: Sequence[int],
        *,
        delta_var: float = 0.5,
        delta_dist: float = 1.5,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.001,
        instance_weight: float = 1.0,
        per_class: bool = True,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.thing_ids = tuple(thing_ids)
        self.delta_var, self.delta_dist = delta_var, delta_dist
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.instance_weight = instance_weight
        self.per_class = per_class
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights)

    def forward(self, logits: Tensor, embeddings: Tensor, semantic: Tensor, instance: Tensor) -> PanopticLossTerms:
        """Compute both terms.

        Args:
            logits: BxCxHxW class scores before softmax.
            embeddings: BxExHxW.
            semantic: BxHxW int64 class indices, 255 to ignore. A batch without any class pixel gives 0.
            instance: BxHxW integers, 0 for none; counted over all classes of an image.
        """
        logits = logits.float()
        labelled = semantic != IGNORE
        if self.class_weights is None:
            weight, total = None, labelled.sum().clamp_min(1)
        else:
            weight = self.class_weights.to(logits.device)
            total = weight[semantic[labelled]].sum().clamp_min(torch.finfo(torch.float32).tiny)
        l_sem = nn.functional.cross_entropy(logits, semantic, weight, ignore_index=IGNORE, reduction="sum") / total
        l_inst = discriminative_loss(
            embeddings,
            instance,
            semantic=semantic if self.per_class else None,
            thing_ids=self.thing_ids if self.per_class else None,
            delta_var=self.delta_var,
            delta_dist=self.delta_dist,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
        )
        return PanopticLossTerms(l_sem + self.instance_weight * l_inst, l_sem.detach(), l_inst.detach())

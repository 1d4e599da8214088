"""A network trained with our loss learns what it learns with a plain one."""

import pytest
import torch

from panembed.datasets.synthetic import SyntheticDataset
from panembed.inference.preparation import Preparation
from panembed.losses import panoptic
from panembed.models.panoptic_net import PanopticNet
from panembed.training.transforms import TrainingSet, collate

pytestmark = pytest.mark.slow  # trains a small network


def index_add_loss(embeddings, instance, *, semantic, thing_ids, delta_var, delta_dist, alpha, beta, gamma):
    """One class of things: grouped sums by index_add_, gradients by autograd."""
    (thing,) = thing_ids
    total = embeddings.new_zeros(())
    for x_ep, ids, classes in zip(embeddings.flatten(2), instance.flatten(1), semantic.flatten(1)):
        chosen = (ids > 0) & (classes == thing)
        names, ids = ids[chosen].unique(return_inverse=True)
        x, k = x_ep.T[chosen], len(names)
        count = torch.bincount(ids)
        mean = x.new_zeros(k, x.shape[1]).index_add_(0, ids, x) / count[:, None]
        pull = ((x - mean[ids]).norm(dim=1) - delta_var).relu() ** 2
        total = total + alpha * (x.new_zeros(k).index_add_(0, ids, pull) / count).mean()
        gaps = (2 * delta_dist - torch.nn.functional.pdist(mean)).relu() ** 2
        total = total + beta * 2 * gaps.sum() / max(1, k * (k - 1)) + gamma * mean.norm(dim=1).mean()
    return total / len(embeddings)


def train(steps=20):
    torch.manual_seed(0)
    dataset = SyntheticDataset(2, size=64)
    # With the encoder training too, a last-digit change of the embeddings alone can move the curve by 2 per cent.
    network = PanopticNet(2, 4, encoder="tu-tf_efficientnet_lite0", decoder_channels=(16, 8, 8), freeze_encoder=True)
    examples = TrainingSet(dataset, tuple(dataset.ids), Preparation((64, 64)), None)
    batch = collate([examples[0, 0], examples[0, 1]])
    criterion = panoptic.PanopticLoss(dataset.label_set.things)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    totals, instances = [], []
    for _ in range(steps):
        terms = criterion(*network(batch.image), batch.semantic, batch.instance)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        totals.append(float(terms.total.detach()))
        instances.append(float(terms.instance))
    return torch.tensor(totals), torch.tensor(instances)


def test_same_seed_same_curve_as_with_index_add(monkeypatch):
    totals, instances = train()
    assert instances[-1] < 0.9 * instances[0]  # it learns, so the curves say something
    monkeypatch.setattr(panoptic, "discriminative_loss", index_add_loss)
    plain_totals, plain_instances = train()
    torch.testing.assert_close(totals, plain_totals, rtol=1e-4, atol=0)
    torch.testing.assert_close(instances, plain_instances, rtol=1e-4, atol=0)

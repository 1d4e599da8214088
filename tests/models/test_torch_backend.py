"""How many images are computed side by side, and by how many threads each."""

import pytest
import torch
from torch import nn

from panembed.models.torch_backend import TorchBackend


@pytest.mark.parametrize(("threads", "workers", "each"), [(1, 1, 1), (2, 2, 1), (8, 8, 1), (16, 8, 2), (60, 8, 7)])
def test_workers_share_the_threads(monkeypatch, threads, workers, each):
    told = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    backend = TorchBackend(nn.Identity())
    backend.start_worker()
    assert (backend.num_workers, told) == (workers, [each])


def test_a_worker_s_share_is_not_shared_again(monkeypatch):
    """A new thread begins with the number that was set last, in whatever thread."""
    number = [64]
    monkeypatch.setattr(torch, "get_num_threads", lambda: number[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: number.__setitem__(0, threads))
    backend = TorchBackend(nn.Identity())
    for _ in range(3):
        backend.start_worker()
        assert (backend.num_workers, number) == (8, [8])

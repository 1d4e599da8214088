"""Runs a PyTorch network for prediction."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_MOST_WORKERS = 8


class TorchBackend:
    """Calls a network in inference mode.

    Args:
        network: Bx3xHxW -> (class scores, embeddings[, seeds]), such as `PanopticNet`. It is set to evaluation mode,
            moved to `device`, and to channels-last memory, in which convolutions on CPUs and recent GPUs are faster.
        device: such as "cpu" or "cuda".
        bfloat16: autocast to bfloat16; pays on GPUs and on CPUs that compute in it.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu", *, bfloat16: bool = False) -> None:
        self.device = torch.device(device)
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bfloat16 = bfloat16
        # Now, as a worker's thread begins with what another one was given.
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        self._num_workers, self._threads_each = min(threads, _MOST_WORKERS), max(1, threads // _MOST_WORKERS)

    @property
    def num_workers(self) -> int:
        """On a CPU one per thread that PyTorch may use: whole images side by side wait less than parts of one image.

        But at most 8, as every image needs memory of its own.
        """
        return self._num_workers

    def start_worker(self) -> None:
        """See `panembed.inference.backend.Backend`."""
        if self.device.type == "cpu":
            torch.set_num_threads(self._threads_each)  # of this thread only

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """See `panembed.inference.backend.Backend`."""
        if self.network.training:
            self.network.eval()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            batch = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
            outputs = self.network(batch)
        return tuple(output.float().cpu().numpy() for output in outputs)

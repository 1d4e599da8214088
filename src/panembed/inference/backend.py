"""What runs the network: anything that turns prepared images into class scores and embeddings."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """A network ready to be called; PyTorch's is `panembed.models.torch_backend.TorchBackend`."""

    @property
    def num_workers(self) -> int:
        """How many threads should call it at the same time for the most images a second."""
        ...

    def start_worker(self) -> None:
        """Called first in each of those threads."""
        ...

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Run the network.

        Args:
            images: Bx3xHxW float32, prepared; H and W multiples of 32.

        Returns:
            BxCxHxW float32 class scores before softmax, BxExHxW float32 embeddings, and of a network with a seed head
            Bx2xHxW float32 seeds: log of the sharpness, and score before the sigmoid; Bx3xHxW with the log of the
            density.
        """
        ...

"""Stop when validation no longer improves (Zachow 2022, section 4.1.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class EarlyStopping:
    """Remembers the best value and how long ago it was.

    Attributes:
        patience: epochs without a better value after which `exhausted`; None never stops.
        maximize: True where a greater value is better.

    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.update(value, epoch) for epoch, value in enumerate([3.0, 2.0, 2.5, 2.6])], stopping.exhausted(3)
    ([True, True, False, False], True)
    """

    patience: int | None = 20
    maximize: bool = False
    best: float | None = None
    best_epoch: int = -1

    def update(self, value: float, epoch: int) -> bool:
        """Take in the value of an epoch; True where it is the best so far. NaN never is."""
        if math.isnan(value):
            return False
        if self.best is None or (value > self.best if self.maximize else value < self.best):
            self.best, self.best_epoch = value, epoch
            return True
        return False

    def exhausted(self, epoch: int) -> bool:
        """Whether `patience` epochs have gone by since the best."""
        return self.patience is not None and self.best is not None and epoch - self.best_epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]

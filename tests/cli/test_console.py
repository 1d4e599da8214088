"""What a training says while it runs."""

from __future__ import annotations

import pytest

from panembed.cli import console
from panembed.cli.console import TrainingProgress

ROW = {"epoch": 1, "train_loss": 0.5, "seconds": 7.0}


def test_without_a_bar_a_line_a_minute(capsys, monkeypatch):
    """Else a log of hours would be empty until the first validation."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with TrainingProgress(30) as progress:
        for epoch in range(1, 31):
            now = 10.0 * epoch
            progress.epoch({**ROW, "epoch": epoch})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"epoch {epoch}/30: loss 0.500, 7 s" for epoch in (1, 7, 13, 19, 25)]


@pytest.mark.parametrize(("things", "told"), [(0.5, "things PQ 50.0"), (float("nan"), "things PQ -")])
def test_a_validated_epoch(capsys, things, told):
    with TrainingProgress(30) as progress:
        for epoch in (1, 2):
            progress.epoch({**ROW, "epoch": epoch, "val_loss": 1, "val_pq": 0.25, "val_pq_things": things})
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == f"epoch 2/30: loss 0.500, validation loss 1.000, PQ 25.0, {told}, 7 s"

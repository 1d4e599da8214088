"""What a run writes of itself, and what it needs for that."""

import sys

import pytest

from panembed.errors import MissingExtraError
from panembed.training.run_log import RunLog, require_tensorboard


def test_tensorboard_that_is_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    for call in (require_tensorboard, lambda: RunLog(tmp_path, tensorboard=True)):
        with pytest.raises(MissingExtraError, match=r"--tensorboard needs .* pip install 'panembed\[tensorboard\]'"):
            call()
    assert list(tmp_path.iterdir()) == []
    RunLog(tmp_path)


@pytest.mark.slow
def test_events_are_written(tmp_path):
    log = RunLog(tmp_path, tensorboard=True)
    log.add({"epoch": 1, "train_loss": 0.5})
    assert (tmp_path / "metrics.csv").read_text() == "epoch,train_loss\n1,0.5\n"
    assert [path.name[:6] for path in (tmp_path / "tensorboard").iterdir()] == ["events"]

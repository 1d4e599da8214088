"""Checkpoints: whole or not there, and never more than tensors and plain values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from panembed.errors import InputError, OutputError
from panembed.training.checkpoint import load_checkpoint, save_checkpoint


def state() -> dict[str, Any]:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "network": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None,
        "rows": [{"epoch": 1, "val_loss": 0.25, "val_pq": float("nan")}],
        "epoch": 3,
        "sums": torch.zeros(3, dtype=torch.float64),
    }


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path, saved = tmp_path / "last.pt", state()
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert loaded.keys() == {*saved, "format"}
    assert torch.equal(loaded["network"]["weight"], saved["network"]["weight"])
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], saved["optimizer"]["state"][0]["exp_avg"])
    assert loaded["sums"].dtype == torch.float64
    assert (loaded["average"], loaded["epoch"], loaded["rows"][0]["val_loss"]) == (None, 3, 0.25)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_truncated(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"last\.pt: the checkpoint is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"\x00" * 5000, b"not a checkpoint at all", b"PK\x03\x04" + b"x" * 100])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{"format": 2, "epoch": 1}, {"epoch": 1}, [1], torch.zeros(3)])
def test_another_format(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "last.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match="not a checkpoint of this version"):
        load_checkpoint(path)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint there"):
        load_checkpoint(tmp_path / "last.pt")
    with pytest.raises(InputError, match="no checkpoint there"):
        load_checkpoint(tmp_path)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    path, marker = tmp_path / "last.pt", tmp_path / "executed"
    torch.save({"format": 1, "network": Malicious(marker)}, path)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("stop"), OSError(28, "No space left on device")])
def test_a_failure_while_writing_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    write = Path.write_bytes

    def half(self: Path, data: Any) -> None:
        write(self, bytes(data)[: len(data) // 2])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
            save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_saved_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_checkpoint(path, {"epoch": 2, "bad": (i for i in ())})
    assert load_checkpoint(path)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]

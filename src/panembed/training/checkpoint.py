"""Everything a run needs to go on after it was stopped, in one file that is whole or not there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from panembed.errors import InputError
from panembed.io.atomic import atomic_path

_FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically: a killed process leaves the old checkpoint or the new one.

    Raises:
        OutputError: the disk is full or not writable.
    """
    # Torch's own errors don't tell a full disk from anything else.
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **state}, buffer)
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted.

    Raises:
        InputError: the file is missing, damaged, or of another version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint there; start the run without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise InputError(f"{path}: the checkpoint is damaged; remove it and start the run again") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError(
            f"{path}: not a checkpoint of this version of panembed; finish the run with the one that began it"
        )
    return state

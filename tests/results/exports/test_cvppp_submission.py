"""The challenge's HDF5, read by h5py."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from export_contract import FIELD, ExportContract, torn
from numpy.typing import NDArray

from panembed.errors import InputError, MissingExtraError
from panembed.labels.panoptic_map import PanopticMap
from panembed.results.exports.exporter import open_exporter
from panembed.results.result import PanopticResult


class TestSubmission(ExportContract):
    format = "cvppp"

    def masks(self, folder: Path, result: PanopticResult) -> list[NDArray[np.bool_]]:
        with h5py.File(folder / "submission.h5") as file:
            labels = file[f"A1/{result.name}/label"][()]
        assert labels.dtype == np.uint8
        return [labels == number for number in range(1, int(labels.max(initial=0)) + 1)]

    @pytest.mark.parametrize("name", ["photos/plant001.png", "A1/tray.png", "A6/plant001_rgb.png"])
    def test_images_of_another_kind_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match=r"expects files called plantNNN_rgb\.png in folders A1 to A5"):
            open_exporter("cvppp", tmp_path, FIELD).check(Path(name), torn(3))

    def test_more_leaves_than_8_bits_hold(self, tmp_path: Path) -> None:
        ids = np.arange(1, 257).reshape(16, 16)
        crowd = PanopticResult(PanopticMap(np.ones((16, 16), int), ids), FIELD, np.zeros((16, 16, 3), np.uint8))
        with pytest.raises(InputError, match="has 256 objects; the challenge's format holds at most 255"):
            open_exporter("cvppp", tmp_path, FIELD).check(Path("A1/plant001_rgb.png"), crowd)

    def test_without_h5py(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(MissingExtraError, match=r'pip install "panembed\[cvppp\]"'):
            open_exporter("cvppp", tmp_path, FIELD)

"""The HDF5 file that the leaf segmentation challenge (CVPPP LSC 2017) takes: A1/plant003/label and so on, uint8."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError, MissingExtraError
from panembed.io.atomic import atomic_path
from panembed.labels.categories import LabelSet
from panembed.results.exports.exporter import Exporter, Format
from panembed.results.result import PanopticResult

_SUBSET, _PLANT = re.compile(r"A[1-5]"), re.compile(r"plant\d+")
_MOST_LEAVES = 255


class SubmissionExporter(Exporter):
    """submission.h5; needs h5py, and images called plantNNN_rgb.png in folders A1 to A5."""

    def __init__(self, folder: Path, label_set: LabelSet, format: Format) -> None:
        try:
            import h5py
        except ImportError as error:
            raise MissingExtraError(
                "--write cvppp needs the package h5py, which is not installed; install it with "
                '`pip install "panembed[cvppp]"`'
            ) from error
        super().__init__(folder, label_set, format)
        self._h5py = h5py
        self._labels: dict[str, NDArray[np.uint8]] = {}

    def check(self, path: Path, result: PanopticResult) -> None:
        """Refuse what is none of the challenge's images, or has more leaves than its format holds."""
        if not _PLANT.match(path.name) or not _SUBSET.fullmatch(path.absolute().parent.name):
            raise InputError(
                f"{path}: is no image of the challenge; --write cvppp expects files called plantNNN_rgb.png in folders "
                "A1 to A5"
            )
        if (largest := max(result.numbers, default=0)) > _MOST_LEAVES:
            raise InputError(f"{path}: has {largest} objects; the challenge's format holds at most {_MOST_LEAVES}")

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the labels of one plant."""
        plant = _PLANT.match(path.name)
        assert plant is not None, "checked before"
        self._labels[f"{path.absolute().parent.name}/{plant[0]}/label"] = result.instance_ids().astype(np.uint8)

    def close(self) -> None:
        """Write the file."""
        with atomic_path(self.folder / self.format.all) as temporary, self._h5py.File(temporary, "w") as file:
            for key, labels in sorted(self._labels.items()):
                file.create_dataset(key, data=labels, compression="gzip")

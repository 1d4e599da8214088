"""TIFFs of labels with the size of a pixel, as ImageJ, napari, CellProfiler and QuPath read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from panembed.io.atomic import atomic_path
from panembed.results.exports.color_png import MOST_COLORS, palette
from panembed.results.exports.exporter import Exporter
from panembed.results.result import PanopticResult

_MOST_IN_IMAGEJ = 65_535


class LabelTiffExporter(Exporter):
    """NAME_labels.tif: 0 and the objects' numbers (`instance_id`), 16 bits; 32 bits beyond 65,535 objects.

    With 16 bits the scale is stored as ImageJ does it, with 32, which ImageJ's own format lacks, as OME.
    """

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the labels of one image."""
        ids, scale = result.instance_ids(), result.pixel_size
        small = max(result.numbers, default=0) <= _MOST_IN_IMAGEJ
        options: dict[str, Any] = {"imagej": True} if small else {"ome": True, "compression": "zlib"}
        metadata: dict[str, Any] = {"axes": "YX"}
        if small:
            # ImageJ's colour table has 256 places, which it spreads between these numbers.
            metadata |= {"LUTs": [palette().T], "min": 0.0, "max": float(max(MOST_COLORS, *result.numbers, 0))}
        if scale is not None and small:
            options["resolution"] = (1 / scale.length, 1 / scale.length)
            metadata |= {"unit": scale.unit}
        elif scale is not None:
            unit = {"um": "µm", "inch": "in"}.get(scale.unit, scale.unit)
            for axis in "XY":
                metadata |= {f"PhysicalSize{axis}": scale.length, f"PhysicalSize{axis}Unit": unit}
        with atomic_path(self.path_of(result)) as temporary:
            tifffile.imwrite(temporary, ids.astype(np.uint16 if small else np.uint32), metadata=metadata, **options)

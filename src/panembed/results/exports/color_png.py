"""Label pictures that viewers show in colours: a palette beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panembed.io.atomic import atomic_path
from panembed.labels.categories import distinct_color
from panembed.results.exports.exporter import Exporter
from panembed.results.result import PanopticResult

MOST_COLORS = 255
"""Numbers of objects that a palette of 8 bits has a colour for; 0 is black."""


def palette() -> NDArray[np.uint8]:
    """256x3 colours: black for 0, and one for each number up to 255, far from those of the numbers beside it.

    >>> palette().shape, palette()[0].tolist()
    ((256, 3), [0, 0, 0])
    """
    colors = np.zeros((MOST_COLORS + 1, 3), dtype=np.uint8)
    for number in range(1, MOST_COLORS + 1):
        colors[number] = distinct_color(number)
    return colors


class ColorPngExporter(Exporter):
    """NAME_colors.png: the numbers of NAME_instances.png as an 8-bit picture with a palette.

    Beyond number 255 the palette can't hold them, and the picture is one of plain colours.
    """

    def add(self, path: Path, result: PanopticResult, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the picture of one image."""
        ids, colors = result.instance_ids(), palette()
        if max(result.numbers, default=0) <= MOST_COLORS:
            picture = Image.fromarray(ids.astype(np.uint8), mode="P")
            picture.putpalette(colors.tobytes())
        else:
            picture = Image.fromarray(np.where(ids[..., None] > 0, colors[1 + (ids - 1) % MOST_COLORS], np.uint8(0)))
        with atomic_path(self.path_of(result)) as temporary:
            picture.save(temporary, format="PNG")

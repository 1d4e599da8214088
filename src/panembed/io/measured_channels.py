"""The numbers that are measured: every channel of a file at its own depth, while networks see an 8-bit picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panembed.errors import InputError
from panembed.io.channels import is_display_ramp
from panembed.io.raster import Raster, read_raster, upright

_COLORS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Channels of one image.

    Attributes:
        samples: HxWxC numbers as the file stores them.
        names: C different ones, as columns are called by them: red, green and blue of colours, grey of a single channel
            without a name, else the file's names or channel1, channel2, ...

    >>> Channels.of_picture(np.zeros((2, 3, 3), np.uint8)).names
    ('red', 'green', 'blue')
    """

    samples: NDArray[Any]
    names: tuple[str, ...]

    @classmethod
    def of_picture(cls, image: NDArray[np.uint8]) -> Channels:
        """Of an HxWx3 uint8 RGB picture."""
        return cls(image, _COLORS)

    @property
    def has_colors(self) -> bool:
        """Whether the channels are red, green and blue."""
        return self.names == _COLORS


def channels_of(raster: Raster) -> Channels:
    """What is to be measured in a file: alpha is none of it, and of a palette it is the colours.

    The numbers behind a display table (ImageJ's Green or Fire) are measured, not its colours. JPEGs are turned as their
    EXIF orientation says, as pictures are.
    """
    samples = raster.samples.astype(np.uint8) if raster.samples.dtype == bool else raster.samples
    if raster.palette is not None and not is_display_ramp(raster.palette, samples):
        samples = raster.palette[samples]
    if samples.ndim == 2:
        samples = samples[..., None]
    if raster.grey_with_alpha:
        samples = samples[..., :1]
    count = samples.shape[2]
    if not raster.separate and count in (3, 4):
        return Channels(upright(samples[..., :3], raster.orientation), _COLORS)
    names: list[str] = []
    for place in range(count):
        said = "_".join(raster.names[place].split()) if place < len(raster.names) else ""
        usual = "grey" if count == 1 else f"channel{place + 1}"
        names.append(said if said and said not in names else usual)
    return Channels(upright(samples, raster.orientation), tuple(names))


def read_channels(path: str | os.PathLike[str], shape: tuple[int, int]) -> Channels | None:
    """The channels of an image file; None if it can't be read, or is not of that height and width any more.

    >>> read_channels("no such file", (1, 1))
    """
    try:
        found = channels_of(read_raster(path, pages=True))
    except InputError:
        return None
    return found if found.samples.shape[:2] == shape else None

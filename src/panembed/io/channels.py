"""Which numbers of a file are the picture: a channel that was asked for, or what lies behind colours for the eye."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Channel: TypeAlias = Literal["auto", "rgb", "red", "green", "blue"] | int
"""A channel by its colour, or by its number, counted from 1; rgb takes colours as they are."""

_COLORS = ("red", "green", "blue")

_MOST_STEP = 40
"""Between neighbouring colours of a display table. Those of ImageJ's and matplotlib's tables differ by at most 36."""


def channel_index(channel: Channel) -> int | None:
    """The place of a channel among those of a file, from 0; None where none is asked for.

    >>> channel_index("green"), channel_index(1), channel_index("auto")
    (1, 0, None)
    """
    if isinstance(channel, int):
        return channel - 1
    return _COLORS.index(channel) if channel in _COLORS else None


def is_display_ramp(palette: NDArray[np.uint8], numbers: NDArray[Any]) -> bool:
    """Whether a palette shows numbers in colours that run smoothly, as display tables do, and isn't grey.

    The colours of a photograph with a palette jump from number to number.

    Args:
        palette: Nx3 uint8 colours.
        numbers: of the picture.

    >>> green = np.arange(256, dtype=np.uint8)[:, None] * np.array([0, 1, 0], np.uint8)
    >>> is_display_ramp(green, np.arange(256)), is_display_ramp(green[::-2].repeat(2, 0)[::77], np.arange(3))
    (True, False)
    """
    used = np.unique(numbers)
    if len(used) < 3:
        return False
    colors = palette[int(used[0]) : int(used[-1]) + 1].astype(np.int16)
    grey = bool((np.ptp(colors, axis=1) <= 2).all())
    return not grey and int(np.abs(np.diff(colors, axis=0)).max()) <= _MOST_STEP

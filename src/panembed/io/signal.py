"""One signal shown in colour: fluorescence exported as green or magenta, or through a display table such as viridis.

The numbers are the picture, the colours are for the eye. A network that learned from grey pictures finds nothing in
them: normalised channel by channel, an empty channel is nothing but noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.spatial import KDTree

_HUES = {
    (True, False, False): "red",
    (False, True, False): "green",
    (False, False, True): "blue",
    (True, True, False): "yellow",
    (True, False, True): "magenta",
    (False, True, True): "cyan",
}

_TABLES = "display_tables.npz"
"""256 colours, uint8, of each of 14 display tables of matplotlib (free to share), of which napari, Fiji and others have
the same: viridis, plasma, inferno, magma, cividis, turbo, jet, hot, ..."""

_SAMPLE = 1 << 17
"""Pixels that decide what a picture is."""

_DARK = 100
"""A channel whose brightest thousandth is above this is not empty: paper under a stain is bright in every channel."""

_BLACK = 20
"""A channel whose brightest thousandth is below this has no part in a display table."""

_EMPTY = 0.2
"""A dark channel with less than this share of the strongest one's contrast holds nothing, whatever its pattern."""

_NOISE = 0.5
"""The same for a channel whose neighbouring pixels have nothing to do with each other."""

_SAME = 0.9
"""Correlation from which two channels show one signal; two stains of the same cells stay below."""

_NEAR = 18.0
"""Distance of a colour to those of a table, in grey values, that JPEG may make."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What is behind a picture's colours.

    Attributes:
        picture: HxWx3 uint8, grey.
        colors: what they were: a hue such as green, or the name of a display table.
    """

    picture: NDArray[np.uint8]
    colors: str


def single_signal(image: NDArray[np.uint8]) -> Signal | None:
    """The grey picture behind one that shows a single signal in colour.

    That is a picture with one or two channels that show the same, where the others are dark and without contrast or
    nothing but noise; or one whose colours are those of a display table. Grey pictures, photographs, stained tissue and
    several stains in channels of their own are None.

    Args:
        image: HxWx3 uint8 RGB.

    >>> grey = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    >>> found = single_signal(np.stack([grey, 0 * grey, grey], axis=-1))
    >>> found.colors, bool((found.picture == grey[..., None]).all()), single_signal(found.picture)
    ('magenta', True, None)
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / _SAMPLE)))
    sample = image[::step, ::step]
    if _is_grey(sample):
        return None
    colors = _without_marks(sample.reshape(-1, 3)).astype(np.float32)
    black = np.percentile(colors, 99.8, axis=0) <= _BLACK
    if not black.any() or (colors[:, black].any() and _through_table(image, colors, near=2.0)):
        found = _through_table(image, colors) or _in_hue(image, colors, sample)
    else:
        # Tables such as hot begin with a hue, and pictures in that hue are near to them.
        found = _in_hue(image, colors, sample) or _through_table(image, colors)
    return found or _through_unknown_table(image, sample)


def _is_grey(image: NDArray[np.uint8]) -> bool:
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())


def _without_marks(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours without white, where that is rare enough for a scale bar or writing."""
    white = colors.min(1) >= 180
    return colors[~white] if 0 < np.count_nonzero(white) < 0.03 * len(colors) else colors


def _in_hue(image: NDArray[np.uint8], colors: NDArray[np.float32], sample: NDArray[np.uint8]) -> Signal | None:
    """One or two channels with the signal, the others without any."""
    contrast = colors.std(0)
    strongest = contrast.max()
    dark = np.percentile(colors, 99.8, axis=0) <= _DARK
    empty = dark & (contrast <= _EMPTY * strongest)
    for channel in np.flatnonzero(dark & ~empty & (contrast <= _NOISE * strongest)):
        empty[channel] = _is_noise(sample[..., channel])
    strong = ~empty
    hue = _HUES.get(tuple(strong.tolist()))
    if hue is None or strongest < 1:
        return None
    if strong.sum() == 2:
        first, second = colors[:, strong].T
        if contrast[strong].min() < 1 or np.corrcoef(first, second)[0, 1] < _SAME:
            return None
    # The length along the hue, as bright as the brighter channel is.
    values, vectors = np.linalg.eigh(colors[:, strong].T @ colors[:, strong])
    weights = np.abs(vectors[:, values.argmax()])
    grey = image[..., strong] @ (weights * weights.max()).astype(np.float32)
    if hue in ("red", "blue") and _is_from_jpeg(sample, empty):
        from scipy.ndimage import gaussian_filter

        grey = gaussian_filter(grey, 1.0)
    return Signal(_threefold(np.rint(grey).clip(0, 255).astype(np.uint8)), hue)


def _is_from_jpeg(sample: NDArray[np.uint8], empty: NDArray[np.bool_]) -> bool:
    """Whether the signal leaked a little into the empty channels.

    JPEG keeps red and blue at half the resolution and in coarse steps, whose edges look like small objects.
    """
    leaks = [sample[..., channel] for channel in np.flatnonzero(empty)]
    return all(np.percentile(leak, 99.8) <= 8 for leak in leaks) and any(
        leak.any() and not _is_noise(leak) for leak in leaks
    )


def _is_noise(channel: NDArray[np.uint8]) -> bool:
    """Whether neighbouring pixels have nothing to do with each other."""
    values = channel.astype(np.float32)
    values -= values.mean()
    power = float(np.square(values).mean())
    return power == 0 or float((values[:, 1:] * values[:, :-1]).mean()) < 0.3 * power


def _threefold(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, axis=2)


@cache
def _tables() -> dict[str, KDTree]:
    from scipy.spatial import KDTree

    with resources.files("panembed.io").joinpath(_TABLES).open("rb") as file, np.load(file) as tables:
        return {name: KDTree(tables[name].astype(np.float64)) for name in tables.files}


def _strata(colors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Some hundred colours of all pixels, and of those that differ most from the median colour."""
    some = colors[:: max(1, len(colors) // 4096)]
    far = np.abs(some - np.median(some, axis=0)).sum(1)
    odd = some[far >= np.percentile(far, 90)]
    return some[:: max(1, len(some) // 512)], odd[:: max(1, len(odd) // 512)]


def _through_table(image: NDArray[np.uint8], colors: NDArray[np.float32], near: float = _NEAR) -> Signal | None:
    """A display table that all colours are near to, those of the signal, too."""
    strata = _strata(colors)
    if np.median(np.ptp(strata[1], axis=1)) < 24:
        return None
    best, least = None, near
    for name, table in _tables().items():
        away = max(float(np.percentile(table.query(part)[0], 95)) for part in strata)
        if away < least:
            best, least = name, away
    if best is None:
        return None
    packed, place = np.unique(_packed(image), return_inverse=True)
    numbers = np.asarray(_tables()[best].query(_unpacked(packed))[1], dtype=np.uint8)
    grey = numbers[place.reshape(image.shape[:2])]
    low, high = np.percentile(grey, (1, 99.8))
    return Signal(_threefold(grey), best) if high - low >= 16 else None


def _packed(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Colours as one number each, which sort many times faster."""
    wide = image.astype(np.int64)
    packed: NDArray[np.int64] = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return packed


def _unpacked(packed: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([packed >> 16, (packed >> 8) & 255, packed & 255], axis=-1).astype(np.uint8)


def _through_unknown_table(image: NDArray[np.uint8], sample: NDArray[np.uint8]) -> Signal | None:
    """A table that isn't known, in a picture without loss: few colours, which get brighter in small steps from dark."""
    weights = np.array([0.299, 0.587, 0.114])
    packed = np.unique(_packed(sample))
    if not 16 <= len(packed) <= 256:
        return None
    found = _unpacked(packed)
    order = found[np.argsort(found @ weights, kind="stable")].astype(np.int16)
    steps = np.abs(np.diff(order, axis=0)).max(1)
    bright = sample @ weights
    if np.percentile(steps, 90) > 20 or steps.max() > 64 or np.median(bright) > 90 or np.ptp(order, axis=1).max() < 48:
        return None
    return Signal(_threefold(np.rint(image @ weights).astype(np.uint8)), "a display table")

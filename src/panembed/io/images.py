"""Pictures in and out: one way to read every file people have, one way to write."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panembed.errors import InputError
from panembed.io.atomic import atomic_path
from panembed.io.channels import Channel, channel_index, is_display_ramp
from panembed.io.raster import MAX_PIXELS, Raster, raster_of, read_raster, upright

__all__ = ["MAX_PIXELS", "PNG_EFFORT", "as_picture", "read_image", "read_raster", "write_png"]

PNG_EFFORT: dict[str, int] = {"compress_level": 1, "compress_type": 3}
"""How PNGs are packed: zlib's fastest level, several times faster than the usual 6, and its strategy Z_RLE, which suits
images of few colours: label images get a third to a half smaller by it."""


def read_image(
    path: str | os.PathLike[str], *, channel: Channel = "auto", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read a picture as 8-bit RGB.

    - Grey pictures are expanded, alpha is dropped (what lies under it is kept).
    - A palette gives its colours; but a display table (ImageJ's Green or Fire, viridis), whose colours run smoothly,
      is for the eye, and the numbers behind it are the picture, unless `channel` is "rgb".
    - 16 bits a sample: the values from the 0.1th to the 99.9th percentile of the picture, all channels together, are
      stretched to 0..255, and what lies outside is clipped. Cameras store 10, 12 or 14 bits in 16; dividing by 256
      would leave such pictures nearly black, and stretching to the extremes would let one hot pixel do the same.
      A picture of one value becomes 0.
    - A JPEG is turned as its EXIF orientation says: cameras store it so, and every viewer and labelling tool shows the
      turned picture, so that masks lie on what people see. Other files are taken as they are stored.
    - Other numbers of channels than one (grey) and three (RGB), alpha aside, need a `channel`.

    Args:
        path: a PNG, JPEG, BMP or TIFF file of one picture.
        channel: that is the picture, as grey: red, green or blue of an RGB picture, or its number, counted from 1;
            "auto" and "rgb" take grey and RGB as they are. Of a file with one channel it is that one.
        max_pixels: the largest allowed width * height, checked before the pixels are decoded.

    Returns:
        HxWx3 uint8, RGB.

    Raises:
        InputError: the file is missing, empty, damaged, too large, not a picture of one of these kinds, or has other
            channels.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "grey.png", np.full((2, 3), 7, np.uint8))
    ...     read_image(Path(folder) / "grey.png")[0, 0].tolist()
    [7, 7, 7]
    """
    return _picture(read_raster(path, max_pixels=max_pixels, pages=isinstance(channel, int)), channel, path)


def as_picture(image: Any, *, channel: Channel = "auto", name: str = "image") -> NDArray[np.uint8]:
    """Take an array or a Pillow image as a picture, by the rules of `read_image` for a file that holds the same.

    Args:
        image: HxW (grey), or HxWxC with 1, 3 or 4 channels (grey, RGB, RGB and alpha), of bool, uint8, or uint16, which
            is stretched as in files; or a Pillow image.
        channel: see `read_image`.
        name: what errors call it.

    Returns:
        HxWx3 uint8, RGB. An HxWx3 uint8 array is given back as it is.

    Raises:
        InputError: other values, such as floats, of which nobody can tell what is black and white; or another shape.

    >>> as_picture(np.array([[False, True]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    >>> as_picture(np.zeros((2, 3, 3)))
    Traceback (most recent call last):
    panembed.errors.InputError: image: holds float64 values; expected 8 or 16 bits a sample, unsigned; convert it first
    """
    if isinstance(image, Image.Image):
        return _picture(raster_of(image), channel, name)
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"{name}: is {type(image).__name__}; expected a path, an array (HxW, or HxWxC), or a Pillow image"
        )
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise InputError(f"{name}: has shape {image.shape}; expected HxW or HxWxC, of at least one pixel")
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and channel in ("auto", "rgb"):
        return image
    samples = image.astype(image.dtype.newbyteorder("="), copy=False)
    return _picture(Raster(samples, None, "array", 8 * image.dtype.itemsize), channel, name)


def _picture(raster: Raster, channel: Channel, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """8-bit RGB of what a file holds."""
    samples = _choose(_colors(raster, channel), raster, channel, path)
    if samples.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{path}: holds {samples.dtype} values; expected 8 or 16 bits a sample, unsigned; convert it first"
        )
    if samples.dtype == np.uint16:
        samples = _stretch(samples)
    elif raster.palette is None and raster.bits in (2, 4):
        samples = samples * np.uint8(255 // (2**raster.bits - 1))
    if raster.white_is_zero:
        samples = 255 - samples
    if samples.ndim == 2:
        samples = np.repeat(samples[..., None], 3, axis=2)
    return np.ascontiguousarray(upright(samples, raster.orientation), dtype=np.uint8)


def _colors(raster: Raster, channel: Channel) -> NDArray[Any]:
    """Samples with a palette's colours, where these are the picture."""
    samples = raster.samples
    if samples.dtype == bool:
        samples = samples.astype(np.uint8)
        if raster.palette is None:
            samples *= np.uint8(255)
    if raster.palette is None or (channel != "rgb" and is_display_ramp(raster.palette, samples)):
        return samples
    colors: NDArray[np.uint8] = raster.palette[samples]
    return colors


def _choose(samples: NDArray[Any], raster: Raster, channel: Channel, path: str | os.PathLike[str]) -> NDArray[Any]:
    """HxW or HxWx3: the channel that is asked for, or else what is grey or RGB, without alpha."""
    if samples.ndim == 2:
        samples = samples[..., None]
    if raster.grey_with_alpha:
        samples = samples[..., :1]
    found = samples.shape[2]
    index = channel_index(channel)
    if index is None:
        if not raster.separate and found in (3, 4):
            return samples[..., :3]
        if found == 1:
            return samples[..., 0]
        raise _other_channels(path, found, raster.names)
    # One channel is all that there is to choose, by its colour or as the first.
    if found == 1 and (isinstance(channel, str) or index == 0):
        return samples[..., 0]
    if index >= found or (isinstance(channel, str) and (raster.separate or found < 3)):
        listed = _listed(found, raster.names)
        raise InputError(f"{path}: has no channel {channel}, but {listed}; expected a number from 1 to {found}")
    return samples[..., index]


def _listed(channels: int, names: tuple[str, ...]) -> str:
    """How many there are, and what the file calls them."""
    told = [f"{number} {name}".strip() for number, name in enumerate(names[:channels], 1)]
    count = f"{channels} channels" if channels > 1 else "one channel"
    return f"{count} ({', '.join(told)})" if any(names) else count


def _other_channels(path: str | os.PathLike[str], channels: int, names: tuple[str, ...]) -> InputError:
    unmarked = ", and the second is not marked as alpha" if channels == 2 and not any(names) else ""
    return InputError(
        f"{path}: has {_listed(channels, names)}{unmarked}; expected grey or RGB, perhaps with alpha; choose one with "
        f"--channel 1 to {channels} (setting input.channel)"
    )


def _stretch(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Map percentiles 0.1 to 99.9 to 0..255; the extremes where those are one value."""
    below = np.cumsum(np.bincount(samples.ravel(), minlength=2**16))
    low, high = (int(np.searchsorted(below, fraction * below[-1])) for fraction in (0.001, 0.999))
    if low == high:
        low, high = int(samples.min()), int(samples.max())
    values = (np.arange(2**16, dtype=np.float64) - low) * (255 / max(high - low, 1))
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    stretched: NDArray[np.uint8] = table[samples]
    return stretched


def write_png(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: the file; its folder must exist.
        array: HxW uint8 or uint16 (grey), or HxWx3 uint8 (RGB), of at least one pixel.

    Raises:
        OutputError: the place can't be written, see `panembed.io.atomic.atomic_path`.
        ValueError: another shape or dtype.

    >>> write_png("a.png", np.zeros((2, 2)))
    Traceback (most recent call last):
    ValueError: expected HxW uint8 or uint16 or HxWx3 uint8, found float64 (2, 2)
    """
    array = np.asarray(array)
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not (grey or color) or array.size == 0:
        raise ValueError(f"expected HxW uint8 or uint16 or HxWx3 uint8, found {array.dtype} {array.shape}")
    image = Image.fromarray(np.ascontiguousarray(array))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", **PNG_EFFORT)

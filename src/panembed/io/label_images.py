"""Images whose pixels are numbers, not colours: instance ids, class ids, or both in one number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from panembed.errors import InputError
from panembed.io.atomic import atomic_path
from panembed.io.images import MAX_PIXELS, read_raster, write_png

MAX_PNG_ID = 65_535
"""The largest id that a 16-bit PNG holds; beyond it labels are written as TIFF."""


def read_label_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read the numbers in a label image, as the file stores them.

    - A palette gives its indices, never its colours.
    - Grey of 1 to 16 bits, and integer TIFFs, give their values.
    - RGB of 8 bits gives R + 256 G + 65536 B (COCO panoptic's packing), whether the colours were meant as numbers or
      are only a different colour for every object.
    - An alpha channel is dropped when it is the same everywhere.

    Args:
        path: a PNG, BMP or TIFF file of one page.
        max_pixels: the largest allowed width * height.

    Returns:
        HxW int32; gaps between the numbers, and negative ones of a signed TIFF, are kept.

    Raises:
        InputError: the file can't be read, holds fractions or numbers beyond 2**31 - 1, was compressed as JPEG
            (which changes numbers), or has channels or an alpha channel that no single number can be made of.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "a.png", np.array([[[3, 1, 0], [0, 0, 1]]], np.uint8))
    ...     read_label_image(Path(folder) / "a.png").tolist()
    [[259, 65536]]
    """
    raster = read_raster(path, max_pixels=max_pixels)
    samples = raster.samples
    if raster.separate:
        raise InputError(
            f"{path}: has {samples.shape[-1]} channels; expected one channel, or RGB of 8 bits; save the ids in one "
            "channel"
        )
    if raster.lossy:
        raise InputError(
            f"{path}: is compressed as JPEG, which changes the numbers of a label image; expected PNG or TIFF; export "
            "the labels again without loss"
        )
    if samples.dtype != bool and not np.issubdtype(samples.dtype, np.integer):
        raise InputError(f"{path}: holds {samples.dtype} values; expected whole numbers; save the ids as integers")
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        alpha = samples[..., -1]
        if (alpha != alpha[0, 0]).any():
            raise InputError(
                f"{path}: its alpha channel varies, so what the labels are is unclear; expected labels without alpha; "
                "save it as grey or RGB"
            )
        samples = samples[..., :-1]
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    if samples.ndim == 3:
        if samples.shape[2] != 3 or samples.dtype != np.uint8 or raster.bits > 8:
            raise InputError(
                f"{path}: has {samples.shape[2]} channels of {raster.bits} bits; expected one channel, or RGB of 8 "
                "bits; save the ids in one channel"
            )
        wide = samples.astype(np.int32)
        return np.ascontiguousarray(wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2])
    if samples.size and int(samples.max()) > np.iinfo(np.int32).max:
        raise InputError(f"{path}: holds the id {int(samples.max())}; expected ids below 2**31; renumber them")
    if samples.size and int(samples.min()) < np.iinfo(np.int32).min:
        raise InputError(f"{path}: holds the id {int(samples.min())}; expected ids from 0; renumber them")
    return np.ascontiguousarray(samples, dtype=np.int32)


def write_instances(path: str | os.PathLike[str], instance: NDArray[Any]) -> Path:
    """Write instance ids as they are: a 16-bit PNG, or a 32-bit TIFF where an id is above 65,535.

    Args:
        path: where to, with or without `.png`, `.tif` or `.tiff`; the suffix is set by what is written.
        instance: HxW integers, 0 for none, up to 2**32 - 1.

    Returns:
        The path written: `path` ending in `.png` or `.tif`.

    Raises:
        OutputError: the place can't be written.
        ValueError: not an HxW array of integers from 0.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [write_instances(Path(folder) / "a.b", np.array([[0, top]])).name for top in (65_535, 65_536)]
    ['a.b.png', 'a.b.tif']
    """
    path, instance = Path(path), np.asarray(instance)
    if instance.ndim != 2 or not np.issubdtype(instance.dtype, np.integer) or instance.size == 0:
        raise ValueError(f"instance: expected an HxW array of integers, found {instance.dtype} {instance.shape}")
    largest = int(instance.max())
    if int(instance.min()) < 0 or largest > np.iinfo(np.uint32).max:
        raise ValueError(f"instance: expected ids 0..2**32-1, found {instance.min()}..{largest}")
    stem = path.name[: -len(path.suffix)] if path.suffix.lower() in (".png", ".tif", ".tiff") else path.name
    if largest <= MAX_PNG_ID:
        path = path.with_name(stem + ".png")
        write_png(path, instance.astype(np.uint16))
    else:
        path = path.with_name(stem + ".tif")
        with atomic_path(path) as temporary:
            tifffile.imwrite(temporary, instance.astype(np.uint32), photometric="minisblack", compression="zlib")
    return path

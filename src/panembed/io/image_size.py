"""Height and width of a picture from the head of its file, as `read_image` would give it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import tifffile
from PIL import Image

from panembed.io.images import read_image
from panembed.io.raster import MAX_PIXELS

_ORIENTATION = 0x0112


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels; a JPEG is turned as its EXIF orientation says.

    Args:
        path: a PNG, JPEG, BMP or TIFF file.

    Raises:
        InputError: the file is missing, damaged, too large, or of another kind; see `read_image`.

    >>> import tempfile
    >>> from panembed.io.images import write_png
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_png(Path(folder) / "a.png", np.zeros((2, 3), np.uint8))
    ...     image_size(Path(folder) / "a.png")
    (2, 3)
    """
    size = None
    try:
        size = _from_head(Path(path))
    except Exception:
        # Whatever is wrong with the file, reading it as a whole says it in a sentence.
        size = None
    if size is None or size[0] * size[1] > MAX_PIXELS or min(size) < 1:
        height, width, _ = read_image(path).shape
        return height, width
    return size


def _from_head(path: Path) -> tuple[int, int]:
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] in (b"II", b"MM"):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.series[0].keyframe
            return page.imagelength, page.imagewidth
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            width, height = image.size
            turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)

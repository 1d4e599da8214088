"""The numbers of objects, drawn into a picture of them."""

from __future__ import annotations

import numpy as np
import scipy  # its modules are imported when they are first used
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panembed.io.contact_sheet import name_font

_SMALLEST, _SHARE = 9, 45
"""Pixels of the least size of digits, and how often they fit into a picture's longer side."""


def draw_numbers(picture: NDArray[np.uint8], ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Write each object's number where the object is widest, white with a black rim.

    Args:
        picture: HxWx3 uint8.
        ids: HxW numbers of objects, 0 for none.

    Returns:
        HxWx3 uint8; the picture itself stays as it is.

    >>> ids = np.zeros((40, 60), np.int32)
    >>> ids[10:30, 20:50] = 7
    >>> drawn = draw_numbers(np.full((40, 60, 3), 99, np.uint8), ids)
    >>> bool((drawn[ids == 7] == 255).any())
    True
    """
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    largest = max(_SMALLEST, max(ids.shape) / _SHARE)
    boxes = [(number, box) for number, box in enumerate(scipy.ndimage.find_objects(ids), start=1) if box]
    for number, box in boxes:
        # A margin, so that the image's border counts as the object's.
        depth = scipy.ndimage.distance_transform_edt(np.pad(ids[box] == number, 1))
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        place = (box[1].start + int(x) - 0.5, box[0].start + int(y) - 0.5)
        size = float(np.clip(1.5 * depth.max(), _SMALLEST, largest))
        font = name_font(size)
        draw.text(place, str(number), fill="white", font=font, anchor="mm", stroke_width=size / 10, stroke_fill="black")
    return np.asarray(canvas)

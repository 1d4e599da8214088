"""Many small pictures on one sheet, to look a data set over at a glance."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from panembed.io.images import write_png
from panembed.io.overlay import overlay
from panembed.labels.categories import LabelSet
from panembed.labels.panoptic_map import PanopticMap

CONTACT_SHEET_FILE = "contact_sheet.png"
"""What the sheet of a data set is called."""

_MARGIN, _TEXT = 8, 18


def thumbnail(
    image: NDArray[np.uint8], panoptic: PanopticMap, label_set: LabelSet, *, size: int = 300
) -> NDArray[np.uint8]:
    """Make a small overlay: both are shrunk first, so that outlines stay one pixel wide.

    Args:
        image: HxWx3 uint8.
        panoptic: HxW.
        label_set: its classes.
        size: pixels of the longer side; a smaller image stays as it is.

    Returns:
        hxwx3 uint8.

    >>> from panembed.datasets.synthetic import LEAVES, rosette
    >>> plant = rosette(0, size=(64, 96), num_leaves=5)
    >>> thumbnail(plant.image, plant.truth, LEAVES, size=48).shape
    (32, 48, 3)
    """
    height, width = panoptic.shape
    scale = min(1.0, size / max(height, width))
    small = max(1, round(height * scale)), max(1, round(width * scale))
    if small != (height, width):
        shrunk = Image.fromarray(image).resize((small[1], small[0]), Image.Resampling.BOX)
        image = np.asarray(shrunk)
        rows = (np.arange(small[0]) + 0.5) * height // small[0]
        columns = (np.arange(small[1]) + 0.5) * width // small[1]
        place = np.ix_(rows.astype(np.intp), columns.astype(np.intp))
        panoptic = PanopticMap(panoptic.semantic[place], panoptic.instance[place], panoptic.crowd)
    return overlay(image, panoptic, label_set)


def contact_sheet(
    pictures: Sequence[tuple[str, NDArray[np.uint8]]], *, columns: int = 5, size: int = 300
) -> NDArray[np.uint8]:
    """Lay pictures out in rows, each with its name below.

    Args:
        pictures: names and hxwx3 uint8 pictures, at least one; none larger than `size`.
        columns: pictures in a row.
        size: pixels that a picture's place is wide, and the highest that it may be.

    Returns:
        HxWx3 uint8, white between the pictures.

    Raises:
        ValueError: there are no pictures.

    >>> contact_sheet([("a", np.zeros((20, 30, 3), np.uint8))] * 3, columns=2, size=30).shape
    (100, 84, 3)
    """
    if not pictures:
        raise ValueError("pictures: expected at least one")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    high = max(picture.shape[0] for _, picture in pictures) + _TEXT
    sheet = Image.new("RGB", (columns * (size + _MARGIN) + _MARGIN, rows * (high + _MARGIN) + _MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), name_font()
    for number, (name, picture) in enumerate(pictures):
        x = _MARGIN + number % columns * (size + _MARGIN)
        y = _MARGIN + number // columns * (high + _MARGIN)
        sheet.paste(Image.fromarray(picture), (x, y))
        name = drawable(name)
        # The end of a name tells images apart, and its beginning is the folder.
        while len(name) > 1 and draw.textlength(name, font=font) > size:
            name = "~" + name[2:]
        draw.text((x, y + high - _TEXT + 2), name, fill="black", font=font)
    return np.asarray(sheet)


def drawable(name: str) -> str:
    r"""A name as one line of text: what a font has no letter for, such as a line feed, becomes a question mark.

    >>> drawable("a\nb\x85")
    'a?b?'
    """
    # Control characters, separators of lines and paragraphs, and what is left of bytes that are not UTF-8.
    return "".join("?" if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") else sign for sign in name)


@lru_cache(maxsize=64)
def name_font(size: float = 11) -> ImageFont.FreeTypeFont:
    """The font of names in pictures, so many pixels high: DejaVu Sans, which knows more letters than Pillow's own."""
    return ImageFont.truetype(Path(__file__).with_name("fonts") / "DejaVuSans.ttf", size)


class Gallery:
    """Collects overlays of some of a data set's images for one contact sheet.

    Args:
        label_set: the classes.
        names: of all images, in order; those that will be drawn are spread evenly over them.
        most: how many at most.

    >>> from panembed.datasets.synthetic import LEAVES, SyntheticDataset
    >>> plants = SyntheticDataset(3, size=32)
    >>> gallery = Gallery(LEAVES, plants.ids, most=2)
    >>> for id in plants.ids:
    ...     gallery.add(id, plants.read_image(id), plants.read_truth(id))
    >>> len(gallery)
    2
    """

    def __init__(self, label_set: LabelSet, names: Sequence[str], *, most: int = 20) -> None:
        self.label_set = label_set
        count = min(most, len(names))
        self._chosen = {names[number * len(names) // count] for number in range(count)}
        self._pictures: list[tuple[str, NDArray[np.uint8]]] = []

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, name: str, image: NDArray[np.uint8], panoptic: PanopticMap) -> None:
        """Draw an image, if it is one of those to be drawn."""
        if name in self._chosen:
            self._pictures.append((name, thumbnail(image, panoptic, self.label_set)))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the sheet as PNG; OutputError where the place can't be written, ValueError where nothing was drawn."""
        write_png(path, contact_sheet(self._pictures))

"""Which colour is which class in overlays, as a picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from panembed.io.contact_sheet import drawable, name_font
from panembed.io.images import write_png
from panembed.io.overlay import tells_classes
from panembed.labels.categories import LabelSet

LEGEND_FILE = "legend.png"
"""What the legend of a folder of overlays is called."""

_LINE, _SWATCH, _MARGIN = 20, 28, 8


def legend(label_set: LabelSet) -> NDArray[np.uint8] | None:
    """Draw a line for each class that overlays tell by colour: stuff if there are several such classes, things too.

    Objects have shades of the colour that is shown.

    Returns:
        HxWx3 uint8; None if colours tell nothing of classes.

    >>> legend(LabelSet.from_list([{"id": 0, "name": "soil", "isthing": 0}, {"id": 1, "name": "leaf", "isthing": 1}]))
    >>> from panembed.io.cityscapes import CITYSCAPES
    >>> legend(CITYSCAPES).shape
    (396, 113, 3)
    """
    things = label_set.things if tells_classes(label_set) else ()
    shown = [*(label_set.stuff if len(label_set.stuff) > 1 else ()), *things]
    if not shown:
        return None
    font, names = name_font(), [drawable(label_set[index].name) for index in shown]
    left = 2 * _MARGIN + _SWATCH
    width = left + round(max(map(font.getlength, names))) + _MARGIN
    picture = Image.new("RGB", (width, len(shown) * _LINE + 2 * _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    for number, (index, name) in enumerate(zip(shown, names)):
        top = _MARGIN + number * _LINE
        corners = (_MARGIN, top + 2, _MARGIN + _SWATCH, top + _LINE - 3)
        draw.rectangle(corners, fill=label_set[index].color, outline="black")
        draw.text((left, top + _LINE // 2), name, fill="black", font=font, anchor="lm")
    return np.asarray(picture)


def write_legend(folder: str | os.PathLike[str], label_set: LabelSet) -> None:
    """Write the legend of a folder of overlays, where they need one; else leave the folder as it is.

    Raises:
        OutputError: the folder can't be written.
    """
    picture = legend(label_set)
    if picture is not None:
        write_png(Path(folder) / LEGEND_FILE, picture)
